"""One form for all meta-tasks that differ only in the names of their parts.

States, actions, variables, stimuli and rules are the vertices of a graph, and the description of the task is a list of
facts about them. Colours of vertices are refined by the facts; where several vertices share a colour, each of them is
tried, and the minimal description is taken. If the first description that a vertex yields has already occurred for
another vertex of its colour, a symmetry maps one to the other, and the vertex is not tried further.

Source: McKay, "Practical graph isomorphism" (1981), the refinement; its application to tasks is ours.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engram import checks
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import ActionRef, ActionVar, FlagRule, OneMinus, ProbRef, RewardRule, StateRef, StimVar
from engram.tasks.meta.rules import commute, effective_rules
from engram.tasks.meta.serialization import from_json, to_json
from engram.tasks.meta.task import MetaTask

Vertex = tuple[str, int]  # kind and number
Fact = tuple[str, tuple[float | int, ...], tuple[Vertex, ...]]  # relation, numbers and vertices
Names = dict[str, dict[int, int]]  # for each kind, the new numbers of the vertices that are kept
_KINDS: dict[type, str] = {StateRef: "statevar", ActionRef: "column", ProbRef: "prob", OneMinus: "prob"}
_KINDS |= {StimVar: "stimvar"}


def canonical(task: MetaTask) -> MetaTask:
    """The canonical form of a task, the same for all tasks that differ only in the names of their parts.

    States (except 0), actions, variables and stimuli are renumbered, rules without effect and unused variables are left
    out, and rules whose order does not matter are sorted.

    Examples:
        >>> from engram.tasks.meta import named
        >>> canonical(named.two_step()) == canonical(canonical(named.two_step()))
        True
    """
    checks.arguments()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the task has already warned
        return from_json(min(_least(image) for image in _mirrored(_pruned(task))))


def digest(task: MetaTask) -> str:
    """The hexadecimal SHA-256 of the canonical form as JSON, the same on every machine."""
    return hashlib.sha256(to_json(canonical(task)).encode()).hexdigest()


def _counts(task: MetaTask) -> dict[str, int]:
    return {
        "state": task.n_states,
        "action": task.n_actions,
        "statevar": len(task.state_vars),
        "prob": len(task.prob_vars),
        "group": len(task.action_vars),
        "column": task.n_action_columns,
        "fixed": task.n_fixed,
        "stimvar": task.n_stim_vars,
    }


def _identity(task: MetaTask) -> Names:
    return {kind: {i: i for i in range(count)} for kind, count in _counts(task).items()}


def _action_groups(task: MetaTask) -> list[list[int]]:
    """The columns of each action variable, numbered as in ``ActionRef``."""
    n_states = len(task.state_vars)
    return [[column - n_states for column in group.columns] for group in task.groups if group.kind == "actions"]


def _pruned(task: MetaTask) -> MetaTask:
    """The task without rules that have no effect, and without unused variables."""
    rewards, flags = effective_rules(task)
    reward_rules = tuple(task.reward_rules[i] for i in rewards)
    flag_rules = tuple(task.flag_rules[i] for i in flags)
    if not flag_rules:
        reward_rules = tuple(replace(rule, flag=-1) for rule in reward_rules)
    rules: list[Any] = [*reward_rules, *flag_rules]
    stimulus_parts = [part for state in range(task.n_states if task.stimuli else 0) for part in task.parts_of(state)]
    used_indices: dict[str, set[int]] = {kind: set() for kind in set(_KINDS.values())}
    for ref in [*(end for rule in rules for end in vars(rule).values()), *stimulus_parts]:
        if type(ref) in _KINDS:
            used_indices[_KINDS[type(ref)]].add(ref.index)
    for k in reversed(range(len(task.state_vars))):  # a variable is distinct from an earlier one
        earlier = task.state_vars[k].distinct_from
        if k in used_indices["statevar"] and earlier is not None:
            used_indices["statevar"].add(earlier)
    groups = _action_groups(task)
    used_indices["group"] = {k for k, columns in enumerate(groups) if used_indices["column"] & {*columns}}
    used_indices["column"] = {column for k in used_indices["group"] for column in groups[k]}
    used_indices["fixed"] = {part for part in stimulus_parts if isinstance(part, int) and part >= 0}
    names = _identity(task) | {kind: _ranks(sorted(indices)) for kind, indices in used_indices.items()}
    is_given = task.stim.kind == "given"
    if is_given:  # a given stimulus refers to its vector by number
        names["fixed"] = {number: number for number in used_indices["fixed"]}
    stim = replace(task.stim, hazard=0.0) if not is_given and task.n_fixed + task.n_stim_vars == 0 else task.stim
    stimuli = task.stimuli if used_indices["fixed"] or used_indices["stimvar"] else ()
    pruned = replace(task, reward_rules=reward_rules, flag_rules=flag_rules, stim=stim, stimuli=stimuli)
    return _renamed(pruned, names)


def _ranks(ordered: Iterable[Any]) -> dict[Any, int]:
    return {item: rank for rank, item in enumerate(ordered)}


def _renamed(task: MetaTask, names: Names, topology: Grid | None = None) -> MetaTask:
    """The task with new numbers, on a new grid if one is given; the order of the rules stays."""

    def new(kind: str, ref: Any) -> Any:
        if type(ref) in _KINDS:
            return type(ref)(names[_KINDS[type(ref)]][ref.index])
        return ref if ref == -1 else names[kind][ref]

    def old(kind: str) -> list[int]:
        return sorted(names[kind], key=names[kind].__getitem__)

    def event(rule: RewardRule | FlagRule) -> dict[str, Any]:
        return {"old": new("state", rule.old), "new": new("state", rule.new), "action": new("action", rule.action)}

    def reward_rule(rule: RewardRule) -> RewardRule:
        probability = new("", rule.p) if type(rule.p) in _KINDS else float(rule.p)  # type: ignore[arg-type]
        return replace(rule, **event(rule), p=probability, value=float(rule.value))

    def action_var(k: int) -> ActionVar:
        variable = task.action_vars[k]
        options = task.groups[len(task.state_vars) + k].options
        columns = _action_groups(task)[k]
        order = sorted(range(len(columns)), key=lambda i: names["column"][columns[i]])
        renamed = sorted(tuple(names["action"][int(option[i])] for i in order) for option in options)
        if variable.joint:
            return replace(variable, joint=tuple(renamed))
        return replace(variable, values=tuple(action for (action,) in renamed))

    state_vars = []
    for variable in (task.state_vars[k] for k in old("statevar")):
        values, earlier = variable.values, variable.distinct_from
        if not isinstance(values, str):
            values = tuple(sorted(names["state"][state] for state in values))
        distinct_from = None if earlier is None else names["statevar"][earlier]
        state_vars.append(replace(variable, values=values, distinct_from=distinct_from))
    stimulus_parts = (
        [tuple(new("fixed", part) for part in task.parts_of(state)) for state in old("state")] if task.stimuli else []
    )
    probs = [task.prob_vars[k] for k in old("prob")]
    states, actions = old("state"), old("action")
    return replace(
        task,
        transition=None if task.transition is None else np.array(task.transition)[np.ix_(states, actions, states)],
        reward_rules=tuple(map(reward_rule, task.reward_rules)),
        flag_rules=tuple(replace(rule, **event(rule)) for rule in task.flag_rules),
        stimuli=tuple(
            stimulus_numbers if task.parts > 1 else stimulus_numbers[0] for stimulus_numbers in stimulus_parts
        ),
        state_vars=tuple(state_vars),
        prob_vars=tuple(replace(variable, values=tuple(sorted(variable.values))) for variable in probs),
        action_vars=tuple(action_var(k) for k in old("group")),
        stim=task.stim if task.stim.kind == "given" else replace(task.stim, seed=0),
        topology=topology or task.topology,
    )


def _mirrored(task: MetaTask) -> Iterator[MetaTask]:
    """Yield a task and, if it is on a grid, its mirror images, which differ from it only in names."""
    grid = task.topology
    if grid is None:
        yield task
        return
    cells = np.arange(grid.n_cells).reshape(grid.height, grid.width)
    for turned, upside_down, backwards in itertools.product((False, True), repeat=3):
        # A maze is carved from its first corner, which a mirror image would move.
        if task.is_maze and (upside_down or backwards):
            continue
        image = cells[::-1] if upside_down else cells
        image = image[:, ::-1] if backwards else image
        image = image.T if turned else image  # image[r, c]: the cell of the task that moves to (r, c)
        states = _ranks(image.ravel().tolist())
        # Up, right, down, left.
        moves = [2 if upside_down else 0, 3 if backwards else 1, 0 if upside_down else 2, 1 if backwards else 3]
        if turned:
            moves = [3 - move for move in moves]
        walls: Any = grid.walls
        if not task.is_maze:
            wall = grid.wall_map()[image]
            walls = tuple(map(tuple, wall.tolist())) if wall.any() else "open"
        start: Any = grid.start if grid.start_cell is None else states[grid.start_cell]
        turned_grid = replace(grid, height=image.shape[0], width=image.shape[1], walls=walls, start=start)
        names = {"state": states, "action": dict(enumerate([*moves, 4][: grid.moves]))}
        yield _renamed(task, _identity(task) | names, turned_grid)


def _least(task: MetaTask) -> str:
    """The minimal description, as JSON, among those of a task and of all tasks that differ only in names."""
    facts, colours = _facts(task)

    def descriptions(colours: dict[Vertex, int]) -> Iterator[str]:
        colours = _refined(facts, colours)
        cells: dict[int, list[Vertex]] = {}
        for vertex, colour in colours.items():
            cells.setdefault(colour, []).append(vertex)
        open_cells = [colour for colour, cell in cells.items() if len(cell) > 1]
        if not open_cells:
            yield to_json(_ordered(task, colours))
            return
        colour = min(open_cells, key=lambda colour: (len(cells[colour]), colour))
        described: set[str] = set()
        for vertex in cells[colour]:
            leaves = descriptions(colours | {vertex: -1})
            first_leaf = next(leaves)
            if first_leaf in described:  # the image of an earlier vertex under a symmetry
                continue
            for leaf in itertools.chain([first_leaf], leaves):
                described.add(leaf)
                yield leaf

    return min(descriptions(colours))


def _refined(facts: list[Fact], colours: dict[Vertex, int]) -> dict[Vertex, int]:
    """Colours refined by the facts about vertices, until no colour is split any more."""
    while True:
        about: dict[Vertex, list[Any]] = {vertex: [] for vertex in colours}
        for relation, amount, vertices in facts:
            colours_of_fact = tuple(colours[vertex] for vertex in vertices)
            for i, vertex in enumerate(vertices):
                about[vertex].append((relation, amount, i, colours_of_fact))
        keys = {vertex: (colours[vertex], tuple(sorted(facts_of_vertex))) for vertex, facts_of_vertex in about.items()}
        rank = _ranks(sorted(set(keys.values())))
        finer = {vertex: rank[key] for vertex, key in keys.items()}
        if len(rank) == len(set(colours.values())):
            return finer
        colours = finer


def _facts(task: MetaTask) -> tuple[list[Fact], dict[Vertex, int]]:
    """The facts of a task, and the first colours of its vertices: by kind, and by number where numbers matter."""
    facts: list[Fact] = []

    def add_fact(relation: str, *vertices: Vertex, amount: tuple[float | int, ...] = ()) -> None:
        facts.append((relation, amount, vertices))

    counts = _counts(task) | {"rule": len(task.reward_rules), "flagrule": len(task.flag_rules)}
    vertices = [(kind, i) for kind, count in counts.items() for i in range(count)]
    for state, action, next_state in np.argwhere(np.array(task.transition or np.zeros((0, 0, 0)))).tolist():
        add_fact(
            "T",
            ("state", state),
            ("action", action),
            ("state", next_state),
            amount=(task.transition[state][action][next_state],),
        )
    for state in range(task.n_states if task.stimuli else 0):
        for part, stimulus in enumerate(task.parts_of(state)):
            if stimulus != -1:
                add_fact("shows", ("state", state), _vertex("fixed", stimulus), amount=(part,))
    for k, variable in enumerate(task.state_vars):
        add_fact("state variable", ("statevar", k), amount=(variable.hazard, isinstance(variable.values, str)))
        for state in task.state_range(k):
            add_fact("range", ("statevar", k), ("state", state))
        if variable.distinct_from is not None:
            add_fact("apart", ("statevar", k), ("statevar", variable.distinct_from))
    combinations = itertools.count()
    for k, (group, columns) in enumerate(zip(task.action_vars, _action_groups(task), strict=True)):
        add_fact("action variable", ("group", k), amount=(group.hazard, len(group.joint)))
        for column in columns:
            add_fact("member", ("group", k), ("column", column))
        for option in group.joint:
            vertices.append(("combination", next(combinations)))
            for column, action in zip(columns, option, strict=True):
                add_fact("together", vertices[-1], ("column", column), ("action", action))
        for action in () if group.joint else (range(task.n_actions) if group.values is None else group.values):
            add_fact("range", ("group", k), ("action", action))
    for k, prob in enumerate(task.prob_vars):
        add_fact(
            "probability", ("prob", k), amount=(prob.low, prob.high, prob.hazard, prob.drift, *sorted(prob.values))
        )
    rules_by_kind: list[tuple[str, Sequence[Any]]] = [("rule", task.reward_rules), ("flagrule", task.flag_rules)]
    for kind, rules in rules_by_kind:
        for i, rule in enumerate(rules):
            ends = ("old", "state", rule.old), ("new", "state", rule.new), ("by", "action", rule.action)
            for relation, kind_of_end, ref in ends:
                if ref != -1:
                    add_fact(relation, (kind, i), _vertex(kind_of_end, ref))
            if isinstance(rule, FlagRule):
                add_fact("sets", (kind, i), amount=(rule.set_to,))
            else:
                add_fact("pays", (kind, i), amount=(float(rule.value), rule.flag, rule.ends))
                if type(rule.p) in _KINDS:
                    add_fact("p", (kind, i), _vertex("", rule.p), amount=(isinstance(rule.p, OneMinus),))
                else:
                    add_fact("p", (kind, i), amount=(float(rule.p),))
            for j in range(i):
                if not commute(task, rules[j], rule):
                    add_fact("before", (kind, j), (kind, i))
    distinct_kinds = {"state", "action"} if task.topology is not None else set()
    distinct_kinds |= {"fixed"} if task.stim.kind == "given" else set()
    keys = {(kind, i): (kind, i if kind in distinct_kinds or (kind, i) == ("state", 0) else -1) for kind, i in vertices}
    rank = _ranks(sorted(set(keys.values())))
    return facts, {vertex: rank[key] for vertex, key in keys.items()}


def _vertex(kind: str, ref: Any) -> Vertex:
    """The vertex of a reference, or of a kind and a number."""
    return (_KINDS[type(ref)], ref.index) if type(ref) in _KINDS else (kind, ref)


def _ordered(task: MetaTask, colours: dict[Vertex, int]) -> MetaTask:
    """The task renumbered by its colours, which all differ, with its rules sorted as far as their order is free."""
    names: Names = {}
    for kind in [*_counts(task), "rule", "flagrule"]:
        members = sorted((colour, i) for (kind_of_vertex, i), colour in colours.items() if kind_of_vertex == kind)
        names[kind] = _ranks(i for _, i in members)
    # The columns of a group are consecutive, in the order of the groups.
    groups, rank = _action_groups(task), names["column"]
    names["column"] = _ranks(column for k in names["group"] for column in sorted(groups[k], key=rank.__getitem__))
    # A state variable follows the one that it must differ from.
    distinct_from = [variable.distinct_from for variable in task.state_vars]
    names["statevar"] = _ranks(_sorted(names["statevar"], lambda k, unplaced: distinct_from[k] in unplaced))
    identity = _identity(task)
    if task.topology is None:  # state 0 is the start, and keeps its number
        names["state"] = _ranks([0, *(state for state in names["state"] if state)])
    else:
        names |= {"state": identity["state"], "action": identity["action"]}
    if task.stim.kind == "given":
        names["fixed"] = identity["fixed"]

    def in_order(rules: tuple[Any, ...], rank: dict[int, int]) -> tuple[Any, ...]:
        ordered = _sorted(
            rank, lambda i, unplaced: any(j < i and not commute(task, rules[j], rules[i]) for j in unplaced)
        )
        return tuple(rules[i] for i in ordered)

    reward_rules = in_order(task.reward_rules, names["rule"])
    flag_rules = in_order(task.flag_rules, names["flagrule"])
    return _renamed(replace(task, reward_rules=reward_rules, flag_rules=flag_rules), names)


def _sorted(rank: dict[int, int], waits: Any) -> Iterator[int]:
    """Yield items by rank, each only when it does not wait for a remaining one."""
    remaining = sorted(rank, key=rank.__getitem__)
    while remaining:
        ready = next(i for i in remaining if not waits(i, remaining))
        yield ready
        remaining.remove(ready)
