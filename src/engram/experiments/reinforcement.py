"""What experiments with agents share: plasticity rules by their names, and training by A2C."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engram import registry
from engram.agents import ActorCritic, Rollout, a2c_step, rollout
from engram.lab import Run
from engram.plasticity import PlasticityRule

NO_RULE = "none"


def rule_of(name: str, eta: float) -> PlasticityRule | None:
    """The plasticity rule of a name, or of a place, with this initial rate, where it has one; None of ``"none"``."""
    if name == NO_RULE:
        return None
    make = registry.get("plasticity_rules", name)
    rule: PlasticityRule = make(eta=eta) if "eta" in inspect.signature(make).parameters else make()
    return rule


def learn(
    env: Any,
    agent: ActorCritic,
    config: Any,
    run: Run,
    measure: Callable[[Rollout], dict[str, Any]],
    *,
    falling: bool = False,
) -> None:
    """Train an agent by A2C on whole episodes; log what is measured in them, the loss and parts of it.

    Args:
        env: Vectorised environments, or several of them, one after another.
        agent: The agent.
        config: Has the settings ``a2c`` and the number of ``iterations``.
        run: The run.
        measure: From a batch of episodes to the metrics that are logged.
        falling: Whether the weight of squared probabilities falls to 0 in a straight line.
    """
    optimizer, envs = config.a2c.optimizer(agent), env if isinstance(env, list) else [env]
    for iteration in run.steps(config.iterations, agent=agent, optimizer=optimizer):
        episodes = rollout(envs[iteration % len(envs)], agent, run.generator, seed=int(run.rng.integers(2**31)))
        left = config.a2c.entropy_coefficient * (1 - iteration / config.iterations if falling else 1)
        loss, parts = a2c_step(agent, optimizer, episodes, replace(config.a2c, entropy_coefficient=left))
        metrics = {"loss": loss, "value_loss": parts.value, "concentration": parts.concentration}
        run.log(iteration + 1, every=max(1, config.iterations // 100), **measure(episodes), **metrics)
    run.keep(agent=agent)
