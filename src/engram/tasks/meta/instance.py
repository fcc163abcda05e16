"""An instance of a meta-task: what one lifetime has drawn, and the tables that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.tasks.meta.program import Lives, Program, lives, program
from engram.tasks.meta.task import MetaTask


@dataclass(frozen=True)
class Instance:
    """The values of all variables of a meta-task.

    Args:
        states: Those of the state variables.
        actions: Those of the action variables, joint ones one after another.
        probs: Those of the probability variables.
        stimuli: The vectors of the variable stimuli.
        walls: The cells that are walls, if the task has a random maze.

    Examples:
        >>> Instance(states=(2,)).probs
        ()
    """

    states: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()
    probs: tuple[float | int, ...] = ()
    stimuli: tuple[tuple[float | int, ...], ...] = ()
    walls: tuple[int, ...] = ()


class Tables(NamedTuple):
    """Instances of one task as tables, one row for each.

    A place of a rule is a state, or an action, or -1 for any.

    Attributes:
        rule_old: State acted from, for each reward rule.
        rule_new: State reached.
        rule_action: Action taken.
        rule_flag: The flag before the step.
        rule_p: Probability that the reward is paid.
        rule_value: The reward.
        rule_ends: Whether a paid reward terminates the episode.
        flag_old: State acted from, for each flag rule.
        flag_new: State reached.
        flag_action: Action taken.
        flag_set: What the flag is set to.
        cumulative: The transitions as sums of probabilities, the last of them 1.
    """

    rule_old: Int[np.ndarray, "instances rules"]
    rule_new: Int[np.ndarray, "instances rules"]
    rule_action: Int[np.ndarray, "instances rules"]
    rule_flag: Int[np.ndarray, "instances rules"]
    rule_p: Float[np.ndarray, "instances rules"]
    rule_value: Float[np.ndarray, "instances rules"]
    rule_ends: Bool[np.ndarray, "instances rules"]
    flag_old: Int[np.ndarray, "instances flag_rules"]
    flag_new: Int[np.ndarray, "instances flag_rules"]
    flag_action: Int[np.ndarray, "instances flag_rules"]
    flag_set: Int[np.ndarray, "instances flag_rules"]
    cumulative: Float[np.ndarray, "instances states actions states"]


def sample_instance(task: MetaTask, generator: np.random.Generator) -> Instance:
    """Draw a value for every variable of a task.

    Args:
        task: The task.
        generator: The source of randomness; how much is drawn depends on the task only.
    """
    from engram.tasks.meta import kernels

    code = _program(task)
    one = lives(code, np.zeros(1, dtype=np.int64))
    kernels.draw_instances(code, one, np.zeros(1, dtype=np.int64), generator.random((1, int(code.n_draws[0]))))
    return instance_of(task, one, 0)


@lru_cache(maxsize=256)
def _program(task: MetaTask) -> Program:
    return program([task])


def instance_of(task: MetaTask, now: Lives, row: int) -> Instance:
    """Return the instance that an environment is in.

    Args:
        task: Its task.
        now: All environments.
        row: Which of them.
    """
    states, actions, probs = np.split(now.value[row], np.cumsum([len(task.state_vars), task.n_action_columns]))
    first = 1 + task.n_fixed
    vectors = now.vectors[row, first : first + task.n_stim_vars, : task.stim.size]
    is_maze = task.topology is not None and task.topology.walls == "random_maze"
    return Instance(
        states=tuple(int(x) for x in states),
        actions=tuple(int(x) for x in actions),
        probs=tuple(probs[: len(task.prob_vars)].tolist()),
        stimuli=tuple(tuple(vector) for vector in vectors.tolist()),
        walls=tuple(np.flatnonzero(now.walls[row, : task.n_states]).tolist()) if is_maze else (),
    )


def set_instances(
    code: Program, now: Lives, rows: Any, tasks: Sequence[MetaTask], instances: Sequence[Instance]
) -> None:
    """Put environments into given instances.

    Args:
        code: The tasks as arrays.
        now: All environments.
        rows: Which of them are set.
        tasks: The task of each of these.
        instances: What each of these is set to.

    Raises:
        ValueError: An instance is none of its task; the message says in what.
    """
    from engram.tasks.meta import kernels

    values = np.zeros((len(instances), now.value.shape[1]))
    vectors = np.zeros((len(instances), max(1, now.vectors.shape[1] - 1), now.vectors.shape[2]), dtype=np.float32)
    walls = np.zeros((len(instances), now.walls.shape[1]), dtype=bool)
    for i, (task, instance) in enumerate(zip(tasks, instances, strict=True)):
        check_instance(task, instance)
        numbers = (*instance.states, *instance.actions, *instance.probs)
        values[i, : len(numbers)] = numbers
        for v, vector in enumerate(instance.stimuli):
            vectors[i, v, : len(vector)] = vector
        if task.topology is not None:
            walls[i, : task.n_states] = task.topology.wall_map()
        walls[i, list(instance.walls)] = True
    kernels.set_instances(code, now, np.asarray(rows, dtype=np.int64), values, vectors, walls)


def check_instance(task: MetaTask, instance: Instance) -> None:
    """Raise unless an instance is one of a task.

    Args:
        task: The task.
        instance: What should be an instance of it.

    Raises:
        TypeError: It is no ``Instance``.
        ValueError: It is not; the message says in what.
    """
    if not isinstance(instance, Instance):
        raise TypeError(f"instance = {instance!r}: expected an Instance")
    counts = {"states": len(task.state_vars), "actions": task.n_action_columns, "probs": len(task.prob_vars)}
    for name, count in (counts | {"stimuli": task.n_stim_vars}).items():
        if len(getattr(instance, name)) != count:
            raise ValueError(f"instance.{name} = {getattr(instance, name)}: expected {count} values")
    for k, state in enumerate(instance.states):
        if state not in task.state_range(k) or state in instance.walls:
            raise ValueError(f"instance.states[{k}] = {state}: expected one of the range of state_vars[{k}], no wall")
        other = task.state_vars[k].distinct_from
        if other is not None and instance.states[other] == state:
            raise ValueError(f"instance.states[{k}] = {state}: expected another state than that of variable {other}")
    first = 0
    for k, variable in enumerate(task.action_vars):
        found = instance.actions[first : first + variable.width]
        values = range(task.n_actions) if variable.values is None else variable.values
        if found not in (variable.joint or [(value,) for value in values]):
            raise ValueError(
                f"instance.actions = {instance.actions}: expected {found} in the range of action_vars[{k}]"
            )
        first += variable.width
    for k, prob in enumerate(instance.probs):
        known = task.prob_vars[k]
        if not known.low <= prob <= known.high or (known.values and prob not in known.values):
            raise ValueError(f"instance.probs[{k}] = {prob}: expected a value that prob_vars[{k}] may have")
    for k, vector in enumerate(instance.stimuli):
        if len(vector) != task.stim.size or not np.isfinite(vector).all():
            raise ValueError(f"instance.stimuli[{k}] = {vector}: expected {task.stim.size} finite numbers")
    is_maze = task.topology is not None and task.topology.walls == "random_maze"
    if bool(instance.walls) != is_maze or any(not 0 <= cell < task.n_states for cell in instance.walls):
        raise ValueError(f"instance.walls = {instance.walls}: expected cells, if there is a random maze, else none")
    if task.topology is not None and task.topology.start_cell in instance.walls:
        raise ValueError(
            f"instance.walls = {instance.walls}: expected the start, {task.topology.start_cell}, to be free"
        )


def compile_tables(task: MetaTask, instances: Sequence[Instance]) -> Tables:
    """Put instances of a task into tables.

    Args:
        task: The task.
        instances: As many as the tables are to have rows; at least one.

    Raises:
        ValueError: An instance is none of this task; the message says in what.

    Examples:
        >>> from engram.tasks.meta import named
        >>> task = named.two_step()
        >>> tables = task.compile([Instance(states=(2,))])
        >>> tables.rule_old.tolist(), tables.rule_p.tolist()
        ([[1, 2, 2]], [[0.1, 0.1, 0.9]])
    """
    from engram.tasks.meta import kernels

    rows = np.arange(len(instances))
    code = _program(task)
    now = lives(code, np.zeros(len(rows), dtype=np.int64))
    set_instances(code, now, rows, [task] * len(rows), instances)
    rules, flags = int(code.n_rules[0]), int(code.n_flag_rules[0])

    def same(row: Any) -> Any:
        return np.repeat(row, len(rows), axis=0)

    if task.topology is None:
        T = same(np.array(task.transition)[None])
    else:
        T = np.zeros((len(rows), task.n_states, task.n_actions, task.n_states))
        for row, s, a in np.ndindex(T.shape[:3]):
            T[row, s, a, kernels.moved(task.topology.height, task.topology.width, now.walls[row], s, a)] = 1.0
    cumulative = T.cumsum(3)
    # Rounding may leave the sum below 1, and a draw above it.
    cumulative[T[..., ::-1].cumsum(3)[..., ::-1] - T <= 0] = 1.0
    return Tables(
        rule_old=now.rule_old[:, :rules],
        rule_new=now.rule_new[:, :rules],
        rule_action=now.rule_action[:, :rules],
        rule_flag=same(code.rule_flag[:, :rules]),
        rule_p=now.rule_p[:, :rules],
        rule_value=same(code.rule_value[:, :rules]),
        rule_ends=same(code.rule_ends[:, :rules]),
        flag_old=now.flag_old[:, :flags],
        flag_new=now.flag_new[:, :flags],
        flag_action=now.flag_action[:, :flags],
        flag_set=same(code.flag_set[:, :flags]),
        cumulative=cumulative,
    )
