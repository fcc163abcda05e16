"""Shared parts of the D3G studies: agents, and episodes in which an agent acts and learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from engram.agents import BCO, D3G, TD3, ReplayBuffer, TransitionBatch, vector_episodes
from engram.lab import Run, setting, settings

Acting = Literal["d3g", "no-cycle", "observed", "td3"]  # learners that need no log
Update = Callable[[TransitionBatch], object]


@settings
class Agent:
    """The agent of a trial."""

    learner: Literal["d3g", "no-cycle", "observed", "td3", "bco"] = setting("d3g", "the learning algorithm")
    width: int = setting(64, "units of each of two hidden layers", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0, le=1)
    batch_size: int = setting(64, "transitions in a batch", ge=1)
    noise: float = setting(0.1, "standard deviation of exploration noise, relative to half the action range", ge=0)


def build(config: Agent, observed: spaces.Box, actions: spaces.Box, run: Run) -> Any:
    """The agent of a trial.

    Args:
        config: The settings.
        observed: The space of observations.
        actions: The space of actions.
        run: The run.
    """
    options: dict[str, Any] = {
        "generator": run.generator,
        "hidden": (config.width, config.width),
        "learning_rate": config.learning_rate,
        "device": run.device,
    }
    if config.learner == "td3":
        return TD3(observed, actions, **options)
    if config.learner == "bco":
        return BCO(observed, actions, **options)
    cycle: Any = {"d3g": "model", "no-cycle": "none", "observed": "value"}[config.learner]
    return D3G(observed, actions, cycle=cycle, **options)


def live(
    env: VectorEnv[Any, Any, Any],
    agent: Any,
    buffer: ReplayBuffer,
    config: Agent,
    run: Run,
    *,
    random_steps: int,
    update: Update | None = None,
    reward_scale: float = 1.0,
) -> None:
    """Run an episode in each environment, learning from a batch after each step that is not random.

    Args:
        env: The environments.
        agent: The agent.
        buffer: The replay buffer, to which all steps are added.
        config: The settings.
        run: The run.
        random_steps: Number of steps in the buffer up to which actions are random and nothing is learned.
        update: Trains the agent on a batch; None: the agent does not learn.
        reward_scale: Factor of the stored rewards.
    """

    def act(observations: Any) -> Any:
        if buffer.written < random_steps:
            return agent.actions.decode(agent.actions.random(len(observations), run.generator))
        return agent.act(observations, config.noise)

    def record(states: Any, actions: Any, rewards: Any, next_states: Any, **ends: Any) -> None:
        buffer.add(states, actions, reward_scale * rewards, next_states, **ends)
        if update is not None and buffer.written > random_steps:
            update(buffer.sample(config.batch_size, run.generator))

    vector_episodes(env, act, int(run.rng.integers(2**31)), record)


def mean_return(env: VectorEnv[Any, Any, Any], agent: Any, run: Run) -> float:
    """The mean return of one episode in each environment, without noise.

    Args:
        env: The environments.
        agent: The agent.
        run: The run.
    """
    return float(vector_episodes(env, agent.act, int(run.rng.integers(2**31))).mean())


def largest_step(env: VectorEnv[Any, Any, Any], agent: D3G, run: Run) -> float:
    """The largest coordinate of a proposed step, over the states of one episode in each environment.

    Args:
        env: The environments.
        agent: The agent.
        run: The run.
    """
    largest = 0.0

    def act(observations: Any) -> Any:
        nonlocal largest
        largest = max(largest, float(np.abs(agent.propose(observations, cycled=False) - observations).max()))
        return agent.act(observations)

    vector_episodes(env, act, int(run.rng.integers(2**31)))
    return largest
