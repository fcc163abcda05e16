"""What experiments with agents share: plasticity rules by their names, and training by A2C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engram.agents import ActorCritic, Rollout, a2c_step, rollout
from engram.lab import Run
from engram.plasticity import ClippedHebb, Hebb, Modulated, Oja, PlasticityRule, Retroactive


def rule_of(name: str, eta: float) -> PlasticityRule | None:
    """The rule of a name with this initial rate, where it has one; None for any other name."""
    if name == "modulated":
        return Modulated()
    rules: dict[str, Callable[[float], PlasticityRule]]
    rules = {"hebb": Hebb, "oja": Oja, "clipped-hebb": ClippedHebb, "retroactive": Retroactive}
    return rules[name](eta) if name in rules else None


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
