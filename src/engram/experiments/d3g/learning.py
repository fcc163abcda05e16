"""What the studies of D3G share: settings, agents, and episodes in which an agent acts and learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from engram.agents import BCO, D3G, TD3, ReplayBuffer, TransitionBatch, vector_episodes
from engram.lab import Run

Learner = Literal["d3g", "no-cycle", "observed", "td3", "bco"]
Update = Callable[[TransitionBatch], object]


@dataclass(frozen=True)
class Settings:
    """What all learners share."""

    width: Annotated[int, Ge(1)] = 64
    """Units of each of two hidden layers."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Of Adam."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Transitions in a batch."""
    noise: Annotated[float, Ge(0)] = 0.1
    """Deviation of the noise of exploration, as a part of half the range of an action."""


def build(learner: Learner, settings: Settings, observed: spaces.Box, actions: spaces.Box, run: Run) -> Any:
    """Build a learner."""
    options: dict[str, Any] = {
        "generator": run.generator,
        "hidden": (settings.width, settings.width),
        "learning_rate": settings.learning_rate,
        "device": run.device,
    }
    if learner == "td3":
        return TD3(observed, actions, **options)
    if learner == "bco":
        return BCO(observed, actions, **options)
    cycle: Any = {"d3g": "model", "no-cycle": "none", "observed": "value"}[learner]
    return D3G(observed, actions, cycle=cycle, **options)


def live(
    env: VectorEnv[Any, Any, Any],
    agent: Any,
    buffer: ReplayBuffer,
    run: Run,
    *,
    settings: Settings,
    random_steps: int,
    update: Update | None = None,
    reward_scale: float = 1.0,
) -> None:
    """Let an agent act for an episode in each environment, and learn from a batch after each step but random ones."""

    def act(seen: Any) -> Any:
        if buffer.written < random_steps:
            return agent.actions.decode(agent.actions.random(len(seen), run.generator))
        return agent.act(seen, settings.noise)

    def record(states: Any, actions: Any, rewards: Any, following: Any, **ends: Any) -> None:
        buffer.add(states, actions, reward_scale * rewards, following, **ends)
        if update is not None and buffer.written > random_steps:
            update(buffer.sample(settings.batch_size, run.generator))

    vector_episodes(env, act, int(run.rng.integers(2**31)), record)


def mean_return(env: VectorEnv[Any, Any, Any], agent: Any, run: Run) -> float:
    """Return the mean return of an episode in each environment, without noise."""
    return float(vector_episodes(env, agent.act, int(run.rng.integers(2**31))).mean())


def largest_step(env: VectorEnv[Any, Any, Any], agent: D3G, run: Run) -> float:
    """Return the largest coordinate of tau on the states of an episode in each environment."""
    found = 0.0

    def act(seen: Any) -> Any:
        nonlocal found
        found = max(found, float(np.abs(agent.propose(seen, cycled=False) - seen).max()))
        return agent.act(seen)

    vector_episodes(env, act, int(run.rng.integers(2**31)))
    return found
