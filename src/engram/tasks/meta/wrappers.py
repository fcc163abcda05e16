"""What a meta-learner sees besides the stimulus, around one environment or a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Env, Wrapper, spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Float32

from engram.tasks.environment import check_int
from engram.tasks.meta.environment import MetaTaskEnv, MetaTaskVectorEnv

Seen = Float32[np.ndarray, "num_envs features"]


class _Before:
    """What was done before, for each of some environments, as numbers to be seen."""

    def __init__(
        self, num_envs: int, space: Any, horizons: Any, *, prev_action: bool, prev_reward: bool, done_bit: bool
    ) -> None:
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"env.action_space = {space}: expected Discrete, counted from 0")
        self.horizons, self.actions = horizons, int(space.n)
        self.prev_action, self.prev_reward, self.done_bit = prev_action, prev_reward, done_bit
        self.action = np.full(num_envs, -1)
        self.reward, self.done = np.zeros(num_envs), np.zeros(num_envs, dtype=bool)
        self.steps = np.zeros(num_envs, dtype=np.int64)

    def bounds(self) -> tuple[list[float], list[float]]:
        low = [0.0] * (self.actions * self.prev_action) + [-np.inf] * self.prev_reward + [0.0] * self.done_bit
        high = [1.0] * (self.actions * self.prev_action) + [np.inf] * self.prev_reward + [1.0] * self.done_bit
        is_timed = self.horizons is not None
        return low + [0.0] * is_timed, high + [1.0] * is_timed

    def begin(self, rows: Any) -> None:
        self.action[rows], self.reward[rows], self.done[rows], self.steps[rows] = -1, 0.0, False, 0

    def after(self, action: Any, reward: Any, done: Any) -> None:
        self.action[:], self.reward[:], self.done[:] = action, reward, done
        self.steps += 1

    def seen(self) -> Seen:
        parts = []
        if self.prev_action:
            parts.append(self.action[:, None] == np.arange(self.actions))
        if self.prev_reward:
            parts.append(self.reward[:, None])
        if self.done_bit:
            parts.append(self.done[:, None])
        if self.horizons is not None:
            parts.append((self.steps / self.horizons)[:, None])
        columns = [part.astype(np.float32) for part in parts]
        return np.concatenate([np.zeros((len(self.action), 0), dtype=np.float32), *columns], axis=1)


def _wider(space: Any, bounds: tuple[Sequence[float], Sequence[float]]) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"env.observation_space = {space}: expected a Box of one dimension")
    low, high = (np.array(one, dtype=np.float32) for one in bounds)
    return spaces.Box(np.concatenate([space.low, low]), np.concatenate([space.high, high]))


class RL2Observation(Wrapper[Any, Any, Any, Any]):
    """Show a meta-learner what it did and got: the observation, the last action, the last reward, and the time.

    The new observation is the old one, the last action as one-hot, the last reward, whether the last step ended an
    inner episode, and the time as a share of the lifetime; all but the first are zeros at the start of a lifetime.

    Args:
        env: An environment with discrete actions and a flat observation.
        prev_action: Whether the last action is shown.
        prev_reward: Whether the last reward is shown.
        done_bit: Whether the end of an inner episode is shown (see ``InnerEpisodes``).
        time: Whether the time is shown; the environment then has a ``horizon``.

    Raises:
        ValueError: The actions or the observations are of another kind.

    Source: Duan et al., "RL^2" (2016); Wang et al., "Learning to reinforcement learn" (2016).

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = RL2Observation(MetaTaskEnv(named.two_step()))
        >>> env.reset(seed=0)[0].shape, env.step(1)[0][5:].tolist()[:2]
        ((9,), [0.0, 1.0])
    """

    def __init__(
        self,
        env: Env[Any, Any],
        *,
        prev_action: bool = True,
        prev_reward: bool = True,
        done_bit: bool = False,
        time: bool = True,
    ) -> None:
        super().__init__(env)
        horizon = env.get_wrapper_attr("horizon") if time else None
        self._before = _Before(
            1, env.action_space, horizon, prev_action=prev_action, prev_reward=prev_reward, done_bit=done_bit
        )
        self.observation_space = _wider(env.observation_space, self._before.bounds())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a lifetime."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._before.begin(slice(None))
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        done = terminated or truncated or info.get("inner_end", False)
        self._before.after(int(action), float(reward), done)
        return self._seen(observation), reward, terminated, truncated, info

    def _seen(self, observation: Any) -> Any:
        return np.concatenate([observation, self._before.seen()[0]])


class RL2VectorObservation(VectorWrapper):
    """Show meta-learners what they did and got: ``RL2Observation`` for a batch.

    Args:
        env: A batch with discrete actions and flat observations, which begins new episodes in the step after their
            end, as engram's do.
        prev_action: Whether the last action is shown.
        prev_reward: Whether the last reward is shown.
        done_bit: Whether the end of an inner episode is shown.
        time: Whether the time is shown; the batch then has ``horizons``.

    Raises:
        ValueError: The actions or the observations are of another kind, or episodes begin otherwise.

    Examples:
        >>> from engram.tasks.meta import named
        >>> envs = RL2VectorObservation(MetaTaskVectorEnv(named.two_step(), 3))
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
        super().__init__(env)
        if env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"env.metadata = {env.metadata}: expected the autoreset_mode NEXT_STEP")
        horizons = _horizons(env) if time else None
        self._before = _Before(
            env.num_envs,
            env.single_action_space,
            horizons,
            prev_action=prev_action,
            prev_reward=prev_reward,
            done_bit=done_bit,
        )
        self._ended = np.zeros(env.num_envs, dtype=bool)
        self.single_observation_space = _wider(env.single_observation_space, self._before.bounds())
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin lifetimes."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        rows = _reset_rows(options, self.num_envs)
        self._before.begin(rows)
        self._ended[rows] = False
        return self._seen(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        done = terminations | truncations
        self._before.after(actions, rewards, done | infos.get("inner_end", False))
        self._before.begin(self._ended)
        self._ended = done
        return self._seen(observations), rewards, terminations, truncations, infos

    def _seen(self, observations: Any) -> Seen:
        return np.concatenate([observations, self._before.seen()], axis=1)


class InnerEpisodes(Wrapper[Any, Any, Any, Any]):
    """Make lifetimes of several episodes of the same instance.

    When an episode ends that is not the last one, the next one begins at once, with the same instance; the
    observation returned is its first one, and ``info["inner_end"]`` is True.

    Args:
        env: A ``MetaTaskEnv``, or a wrapper of one.
        episodes: Episodes of a lifetime.

    Source: the trials of Duan et al., "RL^2" (2016).

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = InnerEpisodes(MetaTaskEnv(named.dark_room(5)), 3)
        >>> env.horizon
        60
    """

    def __init__(self, env: Env[Any, Any], episodes: int) -> None:
        super().__init__(env)
        check_int("episodes", episodes, 1)
        self.episodes = episodes
        self._over = 0

    @property
    def horizon(self) -> int:
        """The largest number of steps of a lifetime."""
        return self.episodes * int(self.env.get_wrapper_attr("horizon"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a lifetime."""
        self._over = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._over += 1
            if self._over < self.episodes:
                observation, more = self.env.reset(options={"instance": "keep"})
                return observation, reward, False, False, info | more | {"inner_end": True}
        return observation, reward, bool(terminated), bool(truncated), info


class InnerEpisodesVector(VectorWrapper):
    """Make lifetimes of several episodes of the same instance: ``InnerEpisodes`` for a batch.

    Args:
        env: A ``MetaTaskVectorEnv``, or a wrapper of one.
        episodes: Episodes of a lifetime.

    Examples:
        >>> from engram.tasks.meta import named
        >>> envs = InnerEpisodesVector(MetaTaskVectorEnv(named.dark_room(5), 2), 3)
        >>> envs.horizons.tolist()
        [60, 60]
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], episodes: int) -> None:
        super().__init__(env)
        check_int("episodes", episodes, 1)
        self.episodes = episodes
        self._over = np.zeros(env.num_envs, dtype=np.int64)
        self._ended = np.zeros(env.num_envs, dtype=bool)

    @property
    def horizons(self) -> Any:
        """The largest number of steps of each lifetime."""
        return self.episodes * _horizons(self.env)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin lifetimes."""
        rows = _reset_rows(options, self.num_envs)
        self._over[rows], self._ended[rows] = 0, False
        return self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self._over[self._ended] = 0  # their new lifetime has begun
        over = terminations | truncations
        self._over += over
        inner = over & (self._over < self.episodes)
        self._ended = over & ~inner
        if inner.any():
            observations, _ = self.env.reset(options={"reset_mask": inner, "instance": "keep"})
            infos = infos | {"inner_end": inner, "_inner_end": inner.copy()}
        return observations, rewards, terminations & ~inner, truncations & ~inner, infos


class RevealInstance(Wrapper[Any, Any, Any, Any]):
    """Show the instance, which a meta-learner otherwise has to find out.

    Added to the observation are the values of the state variables as one-hot, those of the action variables as
    one-hot, those of the probability variables, the vectors of the variable stimuli, and which cells of a random maze
    are walls.

    Args:
        env: A ``MetaTaskEnv``, or a wrapper of one.

    Examples:
        >>> from engram.tasks.meta import named
        >>> RevealInstance(MetaTaskEnv(named.two_step())).observation_space.shape
        (8,)
    """

    def __init__(self, env: Env[Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, MetaTaskEnv):
            raise TypeError(f"env = {env}: expected a MetaTaskEnv")
        self._batch = env.unwrapped.batch
        self.observation_space = _wider(env.observation_space, _revealed_bounds(self._batch))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a lifetime."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation), reward, bool(terminated), bool(truncated), info

    def _seen(self, observation: Any) -> Any:
        return np.concatenate([observation, _revealed(self._batch)[0]])


class RevealInstanceVector(VectorWrapper):
    """Show the instances, which meta-learners otherwise have to find out: ``RevealInstance`` for a batch.

    Args:
        env: A ``MetaTaskVectorEnv``, or a wrapper of one, whose tasks have the same numbers of variables.

    Raises:
        TypeError: It is something else.
        ValueError: The tasks differ in their variables.

    Examples:
        >>> from engram.tasks.meta import named
        >>> RevealInstanceVector(MetaTaskVectorEnv(named.bandit(3), 2)).observation_space.shape
        (2, 4)
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, MetaTaskVectorEnv):
            raise TypeError(f"env = {env}: expected a MetaTaskVectorEnv")
        self._batch = env.unwrapped
        for i, task in enumerate(self._batch.tasks):
            if _variables(task) != _variables(self._batch.tasks[0]):
                raise ValueError(f"tasks[{i}]: expected as many variables of each kind as tasks[0] has")
        self.single_observation_space = _wider(env.single_observation_space, _revealed_bounds(self._batch))
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin lifetimes."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return np.concatenate([observations, _revealed(self._batch)], axis=1), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        seen = np.concatenate([observations, _revealed(self._batch)], axis=1)
        return seen, rewards, terminations, truncations, infos


