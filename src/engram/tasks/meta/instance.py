"""Instances of a meta-task: the values of its variables in one lifetime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool

from engram import checks
from engram.tasks.meta.parts import ProbVar
from engram.tasks.meta.program import Lives, Program, init_lives, program
from engram.tasks.meta.task import MetaTask


@dataclass(frozen=True)
class Instance:
    """The values of all variables of a meta-task, each kind in its order."""

    states: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()  # joint variables have several, one after another
    probs: tuple[float | int, ...] = ()
    stimuli: tuple[tuple[float | int, ...], ...] = ()  # vectors
    walls: tuple[int, ...] = ()  # the cells that are walls of a random maze

    @property
    def values(self) -> tuple[float | int, ...]:
        """States, actions and probabilities: the columns of a task."""
        return (*self.states, *self.actions, *self.probs)


def sample_instance(task: MetaTask, rng: np.random.Generator) -> Instance:
    """A random value for every variable of a task; the number of draws depends on the task only.

    Examples:
        >>> from engram.tasks.meta import named
        >>> sample_instance(named.two_step(), np.random.default_rng(0)).states
        (2,)
    """
    checks.arguments()
    from engram.tasks.meta import kernels

    code, first = _program(task), np.zeros(1, dtype=np.int64)
    batch = init_lives(code, first)
    kernels.draw_instances(code, batch, first, rng.random((1, int(code.n_draws[0]))))
    return instance_of(task, batch, 0)


@lru_cache(maxsize=256)
def _program(task: MetaTask) -> Program:
    return program([task])


def instance_of(task: MetaTask, lives: Lives, row: int) -> Instance:
    """The instance that an environment is in.

    Args:
        task: Its task.
        lives: The state of all environments.
        row: Index of the environment.
    """
    states, actions, probs = np.split(lives.value[row], np.cumsum([len(task.state_vars), task.n_action_columns]))
    first = 1 + task.n_fixed
    stimuli = tuple(map(tuple, lives.vectors[row, first : first + task.n_stim_vars, : task.stim.size].tolist()))
    walls = tuple(np.flatnonzero(lives.walls[row, : task.n_states]).tolist()) if task.is_maze else ()
    chances = tuple(probs[: len(task.prob_vars)].tolist())
    return Instance(tuple(map(int, states)), tuple(map(int, actions)), chances, stimuli, walls)


def set_instances(
    code: Program, lives: Lives, rows: Any, tasks: Sequence[MetaTask], instances: Sequence[Instance]
) -> None:
    """Put environments into given instances.

    Args:
        code: The tasks of all environments.
        lives: Their state, changed in place.
        rows: Indices of the environments to change.
        tasks: The tasks of these environments.
        instances: Their new instances.
    """
    from engram.tasks.meta import kernels

    for task, instance in zip(tasks, instances, strict=True):
        check_instance(task, instance)
    for row, task, instance in zip(rows, tasks, instances, strict=True):
        lives.value[row] = 0.0
        lives.value[row, : len(instance.values)] = instance.values
        first, size = 1 + task.n_fixed, task.stim.size
        lives.vectors[row, 1:first] = code.fixed[lives.task[row], : task.n_fixed]
        lives.vectors[row, first : first + task.n_stim_vars, :size] = np.reshape(instance.stimuli, (-1, size))
        lives.walls[row] = False
        if task.topology is not None:
            lives.walls[row, : task.n_states] = ~free_cells(task, [instance])[0]
    kernels.resolve(code, lives, np.asarray(rows, dtype=np.int64))


def check_instance(task: MetaTask, instance: Instance) -> None:
    """Raise TypeError or ValueError unless an instance fits a task."""
    checks.instance("instance", instance, Instance)
    counts = {"states": len(task.state_vars), "actions": task.n_action_columns, "probs": len(task.prob_vars)}
    for name, count in (counts | {"stimuli": task.n_stim_vars}).items():
        if len(getattr(instance, name)) != count:
            raise ValueError(f"instance.{name} = {getattr(instance, name)}: expected {count} values")
    for group in task.groups:
        values = group.of(instance.values)
        # A probability that drifts begins at one of its values, if it has any, and is then anywhere between them.
        if isinstance(group.variable, ProbVar) and (not group.options or group.variable.drift):
            is_option = group.variable.low <= values[0] <= group.variable.high
        else:
            is_option = values in group.options and not (group.kind == "states" and values[0] in instance.walls)
        if not is_option:
            field = f"instance.{group.kind} = {getattr(instance, group.kind)}"
            raise ValueError(f"{field}: expected {values} to be in the range of {group.variable}, and no wall")
    for k, variable in enumerate(task.state_vars):
        distinct = variable.distinct_from
        if distinct is not None and instance.states[distinct] == instance.states[k]:
            raise ValueError(f"instance.states = {instance.states}: expected [{k}] to differ from [{distinct}]")
    for k, vector in enumerate(instance.stimuli):
        if len(vector) != task.stim.size or not np.isfinite(vector).all():
            raise ValueError(f"instance.stimuli[{k}] = {vector}: expected {task.stim.size} finite numbers")
    if bool(instance.walls) != task.is_maze or any(not 0 <= cell < task.n_states for cell in instance.walls):
        raise ValueError(f"instance.walls = {instance.walls}: expected cells, if there is a random maze, else none")
    if task.topology is not None and (start := task.topology.start_cell) in instance.walls:
        raise ValueError(f"instance.walls = {instance.walls}: expected the start, {start}, to be free")


def free_cells(task: MetaTask, instances: Sequence[Instance]) -> Bool[np.ndarray, "instances states"]:
    """Whether each state is free, not a wall."""
    free = np.ones((len(instances), task.n_states), dtype=bool)
    if task.topology is not None:
        free &= ~task.topology.wall_map()
        for row, instance in zip(free, instances, strict=True):
            row[list(instance.walls)] = False
    return free
