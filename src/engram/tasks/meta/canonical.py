"""One form for all meta-tasks that differ only in how things are called.

What can be called otherwise (states, actions, variables, stimuli, rules) are the vertices of a graph, and what the task
says are facts about them. Vertices are told apart by refinement of their colours; where that leaves several alike, each
of them is tried, and the least description wins. A vertex whose first description was already met below one of its
likes is its image under a symmetry, and is not tried further.

Source: the refinement is that of graph canonisation (McKay, "Practical graph isomorphism", 1981); that the task space
is looked at up to such renamings is our reading of the paper.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from engram.tasks.meta.grid import Grid
from engram.tasks.meta.task import (
    ActionRef,
    ActionVar,
    FlagRule,
    MetaTask,
    OneMinus,
    ProbRef,
    RewardRule,
    StateRef,
    StateVar,
    StimVar,
)
from engram.tasks.meta.wire import from_json, to_json

_EXACT = 200_000  # cases up to which the effects of rules are compared case by case
Rule = TypeVar("Rule", RewardRule, FlagRule)
Vertex = tuple[str, int]


class _Fact(NamedTuple):
    """Something that a task says about some vertices, in this order."""

    what: str
    amount: tuple[float | int, ...]
    about: tuple[Vertex, ...]


def canonical(task: MetaTask) -> MetaTask:
    """Return the canonical form of a task.

    Args:
        task: The task.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the variables that the task has been warned of
        return from_json(min(_least(one) for one in _mirrored(_pruned(task))))


def digest(task: MetaTask) -> str:
    """Return the SHA-256 of the canonical form of a task as JSON.

    Args:
        task: The task.
    """
    return hashlib.sha256(to_json(canonical(task)).encode()).hexdigest()


