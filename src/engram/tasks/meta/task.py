"""The description of a meta-task: fixed parts, and variables that each lifetime draws."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.tasks.meta.fields import Count, Number, validate_fields
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import (
    ActionRef,
    ActionVar,
    FlagRule,
    Group,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    Stimulus,
    StimVar,
)

_BITS = 48  # of a binary stimulus, which is drawn from one double
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class MetaTask:
    """A space of tasks: a partially observable decision process some of whose quantities are new in each lifetime.

    State 0 and flag 0 are the start. A step from (s, f) with action a is, in this order,

        s' ~ T[s, a, :]
        r  = value with probability p, else 0, of the last reward rule that matches (s, s', a, f); 0 if none does
        f' = set_to of the last flag rule that matches (s, s', a), or f; but 0 if s' = 0
        variables with a hazard or a drift change, if s' = 0, which is the start of a trial

    On a grid (``topology``) the cell reached is s' for the rules; then a paid reward may put the agent elsewhere, which
    is the start of a trial. There the flag is cleared by a reset and not by state 0.

    Args:
        transition: T, (states, actions, states), rows that sum to 1; None on a grid.
        reward_rules: Rules of the reward, later ones overriding earlier ones.
        flag_rules: Rules of the hidden binary flag.
        stimuli: For each state -1 (nothing), a fixed one from 0, ``StimVar(k)``, or a tuple of these; empty: nothing.
        state_vars: The variables to which ``StateRef`` refers.
        prob_vars: The variables to which ``ProbRef`` and ``OneMinus`` refer.
        action_vars: The variables to which ``ActionRef`` refers.
        stim: The vectors of stimuli.
        horizon: Number of steps after which a lifetime is truncated.
        topology: The grid, if the states are its cells.

    Raises:
        TypeError, ValueError: A field is wrong; the message gives its name and index.

    Warns:
        UserWarning: A variable has only one value.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023). Hazards and grid are ours.

    Examples:
        >>> task = MetaTask([[[1.0], [1.0]]], (RewardRule(action=0, p=ProbRef(0)),), prob_vars=(ProbVar(),))
        >>> task.n_states, task.n_actions, task.observation_size
        (1, 2, 5)
    """

    transition: Any = None
    reward_rules: tuple[RewardRule, ...] = ()
    flag_rules: tuple[FlagRule, ...] = ()
    stimuli: tuple[Stimulus, ...] = ()
    state_vars: tuple[StateVar, ...] = ()
    prob_vars: tuple[ProbVar, ...] = ()
    action_vars: tuple[ActionVar, ...] = ()
    stim: Stim = field(default_factory=Stim)
    horizon: Count = 100
    topology: Grid | None = None

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.topology is None:
            object.__setattr__(self, "transition", _stochastic(self.transition))
        elif self.transition is not None:
            raise ValueError("transition: expected None, because the task has a topology")
        _check_stimuli(self)
        _check_state_vars(self)
        _check_prob_vars(self)
        _check_action_vars(self)
        for kind in ("reward_rules", "flag_rules"):
            for i, rule in enumerate(getattr(self, kind)):
                _check_rule(self, f"{kind}[{i}]", rule)

    @cached_property
    def n_states(self) -> int:
        """Number of states; on a grid, the number of its cells, walls included."""
        return len(self.transition) if self.topology is None else self.topology.n_cells

    @cached_property
    def n_actions(self) -> int:
        """Number of actions."""
        return len(self.transition[0]) if self.topology is None else self.topology.moves

    @cached_property
    def n_fixed(self) -> int:
        """Number of fixed stimuli, one more than the largest in use."""
        return 1 + max((stimulus for stimulus in self._flat_stimuli() if isinstance(stimulus, int)), default=-1)

    @cached_property
    def n_stim_vars(self) -> int:
        """Number of variable stimuli, one more than the largest index in use."""
        return 1 + max(
            (stimulus.index for stimulus in self._flat_stimuli() if isinstance(stimulus, StimVar)), default=-1
        )

    @cached_property
    def n_action_columns(self) -> int:
        """Number of actions of all action variables, to which ``ActionRef`` refers."""
        return sum(variable.width for variable in self.action_vars)

    @cached_property
    def parts(self) -> int:
        """Number of stimuli that a state shows side by side."""
        return max((len(stimulus) for stimulus in self.stimuli if isinstance(stimulus, tuple)), default=1)

    @cached_property
    def observation_size(self) -> int:
        """Number of features of an observation."""
        if self.topology is None or self.topology.obs in ("stimuli", "none"):
            return self.stim.size * self.parts
        return {"position": self.n_states, "coordinates": 2, "window": self.topology.window**2}[self.topology.obs]

    @property
    def is_maze(self) -> bool:
        """Whether each instance has a maze of its own."""
        return self.topology is not None and self.topology.walls == "random_maze"

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All variables, in the order of their columns."""
        states = enumerate(self.state_vars)
        groups = [Group("states", var, range(k, k + 1), [(s,) for s in self.state_range(k)]) for k, var in states]
        start = len(groups)
        for action in self.action_vars:
            values = range(self.n_actions) if action.values is None else action.values
            columns = range(start, start + action.width)
            groups.append(Group("actions", action, columns, action.joint or [(a,) for a in values]))
            start = columns.stop
        probs = enumerate(self.prob_vars, start)
        return (*groups, *(Group("probs", var, range(k, k + 1), [(p,) for p in var.values]) for k, var in probs))

    def column(self, ref: Any) -> int | None:
        """The column of a reference in a rule; None for a number."""
        actions = len(self.state_vars)
        start = {StateRef: 0, ActionRef: actions}.get(type(ref), actions + self.n_action_columns)
        return start + ref.index if isinstance(ref, StateRef | ActionRef | ProbRef | OneMinus) else None

    def columns_of(self, rules: Iterable[RewardRule | FlagRule]) -> set[int]:
        """The columns that rules refer to."""
        with checks.noted(rules=rules):
            ends = [end for rule in rules for end in (rule.old, rule.new, rule.action, getattr(rule, "p", None))]
        return {column for end in ends if (column := self.column(end)) is not None}

    def parts_of(self, state: int) -> tuple[int | StimVar, ...]:
        """The ``parts`` stimuli of a state; -1 for nothing."""
        checks.size("state", state, minimum=0, maximum=self.n_states - 1)
        stimulus = self.stimuli[state] if self.stimuli else -1
        stimulus = stimulus if isinstance(stimulus, tuple) else (stimulus,)
        return stimulus + (-1,) * (self.parts - len(stimulus))

    def state_range(self, index: int) -> tuple[int, ...]:
        """The possible values of a state variable; in a random maze, only those that are free cells."""
        checks.size("index", index, minimum=0, maximum=len(self.state_vars) - 1)
        values = self.state_vars[index].values
        if not isinstance(values, str):
            return values
        assert self.topology is not None
        left_out = self.topology.start_cell if values == "all_but_start" else None
        return tuple(cell for cell in np.flatnonzero(~self.topology.wall_map()).tolist() if cell != left_out)

    def _flat_stimuli(self) -> Iterable[int | StimVar]:
        for stimulus in self.stimuli:
            yield from stimulus if isinstance(stimulus, tuple) else (stimulus,)


