"""Wrappers for meta-learning: additions to the observation, and lifetimes of several episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Float32

from engram import checks
from engram.tasks.meta.environment import MetaTaskVectorEnv
from engram.tasks.meta.task import MetaTask
from engram.vector_steps import autoreset_mode, end_flags

Seen = Float32[np.ndarray, "num_envs features"]


class _Widened(VectorWrapper):
    """Environments whose observations have further features, those of ``more``, between ``low`` and ``high``."""

    def __init__(self, env: VectorEnv[Any, Any, Any], low: list[float], high: list[float]) -> None:
        super().__init__(env)
        space = env.single_observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"env.observation_space = {space}: expected a Box of one dimension")
        bottom, top = (np.array(bounds, dtype=np.float32) for bounds in (low, high))
        low_and_high = np.concatenate([space.low, bottom]), np.concatenate([space.high, top])
        self.single_observation_space = spaces.Box(*low_and_high)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def more(self) -> Seen:
        """The further features."""
        raise NotImplementedError

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start lifetimes."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return np.concatenate([observations, self.more()], axis=1), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, *outcome = self.env.step(actions)
        return np.concatenate([observations, self.more()], axis=1), *outcome


class RL2Observation(_Widened):
    """Observations for meta-learners, with the last action, the last reward, and the time.

    The new observation is the old one, the last action as one-hot, the last reward, whether the last step ended an
    inner episode, and the time as a fraction of the lifetime; all but the first are zeros at the start of a lifetime.

    Args:
        env: A batch of environments with discrete actions and flat observations, with the autoreset mode NEXT_STEP.
        prev_action: Whether to show the last action.
        prev_reward: Whether to show the last reward.
        done_bit: Whether to show the end of an inner episode (see ``InnerEpisodes``).
        time: Whether to show the time, for which the batch needs ``horizons``.

    Source: Duan et al., "RL^2" (2016); Wang et al., "Learning to reinforcement learn" (2016).

    Examples:
        >>> from engram.tasks.meta import named
        >>> envs = RL2Observation(MetaTaskVectorEnv(named.two_step(), 3))
        >>> envs.reset(seed=0)[0].shape
        (3, 9)
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        prev_action: bool = True,
        prev_reward: bool = True,
        done_bit: bool = False,
        time: bool = True,
    ) -> None:
        if autoreset_mode(env) is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"env.metadata = {env.metadata}: expected the autoreset_mode NEXT_STEP")
        space, count = env.single_action_space, env.num_envs
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"env.action_space = {space}: expected Discrete, counted from 0")
        self._shows = [prev_action, prev_reward, done_bit, time]
        self._horizons = _horizons(env) if time else np.ones(count)
        self._actions = np.arange(int(space.n))
        widths = [len(self._actions) * prev_action, prev_reward, done_bit, time]
        low, high = ([bound for width, bound in zip(widths, bounds, strict=True) for _ in range(width)] for bounds in
                     ((0.0, -np.inf, 0.0, 0.0), (1.0, np.inf, 1.0, 1.0)))  # fmt: skip
        super().__init__(env, low, high)
        self._action, self._reward = np.full(count, -1), np.zeros(count)
        self._done, self._ended = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        self._steps = np.zeros(count, dtype=np.int64)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start lifetimes."""
        rows = _reset_rows(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._init(rows)
        self._ended[rows] = False
        return np.concatenate([observations, self.more()], axis=1), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        terminations = end_flags("terminations", terminations, self.num_envs)
        truncations = end_flags("truncations", truncations, self.num_envs)
        ended = terminations | truncations
        self._action[:], self._reward[:], self._done[:] = actions, rewards, ended | infos.get("inner_end", False)
        self._steps += 1
        self._init(self._ended)
        self._ended = ended
        return np.concatenate([observations, self.more()], axis=1), rewards, terminations, truncations, infos

    def more(self) -> Seen:
        """The last action and reward, and the time."""
        each = (self._action[:, None] == self._actions, self._reward, self._done, self._steps / self._horizons)
        columns = [
            column.reshape(self.num_envs, -1) for column, is_shown in zip(each, self._shows, strict=True) if is_shown
        ]
        return np.concatenate([np.zeros((self.num_envs, 0)), *columns], axis=1, dtype=np.float32)

    def _init(self, rows: Any) -> None:
        self._action[rows], self._reward[rows], self._done[rows], self._steps[rows] = -1, 0.0, False, 0


class InnerEpisodes(VectorWrapper):
    """Lifetimes of several episodes of the same instance, in a ``MetaTaskVectorEnv`` or a wrapper of one.

    When an episode ends, except the last of the lifetime's ``episodes``, the next one starts at once with the same
    instance: the step returns its first observation, and ``infos["inner_end"]`` is True.

    Args:
        env: The environments.
        episodes: Number of episodes of a lifetime.

    Source: the trials of Duan et al., "RL^2" (2016).

    Examples:
        >>> from engram.tasks.meta import named
        >>> envs = InnerEpisodes(MetaTaskVectorEnv(named.dark_room(5), 2), 3)
        >>> envs.horizons.tolist()
        [60, 60]
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], episodes: int) -> None:
        super().__init__(env)
        self.episodes = checks.size("episodes", episodes)
        self._over = np.zeros(env.num_envs, dtype=np.int64)
        self._ended = np.zeros(env.num_envs, dtype=bool)

    @property
    def horizons(self) -> Any:
        """The maximum number of steps of each lifetime."""
        return self.episodes * _horizons(self.env)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start lifetimes."""
        rows = _reset_rows(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._over[rows], self._ended[rows] = 0, False
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        terminations = end_flags("terminations", terminations, self.num_envs)
        truncations = end_flags("truncations", truncations, self.num_envs)
        self._over[self._ended] = 0  # their next lifetime has started
        ended = terminations | truncations
        self._over += ended
        inner = ended & (self._over < self.episodes)
        self._ended = ended & ~inner
        if inner.any():
            observations, reset_infos = self.env.reset(options={"reset_mask": inner, "instance": "keep"})
            infos = infos | reset_infos | {"inner_end": inner, "_inner_end": inner.copy()}
        return observations, rewards, terminations & ~inner, truncations & ~inner, infos


class RevealInstance(_Widened):
    """Observations that reveal the instance, which meta-learners otherwise have to find out.

    Added to the observation are the values of state and action variables as one-hot, those of the probability
    variables, the vectors of the variable stimuli, and which cells of a random maze are walls.

    Args:
        env: A ``MetaTaskVectorEnv``, or a wrapper of one, whose tasks have the same numbers of variables.

    Raises:
        TypeError: ``env`` is another environment.
        ValueError: The numbers of variables differ.

    Examples:
        >>> from engram.tasks.meta import named
        >>> RevealInstance(MetaTaskVectorEnv(named.bandit(3), 2)).observation_space.shape
        (2, 4)
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self._inner = checks.instance("env", env.unwrapped, MetaTaskVectorEnv)
        first_task = self._inner.tasks[0]
        for i, task in enumerate(self._inner.tasks):
            if _variables(task) != _variables(first_task):
                raise ValueError(f"tasks[{i}]: expected as many variables of each kind as tasks[0] has")
        states, actions, probs, stimuli, walls = _variables(first_task)
        low = [0.0] * (states + actions + probs) + [-np.inf] * stimuli + [0.0] * walls
        super().__init__(env, low, [1.0 if bound == 0 else np.inf for bound in low])

    def more(self) -> Seen:
        """The values of the variables."""
        task, lives, count = self._inner.tasks[0], self._inner.lives, self.num_envs
        n_state_vars, columns = len(task.state_vars), task.n_action_columns
        first = 1 + np.array([task.n_fixed for task in self._inner.tasks])[self._inner.task_of]
        stimuli = first[:, None] + np.arange(task.n_stim_vars)
        features = [
            lives.value[:, :n_state_vars, None] == np.arange(task.n_states),
            lives.value[:, n_state_vars : n_state_vars + columns, None] == np.arange(task.n_actions),
            lives.value[:, n_state_vars + columns : n_state_vars + columns + len(task.prob_vars)],
            lives.vectors[np.arange(count)[:, None], stimuli, : task.stim.size],
            lives.walls[:, : task.n_states * task.is_maze],
        ]
        return np.concatenate([feature.reshape(count, -1) for feature in features], axis=1, dtype=np.float32)


def _reset_rows(options: dict[str, Any] | None, num_envs: int) -> Any:
    return np.asarray((options or {}).get("reset_mask", np.ones(num_envs, dtype=bool)))


def _horizons(env: Any) -> Any:
    """The horizons of a batch, looked up through wrappers that do not change them."""
    while not hasattr(env, "horizons") and isinstance(env, VectorWrapper):
        env = env.env
    if not hasattr(env, "horizons"):
        raise TypeError(f"env = {env}: expected environments with horizons, as MetaTaskVectorEnv has")
    return env.horizons


def _variables(task: MetaTask) -> tuple[int, ...]:
    """The number of features for each kind of variable."""
    states, actions = len(task.state_vars) * task.n_states, task.n_action_columns * task.n_actions
    return states, actions, len(task.prob_vars), task.n_stim_vars * task.stim.size, task.n_states * task.is_maze
