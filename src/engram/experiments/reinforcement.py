"""What experiments with agents share: plasticity rules by their names, training by A2C, and the time it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engram.agents import ActorCritic, Rollout, a2c_step, rollout
from engram.lab import Run
from engram.plasticity import ClippedHebb, Hebb, Modulated, Oja, PlasticityRule, Retroactive

Measured = Callable[[Rollout], dict[str, Any]]


def rule_of(name: str, eta: float) -> PlasticityRule | None:
    """Return the rule of a name with this initial rate, where it has one; None for any other name."""
    if name == "modulated":
        return Modulated()
    rules: dict[str, Callable[[float], PlasticityRule]]
    rules = {"hebb": Hebb, "oja": Oja, "clipped-hebb": ClippedHebb, "retroactive": Retroactive}
    return rules[name](eta) if name in rules else None


def learn(env: Any, agent: ActorCritic, config: Any, run: Run, measured: Measured, *, falling: bool = False) -> None:
    """Train an agent by A2C on whole episodes; log what is ``measured`` in them, the loss and parts of it.

    ``config`` has the settings ``a2c`` and the number of ``iterations``; ``falling`` lets the weight of squared
    probabilities fall to 0 in a straight line.
    """
    optimizer, settings = config.a2c.optimizer(agent), config.a2c
    for iteration in run.steps(config.iterations, agent=agent, optimizer=optimizer):
        episodes = rollout(env, agent, run.generator, seed=int(run.rng.integers(2**31)))
        left = settings.entropy_coefficient * (1 - iteration / config.iterations if falling else 1)
        loss, parts = a2c_step(agent, optimizer, episodes, replace(settings, entropy_coefficient=left))
        found = {**measured(episodes), "loss": loss, "value_loss": parts.value, "concentration": parts.concentration}
        run.log(iteration + 1, every=max(1, config.iterations // 100), **found)


def seconds(config: Any) -> float:
    """Time of a trial on one core: a cost for each step of acting and of learning, and one for each synapse."""
    steps, synapses = config.iterations * config.episode_len, config.batch_size * config.hidden_size**2
    fixed, each = (200e-6, 0.5e-9) if config.rule == "none" else (160e-6, 3e-9)
    return float(steps * (fixed + each * synapses))