def _stochastic(transition: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    try:
        T: Float[np.ndarray, "..."] = np.array(transition, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("transition: expected numbers of shape (states, actions, states)") from None
    if T.ndim != 3 or 0 in T.shape or T.shape[0] != T.shape[2]:
        raise ValueError(f"transition.shape = {T.shape}: expected (states, actions, states), at least 1 of each")
    if np.isfinite(T).all() and (T >= 0).all() and (abs(T.sum(2) - 1) <= _TOLERANCE).all():
        return tuple(tuple(tuple(row) for row in rows) for rows in T.tolist())
    for s, a in np.ndindex(T.shape[:2]):
        row = T[s, a]
        if not np.isfinite(row).all() or (row < 0).any():
            raise ValueError(f"transition[{s}, {a}] = {row.tolist()}: expected numbers of at least 0")
        if abs(row.sum() - 1) > _TOLERANCE:
            raise ValueError(f"transition[{s}, {a}] = {row.tolist()}: expected a sum of 1, found {row.sum():.8g}")
    return tuple(tuple(tuple(row) for row in rows) for rows in T.tolist())


def _check_stimuli(task: MetaTask) -> None:
    stim = task.stim
    if stim.kind == "binary" and stim.size > _BITS:
        raise ValueError(f"stim.size = {stim.size}: expected at most {_BITS} for the kind 'binary'")
    if bool(stim.vectors) != (stim.kind == "given"):
        raise ValueError("stim.vectors: expected some exactly if stim.kind = 'given'")
    for i, vector in enumerate(stim.vectors):
        if len(vector) != stim.size:
            raise ValueError(f"stim.vectors[{i}] = {vector}: expected stim.size = {stim.size} finite numbers")
    if task.stimuli and len(task.stimuli) != task.n_states:
        raise ValueError(f"stimuli: expected one for each of {task.n_states} states, found {len(task.stimuli)}")
    if task.stimuli and task.topology is not None and task.topology.obs != "stimuli":
        raise ValueError(f"stimuli: expected none, because topology.obs = {task.topology.obs!r}")
    if () in task.stimuli:
        raise ValueError(f"stimuli[{task.stimuli.index(())}] = (): expected at least one part")
    n_stimuli = task.n_fixed + task.n_stim_vars
    if n_stimuli > stim.pool > 0 and (stim.distinct or stim.kind != "binary"):
        min_size = {"binary": n_stimuli.bit_length(), "onehot": n_stimuli}.get(stim.kind)
        if min_size:
            raise ValueError(f"stim.size = {stim.size}: expected at least {min_size}, for {n_stimuli} distinct stimuli")
        raise ValueError(f"stim.vectors: expected at least {n_stimuli}, the stimuli of the task; found {stim.pool}")


def _check_state_vars(task: MetaTask) -> None:
    grid = task.topology
    for k, variable in enumerate(task.state_vars):
        name, values = f"state_vars[{k}].values", variable.values
        if isinstance(values, str):
            if grid is None:
                raise ValueError(f"{name} = {values!r}: expected states; on a grid also 'all'")
            if values == "all_but_start" and grid.start_cell is None:
                raise ValueError(f"{name} = 'all_but_start': expected a start that is not random")
        else:
            _check_range(name, values, task.n_states, "states")
            for state in values:
                if grid is not None and not grid.always_free(state):
                    raise ValueError(f"{name} = {values}: expected no wall, found cell {state}")
        states, earlier = task.state_range(k), variable.distinct_from
        if not states:
            raise ValueError(f"{name} = {values!r}: expected at least one state")
        if len(states) == 1:
            _warn(f"NO_VARIATION: {name} = {states} has only one state")
        if earlier is not None and earlier >= k:
            raise ValueError(f"state_vars[{k}].distinct_from = {earlier}: expected an index below {k}")
        if earlier is not None and len(states) == 1 and states[0] in task.state_range(earlier):
            raise ValueError(f"{name} = {states}: expected another state than state_vars[{earlier}] may have")


def _check_prob_vars(task: MetaTask) -> None:
    for k, variable in enumerate(task.prob_vars):
        name = f"prob_vars[{k}]"
        if len(set(variable.values)) < len(variable.values):
            raise ValueError(f"{name}.values = {variable.values}: expected values that differ")
        if variable.low > variable.high:
            raise ValueError(f"{name}.low = {variable.low}: expected at most high = {variable.high}")
        if variable.drift and (variable.hazard or variable.low == variable.high):
            raise ValueError(f"{name}.drift = {variable.drift}: expected 0, because it has a hazard or a single value")
        if variable.low == variable.high:
            _warn(f"NO_VARIATION: {name} has only one value, {variable.low}")


def _check_action_vars(task: MetaTask) -> None:
    for k, variable in enumerate(task.action_vars):
        name, joint, values = f"action_vars[{k}]", variable.joint, variable.values
        if joint and values is not None:
            raise ValueError(f"{name}.values = {values!r}: expected None, because of joint")
        if joint and (len(set(map(len, joint))) != 1 or not joint[0] or len(set(joint)) < len(joint)):
            raise ValueError(f"{name}.joint: expected combinations that differ, of the same length of at least 1")
        for action in itertools.chain(*joint):
            _check_below(f"{name}.joint", action, task.n_actions, "an action")
        if values is not None:
            _check_range(f"{name}.values", values, task.n_actions, "actions")
        if len(joint or values or range(task.n_actions)) == 1:
            _warn(f"NO_VARIATION: {name} has only one value")


def _check_rule(task: MetaTask, name: str, rule: RewardRule | FlagRule) -> None:
    """Raise ValueError if a rule has a state, an action or a variable that does not exist."""
    states: tuple[Any, ...] = (StateRef, len(task.state_vars), task.n_states, "a state")
    actions: tuple[Any, ...] = (ActionRef, task.n_action_columns, task.n_actions, "an action")
    for end, (ref, variables, count, description) in {"old": states, "new": states, "action": actions}.items():
        value = getattr(rule, end)
        if isinstance(value, int):
            _check_below(f"{name}.{end}", value, count, f"-1, a {ref.__name__} or {description}")
        else:
            _check_below(f"{name}.{end}.index", value.index, variables, "a variable")
    if isinstance(rule, RewardRule) and not isinstance(rule.p, float | int):
        _check_below(f"{name}.p.index", rule.p.index, len(task.prob_vars), "a probability variable")


def _check_below(name: str, value: Number, count: int, description: str) -> None:
    if value >= count:
        raise ValueError(f"{name} = {value!r}: expected {description} below {count}")


def _check_range(name: str, values: Sequence[int], count: int, description: str) -> None:
    if not values:
        raise ValueError(f"{name} = (): expected at least one of the {description}")
    for value in values:
        _check_below(name, value, count, description)
    if len(set(values)) < len(values):
        raise ValueError(f"{name} = {tuple(values)}: expected {description} that differ")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
