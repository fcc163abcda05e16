"""Meta-tasks as arrays, many tasks side by side, for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from engram.tasks.meta.parts import OneMinus, ProbRef, StimVar
from engram.tasks.meta.task import MetaTask

BLOCK = 64  # steps whose random numbers are drawn at once
VIEWS = ("none", "stimuli", "position", "coordinates", "window")
STAYS, TELEPORT, RESET = 0, 1, 2


class Program(NamedTuple):
    """Meta-tasks as arrays with a leading axis of tasks, padded to the largest of them.

    The variables of a task are columns: states, then actions, then probabilities. A group of columns is drawn together:
    a row of ``option``, or, where ``n_options`` is 0, a number between ``low`` and ``high``. A state or action in a
    rule is a number from 0, -1 for any, or -2 - c for the value of column c; the probability of a rule is
    ``p + slope * value[column]``.
    """

    n_states: Int[np.ndarray, "tasks"]
    horizon: Int[np.ndarray, "tasks"]
    block: Int[np.ndarray, "tasks"]
    n_draws: Int[np.ndarray, "tasks"]  # uniform numbers that an instance takes
    n_noise: Int[np.ndarray, "tasks"]  # uniform numbers that a step takes
    # Transitions: the possible successors of each state and action, and the sums of their probabilities.
    successor: Int[np.ndarray, "tasks states actions branches"]
    cumulative: Float[np.ndarray, "tasks states actions branches"]
    # Grids; height is 0 without one.
    height: Int[np.ndarray, "tasks"]
    width: Int[np.ndarray, "tasks"]
    is_maze: Bool[np.ndarray, "tasks"]
    walls: Bool[np.ndarray, "tasks cells"]
    start: Int[np.ndarray, "tasks"]  # -1: random
    on_reward: Int[np.ndarray, "tasks"]
    n_groups: Int[np.ndarray, "tasks"]
    first: Int[np.ndarray, "tasks groups"]
    columns: Int[np.ndarray, "tasks groups"]
    n_options: Int[np.ndarray, "tasks groups"]
    option: Float[np.ndarray, "tasks groups options columns"]
    low: Float[np.ndarray, "tasks groups"]
    high: Float[np.ndarray, "tasks groups"]
    apart: Int[np.ndarray, "tasks groups"]  # the column whose value it must not have, or -1
    is_cell: Bool[np.ndarray, "tasks groups"]
    hazard: Float[np.ndarray, "tasks groups"]
    drift: Float[np.ndarray, "tasks groups"]
    is_volatile: Bool[np.ndarray, "tasks"]
    n_rules: Int[np.ndarray, "tasks"]
    rule_old: Int[np.ndarray, "tasks rules"]
    rule_new: Int[np.ndarray, "tasks rules"]
    rule_action: Int[np.ndarray, "tasks rules"]
    rule_flag: Int[np.ndarray, "tasks rules"]
    rule_p: Float[np.ndarray, "tasks rules"]
    rule_slope: Float[np.ndarray, "tasks rules"]
    rule_column: Int[np.ndarray, "tasks rules"]
    rule_value: Float[np.ndarray, "tasks rules"]
    rule_ends: Bool[np.ndarray, "tasks rules"]
    n_flag_rules: Int[np.ndarray, "tasks"]
    flag_old: Int[np.ndarray, "tasks flag_rules"]
    flag_new: Int[np.ndarray, "tasks flag_rules"]
    flag_action: Int[np.ndarray, "tasks flag_rules"]
    flag_set: Int[np.ndarray, "tasks flag_rules"]
    # Stimuli: vector 0 is zero, then the fixed ones, then the variable ones.
    look: Int[np.ndarray, "tasks"]
    window: Int[np.ndarray, "tasks"]
    parts: Int[np.ndarray, "tasks"]
    shown: Int[np.ndarray, "tasks shown_states parts"]
    stim_size: Int[np.ndarray, "tasks"]
    stim_kind: Int[np.ndarray, "tasks"]
    n_fixed: Int[np.ndarray, "tasks"]
    n_stim_vars: Int[np.ndarray, "tasks"]
    fixed: Float32[np.ndarray, "tasks fixed size"]
    pool: Int[np.ndarray, "tasks"]
    has_palette: Bool[np.ndarray, "tasks"]  # otherwise a vector is the bits of its index in the pool plus one
    fixed_places: Int[np.ndarray, "tasks fixed"]  # sorted indices of the fixed stimuli in the pool
    palette: Float32[np.ndarray, "tasks pool size"]
    stim_hazard: Float[np.ndarray, "tasks"]
    stim_draws: Int[np.ndarray, "tasks"]


class Lives(NamedTuple):
    """The state of each environment, its instance, and the random numbers of the next steps."""

    task: Int[np.ndarray, "num_envs"]
    state: Int[np.ndarray, "num_envs"]
    flag: Int[np.ndarray, "num_envs"]
    value: Float[np.ndarray, "num_envs columns"]
    walls: Bool[np.ndarray, "num_envs cells"]
    vectors: Float32[np.ndarray, "num_envs stimuli size"]
    rule_old: Int[np.ndarray, "num_envs rules"]
    rule_new: Int[np.ndarray, "num_envs rules"]
    rule_action: Int[np.ndarray, "num_envs rules"]
    rule_p: Float[np.ndarray, "num_envs rules"]
    flag_old: Int[np.ndarray, "num_envs flag_rules"]
    flag_new: Int[np.ndarray, "num_envs flag_rules"]
    flag_action: Int[np.ndarray, "num_envs flag_rules"]
    noise: Float[np.ndarray, "num_envs block chance"]


def program(tasks: Sequence[MetaTask]) -> Program:
    """Several meta-tasks side by side."""
    rows = [arrays(task) for task in tasks]
    return Program(**{name: _stacked([row[name] for row in rows]) for name in Program._fields})


def init_lives(code: Program, task: Int[np.ndarray, "num_envs"]) -> Lives:
    """The initial arrays of environments, before their first episode."""
    n, columns = len(task), max(1, int((code.first + code.columns).max()))
    vectors = (1 + int((code.n_fixed + code.n_stim_vars).max()), code.fixed.shape[2])
    condition_names = ("rule_old", "rule_new", "rule_action", "flag_old", "flag_new", "flag_action")
    return Lives(
        task=np.asarray(task, dtype=np.int64),
        state=np.zeros(n, dtype=np.int64),
        flag=np.zeros(n, dtype=np.int64),
        value=np.zeros((n, columns)),
        walls=np.zeros((n, code.walls.shape[1]), dtype=bool),
        vectors=np.zeros((n, *vectors), dtype=np.float32),
        **{name: np.zeros((n, getattr(code, name).shape[1]), dtype=np.int64) for name in condition_names},
        rule_p=np.zeros((n, code.rule_p.shape[1])),
        noise=np.zeros((n, int(code.block.max()), int(code.n_noise.max()))),
    )


def _stacked(rows: list[Any]) -> Any:
    """Arrays side by side, padded with zeros to the maximum of every dimension."""
    if np.ndim(rows[0]) == 0:
        return np.array(rows)
    shape = np.maximum(np.max([np.shape(row) for row in rows], axis=0), 1)
    stacked = np.zeros((len(rows), *shape), dtype=np.asarray(rows[0]).dtype)
    for padded, row in zip(stacked, rows, strict=True):
        padded[tuple(slice(0, size) for size in np.shape(row))] = row
    return stacked


@lru_cache(maxsize=4096)
def arrays(task: MetaTask) -> dict[str, Any]:
    """The arrays of ``Program`` for one task, without their axis of tasks."""
    stimuli = _stimuli(task)
    volatile = sum(group.variable.hazard > 0 or getattr(group.variable, "drift", 0.0) > 0 for group in task.groups)
    stim_hazard = task.stim.hazard if task.n_stim_vars else 0.0
    grid = task.topology
    rooms = ((grid.height + 1) // 2) * ((grid.width + 1) // 2) if grid is not None and task.is_maze else 1
    return {
        "n_states": task.n_states,
        "horizon": task.horizon,
        "block": min(BLOCK, task.horizon),
        "n_draws": rooms - 1 + len(task.groups) + stimuli["stim_draws"],
        "n_noise": 2 + 2 * volatile + (1 + stimuli["stim_draws"] if stim_hazard else 0),
        "is_volatile": bool(volatile or stim_hazard),
        "stim_hazard": float(stim_hazard),
        **space_arrays(task),
        **_groups(task),
        **rule_arrays(task),
        **stimuli,
    }


def _each(items: Sequence[Any], kind: Any, value: Callable[[Any], Any]) -> Any:
    return np.array([value(item) for item in items], dtype=kind)


@lru_cache(maxsize=4096)
def space_arrays(task: MetaTask) -> dict[str, Any]:
    """The ``arrays`` that define transitions."""
    grid = task.topology
    if grid is not None:
        return {
            "successor": np.zeros((1, 1, 1), dtype=np.int64),
            "cumulative": np.ones((1, 1, 1)),
            "height": grid.height,
            "width": grid.width,
            "is_maze": task.is_maze,
            "walls": grid.wall_map(),
            "start": -1 if grid.start_cell is None else grid.start_cell,
            "on_reward": {"teleport": TELEPORT, "reset": RESET}.get(grid.on_reward, STAYS),
        }
    transition = np.array(task.transition)
    branches = int((transition > 0).sum(2).max())
    successor = np.argsort(transition == 0, axis=2, kind="stable")[
        ..., :branches
    ]  # possible successors first, in order
    cumulative = np.take_along_axis(transition, successor, 2).cumsum(2)
    # Rounding may leave the sum below 1, and a random number above it.
    cumulative[np.arange(branches) >= (transition > 0).sum(2, keepdims=True) - 1] = 1.0
    none = dict.fromkeys(("height", "width", "start", "on_reward"), 0)
    wall = np.zeros(1, dtype=bool)
    return none | {"successor": successor.astype(np.int64), "cumulative": cumulative, "walls": wall, "is_maze": False}


def _groups(task: MetaTask) -> dict[str, Any]:
    groups, is_grid = task.groups, task.topology is not None
    options = [np.array(group.options, dtype=np.float64).reshape(-1, len(group.columns)) for group in groups]
    distinct_from = [getattr(group.variable, "distinct_from", None) for group in groups]

    return {
        "n_groups": len(groups),
        "first": _each(groups, np.int64, lambda group: group.columns.start),
        "columns": _each(groups, np.int64, lambda group: len(group.columns)),
        "n_options": _each(groups, np.int64, lambda group: len(group.options)),
        "option": _stacked(options) if groups else np.zeros((0, 1, 1)),
        "low": _each(groups, np.float64, lambda group: getattr(group.variable, "low", 0.0)),
        "high": _each(groups, np.float64, lambda group: getattr(group.variable, "high", 0.0)),
        "apart": _each(distinct_from, np.int64, lambda column: -1 if column is None else column),
        "is_cell": _each(groups, np.bool_, lambda group: is_grid and group.kind == "states"),
        "hazard": _each(groups, np.float64, lambda group: group.variable.hazard),
        "drift": _each(groups, np.float64, lambda group: getattr(group.variable, "drift", 0.0)),
    }


@lru_cache(maxsize=4096)
def rule_arrays(task: MetaTask) -> dict[str, Any]:
    """The ``arrays`` that define the rules."""

    def encoded(value: Any) -> int:
        column = task.column(value)
        return int(value) if column is None else -2 - column

    def encoded_conditions(name: str, rules: Sequence[Any]) -> dict[str, Any]:
        ends = ("old", "new", "action")
        return {f"{name}_{end}": np.array([encoded(getattr(rule, end)) for rule in rules], np.int64) for end in ends}

    rules, flags = task.reward_rules, task.flag_rules
    terminate = task.topology is not None and task.topology.on_reward == "terminate"
    level: dict[type, float] = {ProbRef: 0.0, OneMinus: 1.0}
    slope: dict[type, float] = {ProbRef: 1.0, OneMinus: -1.0}
    return {
        "n_rules": len(rules),
        **encoded_conditions("rule", rules),
        "rule_flag": _each(rules, np.int64, lambda rule: rule.flag),
        "rule_p": _each(rules, np.float64, lambda rule: level.get(type(rule.p), rule.p)),
        "rule_slope": _each(rules, np.float64, lambda rule: slope.get(type(rule.p), 0.0)),
        "rule_column": _each(rules, np.int64, lambda rule: task.column(rule.p) or 0),
        "rule_value": _each(rules, np.float64, lambda rule: rule.value),
        "rule_ends": _each(rules, np.bool_, lambda rule: rule.ends or terminate),
        "n_flag_rules": len(flags),
        **encoded_conditions("flag", flags),
        "flag_set": _each(flags, np.int64, lambda rule: rule.set_to),
    }


def _stimuli(task: MetaTask) -> dict[str, Any]:
    from engram.tasks.meta import kernels

    stim, fixed, variable = task.stim, task.n_fixed, task.n_stim_vars
    binary = kernels.POOL if stim.distinct else kernels.BITS
    kind = {"gaussian": kernels.NORMAL, "sphere": kernels.UNIT, "binary": binary}.get(stim.kind, kernels.POOL)
    palettes: dict[str, Any] = {"onehot": np.eye(stim.size), "given": stim.vectors}
    palette = np.array(palettes.get(stim.kind, np.zeros((1, stim.size))), dtype=np.float32)
    draws = {kernels.POOL: 1, kernels.BITS: stim.size}.get(kind, 2 * stim.size)
    rows = [[1 + fixed + part.index if isinstance(part, StimVar) else 1 + part for part in task.parts_of(state)]
             for state in range(task.n_states if task.stimuli else 1)]  # fmt: skip
    # The fixed stimuli are drawn like those of an instance, from the seed of the task. Their array is a slice, too, so
    # that the kernel is compiled for one layout only.
    vectors, indices = np.zeros((fixed, stim.size + 1), np.float32)[:, 1:], np.arange(fixed, dtype=np.int64)
    if stim.kind == "given":
        vectors = palette[:fixed]
    else:
        chance = np.random.default_rng(stim.seed).random(fixed * draws)
        none = np.zeros(0, dtype=np.int64)
        kernels.draw_vectors(kind, stim.pool, stim.kind != "binary", palette, none, chance, vectors, indices)
    return {
        "look": VIEWS.index("stimuli" if task.topology is None else task.topology.obs),
        "window": 1 if task.topology is None else task.topology.window,
        "parts": task.parts,
        "shown": np.array(rows, dtype=np.int64),
        "stim_size": stim.size,
        "stim_kind": kind,
        "n_fixed": fixed,
        "n_stim_vars": variable,
        "fixed": vectors,
        "pool": stim.pool,
        "has_palette": stim.kind != "binary",
        "fixed_places": np.sort(indices),
        "palette": palette,
        "stim_draws": variable * draws,
    }
