"""Many environments at once, each of whose episodes is an instance of a meta-task."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from jaxtyping import Float, Float32, Int

from engram import checks
from engram.tasks.environment import BatchedEnv, Ends, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.meta.instance import Instance, free_cells, instance_of, set_instances
from engram.tasks.meta.planning import model, optimal
from engram.tasks.meta.program import Lives, init_lives, program
from engram.tasks.meta.task import MetaTask
from engram.tasks.picture import RENDERED, Picture

_ENTRIES, _KNOWN = 4_000_000, 100_000  # entries of the models that are solved at once; policies in the cache


class MetaTaskVectorEnv(BatchedEnv):
    """Many lifetimes at once, of one meta-task or of several.

    Each episode is a lifetime: an instance of the task, which is new by default, for ``horizon`` steps, after which it
    is truncated; only a rule terminates it. An observation is the stimulus of the state only: ``RL2Observation`` adds
    the last action and reward. Environment i has task ``tasks[i % len(tasks)]`` and, seeded s + i, the instances and
    the trajectories of the single environment with that seed. Instances and steps have separate generators, so that
    the n-th instance does not depend on earlier actions.

    Args:
        tasks: A meta-task, or several with equal numbers of actions and of features of an observation.
        num_envs: Number of environments; None: one for each task.
        max_episode_steps: Steps after which an episode is truncated; None: at the horizon only.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None. Goals are the states in reward rules of
            the instance, keys those in flag rules; a task without a grid shows its states in one row, by number.

    Attributes:
        tasks: The different tasks.
        task_of: The index of each environment's task in ``tasks``, (num_envs,).
        lives: The state of all environments: ``lives.state`` and ``lives.flag``, (num_envs,), and their instances.
        horizons: The horizon of each environment, (num_envs,).

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023).

    Examples:
        >>> from engram.tasks.meta import named
        >>> envs = MetaTaskVectorEnv([named.two_step(), named.t_maze()], num_envs=6)
        >>> observations, infos = envs.reset(seed=0)
        >>> observations.shape, envs.instance(0).states in [(1,), (2,)]
        ((6, 5), True)
    """

    metadata = BatchedEnv.metadata | RENDERED
    _reset_options = ("instance", "reset_mask")

    def __init__(
        self,
        tasks: MetaTask | Sequence[MetaTask],
        num_envs: int | None = None,
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        with checks.noted(tasks=tasks):
            task_list = [tasks] if isinstance(tasks, MetaTask) else list(tasks)
        if not task_list:
            raise ValueError("tasks = []: expected at least one")
        for (i, task), name in itertools.product(enumerate(task_list), ("n_actions", "observation_size")):
            checks.instance(f"tasks[{i}]", task, MetaTask)
            value, expected = getattr(task, name), getattr(task_list[0], name)
            if value != expected:
                raise ValueError(f"tasks[{i}].{name} = {value}: expected {expected}, as in tasks[0]")
        count = checks.size("num_envs", len(task_list) if num_envs is None else num_envs)
        self.tasks = tuple(dict.fromkeys(task_list[:count]))
        index_of = {task: i for i, task in enumerate(self.tasks)}
        self.task_of = np.array([index_of[task_list[i % len(task_list)]] for i in range(count)])
        self._code = program(self.tasks)
        self.lives: Lives = init_lives(self._code, self.task_of)
        self.horizons: Int[np.ndarray, "num_envs"] = self._code.horizon[self.task_of]
        low, high = zip(*map(_bounds, self.tasks), strict=True)
        observation_space = spaces.Box(np.min(low, axis=0).astype(np.float32), np.max(high, axis=0).astype(np.float32))
        actions = spaces.Discrete(task_list[0].n_actions)
        super().__init__(
            count, observation_space, actions, int(self.horizons.max()), max_episode_steps, render_mode=render_mode
        )
        self._volatile = self._code.is_volatile[self.task_of]
        self._streams: list[tuple[np.random.Generator, ...]] = [()] * count  # parent, for instances, for steps
        self._stays = np.zeros(count, dtype=bool)  # environments whose instance the next reset keeps
        self._finished = np.zeros(count, dtype=bool)
        self._oracles: dict[float, _Oracle] = {}

    @property
    def _kernels(self) -> Any:
        from engram.tasks.meta import kernels

        return kernels

    def instance(self, row: int) -> Instance:
        """The instance that environment ``row`` is in."""
        checks.size("row", row, minimum=0, maximum=self.num_envs - 1)
        return instance_of(self.tasks[self.task_of[row]], self.lives, row)

    def optimal_actions(self, gamma: float = 0.95) -> Int[np.ndarray, "num_envs"]:
        """The optimal action in each environment if instance, state and flag are known, with discount ``gamma`` < 1."""
        checks.number("gamma", gamma, minimum=0, below=1)
        oracle = self._oracles.setdefault(gamma, _Oracle(self.tasks, self.task_of, gamma))
        return oracle.actions(self.lives)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a lifetime in every environment.

        Args:
            seed: Seed of the first environment, from which the others count up; or a seed for each.
            options: ``"instance"``: ``"new"`` (the default), ``"keep"``, an ``Instance``, or one for each environment;
                and ``"reset_mask"``, which environments to reset.

        Raises:
            gymnasium.error.ResetNeeded: There is no instance yet to keep.
            ValueError: An option is unknown, or an instance does not fit its task.
        """
        checks.arguments()
        _, mask = self._seeds_and_mask(seed, options)
        option = (options or {}).get("instance", "new")
        if isinstance(option, str):
            if option not in ("new", "keep"):
                raise ValueError(f"options['instance'] = {option!r}: expected 'new', 'keep' or an Instance")
            if option == "keep" and not all(self._streams):
                raise ResetNeeded("options['instance'] = 'keep', but there is no instance yet")
        else:
            instances = [option] * self.num_envs if isinstance(option, Instance) else option
            if not isinstance(instances, Sequence) or len(instances) != self.num_envs:
                raise ValueError(f"options['instance'] = {option!r}: expected one, or {self.num_envs} in a sequence")
            rows = np.flatnonzero(mask)
            tasks = [self.tasks[self.task_of[row]] for row in rows]
            set_instances(self._code, self.lives, rows, tasks, [instances[row] for row in rows.tolist()])
        self._stays[:] = option != "new" if isinstance(option, str) else True
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self._stays[:] = False

    def _init(self, rows: Rows) -> None:
        for row in rows:
            if not self._streams[row] or self._streams[row][0] is not self.rngs[row]:
                self._streams[row] = (self.rngs[row], *self.rngs[row].spawn(2))
        fresh = rows[~self._stays[rows]]
        if fresh.size:
            kinds = self.task_of[fresh]
            chance = np.zeros((len(fresh), max(1, int(self._code.n_draws[kinds].max()))))
            for i, (row, draws) in enumerate(zip(fresh.tolist(), self._code.n_draws[kinds].tolist(), strict=True)):
                self._streams[row][1].random(out=chance[i, :draws])
            self._kernels.draw_instances(self._code, self.lives, fresh, chance)
        first = np.array([self._streams[row][2].random() for row in rows])
        self._kernels.start(self._code, self.lives, rows, first)
        self._draw_block(rows)
        self._finished[rows] = False

    def _draw_block(self, rows: Rows) -> None:
        """Draw the random numbers of the next steps."""
        noise, kinds = self.lives.noise, self.task_of[rows]
        shapes = zip(self._code.block[kinds].tolist(), self._code.n_noise[kinds].tolist(), strict=True)
        for row, (block, size) in zip(rows.tolist(), shapes, strict=True):
            if (block, size) == noise.shape[1:]:
                self._streams[row][2].random(out=noise[row])
            else:
                noise[row, :block, :size] = self._streams[row][2].random((block, size))

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        used_up = (self.steps % self._code.block[self.task_of] == 0) & (self.steps > 0) & ~self.ended
        if used_up.any():
            self._draw_block(np.flatnonzero(used_up))
        rewards, starts = np.empty(self.num_envs), np.empty(self.num_envs, dtype=bool)
        self._kernels.advance(self._code, self.lives, actions, self.steps, rewards, self._finished, starts)
        if self._volatile.any():
            self._kernels.vary(self._code, self.lives, np.flatnonzero(starts & self._volatile), self.steps)
        return rewards, {}

    def _ends(self) -> tuple[Ends, Ends]:
        return self._finished.copy(), self.steps >= self.horizons

    def _observe(self) -> Observations:
        observations = np.zeros((self.num_envs, self.tasks[0].observation_size), dtype=np.float32)
        self._kernels.observe(self._code, self.lives, observations)
        return observations

    def _picture(self, row: int) -> Picture:
        task, instance = self.tasks[self.task_of[row]], self.instance(row)
        cells = np.where(free_cells(task, [instance])[0], ".", "#")
        for symbol, rules in (("G", task.reward_rules), ("K", task.flag_rules)):
            rule_states = itertools.chain.from_iterable((rule.old, rule.new) for rule in rules)
            states = [s if isinstance(s, int) else instance.states[s.index] for s in rule_states]
            cells[[state for state in states if state != -1]] = symbol
        height, width = (1, task.n_states) if task.topology is None else (task.topology.height, task.topology.width)
        row, column = divmod(int(self.lives.state[row]), width)
        return Picture(cells.reshape(height, width), (row, column))