def _reset_rows(options: dict[str, Any] | None, num_envs: int) -> Any:
    return np.asarray((options or {}).get("reset_mask", np.ones(num_envs, dtype=bool)))


def _horizons(env: Any) -> Any:
    """Return the horizons of a batch, through wrappers that do not change them."""
    while not hasattr(env, "horizons") and isinstance(env, VectorWrapper):
        env = env.env
    return env.horizons


def _variables(task: Any) -> tuple[int, ...]:
    """How many numbers show each kind of variable."""
    is_maze = task.topology is not None and task.topology.walls == "random_maze"
    states, actions = len(task.state_vars) * task.n_states, task.n_action_columns * task.n_actions
    return states, actions, len(task.prob_vars), task.n_stim_vars * task.stim.size, task.n_states * is_maze


def _revealed(batch: MetaTaskVectorEnv) -> Seen:
    task, now = batch.tasks[0], batch.lives
    places, columns = len(task.state_vars), task.n_action_columns
    *_, stimuli, cells = _variables(task)
    rows = np.arange(batch.num_envs)
    first = 1 + np.array([one.n_fixed for one in batch.tasks])[batch.task_of]
    vectors = now.vectors[rows[:, None], first[:, None] + np.arange(task.n_stim_vars), : task.stim.size]
    parts = [
        now.value[:, :places, None] == np.arange(task.n_states),
        now.value[:, places : places + columns, None] == np.arange(task.n_actions),
        now.value[:, places + columns : places + columns + len(task.prob_vars)],
        vectors.reshape(batch.num_envs, stimuli),
        now.walls[:, :cells],
    ]
    return np.concatenate([part.reshape(batch.num_envs, -1).astype(np.float32) for part in parts], axis=1)


def _revealed_bounds(batch: MetaTaskVectorEnv) -> tuple[list[float], list[float]]:
    states, actions, probs, stimuli, walls = _variables(batch.tasks[0])
    shares = states + actions + probs
    low = [0.0] * shares + [-np.inf] * stimuli + [0.0] * walls
    return low, [1.0] * shares + [np.inf] * stimuli + [1.0] * walls