def effective_rules(task: MetaTask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which reward rules and which flag rules change anything, by index.

    A rule changes nothing if it can never match, is always overridden, or says what would hold without it. With more
    than some hundred thousand cases, and on grids, only rules are left out that one later rule wholly covers.

    Args:
        task: The task.
    """
    rewards, flags = list(range(len(task.reward_rules))), list(range(len(task.flag_rules)))
    cases = _Cases.of(task)

    def kept(indices: list[int], rules: Sequence[Any], *, settable: bool) -> list[int]:
        for i in tuple(indices):
            rest = [j for j in indices if j != i]
            if not _differ(task, cases, [rules[j] for j in indices], [rules[j] for j in rest], settable=settable):
                indices = rest
        return indices

    while True:
        before = len(rewards), len(flags)
        settable = any(task.flag_rules[i].set_to for i in flags)
        rewards = kept(rewards, task.reward_rules, settable=settable)
        if all(task.reward_rules[i].flag == -1 for i in rewards) or not settable:
            flags = []
        flags = kept(flags, task.flag_rules, settable=True)
        if before == (len(rewards), len(flags)):
            return tuple(rewards), tuple(flags)


class _Cases(NamedTuple):
    """Everything that can happen in a step, for all values of the variables that are places: arrays (cases,)."""

    old: Any
    flag: Any
    action: Any
    new: Any
    states: Any  # (cases, state variables)
    actions: Any  # (cases, action columns)

    @staticmethod
    def of(task: MetaTask) -> _Cases | None:
        if task.topology is not None:
            return None
        rules: tuple[RewardRule | FlagRule, ...] = (*task.reward_rules, *task.flag_rules)
        named = {end for rule in rules for end in (rule.old, rule.new, rule.action)}
        ranges: list[Sequence[Any]] = [
            task.state_range(k) if StateRef(k) in named or _is_named_by_distinct(task, k) else task.state_range(k)[:1]
            for k in range(len(task.state_vars))
        ]
        first = 0
        for variable in task.action_vars:
            options = variable.joint or [
                (a,) for a in (range(task.n_actions) if variable.values is None else variable.values)
            ]
            used = any(ActionRef(first + i) in named for i in range(variable.width))
            ranges.append(list(options) if used else list(options)[:1])
            first += variable.width
        T = np.array(task.transition)
        old, action, new = np.nonzero(T)
        events = np.array(
            [(s, f, a, s2) for s, a, s2 in zip(old, action, new, strict=True) for f in (0, 1)[: 1 + (s != 0)]]
        )
        if len(events) * np.prod([len(one) for one in ranges], dtype=float) > _EXACT:
            return None
        n_states = len(task.state_vars)
        rows = []
        for values in itertools.product(*ranges):
            states = values[:n_states]
            if all(
                variable.distinct_from is None or states[k] != states[variable.distinct_from]
                for k, variable in enumerate(task.state_vars)
            ):
                rows.append((*states, *(a for group in values[n_states:] for a in group)))
        table = np.array(rows, dtype=np.int64).reshape(len(rows), -1)
        each = np.repeat(table, len(events), axis=0)
        s, f, a, s2 = np.tile(events, (len(table), 1)).T
        return _Cases(s, f, a, s2, each[:, :n_states], each[:, n_states:])

    def at(self, place: Any) -> Any:
        if isinstance(place, StateRef):
            return self.states[:, place.index]
        return self.actions[:, place.index] if isinstance(place, ActionRef) else place

    def matches(self, rule: RewardRule | FlagRule) -> Any:
        found = np.ones(len(self.old), dtype=bool)
        for place, actual in ((rule.old, self.old), (rule.new, self.new), (rule.action, self.action)):
            if place != -1:
                found &= self.at(place) == actual
        if isinstance(rule, RewardRule) and rule.flag != -1:
            found &= self.flag == rule.flag
        return found

    def effect(self, rules: Sequence[RewardRule | FlagRule], known: dict[Any, int]) -> Any:
        """What the rules do in each case, as a number that ``known`` gives to each thing that can be done."""
        if not rules or isinstance(rules[0], FlagRule):
            done = self.flag.copy()
            for rule in rules:
                assert isinstance(rule, FlagRule)
                done[self.matches(rule)] = rule.set_to
            return np.where(self.new == 0, 0, done)
        done = np.zeros(len(self.old), dtype=np.int64)
        for rule in rules:
            assert isinstance(rule, RewardRule)
            nothing = rule.p == 0 or (rule.value == 0 and not rule.ends)
            effect = 0 if nothing else known.setdefault((rule.p, rule.value, rule.ends), len(known) + 1)
            done[self.matches(rule)] = effect
        return done


def _is_named_by_distinct(task: MetaTask, k: int) -> bool:
    return task.state_vars[k].distinct_from is not None or any(one.distinct_from == k for one in task.state_vars)


def _differ(task: MetaTask, cases: _Cases | None, rules: list[Any], rest: list[Any], *, settable: bool) -> bool:
    """Return whether rules do anything else than the rest of them."""
    if cases is None:
        (left_out,) = [rule for rule in rules if not any(rule is one for one in rest)]
        if isinstance(left_out, RewardRule) and not settable and left_out.flag == 1:
            return False
        later = rules[next(i for i, rule in enumerate(rules) if rule is left_out) + 1 :]
        return not any(_covers(one, left_out) for one in later)
    known: dict[Any, int] = {}
    if isinstance(rules[0], FlagRule):
        return bool((cases.effect(rules, known) != (cases.effect(rest, known))).any())
    possible = (cases.flag == 0) | settable
    return bool(((_rewards(cases, rules, known) != _rewards(cases, rest, known)) & possible).any())


def _rewards(cases: _Cases, rules: list[Any], known: dict[Any, int]) -> Any:
    return cases.effect(rules, known) if rules else np.zeros(len(cases.old), dtype=np.int64)


def _covers(later: Any, earlier: Any) -> bool:
    ends = [(later.old, earlier.old), (later.new, earlier.new), (later.action, earlier.action)]
    if isinstance(later, RewardRule):
        ends.append((later.flag, earlier.flag))
    return all(wide in (-1, narrow) for wide, narrow in ends)


def _pruned(task: MetaTask) -> MetaTask:
    """Leave out the rules that change nothing, and the variables that nothing uses."""
    rewards, flags = effective_rules(task)
    reward_rules = [task.reward_rules[i] for i in rewards]
    flag_rules = [task.flag_rules[i] for i in flags]
    if not flag_rules:
        reward_rules = [replace(rule, flag=-1) for rule in reward_rules]
    rules: tuple[RewardRule | FlagRule, ...] = (*reward_rules, *flag_rules)
    named = {end for rule in rules for end in (rule.old, rule.new, rule.action)}
    states = {place.index for place in named if isinstance(place, StateRef)}
    for k in sorted(states, reverse=True):  # what a variable is distinct from is itself a variable
        other = task.state_vars[k].distinct_from
        while other is not None:
            states.add(other)
            other = task.state_vars[other].distinct_from
    probs = {rule.p.index for rule in reward_rules if isinstance(rule.p, ProbRef | OneMinus)}
    groups: list[int] = []
    columns: list[int] = []
    first = 0
    for k, variable in enumerate(task.action_vars):
        members = range(first, first + variable.width)
        if any(ActionRef(i) in named for i in members):
            groups.append(k)
            columns += members
        first += variable.width
    shown = [task.parts_of(state) for state in range(task.n_states if task.stimuli else 0)]
    fixed = {one for parts in shown for one in parts if isinstance(one, int) and one >= 0}
    variable_stimuli = {one.index for parts in shown for one in parts if isinstance(one, StimVar)}
    names = _Names(
        states={s: s for s in range(task.n_states)},
        actions={a: a for a in range(task.n_actions)},
        state_vars=_ranks(states),
        prob_vars=_ranks(probs),
        groups=_ranks(groups),
        columns=_ranks(columns),
        # Vectors that are given have their place by number.
        fixed=_ranks(fixed) if task.stim.kind != "given" else {one: one for one in fixed},
        stim_vars=_ranks(variable_stimuli),
    )
    without = replace(task, reward_rules=tuple(reward_rules), flag_rules=tuple(flag_rules))
    if task.stim.kind != "given" and task.n_fixed + task.n_stim_vars == 0:
        without = replace(without, stim=replace(task.stim, hazard=0.0))
    if not fixed and not variable_stimuli:
        without = replace(without, stimuli=())
    return _renamed(without, names)


def _ranks(indices: Any) -> dict[int, int]:
    return {index: rank for rank, index in enumerate(sorted(indices))}


class _Names(NamedTuple):
    """The new number of each thing; what has none is left out."""

    states: dict[int, int]
    actions: dict[int, int]
    state_vars: dict[int, int]
    prob_vars: dict[int, int]
    groups: dict[int, int]
    columns: dict[int, int]
    fixed: dict[int, int]
    stim_vars: dict[int, int]


def _renamed(task: MetaTask, names: _Names, topology: Grid | None = None) -> MetaTask:
    """Give everything its new number, on a new grid if there is one. The order of the rules stays."""

    def place(value: Any) -> Any:
        if isinstance(value, StateRef):
            return StateRef(names.state_vars[value.index])
        return value if value == -1 else names.states[value]

    def action(value: Any) -> Any:
        if isinstance(value, ActionRef):
            return ActionRef(names.columns[value.index])
        return value if value == -1 else names.actions[value]

    def prob(p: Any) -> Any:
        return type(p)(names.prob_vars[p.index]) if isinstance(p, ProbRef | OneMinus) else float(p)

    def stimulus(one: Any) -> Any:
        if isinstance(one, StimVar):
            return StimVar(names.stim_vars[one.index])
        return one if one == -1 else names.fixed[one]

    def state_var(variable: StateVar) -> StateVar:
        values = variable.values
        apart = None if variable.distinct_from is None else names.state_vars[variable.distinct_from]
        if not isinstance(values, str):
            values = tuple(sorted(names.states[s] for s in values))
        return replace(variable, values=values, distinct_from=apart)

    def action_var(k: int) -> ActionVar:
        variable, first = task.action_vars[k], sum(one.width for one in task.action_vars[:k])
        if not variable.joint:
            values = range(task.n_actions) if variable.values is None else variable.values
            return replace(variable, values=tuple(sorted(names.actions[a] for a in values)))
        order = sorted(range(variable.width), key=lambda i: names.columns[first + i])
        return replace(
            variable, joint=tuple(sorted(tuple(names.actions[one[i]] for i in order) for one in variable.joint))
        )

    def inverse(new: dict[int, int]) -> list[int]:
        return sorted(new, key=new.__getitem__)

    transition = None
    if task.transition is not None:
        s, a = inverse(names.states), inverse(names.actions)
        transition = np.array(task.transition)[np.ix_(s, a, s)]
    stimuli: tuple[Any, ...] = ()
    if task.stimuli:
        shown = [tuple(stimulus(one) for one in task.parts_of(state)) for state in inverse(names.states)]
        stimuli = tuple(one if task.parts > 1 else one[0] for one in shown)
    probs = [task.prob_vars[k] for k in inverse(names.prob_vars)]
    return replace(
        task,
        transition=transition,
        reward_rules=tuple(
            RewardRule(place(r.old), place(r.new), action(r.action), prob(r.p), float(r.value), r.flag, ends=r.ends)
            for r in task.reward_rules
        ),
        flag_rules=tuple(FlagRule(place(r.old), place(r.new), action(r.action), r.set_to) for r in task.flag_rules),
        stimuli=stimuli,
        state_vars=tuple(state_var(task.state_vars[k]) for k in inverse(names.state_vars)),
        prob_vars=tuple(replace(one, values=tuple(sorted(one.values))) for one in probs),
        action_vars=tuple(action_var(k) for k in inverse(names.groups)),
        stim=task.stim if task.stim.kind == "given" else replace(task.stim, seed=0),
        topology=topology or task.topology,
    )


def _mirrored(task: MetaTask) -> Iterator[MetaTask]:
    """Yield a task and, if it is on a grid, its mirror images: they too are only called otherwise."""
    grid = task.topology
    if grid is None:
        yield task
        return
    cells = np.arange(grid.n_cells).reshape(grid.height, grid.width)
    for turned, upside_down, backwards in itertools.product((False, True), repeat=3):
        # A maze is carved from its first corner, which mirroring would move.
        if grid.walls == "random_maze" and (upside_down or backwards):
            continue
        image = cells[::-1] if upside_down else cells
        image = image[:, ::-1] if backwards else image
        image = image.T if turned else image  # image[r, c]: the cell of the task that comes to lie at (r, c)
        new = {int(cell): i for i, cell in enumerate(image.ravel())}
        up, right, down, left = 0, 1, 2, 3
        if upside_down:
            up, down = down, up
        if backwards:
            right, left = left, right
        moves = [up, right, down, left]
        if turned:
            moves = [{0: 3, 3: 0, 1: 2, 2: 1}[move] for move in moves]
        actions = dict(enumerate([*moves, 4][: grid.moves]))
        walls: Any = grid.walls
        if walls != "random_maze":
            wall = grid.wall_map()[image]
            walls = "open" if not wall.any() else tuple(tuple(row) for row in wall.tolist())
        start: Any = grid.start if grid.start_cell is None else new[grid.start_cell]
        turned_grid = replace(grid, height=image.shape[0], width=image.shape[1], walls=walls, start=start)
        yield _renamed(task, _identity(task)._replace(states=new, actions=actions), turned_grid)


def _identity(task: MetaTask) -> _Names:
    counts = (task.n_states, task.n_actions, len(task.state_vars), len(task.prob_vars), len(task.action_vars))
    counts = (*counts, task.n_action_columns, task.n_fixed, task.n_stim_vars)  # type: ignore[assignment]
    return _Names(*({i: i for i in range(count)} for count in counts))


def _least(task: MetaTask) -> str:
    """Return the least description, as JSON, of a task and all those that are called otherwise."""
    facts, colours = _facts(task)

    def descend(colours: dict[Vertex, int]) -> Iterator[str]:
        colours = _refined(facts, colours)
        cells: dict[int, list[Vertex]] = {}
        for vertex, colour in colours.items():
            cells.setdefault(colour, []).append(vertex)
        open_cells = [colour for colour, cell in cells.items() if len(cell) > 1]
        if not open_cells:
            yield to_json(_ordered(task, colours))
            return
        colour = min(open_cells, key=lambda one: (len(cells[one]), one))
        met: set[str] = set()
        for vertex in cells[colour]:
            leaves = descend(colours | {vertex: -1})
            first = next(leaves)
            if first in met:  # the image of a vertex that was tried, under a symmetry
                continue
            for leaf in itertools.chain([first], leaves):
                met.add(leaf)
                yield leaf

    return min(descend(colours))


def _refined(facts: list[_Fact], colours: dict[Vertex, int]) -> dict[Vertex, int]:
    """Tell vertices apart by the facts about them until that tells no more."""
    while True:
        seen: dict[Vertex, list[Any]] = {vertex: [] for vertex in colours}
        for what, amount, about in facts:
            others = tuple(colours[vertex] for vertex in about)
            for i, vertex in enumerate(about):
                seen[vertex].append((what, amount, i, others))
        keys = {vertex: (colours[vertex], tuple(sorted(said))) for vertex, said in seen.items()}
        rank = {key: i for i, key in enumerate(sorted(set(keys.values())))}
        finer = {vertex: rank[key] for vertex, key in keys.items()}
        if len(rank) == len(set(colours.values())):
            return finer
        colours = finer


def _facts(task: MetaTask) -> tuple[list[_Fact], dict[Vertex, int]]:
    """What a task says, and the colours of what it says it about: by kind, and where names count, by name."""
    facts: list[_Fact] = []

    def say(what: str, *about: Vertex, amount: tuple[float | int, ...] = ()) -> None:
        facts.append(_Fact(what, amount, about))

    counts = {"state": task.n_states, "action": task.n_actions, "statevar": len(task.state_vars)}
    counts |= {"prob": len(task.prob_vars), "group": len(task.action_vars), "column": task.n_action_columns}
    counts |= {"fixed": task.n_fixed, "stimvar": task.n_stim_vars}
    counts |= {"rule": len(task.reward_rules), "flagrule": len(task.flag_rules)}
    vertices = [(kind, i) for kind, count in counts.items() for i in range(count)]
    for s, row in enumerate(task.transition or ()):
        for a, chances in enumerate(row):
            for s2, p in enumerate(chances):
                if p:
                    say("T", ("state", s), ("action", a), ("state", s2), amount=(p,))
    for s in range(task.n_states if task.stimuli else 0):
        for part, one in enumerate(task.parts_of(s)):
            if one != -1:
                stimulus = ("stimvar", one.index) if isinstance(one, StimVar) else ("fixed", one)
                say("shows", ("state", s), stimulus, amount=(part,))
    for k, variable in enumerate(task.state_vars):
        say("state variable", ("statevar", k), amount=(variable.hazard, isinstance(variable.values, str)))
        for s in task.state_range(k):
            say("range", ("statevar", k), ("state", s))
        if variable.distinct_from is not None:
            say("apart", ("statevar", k), ("statevar", variable.distinct_from))
    first = 0
    for k, group in enumerate(task.action_vars):
        say("action variable", ("group", k), amount=(group.hazard, len(group.joint)))
        members = [("column", first + i) for i in range(group.width)]
        first += group.width
        for member in members:
            say("member", ("group", k), member)
        for c, combination in enumerate(group.joint):
            vertices.append(("combination", c + sum(len(g.joint) for g in task.action_vars[:k])))
            for member, a in zip(members, combination, strict=True):
                say("together", vertices[-1], member, ("action", a))
        for a in () if group.joint else (range(task.n_actions) if group.values is None else group.values):
            say("range", ("group", k), ("action", a))
    for k, prob in enumerate(task.prob_vars):
        bounds = (prob.low, prob.high, prob.hazard, prob.drift, *sorted(prob.values))
        say("probability", ("prob", k), amount=bounds)
    both: tuple[tuple[str, Sequence[Any]], ...] = (("rule", task.reward_rules), ("flagrule", task.flag_rules))
    for kind, rules in both:
        for i, rule in enumerate(rules):
            _say_rule(task, say, (kind, i), rule)
            for j in range(i):
                if not _commute(task, rules[j], rule):
                    say("before", (kind, j), (kind, i))
    fixed_names = task.stim.kind == "given"
    keys = {}
    for kind, i in vertices:
        own = (kind == "state" and (i == 0 or task.topology is not None)) or (
            (kind == "action" and task.topology is not None) or (kind == "fixed" and fixed_names)
        )
        keys[kind, i] = (kind, i if own else -1)
    rank = {key: i for i, key in enumerate(sorted(set(keys.values())))}
    return facts, {vertex: rank[key] for vertex, key in keys.items()}


def _say_rule(task: MetaTask, say: Callable[..., None], vertex: Vertex, rule: RewardRule | FlagRule) -> None:
    for what, place in (("old", rule.old), ("new", rule.new), ("by", rule.action)):
        if isinstance(place, StateRef):
            say(what, vertex, ("statevar", place.index))
        elif isinstance(place, ActionRef):
            say(what, vertex, ("column", place.index))
        elif place != -1:
            say(what, vertex, ("action" if what == "by" else "state", place))
    if isinstance(rule, FlagRule):
        say("sets", vertex, amount=(rule.set_to,))
        return
    say("pays", vertex, amount=(float(rule.value), rule.flag, rule.ends))
    if isinstance(rule.p, ProbRef | OneMinus):
        say("p", vertex, ("prob", rule.p.index), amount=(isinstance(rule.p, OneMinus),))
    else:
        say("p", vertex, amount=(float(rule.p),))


def _commute(task: MetaTask, one: Any, other: Any) -> bool:
    """Return whether the order of two rules cannot matter: they never match together, or do the same."""
    if isinstance(one, FlagRule):
        is_same = one.set_to == other.set_to
    else:
        is_same = (one.p, one.value, one.ends) == (other.p, other.value, other.ends)
        is_same |= -1 not in (one.flag, other.flag) and one.flag != other.flag
    if is_same:
        return True
    ends = ((one.old, other.old), (one.new, other.new), (one.action, other.action))
    return any(not _may_meet(task, *pair) for pair in ends)


def _may_meet(task: MetaTask, one: Any, other: Any) -> bool:
    """Return whether two places of rules may be the same place in some instance."""
    if -1 in (one, other) or one == other:
        return True
    if isinstance(one, StateRef) and isinstance(other, StateRef):
        pair = {one.index, other.index}
        if any(task.state_vars[k].distinct_from in pair - {k} for k in pair):
            return False
    return bool(_values(task, one) & _values(task, other))


def _values(task: MetaTask, place: Any) -> set[int]:
    if isinstance(place, StateRef):
        return set(task.state_range(place.index))
    if not isinstance(place, ActionRef):
        return {place}
    column = place.index
    for variable in task.action_vars:
        if column < variable.width:
            if variable.joint:
                return {one[column] for one in variable.joint}
            return set(range(task.n_actions) if variable.values is None else variable.values)
        column -= variable.width
    raise AssertionError(place)


def _ordered(task: MetaTask, colours: dict[Vertex, int]) -> MetaTask:
    """Number everything by its colour, all of which differ, and sort the rules as far as their order is free."""

    def ranks(kind: str) -> dict[int, int]:
        members = sorted((colour, i) for (what, i), colour in colours.items() if what == kind)
        return {i: rank for rank, (_, i) in enumerate(members)}

    # The columns of a group stand together, in the order of the groups.
    groups, place = ranks("group"), ranks("column")
    columns: dict[int, int] = {}
    firsts = np.cumsum([0, *(one.width for one in task.action_vars)])
    for k in sorted(groups, key=groups.__getitem__):
        for i in sorted(range(firsts[k], firsts[k + 1]), key=place.__getitem__):
            columns[i] = len(columns)
    state_vars = ranks("statevar")
    state_vars = _after_what_they_are_distinct_from(task, state_vars)
    # State 0 is the start, and keeps its number.
    states = ranks("state")
    if task.topology is None:
        by_colour = sorted(states, key=lambda s: (s != 0, states[s]))
        states = {s: i for i, s in enumerate(by_colour)}
    else:
        states = {s: s for s in states}
    actions = ranks("action") if task.topology is None else {a: a for a in range(task.n_actions)}
    fixed = ranks("fixed") if task.stim.kind != "given" else {i: i for i in range(task.n_fixed)}
    names = _Names(states, actions, state_vars, ranks("prob"), groups, columns, fixed, ranks("stimvar"))
    task = replace(
        task,
        reward_rules=_sorted_rules(task, task.reward_rules, ranks("rule")),
        flag_rules=_sorted_rules(task, task.flag_rules, ranks("flagrule")),
    )
    return _renamed(task, names)


def _after_what_they_are_distinct_from(task: MetaTask, rank: dict[int, int]) -> dict[int, int]:
    left = sorted(rank, key=rank.__getitem__)
    order: list[int] = []
    while left:
        free = next(k for k in left if task.state_vars[k].distinct_from in (None, *order))
        order.append(free)
        left.remove(free)
    return {k: i for i, k in enumerate(order)}


def _sorted_rules(task: MetaTask, rules: tuple[Rule, ...], rank: dict[int, int]) -> tuple[Rule, ...]:
    """Sort rules, but leave those in order whose order matters."""
    left, order = list(range(len(rules))), []
    while left:
        free = [i for i in left if all(_commute(task, rules[j], rules[i]) for j in left if j < i)]
        chosen = min(free, key=rank.__getitem__)
        order.append(chosen)
        left.remove(chosen)
    return tuple(rules[i] for i in order)
