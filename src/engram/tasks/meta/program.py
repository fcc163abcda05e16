"""Meta-tasks as arrays, many tasks side by side, for the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from engram.tasks.meta.task import ActionRef, MetaTask, OneMinus, ProbRef, StateRef, StimVar

BLOCK = 64  # steps whose chance is drawn at once
POOL, NORMAL, UNIT, BITS = 0, 1, 2, 3  # how the vector of a variable stimulus is drawn
NO_VIEW, STIMULI, POSITION, COORDINATES, WINDOW = 0, 1, 2, 3, 4
STAYS, TELEPORT, RESET = 0, 1, 2


class Program(NamedTuple):
    """Meta-tasks as arrays with a leading axis of tasks, padded to the largest of them.

    The variables of a task stand in columns: states, then actions, then probabilities. A group of columns is drawn
    together: a row of ``option``, or, where ``n_options`` is 0, a number between ``low`` and ``high``. In a rule a
    place is a number from 0, -1 for any, or -2 - c for the value of column c; its probability is
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
    # Grids; height is 0 where there is none.
    height: Int[np.ndarray, "tasks"]
    width: Int[np.ndarray, "tasks"]
    is_maze: Bool[np.ndarray, "tasks"]
    walls: Bool[np.ndarray, "tasks cells"]
    start: Int[np.ndarray, "tasks"]  # -1: random
    on_reward: Int[np.ndarray, "tasks"]
    # Variables.
    n_groups: Int[np.ndarray, "tasks"]
    first: Int[np.ndarray, "tasks groups"]
    columns: Int[np.ndarray, "tasks groups"]
    n_options: Int[np.ndarray, "tasks groups"]
    option: Float[np.ndarray, "tasks groups options columns"]
    low: Float[np.ndarray, "tasks groups"]
    high: Float[np.ndarray, "tasks groups"]
    apart: Int[np.ndarray, "tasks groups"]  # the column whose value it may not have, or -1
    is_cell: Bool[np.ndarray, "tasks groups"]
    hazard: Float[np.ndarray, "tasks groups"]
    drift: Float[np.ndarray, "tasks groups"]
    is_volatile: Bool[np.ndarray, "tasks"]
    # Rules.
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
    # Stimuli: vector 0 is none, then the fixed ones, then the variable ones.
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
    has_palette: Bool[np.ndarray, "tasks"]  # otherwise the vectors are the bits of their places, plus one
    taken: Int[np.ndarray, "tasks fixed"]  # the places in the pool of the fixed ones, sorted
    palette: Float32[np.ndarray, "tasks pool size"]
    stim_hazard: Float[np.ndarray, "tasks"]
    stim_draws: Int[np.ndarray, "tasks"]


class Lives(NamedTuple):
    """What goes on in each environment: its state, its instance, and the chance that is to come."""

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
    """Put meta-tasks side by side.

    Args:
        tasks: At least one.
    """
    rows = [_row(task) for task in tasks]
    return Program(**{name: _stacked([row[name] for row in rows]) for name in Program._fields})


def lives(code: Program, task: Int[np.ndarray, "num_envs"]) -> Lives:
    """Make room for environments, none of which has begun.

    Args:
        code: The tasks.
        task: The task of each environment, by its place in ``code``.
    """
    n, rules, flag_rules = len(task), code.rule_old.shape[1], code.flag_old.shape[1]
    columns = max(1, int((code.first + code.columns).max()))
    stimuli = 1 + int((code.n_fixed + code.n_stim_vars).max())

    def integers(*shape: int) -> Int[np.ndarray, "..."]:
        return np.zeros(shape, dtype=np.int64)

    return Lives(
        task=np.asarray(task, dtype=np.int64),
        state=integers(n),
        flag=integers(n),
        value=np.zeros((n, columns)),
        walls=np.zeros((n, code.walls.shape[1]), dtype=bool),
        vectors=np.zeros((n, stimuli, code.fixed.shape[2]), dtype=np.float32),
        rule_old=integers(n, rules),
        rule_new=integers(n, rules),
        rule_action=integers(n, rules),
        rule_p=np.zeros((n, rules)),
        flag_old=integers(n, flag_rules),
        flag_new=integers(n, flag_rules),
        flag_action=integers(n, flag_rules),
        noise=np.zeros((n, int(code.block.max()), int(code.n_noise.max()))),
    )