class MetaTaskEnv(SingleEnv):
    """One environment of ``MetaTaskVectorEnv``, whose ``reset`` returns the instance as ``info["instance"]``.

    Args:
        task: The meta-task.
        render_mode: As for ``MetaTaskVectorEnv``.

    Examples:
        >>> from engram.tasks.meta import named
        >>> env = MetaTaskEnv(named.bandit(2))
        >>> observation, info = env.reset(seed=0)
        >>> len(info["instance"].probs), env.step(1)[1] in (0.0, 1.0)
        (2, True)
    """

    batch: MetaTaskVectorEnv
    metadata = RENDERED
    vector_type = MetaTaskVectorEnv

    def __init__(self, task: MetaTask, *, render_mode: str | None = None) -> None:
        checks.arguments()
        super().__init__(tasks=task, render_mode=render_mode)
        self._arguments = {"task": task, "render_mode": render_mode}

    @property
    def task(self) -> MetaTask:
        """The meta-task."""
        return self.batch.tasks[0]

    @property
    def instance(self) -> Instance:
        """The instance that the lifetime is in."""
        return self.batch.instance(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "features"], dict[str, Any]]:
        """Start a lifetime, with the ``options`` of ``MetaTaskVectorEnv.reset``."""
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | {"instance": self.instance}


