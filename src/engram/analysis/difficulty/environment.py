"""Difficulty of a reinforcement-learning task, measured on roll-outs of a Gymnasium environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from engram import checks
from engram.analysis.difficulty.closed_form import MeasuredDifficulty, with_uncertainty
from engram.analysis.difficulty.dimension import intrinsic_dimension
from engram.analysis.difficulty.published_tasks import control_task
from engram.numeric.rounding import varies


def environment_difficulty(
    env: gym.Env[Any, Any],
    policy: Callable[[Any], Any] | None = None,
    *,
    steps: int = 10_000,
    window: int = 1,
    stride: int = 1,
    n: float | int | None = None,
    resolution: float | int = 1e-3,
    error: float = 1e-3,
    k: int = 5,
    n_queries: int | None = 10_000,
    seed: int = 0,
) -> MeasuredDifficulty:
    """The inductive bias complexity of acting on ``window`` observations, from the dimension of those of a policy.

    ``control_task`` counts the coordinates of an observation; this function measures how many dimensions the
    observations fill. Coordinates are divided by their standard deviation and treated as angles: the state space is a
    torus.

    Args:
        env: The environment, with observations in a ``Box``.
        policy: Function from an observation to an action; None: random actions.
        steps: Number of steps of the roll-out.
        window: Number of successive observations on which an action depends.
        stride: Steps from one window to the next; with a small one, nearest neighbours are neighbours in time.
        n: Steps of experience of the learner; None: ``steps``.
        resolution: Change of a scaled observation at which the action may change.
        error: Target error, between 0 and 1.
        k: Number of neighbours for measuring the dimension.
        n_queries: Number of windows whose neighbours are searched; None: all.
        seed: Seed of all draws.

    Source: the formula of Boopathy et al. (2023); the measured dimension is ours.

    Examples:
        >>> 3 < environment_difficulty(gym.make("CartPole-v1"), steps=2000).dimension.value < 5
        True
    """
    checks.arguments()
    width = action_dimension(env.action_space)
    points = stacked(standardised(roll_out(env, policy, steps=steps, seed=seed)), window, stride)
    dimension = intrinsic_dimension(points, k, n_queries=n_queries, seed=seed)
    n = steps if n is None else n
    task = control_task(dimension.value, width, n=n, resolution=resolution, error=error)
    return with_uncertainty(task, dimension)


def action_dimension(space: gym.Space[Any]) -> int:
    """The number of degrees of freedom of an action; N - 1 for N choices."""
    match space:
        case spaces.Box() | spaces.MultiBinary():
            width = math.prod(space.shape)
        case spaces.Discrete():
            width = int(space.n) - 1
        case spaces.MultiDiscrete():
            width = int((space.nvec - 1).sum())
        case _:
            raise ValueError(f"env.action_space = {space}: expected Box, Discrete, MultiDiscrete or MultiBinary")
    if width < 1:
        raise ValueError(f"env.action_space = {space}: expected at least two actions")
    return width


def roll_out(
    env: gym.Env[Any, Any], policy: Callable[[Any], Any] | None = None, *, steps: int, seed: int = 0
) -> list[Float[np.ndarray, "steps features"]]:
    """The observations of each episode; the last episode may be cut short.

    Args:
        env: The environment, with observations in a ``Box``.
        policy: Function from an observation to an action; None: random actions.
        steps: Total number of steps.
        seed: Seed of the environment and of random actions.

    Raises:
        ValueError: The observations are not in a ``Box``, ``steps`` is below 1, or ``seed`` is negative.

    Examples:
        >>> episodes = roll_out(gym.make("CartPole-v1"), lambda observation: int(observation[2] > 0), steps=50)
        >>> sum(len(episode) - 1 for episode in episodes), episodes[0].shape[1]
        (50, 4)
    """
    checks.arguments()
    if not isinstance(env.observation_space, spaces.Box):
        space = env.observation_space
        raise ValueError(f"env.observation_space = {space}: expected Box; count categories in n_discrete, not in m")
    checks.size("steps", steps)
    seed = checks.size("seed", seed, 0, None)
    env.action_space.seed(seed)
    episodes: list[np.ndarray] = []
    observations: list[np.ndarray] = []
    for step in range(steps):
        if not observations:
            observation, _ = env.reset(seed=None if episodes else seed)
            observations = [np.array(observation).ravel()]  # copies, as environments may reuse their arrays
        action = env.action_space.sample() if policy is None else policy(observation)
        observation, _, terminated, truncated, _ = env.step(action)
        observations.append(np.array(observation).ravel())
        if terminated or truncated or step == steps - 1:
            episodes.append(np.stack(observations).astype(float))
            observations = []
    return episodes


def standardised(episodes: Sequence[Float[np.ndarray, "_ features"]]) -> list[Float[np.ndarray, "_ features"]]:
    """Observations divided by the standard deviations of their coordinates; a constant one keeps its first value."""
    checks.arguments()
    observations = np.concatenate(episodes)
    is_variable = varies(observations)  # by more than rounding
    std = np.where(is_variable, observations.std(0), 1)
    return [np.where(is_variable, episode / std, observations[0]) for episode in episodes]


def stacked(
    episodes: Sequence[Float[np.ndarray, "_ features"]], window: int, stride: int = 1
) -> Float[np.ndarray, "windows stacked"]:
    """Windows of observations within an episode, each as one row.

    Args:
        episodes: Observations of each episode, (steps, features); at least one is as long as a window.
        window: Number of observations in a window.
        stride: Steps from one window to the next.

    Raises:
        ValueError: ``window`` or ``stride`` is below 1, there are no episodes, or none is as long as a window.

    Examples:
        >>> stacked([np.arange(4.0)[:, None]], 2)
        array([[0., 1.], [1., 2.], [2., 3.]])
    """
    checks.arguments()
    checks.size("window", window)
    checks.size("stride", stride)
    if not episodes:
        raise ValueError("episodes = []: expected at least one")
    windows = [
        sliding_window_view(episode, window, axis=0)[::stride].swapaxes(1, 2).reshape(-1, window * episode.shape[1])
        for episode in episodes
        if len(episode) >= window
    ]
    if not windows:
        raise ValueError(f"window = {window}: expected at most {max(map(len, episodes))}, the longest episode")
    return np.concatenate(windows)
