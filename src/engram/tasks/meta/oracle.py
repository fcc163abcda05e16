"""Optimal actions in many environments, for who knows instance, state and flag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from engram.tasks.meta.instance import instance_of
from engram.tasks.meta.planning import model, optimal
from engram.tasks.meta.program import Lives
from engram.tasks.meta.task import MetaTask

_ENTRIES, _KNOWN = 4_000_000, 100_000  # of the models planned in at once; policies that are remembered


class Oracle:
    """Plans in the instance of each environment as if it stayed as it is, and again where it has changed."""

    def __init__(self, tasks: Sequence[MetaTask], task_of: Int[np.ndarray, "num_envs"], gamma: float) -> None:
        self.tasks, self.task_of, self.gamma = tasks, task_of, gamma
        flags = np.array([2 if task.flag_rules else 1 for task in tasks])
        sizes = np.array([task.n_states for task in tasks])
        self._flag_step = (sizes * (flags - 1))[task_of]
        self._policy = np.zeros((len(task_of), int((sizes * flags).max())), dtype=np.int64)
        self._planned: tuple[Any, Any] | None = None
        self._known: dict[Any, Int[np.ndarray, "z"]] = {}

    def actions(self, lives: Lives) -> Int[np.ndarray, "num_envs"]:
        """Return the optimal action in every environment."""
        changed = np.ones(len(self.task_of), dtype=bool)
        if self._planned is not None:
            value, walls = self._planned
            changed = (value != lives.value).any(1) | (walls != lives.walls).any(1)
        if changed.any():
            for number, task in enumerate(self.tasks):
                self._plan(task, np.flatnonzero(changed & (self.task_of == number)), lives)
            self._planned = lives.value.copy(), lives.walls.copy()
        z = lives.state + self._flag_step * lives.flag
        return self._policy[np.arange(len(z)), z]  # type: ignore[no-any-return]

    def _plan(self, task: MetaTask, rows: Int[np.ndarray, "rows"], lives: Lives) -> None:
        instances = {row: instance_of(task, lives, row) for row in rows.tolist()}
        places = {row: (task, one.values, one.walls) for row, one in instances.items()}
        new = [(place, instances[row]) for place, row in {place: row for row, place in places.items()}.items()
               if place not in self._known]  # fmt: skip
        chunk = max(1, _ENTRIES // (task.n_actions * (task.n_states * (2 if task.flag_rules else 1)) ** 2))
        for first in range(0, len(new), chunk):
            part = new[first : first + chunk]
            best = optimal(model(task, [instance for _, instance in part]), self.gamma).argmax(2)
            self._known |= dict(zip((place for place, _ in part), best, strict=True))
        for row, place in places.items():
            policy = self._known[place]
            self._policy[row, : len(policy)] = policy
        if len(self._known) > _KNOWN:
            self._known.clear()
