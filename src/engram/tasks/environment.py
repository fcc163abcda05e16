"""Batched environments whose state is kept in arrays, and the single environment as a batch of one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
from gymnasium import Env, logger, spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int, Shaped

from engram import checks
from engram.tasks.picture import Picture

Rows = Int[np.ndarray, "rows"]
Observations = Shaped[np.ndarray, "num_envs *features"]
PerEnv = Float[np.ndarray, "num_envs"]
Ends = Bool[np.ndarray, "num_envs"]


class BatchedEnv(VectorEnv[Any, Any, Any]):
    """Environments of one kind that step together, with episodes of a known length.

    A subclass defines the start of an episode (``_init``), the transition (``_advance``), the observation
    (``_observe``), the end of an episode (``_ends``) unless only time ends it, and the picture (``_picture``) if its
    metadata names render modes. Each environment has its own random generator: environment i of a batch seeded s is the
    single environment seeded s + i. The end after ``episode_len`` steps is part of the task, whose observations show
    the time, and is therefore a termination; the observation of a new episode comes with the step after it, whose
    action is ignored (``AutoresetMode.NEXT_STEP``).

    Args:
        num_envs: Number of environments.
        observation_space: Observation space of one environment.
        action_space: Actions of one environment, counted from 0, or vectors of numbers within bounds.
        episode_len: Number of steps of an episode.
        max_episode_steps: Steps after which an episode is truncated; None: never.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        rngs: The random generator of each environment.
        steps: Number of steps in each environment's episode so far.
        last_reward: Reward of each environment in the last step.
        last_action: Action of each environment in the last step; 0 at the start of an episode.
        ended: Whether each environment's episode is over.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - as Gymnasium has it
    _reset_options: ClassVar[tuple[str, ...]] = ("reset_mask",)

    def __init__(
        self,
        num_envs: int,
        observation_space: spaces.Box,
        action_space: spaces.Discrete | spaces.Box,
        episode_len: int,
        max_episode_steps: int | None,
        *,
        render_mode: str | None = None,
    ) -> None:
        self.metadata = deepcopy(self.metadata)  # one's own, which may be changed
        self.episode_len = checks.size("episode_len", episode_len)
        self.render_mode = checks.choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if max_episode_steps is not None:
            max_episode_steps = checks.size("max_episode_steps", max_episode_steps)
        self.num_envs = checks.size("num_envs", num_envs)
        self.max_episode_steps = max_episode_steps
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.rngs: list[np.random.Generator] = []
        # Each environment's last generator from a seed, and the seed: one that came otherwise has an unknown seed.
        self._seeded: list[tuple[Any, int]] = [(None, -1)] * num_envs
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.last_reward = np.zeros(num_envs)
        action_shape = action_space.shape if isinstance(action_space, spaces.Box) else ()
        self.last_action = np.zeros((num_envs, *action_shape), dtype=np.float64 if action_shape else np.int64)
        self.ended = np.zeros(num_envs, dtype=bool)
        self._each = np.arange(num_envs)
        self._actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0

    @abstractmethod
    def _init(self, rows: Rows) -> None:
        """Start an episode in some environments, drawing from their ``rngs``."""

    @abstractmethod
    def _advance(self, actions: Any) -> tuple[PerEnv, dict[str, Any]]:
        """Act in every environment; return rewards and infos. Those of ended environments are discarded."""

    @abstractmethod
    def _observe(self) -> Observations:
        """The observation of every environment, as a new array."""

    def _ends(self) -> tuple[Ends, Ends]:
        """The episodes that this step terminates and those that it truncates, as new arrays."""
        return self.steps >= self.episode_len, np.zeros(self.num_envs, dtype=bool)

    def _picture(self, row: int) -> Picture:
        """The picture of one environment."""
        raise NotImplementedError(f"{type(self).__name__} has no picture")

    def render(self) -> tuple[Any, ...] | None:
        """An image or a text of each environment, depending on ``render_mode``; ``Picture`` explains the symbols."""
        if self.render_mode is None:
            logger.warn(f"render shows nothing: expected render_mode to be one of {self.metadata['render_modes']}")
            return None
        if not self.rngs:
            raise ResetNeeded("render was called before reset")
        pictures = map(self._picture, range(self.num_envs))
        return tuple(picture.text() if self.render_mode == "ansi" else picture.image() for picture in pictures)

    @property
    def np_random(self) -> Any:
        """The random generators, one for each environment; those that are set after ``reset`` count from then on."""
        return tuple(self.rngs)

    @np_random.setter
    def np_random(self, value: Any) -> None:
        if not self.rngs:
            raise ResetNeeded("np_random was set before reset")
        with checks.noted(np_random=value):
            rngs = [checks.instance(f"np_random[{i}]", rng, np.random.Generator) for i, rng in enumerate(value)]
        if len(rngs) != self.num_envs:
            raise ValueError(f"np_random has {len(rngs)} generators: expected num_envs = {self.num_envs}")
        self.rngs = rngs

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the random generators, one for each environment; -1 for a generator not made from a seed."""
        pairs = zip(self.rngs, self._seeded, strict=False)  # there are no generators before the first reset
        return tuple(seed if rng is seeded else -1 for rng, (seeded, seed) in pairs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: Seed of the first environment, from which the others count up; or a seed for each. An environment
                without a seed continues with its generator, or gets an unpredictable one.
            options: ``{"reset_mask": mask}``, with a mask of booleans (num_envs,), resets only some environments.

        Raises:
            ValueError: There is not one seed for each environment, an option is unknown, or the mask has the wrong
                shape or type.
        """
        checks.arguments()
        seeds, mask = self._seeds_and_mask(seed, options)
        if not self.rngs:
            self._seeded = [seeding.np_random(number) for number in seeds]
            self.rngs = [rng for rng, _ in self._seeded]
        else:
            for row in np.flatnonzero(mask):
                if seeds[row] is not None:
                    self._seeded[row] = seeding.np_random(seeds[row])
                    self.rngs[row] = self._seeded[row][0]
        self._restart(np.flatnonzero(mask))
        return self._observe(), {}

    def _seeds_and_mask(
        self, seed: int | Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> tuple[list[int | None], Ends]:
        """The checked arguments of ``reset``: a seed for each environment, and which of them to reset."""
        seed_or_seeds = [None] * self.num_envs if seed is None else seed
        numbers = (
            [seed_or_seeds + i for i in range(self.num_envs)]
            if isinstance(seed_or_seeds, int | np.integer)
            else seed_or_seeds
        )
        seeds = [None if number is None else checks.size("seed", number, minimum=0, maximum=None) for number in numbers]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed = {seed!r}: expected num_envs = {self.num_envs} seeds")
        if unknown := [name for name in options or {} if name not in self._reset_options]:
            accepted = " and ".join(self._reset_options)
            raise ValueError(f"options = {options!r}: expected only {accepted}, not {unknown[0]!r}")
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"options['reset_mask'] = {mask!r}: expected {self.num_envs} booleans")
        if not self.rngs and not mask.all():
            raise ResetNeeded("options['reset_mask'] leaves out environments that were never reset")
        return seeds, mask

    def step(self, actions: Any) -> tuple[Observations, PerEnv, Ends, Ends, dict[str, Any]]:
        """Act in every environment, with one integer or one vector for each.

        Raises:
            gymnasium.error.ResetNeeded: ``reset`` was never called.
            ValueError: The actions have the wrong number or type, or are outside the action space.
        """
        if not self.rngs:
            raise ResetNeeded("step was called before reset")
        actions = self._checked(actions)
        restarting = self.ended
        rewards, infos = self._advance(actions)
        self.steps += 1
        self.last_reward, self.last_action = rewards, actions
        terminations, truncations = self._ends()
        if self.max_episode_steps is not None:
            truncations = truncations | (self.steps >= self.max_episode_steps)
        if restarting.any():
            rewards[restarting], terminations[restarting], truncations[restarting] = 0.0, False, False
            infos |= {name: mask & ~restarting for name, mask in infos.items() if name.startswith("_")}
            self._restart(np.flatnonzero(restarting))
        self.ended = terminations | truncations
        return self._observe(), rewards.copy(), terminations, truncations, infos

    def _checked(self, actions: Any) -> np.ndarray:
        """Actions as a new array; raise ValueError if they are not in the action space."""
        space = self.single_action_space
        if isinstance(space, spaces.Box):
            numbers = checks.array("actions", actions, (self.num_envs, *space.shape))
            if (numbers < space.low).any() or (numbers > space.high).any():
                row = int(np.argwhere((numbers < space.low) | (numbers > space.high))[0, 0])
                raise ValueError(f"actions[{row}] = {numbers[row]}: expected numbers within {space}")
            return numbers
        with checks.noted(actions=actions):
            integers, n = np.array(actions), self._actions
        if integers.shape != (self.num_envs,) or integers.dtype.kind not in "iu":
            raise ValueError(f"actions = {actions!r}: expected {self.num_envs} integers, one for each environment")
        if integers.min() < 0 or integers.max() >= n:
            row = int(np.flatnonzero((integers < 0) | (integers >= n))[0])
            raise ValueError(f"actions[{row}] = {integers[row]}: expected an integer from 0 to {n - 1}")
        return integers.astype(np.int64, copy=False)

    def _restart(self, rows: Rows) -> None:
        self.steps[rows], self.last_reward[rows], self.last_action[rows], self.ended[rows] = 0, 0.0, 0, False
        if rows.size:
            self._init(rows)


