"""Shared parts of experiments with agents: plasticity rules by name, and training by A2C."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from engram import registry
from engram.agents import A2C, ActorCritic, Rollout, a2c_step, rollout
from engram.lab import Run
from engram.plasticity import PlasticityRule

NO_RULE, NON_PLASTIC = "none", "non-plastic"
PUBLISHED: dict[str, Any] = {"truncation": "terminal"}  # the published code counts nothing after the last step


def rule_of(name: str, eta: float) -> PlasticityRule | None:
    """The plasticity rule with a name or reference, with initial rate ``eta`` if it has one; None for ``"none"``."""
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
    """Train an agent by A2C on whole episodes, logging measurements, the loss and some of its terms.

    Args:
        env: Vectorised environments, or a list of them, used in turn.
        agent: The agent.
        config: The settings, with ``a2c`` and the number of ``iterations``.
        run: The run.
        measure: Maps a batch of episodes to the metrics to log.
        falling: Whether the weight of squared probabilities falls linearly to 0.

    Raises:
        FloatingPointError: A weight is no longer finite.
    """
    optimizer, envs = config.a2c.optimizer(agent), env if isinstance(env, list) else [env]
    for iteration in run.steps(config.iterations, agent=agent, optimizer=optimizer):
        seed = int(run.rng.integers(2**31))
        episodes = rollout(envs[iteration % len(envs)], agent, run.generator, seed=seed, **PUBLISHED)
        weight = config.a2c.entropy_coefficient * (1 - iteration / config.iterations if falling else 1)
        loss, terms = a2c_step(agent, optimizer, episodes, replace(config.a2c, entropy_coefficient=weight))
        if not all(parameter.isfinite().all() for parameter in agent.parameters()):
            raise FloatingPointError(f"weights are not finite after {iteration + 1} steps: learning diverges")
        metrics = {"loss": loss, "value_loss": terms.value, "concentration": terms.concentration}
        run.log(iteration + 1, every=max(1, config.iterations // 100), **measure(episodes), **metrics)
    run.keep(agent=agent)


def step_of(env: Any, agent: ActorCritic, a2c: A2C) -> Callable[[], object]:
    """A function to be timed, which plays a batch of episodes and makes a training step on it.

    Args:
        env: The environments.
        agent: The agent, which is changed.
        a2c: The settings of the training step.
    """
    generator, optimizer = torch.Generator().manual_seed(0), a2c.optimizer(agent)
    return lambda: a2c_step(agent, optimizer, rollout(env, agent, generator, seed=0, **PUBLISHED), a2c)