class _Oracle:
    """Optimal policies in the known instance of each environment, as if it never changed; updated when it does."""

    def __init__(self, tasks: Sequence[MetaTask], task_of: Int[np.ndarray, "num_envs"], gamma: float) -> None:
        self.tasks, self.task_of, self.gamma = tasks, task_of, gamma
        flags = np.array([2 if task.flag_rules else 1 for task in tasks])
        sizes = np.array([task.n_states for task in tasks])
        self._flag_step = (sizes * (flags - 1))[task_of]
        self._policy = np.zeros((len(task_of), int((sizes * flags).max())), dtype=np.int64)
        self._planned: tuple[Any, Any] | None = None
        self._known: dict[Any, Int[np.ndarray, "z"]] = {}

    def actions(self, lives: Lives) -> Int[np.ndarray, "num_envs"]:
        """The optimal action in every environment."""
        is_changed = np.ones(len(self.task_of), dtype=bool)
        if self._planned is not None:
            value, walls = self._planned
            is_changed = (value != lives.value).any(1) | (walls != lives.walls).any(1)
        if is_changed.any():
            for number, task in enumerate(self.tasks):
                self._plan(task, np.flatnonzero(is_changed & (self.task_of == number)), lives)
            self._planned = lives.value.copy(), lives.walls.copy()
        z = lives.state + self._flag_step * lives.flag
        return self._policy[np.arange(len(z)), z]  # type: ignore[no-any-return]

    def _plan(self, task: MetaTask, rows: Int[np.ndarray, "rows"], lives: Lives) -> None:
        instances = {row: instance_of(task, lives, row) for row in rows.tolist()}
        keys = {row: (task, instance.values, instance.walls) for row, instance in instances.items()}
        new = [(key, instances[row]) for key, row in {key: row for row, key in keys.items()}.items()
               if key not in self._known]  # fmt: skip
        chunk = max(1, _ENTRIES // (task.n_actions * (task.n_states * (2 if task.flag_rules else 1)) ** 2))
        for first in range(0, len(new), chunk):
            batch = new[first : first + chunk]
            best = optimal(model(task, [instance for _, instance in batch]), self.gamma).argmax(2)
            self._known |= dict(zip((key for key, _ in batch), best, strict=True))
        for row, key in keys.items():
            policy = self._known[key]
            self._policy[row, : len(policy)] = policy
        if len(self._known) > _KNOWN:
            self._known.clear()


def _bounds(task: MetaTask) -> tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features"]]:
    """The bounds of an observation."""
    size, kind = task.observation_size, task.stim.kind
    if kind in ("binary", "onehot") or (task.topology is not None and task.topology.obs != "stimuli"):
        return np.zeros(size), np.ones(size)
    maximum = np.inf if kind == "gaussian" else 1.0 if kind == "sphere" else np.abs(task.stim.vectors).max()
    return np.full(size, -maximum), np.full(size, maximum)