def _stacked(rows: list[Any]) -> Any:
    """Lay arrays side by side, padded with zeros to the largest in every direction."""
    if np.ndim(rows[0]) == 0:
        return np.array(rows)
    shape = np.max([np.shape(row) for row in rows], axis=0)
    shape = np.maximum(shape, 1)
    whole = np.zeros((len(rows), *shape), dtype=np.asarray(rows[0]).dtype)
    for place, row in zip(whole, rows, strict=True):
        place[tuple(slice(0, size) for size in np.shape(row))] = row
    return whole


@lru_cache(maxsize=4096)
def _row(task: MetaTask) -> dict[str, Any]:
    """One task as arrays without the axis of tasks."""
    groups = _groups(task)
    stimuli = _stimuli(task)
    volatile = sum(group["hazard"] > 0 or group["drift"] > 0 for group in groups)
    stim_hazard = task.stim.hazard if task.n_stim_vars else 0.0
    rooms = 0
    if task.topology is not None and task.topology.walls == "random_maze":
        rooms = ((task.topology.height + 1) // 2) * ((task.topology.width + 1) // 2)
    successor, cumulative = _branches(task)
    return (
        {
            "n_states": np.int64(task.n_states),
            "horizon": np.int64(task.horizon),
            "block": np.int64(min(BLOCK, task.horizon)),
            "n_draws": np.int64(max(rooms - 1, 0) + len(groups) + stimuli["stim_draws"]),
            "n_noise": np.int64(2 + 2 * volatile + (1 + stimuli["stim_draws"] if stim_hazard else 0)),
            "successor": successor,
            "cumulative": cumulative,
            "n_groups": np.int64(len(groups)),
            "is_volatile": np.bool_(volatile or stim_hazard),
            "stim_hazard": np.float64(stim_hazard),
        }
        | _space(task)
        | {name: np.array([group[name] for group in groups], dtype=kind) for name, kind in _GROUP.items()}
        | {"option": _options(groups)}
        | _rules(task)
        | stimuli
    )


_GROUP: dict[str, Any] = {
    "first": np.int64,
    "columns": np.int64,
    "n_options": np.int64,
    "low": np.float64,
    "high": np.float64,
    "apart": np.int64,
    "is_cell": np.bool_,
    "hazard": np.float64,
    "drift": np.float64,
}


def _branches(task: MetaTask) -> tuple[Any, Any]:
    if task.topology is not None:
        return np.zeros((1, 1, 1), dtype=np.int64), np.ones((1, 1, 1))
    T = np.array(task.transition)
    branches = int((T > 0).sum(2).max())
    successor = np.argsort(T == 0, axis=2, kind="stable")[..., :branches]  # the possible ones first, in order
    cumulative = np.take_along_axis(T, successor, 2).cumsum(2)
    # Rounding may leave the sum below 1, and a draw above it.
    cumulative[np.arange(branches) >= (T > 0).sum(2, keepdims=True) - 1] = 1.0
    return successor.astype(np.int64), cumulative


def _space(task: MetaTask) -> dict[str, Any]:
    grid = task.topology
    if grid is None:
        height, width, start, on_reward, wall, maze = 0, 0, 0, "none", np.zeros(1, dtype=bool), False
    else:
        height, width, on_reward, wall = grid.height, grid.width, grid.on_reward, grid.wall_map()
        start, maze = -1 if grid.start_cell is None else grid.start_cell, grid.walls == "random_maze"
    return {
        "height": np.int64(height),
        "width": np.int64(width),
        "is_maze": np.bool_(maze),
        "walls": wall,
        "start": np.int64(start),
        "on_reward": np.int64({"teleport": TELEPORT, "reset": RESET}.get(on_reward, STAYS)),
    }


def _groups(task: MetaTask) -> list[dict[str, Any]]:
    """What is drawn together, in the order of the columns."""
    groups: list[dict[str, Any]] = []

    def add(options: Any, variable: Any, **more: Any) -> None:
        table = np.array(options, dtype=np.float64).reshape(len(options), -1 if len(options) else 1)
        first = groups[-1]["first"] + groups[-1]["columns"] if groups else 0
        group = {"first": first, "columns": table.shape[1], "table": table}
        group |= {"n_options": len(table), "low": 0.0, "high": 0.0, "apart": -1, "is_cell": False, "drift": 0.0}
        groups.append(group | {"hazard": variable.hazard} | more)

    for k, state in enumerate(task.state_vars):
        apart = -1 if state.distinct_from is None else state.distinct_from
        add(task.state_range(k), state, apart=apart, is_cell=task.topology is not None)
    for action in task.action_vars:
        add(action.joint or (range(task.n_actions) if action.values is None else action.values), action)
    for prob in task.prob_vars:
        add(prob.values, prob, low=prob.low, high=prob.high, drift=prob.drift)
    return groups


def _options(groups: list[dict[str, Any]]) -> Any:
    shape = max((len(group["table"]) for group in groups), default=1), max((g["columns"] for g in groups), default=1)
    option = np.zeros((len(groups), *shape))
    for place, group in zip(option, groups, strict=True):
        rows, columns = group["table"].shape
        place[:rows, :columns] = group["table"]
    return option


def _rules(task: MetaTask) -> dict[str, Any]:
    states, actions = len(task.state_vars), task.n_action_columns

    def place(value: Any) -> int:
        if isinstance(value, StateRef):
            return -2 - value.index
        return -2 - states - value.index if isinstance(value, ActionRef) else int(value)

    def integers(values: Any) -> Any:
        return np.array(list(values), dtype=np.int64)

    rules, flags = task.reward_rules, task.flag_rules
    terminate = task.topology is not None and task.topology.on_reward == "terminate"
    slope = [{ProbRef: 1.0, OneMinus: -1.0}.get(type(rule.p), 0.0) for rule in rules]
    column = [states + actions + rule.p.index if isinstance(rule.p, ProbRef | OneMinus) else 0 for rule in rules]
    level = [float(isinstance(r.p, OneMinus)) if isinstance(r.p, ProbRef | OneMinus) else float(r.p) for r in rules]
    return {
        "n_rules": np.int64(len(rules)),
        "rule_old": integers(place(rule.old) for rule in rules),
        "rule_new": integers(place(rule.new) for rule in rules),
        "rule_action": integers(place(rule.action) for rule in rules),
        "rule_flag": integers(rule.flag for rule in rules),
        "rule_p": np.array(level, dtype=np.float64),
        "rule_slope": np.array(slope, dtype=np.float64),
        "rule_column": integers(column),
        "rule_value": np.array([rule.value for rule in rules], dtype=np.float64),
        "rule_ends": np.array([rule.ends or terminate for rule in rules], dtype=bool),
        "n_flag_rules": np.int64(len(flags)),
        "flag_old": integers(place(rule.old) for rule in flags),
        "flag_new": integers(place(rule.new) for rule in flags),
        "flag_action": integers(place(rule.action) for rule in flags),
        "flag_set": integers(rule.set_to for rule in flags),
    }


def _stimuli(task: MetaTask) -> dict[str, Any]:
    from engram.tasks.meta import kernels

    stim, fixed, variable = task.stim, task.n_fixed, task.n_stim_vars
    seen = "stimuli" if task.topology is None else task.topology.obs
    views = {"none": NO_VIEW, "position": POSITION, "coordinates": COORDINATES, "window": WINDOW, "stimuli": STIMULI}
    kinds = {"gaussian": NORMAL, "sphere": UNIT, "binary": POOL if stim.distinct else BITS}
    kind = kinds.get(stim.kind, POOL)
    palette = np.zeros((1, stim.size), np.float32)
    if stim.kind == "onehot":
        palette = np.eye(stim.size, dtype=np.float32)
    elif stim.kind == "given":
        palette = np.array(stim.vectors, dtype=np.float32)
    each = {POOL: 1, BITS: stim.size}.get(kind, 2 * stim.size)
    shown = np.zeros((task.n_states if task.stimuli else 1, task.parts), dtype=np.int64)
    for state in range(task.n_states if task.stimuli else 0):
        for part, one in enumerate(task.parts_of(state)):
            shown[state, part] = 1 + fixed + one.index if isinstance(one, StimVar) else 1 + one
    # The fixed stimuli are drawn as those of an instance are, from the seed of the task.
    vectors, places = np.zeros((fixed, stim.size), np.float32), np.arange(fixed, dtype=np.int64)
    if stim.kind == "given":
        vectors = palette[:fixed]
    else:
        chance = np.random.default_rng(stim.seed).random(fixed * each)
        none = np.zeros(0, dtype=np.int64)
        kernels.draw_vectors(kind, stim.pool, stim.kind != "binary", palette, none, chance, vectors, places)
    return {
        "look": np.int64(views[seen]),
        "window": np.int64(1 if task.topology is None else task.topology.window),
        "parts": np.int64(task.parts),
        "shown": shown,
        "stim_size": np.int64(stim.size),
        "stim_kind": np.int64(kind),
        "n_fixed": np.int64(fixed),
        "n_stim_vars": np.int64(variable),
        "fixed": vectors,
        "pool": np.int64(stim.pool),
        "has_palette": np.bool_(stim.kind != "binary"),
        "taken": np.sort(places),
        "palette": palette,
        "stim_draws": np.int64(variable * each),
    }
