"""Tests of any exploration bonus: how much it pays for known places, and how much of a world its agent explores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engram import registry
from engram.agents import CheckedBonus
from engram.lab import Run, Task, setting, settings
from engram.studies.experiments.farcuriosity.policy import Policy, explore
from engram.studies.experiments.farcuriosity.walk import Walk, by_lap, go_through, walk_of

PATCH, STEPS = (7, 7, 3), 64  # shape of an observation, and steps in the timed rollout


class Nothing(nn.Module):
    """A curiosity that pays no bonus."""

    def __init__(self, obs_shape: tuple[int, ...], num_envs: int = 1, *, generator: torch.Generator) -> None:
        super().__init__()

    def bonus(self, next_obs: Tensor, done: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros(done.shape)

    def update(self, obs: Tensor, valid: Tensor | None = None, envs: Any = None) -> float:
        """Do nothing."""
        return 0.0


CURIOSITIES = {"none": "engram.experiments.farcuriosity.compared:Nothing"}


@settings
class Returning:
    """The settings of a bonus and of the walk on which it is measured."""

    curiosity: str = setting("rnd", "a registered curiosity, or a reference such as file.py:Name")
    walk: Walk = setting(Walk(), "the walk; its own learner is ignored")

    def __post_init__(self) -> None:
        registry.check("curiosities", self.curiosity, "curiosity")


@settings
class Exploring:
    """The settings of a bonus and of the agent that is rewarded only by it."""

    curiosity: str = setting("rnd", "a registered curiosity, or a reference such as file.py:Name")
    policy: Policy = setting(Policy(steps=100_000), "the agent and its world; its own curiosity is ignored")

    def __post_init__(self) -> None:
        registry.check("curiosities", self.curiosity, "curiosity")
        if self.policy.game:
            raise ValueError(f"policy.game = {self.policy.game!r}: expected none, as cells of rooms are counted")


def bonus_of(curiosity: str, num_envs: int, generator: torch.Generator, **scale: Tensor) -> CheckedBonus:
    """The bonus of an arm.

    Args:
        curiosity: Name or reference of the curiosity.
        num_envs: Number of parallel environments.
        generator: Draws the initial weights.
        scale: ``mean`` and ``std``, by which observations are standardised (default: neither).
    """
    return CheckedBonus(registry.get("curiosities", curiosity), PATCH, num_envs, generator=generator, **scale)


def returning(config: Returning, run: Run) -> dict[str, float]:
    """Walk around four rooms twice; the results are the bonus on return relative to that on the first visit."""
    views, _, patches = walk_of(config.walk, run)
    cells = views.flatten(0, 1)
    bonus = bonus_of(config.curiosity, 1, run.generator, mean=cells.mean(0), std=cells.std(0))
    rewards, not_done = np.zeros(len(patches)), torch.zeros(config.walk.rollout, 1, dtype=torch.bool)

    def look(window: slice) -> None:
        rewards[window] = bonus.bonus(patches[window], not_done)[:, 0].numpy()

    go_through(config.walk, patches, look, run, curiosity=bonus, paid=rewards)
    for number, mean in enumerate(rewards.reshape(-1, config.walk.rollout).mean(1)):
        run.log((number + 1) * config.walk.rollout, bonus=mean)
    visits = by_lap(config.walk, rewards)
    first = visits["first"]
    shares = {f"{name}_share": visits[name] / first if first else 1.0 for name in ("again", "stay")}
    return shares | {"first": first}


def exploring(config: Exploring, run: Run) -> dict[str, float]:
    """Train by PPO on the bonus alone; the result is the number of cells seen in 10,000 steps."""
    make_bonus = partial(bonus_of, config.curiosity, config.policy.num_envs, run.generator)
    return explore(config.policy, run, lambda scale: make_bonus(**scale))[0]


def changes_of(curiosity: str) -> dict[str, Any]:
    """The settings of the arm of a curiosity."""
    return {"curiosity": CURIOSITIES.get(curiosity, curiosity)}


def step_of(config: Returning | Exploring) -> Callable[[], object]:
    """A function to be timed, which computes the bonus of a rollout and learns from it once."""
    generator, num_envs = torch.Generator().manual_seed(0), 1
    if isinstance(config, Exploring):
        num_envs = config.policy.num_envs
    bonus = bonus_of(config.curiosity, num_envs, generator)
    obs, not_done = torch.randn(STEPS, num_envs, *PATCH, generator=generator), torch.zeros(STEPS, num_envs).bool()

    def step() -> None:
        bonus.bonus(obs, not_done)
        bonus.update(obs)

    return step


task = partial(Task, "curiosities", changes=changes_of, trivial="none", step=step_of)
tasks = [
    task(
        "a known room again",
        "returning-{}".format,
        measure="again_share",
        study="returning",
        maximize=False,
        curve="bonus",
        goal=None,
        margin=0.05,
        chance=1.0,
        costs={"until it is left": "stay_share"},
    ),
    task("exploring", "exploring-{}".format, measure="cells", study="exploring", margin=20.0),
]