class SingleEnv(Env[Any, Any]):
    """One environment as a batch of one, with the arguments of its ``vector_type``."""

    metadata = {"render_modes": []}  # noqa: RUF012 - as Gymnasium has it

    vector_type: ClassVar[Callable[..., BatchedEnv]]

    def __init__(self, **arguments: Any) -> None:
        self.batch = type(self).vector_type(num_envs=1, **arguments)
        self._arguments = arguments
        self.metadata = deepcopy(self.metadata)  # one's own, which may be changed
        self.render_mode = self.batch.render_mode
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    @property
    def np_random(self) -> np.random.Generator:
        """The random generator; one that is set counts from then on, in an episode too."""
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random, self._np_random_seed = checks.instance("np_random", value, np.random.Generator), -1
        if self.batch.rngs:
            self.batch.rngs = [value]

    def __repr__(self) -> str:
        return checks.made_by(type(self), self._arguments)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Shaped[np.ndarray, "*features"], dict[str, Any]]:
        """Start an episode; a ``seed`` gives it a new generator; ``options`` as in ``BatchedEnv.reset``."""
        seed = None if seed is None else checks.size("seed", seed, minimum=0, maximum=None)
        before = self.batch.rngs, self.batch._seeded, self._np_random, self._np_random_seed
        super().reset(seed=seed)
        self.batch.rngs, self.batch._seeded = [self.np_random], [(self.np_random, self.np_random_seed)]
        try:
            observations, infos = self.batch.reset(options=options)
        except BaseException:
            # A failed reset does not count.
            self.batch.rngs, self.batch._seeded, self._np_random, self._np_random_seed = before
            raise
        return observations[0], _of_the_first(infos)

    def step(self, action: Any) -> tuple[Shaped[np.ndarray, "*features"], float, bool, bool, dict[str, Any]]:
        """Act; raise ``ResetNeeded`` if no episode is running, ValueError if there is no such action."""
        if isinstance(self.action_space, spaces.Discrete) and action not in self.action_space:
            raise ValueError(f"action = {action!r}: expected an element of {self.action_space}, counted from 0")
        if self.batch.ended[0]:
            raise ResetNeeded("the episode is over: call reset")
        with checks.noted(action=action):
            observations, rewards, terminations, truncations, infos = self.batch.step([action])
        ends = bool(terminations[0]), bool(truncations[0])
        return observations[0], float(rewards[0]), *ends, _of_the_first(infos)

    def render(self) -> Any:
        """An image or a text of the environment, depending on ``render_mode``."""
        frames = self.batch.render()
        return None if frames is None else frames[0]


def _of_the_first(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of the first environment of a batch, without their masks."""
    return {name: value[0].item() for name, value in infos.items() if infos.get(f"_{name}", [False])[0]}
