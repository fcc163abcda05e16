"""The description of a meta-task: what is fixed, and what each lifetime draws anew."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from engram.tasks.environment import check_int
from engram.tasks.meta.grid import Grid

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from engram.tasks.meta.instance import Instance, Tables

StimKind = Literal["binary", "onehot", "gaussian", "sphere", "given"]
Number = float | int
_BITS = 48  # of a binary stimulus: their codes are drawn from one double
_TOLERANCE = 1e-6


@dataclass(frozen=True, order=True)
class StateRef:
    """In a rule: the state that ``state_vars[index]`` has in an instance."""

    index: int


@dataclass(frozen=True, order=True)
class ActionRef:
    """In a rule: the action that action variable ``index`` has in an instance; a joint variable counts as several."""

    index: int


@dataclass(frozen=True, order=True)
class ProbRef:
    """In a rule: the probability that ``prob_vars[index]`` has in an instance."""

    index: int


@dataclass(frozen=True, order=True)
class OneMinus:
    """In a rule: one minus the probability that ``prob_vars[index]`` has in an instance."""

    index: int


@dataclass(frozen=True, order=True)
class StimVar:
    """As a stimulus: one whose vector is new in each instance; equal indices show the same vector."""

    index: int


@dataclass(frozen=True)
class RewardRule:
    """A reward for what matches; of several rules that match, the last one counts.

    Args:
        old: State acted from; -1 here and below: any.
        new: State reached.
        action: Action taken.
        p: Probability that the reward is paid.
        value: The reward.
        flag: What the flag has to be before the step, 0 or 1.
        ends: Whether the episode terminates when the reward is paid.

    Examples:
        >>> RewardRule(old=StateRef(0), p=0.9)
        RewardRule(old=StateRef(index=0), new=-1, action=-1, p=0.9, value=1.0, flag=-1, ends=False)
    """

    old: int | StateRef = -1
    new: int | StateRef = -1
    action: int | ActionRef = -1
    p: Number | ProbRef | OneMinus = 1.0
    value: Number = 1.0
    flag: int = -1
    ends: bool = False


@dataclass(frozen=True)
class FlagRule:
    """What sets the hidden flag, after the reward of the step was given; the last rule that matches counts.

    Args:
        old: State acted from; -1 here and below: any.
        new: State reached.
        action: Action taken.
        set_to: 0 or 1.

    Examples:
        >>> FlagRule(new=3).set_to
        1
    """

    old: int | StateRef = -1
    new: int | StateRef = -1
    action: int | ActionRef = -1
    set_to: int = 1


@dataclass(frozen=True)
class StateVar:
    """One state, drawn from a range with equal probability.

    Args:
        values: The range; on a grid also "all" free cells, or "all_but_start".
        hazard: Probability of another value of the range at each start of a trial.
        distinct_from: Index of an earlier state variable whose value this one never has.

    Examples:
        >>> StateVar((1, 2), hazard=0.025).values
        (1, 2)
    """

    values: tuple[int, ...] | Literal["all", "all_but_start"]
    hazard: Number = 0.0
    distinct_from: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, str):
            object.__setattr__(self, "values", _tuple("values", self.values))


@dataclass(frozen=True)
class ProbVar:
    """One probability, drawn from Uniform(low, high), or from some values with equal probability.

    Args:
        low: Lower bound.
        high: Upper bound.
        values: The values, if it is not uniform; the bounds are then their least and their largest.
        hazard: Probability of another value at each start of a trial.
        drift: Standard deviation of a Gaussian random walk, one step at each start of a trial, reflected at the
            bounds.

    Examples:
        >>> ProbVar(values=(0.9, 0.1))
        ProbVar(low=0.1, high=0.9, values=(0.9, 0.1), hazard=0.0, drift=0.0)
    """

    low: Number = 0.0
    high: Number = 1.0
    values: tuple[Number, ...] = ()
    hazard: Number = 0.0
    drift: Number = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        if self.values:
            object.__setattr__(self, "low", min(self.values))
            object.__setattr__(self, "high", max(self.values))


@dataclass(frozen=True)
class ActionVar:
    """One action, drawn from a range with equal probability; or several, drawn together.

    Args:
        values: The range; None: all actions.
        joint: The allowed combinations of as many actions as each of them is long. Such a variable counts as that
            many: in rules the first of them is ``ActionRef(i)``, the next ``ActionRef(i + 1)``.
        hazard: Probability of another value of the range at each start of a trial.

    Examples:
        >>> ActionVar(joint=((0, 1), (1, 0))).width
        2
    """

    values: tuple[int, ...] | None = None
    joint: tuple[tuple[int, ...], ...] = ()
    hazard: Number = 0.0

    def __post_init__(self) -> None:
        if self.values is not None:
            object.__setattr__(self, "values", _tuple("values", self.values))
        object.__setattr__(self, "joint", tuple(_tuple("joint", one) for one in self.joint))

    @property
    def width(self) -> int:
        """How many actions are drawn together."""
        return len(self.joint[0]) if self.joint else 1


@dataclass(frozen=True)
class Stim:
    """The vectors that stimuli are shown as. No stimulus is a vector of zeros.

    Fixed stimuli are drawn once, from ``seed``; variable ones in each instance.

    Args:
        size: Numbers of a vector.
        kind: "binary" (fair bits), "onehot", "gaussian" (independent, variance 1 / size), "sphere" (uniform, of norm
            one), or "given" (those of ``vectors``).
        seed: Seed of the fixed stimuli.
        distinct: Whether stimuli are drawn without replacement, and none of zeros; for binary ones, which otherwise
            are of independent fair bits.
        vectors: What stimuli of the kind "given" are: the fixed ones first, then those that variable ones are drawn
            from, without replacement.
        hazard: Probability of new vectors for all variable stimuli at each start of a trial.

    Examples:
        >>> Stim(3).pool, Stim(3, "onehot").pool
        (7, 3)
    """

    size: int = 5
    kind: StimKind = "binary"
    seed: int = 0
    distinct: bool = True
    vectors: tuple[tuple[Number, ...], ...] = ()
    hazard: Number = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", tuple(tuple(float(x) for x in vector) for vector in self.vectors))

    @property
    def pool(self) -> int:
        """How many different vectors there are; 0: a continuum."""
        if self.kind == "binary":
            return int(2**self.size) - self.distinct
        return {"onehot": self.size, "given": len(self.vectors)}.get(str(self.kind), 0)


Stimulus = int | StimVar | tuple["int | StimVar", ...]


@dataclass(frozen=True)
class MetaTask:
    """A space of tasks: a partially observable decision process some of whose quantities are new in each lifetime.

    State 0 and flag 0 are the start. A step from (s, f) with action a is, in this order,

        s' ~ T[s, a, :]
        r  = value with probability p, else 0, of the last reward rule that matches (s, s', a, f); 0 if none does
        f' = set_to of the last flag rule that matches (s, s', a), or f; but 0 if s' = 0
        variables with a hazard or a drift change, if s' = 0, which is the start of a trial

    On a grid (``topology``) the cell reached is s' for the rules; then the agent is put elsewhere if a paid reward
    does that, which is the start of a trial. The flag is there cleared by a reset and not by state 0.

    Args:
        transition: T, (states, actions, states), rows that sum to 1; None on a grid.
        reward_rules: Rules of the reward, later ones overriding earlier ones.
        flag_rules: Rules of the hidden binary flag.
        stimuli: For each state what is seen: -1 nothing, an integer from 0 a fixed stimulus, ``StimVar(k)`` a
            variable one, or a tuple of these, side by side. Empty: nothing anywhere.
        state_vars: The variables that ``StateRef`` counts.
        prob_vars: The variables that ``ProbRef`` and ``OneMinus`` count.
        action_vars: The variables that ``ActionRef`` counts.
        stim: The vectors of stimuli.
        horizon: Steps of a lifetime, after which it is truncated.
        topology: The grid, if the states are its cells.

    Raises:
        TypeError: A field is of the wrong type.
        ValueError: A field breaks a rule; the message names the field, with the index of the rule or the state and
            action that it is about.

    Warns:
        UserWarning: A variable has only one value.

    Source: Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023). The order of the steps, the
    hazards, action variables and the grid are our decisions.

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
    horizon: int = 100
    topology: Grid | None = None

    def __post_init__(self) -> None:
        for name in ("reward_rules", "flag_rules", "stimuli", "state_vars", "prob_vars", "action_vars"):
            object.__setattr__(self, name, _tuple(name, getattr(self, name)))
        if self.topology is None:
            object.__setattr__(self, "transition", _checked_transition(self.transition))
        elif self.transition is not None:
            raise ValueError("transition: expected None, because the task has a topology")
        check_int("horizon", self.horizon, 1)
        _check_stim(self)
        _check_stimuli(self)
        _check_state_vars(self)
        _check_prob_vars(self)
        _check_action_vars(self)
        _check_rules(self)

    @cached_property
    def n_states(self) -> int:
        """States; on a grid its cells, walls included."""
        return len(self.transition) if self.topology is None else self.topology.n_cells

    @cached_property
    def n_actions(self) -> int:
        """Actions."""
        return len(self.transition[0]) if self.topology is None else self.topology.moves

    @cached_property
    def n_fixed(self) -> int:
        """Fixed stimuli: one more than the largest number among them."""
        return 1 + max((one for one in self._shown() if isinstance(one, int)), default=-1)

    @cached_property
    def n_stim_vars(self) -> int:
        """Variable stimuli: one more than the largest index among them."""
        return 1 + max((one.index for one in self._shown() if isinstance(one, StimVar)), default=-1)

    @cached_property
    def n_action_columns(self) -> int:
        """What ``ActionRef`` counts: the actions of all action variables."""
        return sum(variable.width for variable in self.action_vars)

    @cached_property
    def parts(self) -> int:
        """Stimuli that a state shows side by side."""
        return max((len(one) for one in self.stimuli if isinstance(one, tuple)), default=1)

    @cached_property
    def observation_size(self) -> int:
        """Numbers that are seen of a state."""
        seen = "stimuli" if self.topology is None else self.topology.obs
        if seen in ("stimuli", "none"):
            return self.stim.size * self.parts
        assert self.topology is not None
        return {"position": self.n_states, "coordinates": 2, "window": self.topology.window**2}[seen]

    def parts_of(self, state: int) -> tuple[int | StimVar, ...]:
        """Return the stimuli that a state shows, ``parts`` of them; -1 where there is none."""
        shown = self.stimuli[state] if self.stimuli else -1
        shown = shown if isinstance(shown, tuple) else (shown,)
        return shown + (-1,) * (self.parts - len(shown))

    def state_range(self, index: int) -> tuple[int, ...]:
        """Return the states that a state variable may have; in a random maze those of them that are free."""
        values = self.state_vars[index].values
        if not isinstance(values, str):
            return values
        assert self.topology is not None
        left_out = self.topology.start_cell if values == "all_but_start" else None
        return tuple(cell for cell in np.flatnonzero(~self.topology.wall_map()).tolist() if cell != left_out)

    def sample_instance(self, generator: np.random.Generator) -> Instance:
        """Draw a value for every variable.

        Args:
            generator: The source of randomness; how much is drawn depends on the task only.

        Examples:
            >>> task = MetaTask([[[1.0], [1.0]]], (RewardRule(p=ProbRef(0)),), prob_vars=(ProbVar(0.2, 0.3),))
            >>> 0.2 <= task.sample_instance(np.random.default_rng(0)).probs[0] <= 0.3
            True
        """
        from engram.tasks.meta.instance import sample_instance

        return sample_instance(self, generator)

    def compile(self, instances: Sequence[Instance]) -> Tables:
        """Put instances into tables: the rules with their variables resolved, and the transitions.

        Args:
            instances: As many as the tables are to have rows.

        Raises:
            ValueError: An instance is none of this task; the message says in what.
        """
        from engram.tasks.meta.instance import compile_tables

        return compile_tables(self, instances)

    def to_json(self) -> str:
        """Return the description as JSON, with the keys of the published generator and the rest under "ext"."""
        from engram.tasks.meta.wire import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str, *, legacy: bool = False) -> MetaTask:
        """Read what ``to_json`` writes, or the published generator.

        Args:
            text: The JSON.
            legacy: Whether stimuli 1000 + k are variable ones, as in older files.

        Raises:
            ValueError: It is no JSON, or breaks a rule; the message names the field.

        Warns:
            UserWarning: A probability 4000 + k, a slip of the published generator, is read as 2000 + k.
        """
        from engram.tasks.meta.wire import from_json

        return from_json(text, legacy=legacy)

    def canonical(self) -> MetaTask:
        """Return the form that all tasks have which differ from this one only in how things are called.

        States (but 0), actions, variables and stimuli are numbered anew, rules that change nothing and variables that
        nothing uses are left out, and rules whose order does not matter are sorted.
        """
        from engram.tasks.meta.canonical import canonical

        return canonical(self)

    def hash(self) -> str:
        """Return a hexadecimal digest of the canonical form, the same on every machine."""
        from engram.tasks.meta.canonical import digest

        return digest(self)

    def explain(self, instance: Instance | None = None) -> str:
        """Say in plain words what the task is, and what pays in one instance.

        Args:
            instance: The instance; None: the first one of generator 0.
        """
        from engram.tasks.meta.explain import explain

        return explain(self, instance)

    def draw(self, instance: Instance | None = None) -> Figure:
        """Draw the states, transitions, rewards and stimuli.

        Args:
            instance: The instance; None: the first one of generator 0.
        """
        from engram.tasks.meta.draw import draw

        return draw(self, instance)

    def _shown(self) -> Iterable[int | StimVar]:
        for one in self.stimuli:
            yield from one if isinstance(one, tuple) else (one,)


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} = {value!r}: expected a sequence")
    if name != "stimuli":
        return tuple(value)
    return tuple(tuple(one) if isinstance(one, list) else one for one in value)


def _checked_transition(transition: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    try:
        T: Float[np.ndarray, "..."] = np.array(transition, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("transition: expected numbers of shape (states, actions, states)") from None
    if T.ndim != 3 or 0 in T.shape or T.shape[0] != T.shape[2]:
        raise ValueError(f"transition.shape = {T.shape}: expected (states, actions, states), at least 1 of each")
    for s, a in np.ndindex(T.shape[:2]):
        row = T[s, a]
        if not np.isfinite(row).all() or (row < 0).any():
            raise ValueError(f"transition[{s}, {a}] = {row.tolist()}: expected numbers of at least 0")
        if abs(row.sum() - 1) > _TOLERANCE:
            raise ValueError(f"transition[{s}, {a}] = {row.tolist()}: expected a sum of 1, found {row.sum():.8g}")
    return tuple(tuple(tuple(row) for row in rows) for rows in T.tolist())


def _check_stim(task: MetaTask) -> None:
    stim = task.stim
    check_int("stim.size", stim.size, 1)
    check_int("stim.seed", stim.seed, 0)
    _check_share("stim.hazard", stim.hazard)
    if stim.kind not in get_args(StimKind):
        raise ValueError(f"stim.kind = {stim.kind!r}: expected one of {get_args(StimKind)}")
    if stim.kind == "binary" and stim.size > _BITS:
        raise ValueError(f"stim.size = {stim.size}: expected at most {_BITS} for the kind 'binary'")
    if bool(stim.vectors) != (stim.kind == "given"):
        raise ValueError("stim.vectors: expected some exactly if stim.kind = 'given'")
    for i, vector in enumerate(stim.vectors):
        if len(vector) != stim.size or not all(map(math.isfinite, vector)):
            raise ValueError(f"stim.vectors[{i}] = {vector}: expected stim.size = {stim.size} finite numbers")


def _check_stimuli(task: MetaTask) -> None:
    if task.stimuli and len(task.stimuli) != task.n_states:
        raise ValueError(f"stimuli: expected one for each of {task.n_states} states, found {len(task.stimuli)}")
    if task.stimuli and task.topology is not None and task.topology.obs != "stimuli":
        raise ValueError(f"stimuli: expected none, because topology.obs = {task.topology.obs!r}")
    for state, shown in enumerate(task.stimuli):
        if shown == ():
            raise ValueError(f"stimuli[{state}] = (): expected at least one part")
        for one in shown if isinstance(shown, tuple) else (shown,):
            if isinstance(one, StimVar):
                check_int(f"stimuli[{state}].index", one.index, 0)
            elif not isinstance(one, int) or isinstance(one, bool) or one < -1:
                raise ValueError(f"stimuli[{state}] = {shown!r}: expected -1, a number from 0, or StimVar(k)")
    pool, needed = task.stim.pool, task.n_fixed + task.n_stim_vars
    if needed > pool > 0 and (task.stim.distinct or task.stim.kind != "binary"):
        least = {"binary": needed.bit_length(), "onehot": needed}.get(task.stim.kind)
        raise ValueError(
            f"stim.size = {task.stim.size}: expected at least {least}, for {needed} distinct stimuli"
            if least
            else f"stim.vectors: expected at least {needed}, the stimuli of the task; found {pool}"
        )


def _check_state_vars(task: MetaTask) -> None:
    grid = task.topology
    for k, variable in enumerate(task.state_vars):
        name = f"state_vars[{k}]"
        if not isinstance(variable, StateVar):
            raise TypeError(f"{name} = {variable!r}: expected a StateVar")
        _check_share(f"{name}.hazard", variable.hazard)
        if isinstance(variable.values, str):
            if grid is None or variable.values not in ("all", "all_but_start"):
                raise ValueError(f"{name}.values = {variable.values!r}: expected states; on a grid also 'all'")
            if variable.values == "all_but_start" and grid.start_cell is None:
                raise ValueError(f"{name}.values = 'all_but_start': expected a start that is not random")
        else:
            _check_range(f"{name}.values", variable.values, task.n_states, "states")
            for state in variable.values:
                if grid is not None and not grid.always_free(state):
                    raise ValueError(f"{name}.values = {variable.values}: expected no wall, found cell {state}")
        values = task.state_range(k)
        if not values:
            raise ValueError(f"{name}.values = {variable.values!r}: expected at least one state")
        if len(values) == 1:
            _warn(f"NO_VARIATION: {name}.values = {values} has only one state")
        if variable.distinct_from is not None:
            check_int(f"{name}.distinct_from", variable.distinct_from, 0)
            if variable.distinct_from >= k:
                raise ValueError(f"{name}.distinct_from = {variable.distinct_from}: expected an index below {k}")
            if len(values) == 1 and values[0] in task.state_range(variable.distinct_from):
                raise ValueError(f"{name}.values = {values}: expected another state than state_vars["
                                 f"{variable.distinct_from}] may have")  # fmt: skip


def _check_prob_vars(task: MetaTask) -> None:
    for k, variable in enumerate(task.prob_vars):
        name = f"prob_vars[{k}]"
        if not isinstance(variable, ProbVar):
            raise TypeError(f"{name} = {variable!r}: expected a ProbVar")
        for end in ("low", "high", "hazard"):
            _check_share(f"{name}.{end}", getattr(variable, end))
        for value in variable.values:
            _check_share(f"{name}.values", value)
        if len(set(variable.values)) < len(variable.values):
            raise ValueError(f"{name}.values = {variable.values}: expected values that differ")
        if variable.low > variable.high:
            raise ValueError(f"{name}.low = {variable.low}: expected at most high = {variable.high}")
        if not (_is_number(variable.drift) and variable.drift >= 0):
            raise ValueError(f"{name}.drift = {variable.drift!r}: expected a number of at least 0")
        if variable.drift and variable.hazard:
            raise ValueError(f"{name}.drift = {variable.drift}: expected 0, because it has a hazard")
        if variable.drift and variable.low == variable.high:
            raise ValueError(f"{name}.drift = {variable.drift}: expected 0, because low = high = {variable.low}")
        if variable.low == variable.high:
            _warn(f"NO_VARIATION: {name} has only one value, {variable.low}")


def _check_action_vars(task: MetaTask) -> None:
    for k, variable in enumerate(task.action_vars):
        name = f"action_vars[{k}]"
        if not isinstance(variable, ActionVar):
            raise TypeError(f"{name} = {variable!r}: expected an ActionVar")
        _check_share(f"{name}.hazard", variable.hazard)
        joint = variable.joint
        if joint:
            if variable.values is not None:
                raise ValueError(f"{name}.values = {variable.values!r}: expected None, because of joint")
            if len({len(one) for one in joint}) != 1 or not joint[0] or len(set(joint)) < len(joint):
                raise ValueError(f"{name}.joint: expected combinations that differ, of the same length of at least 1")
            for one in joint:
                for action in one:
                    _check_index(f"{name}.joint", action, task.n_actions, "an action")
            single = len(joint) == 1
        else:
            if variable.values is not None:
                _check_range(f"{name}.values", variable.values, task.n_actions, "actions")
            single = len(variable.values or range(task.n_actions)) == 1
        if single:
            _warn(f"NO_VARIATION: {name} has only one value")


def _check_rules(task: MetaTask) -> None:
    for name, kind, rules in (
        ("reward_rules", RewardRule, task.reward_rules),
        ("flag_rules", FlagRule, task.flag_rules),
    ):
        for i, rule in enumerate(rules):
            if not isinstance(rule, kind):
                raise TypeError(f"{name}[{i}] = {rule!r}: expected a {kind.__name__}")
            for end in ("old", "new"):
                value, variables = getattr(rule, end), len(task.state_vars)
                _check_place(f"{name}[{i}].{end}", value, StateRef, variables=variables, count=task.n_states)
            variables, actions = task.n_action_columns, task.n_actions
            _check_place(f"{name}[{i}].action", rule.action, ActionRef, variables=variables, count=actions)
    for i, rule in enumerate(task.reward_rules):
        name = f"reward_rules[{i}]"
        if isinstance(rule.p, ProbRef | OneMinus):
            _check_index(f"{name}.p.index", rule.p.index, len(task.prob_vars), "a probability variable")
        else:
            _check_share(f"{name}.p", rule.p)
        if not _is_number(rule.value):
            raise ValueError(f"{name}.value = {rule.value!r}: expected a finite number")
        if rule.flag not in (-1, 0, 1):
            raise ValueError(f"{name}.flag = {rule.flag!r}: expected -1, 0 or 1")
        if not isinstance(rule.ends, bool):
            raise TypeError(f"{name}.ends = {rule.ends!r}: expected a bool")
    for i, flag_rule in enumerate(task.flag_rules):
        if flag_rule.set_to not in (0, 1):
            raise ValueError(f"flag_rules[{i}].set_to = {flag_rule.set_to!r}: expected 0 or 1")


def _check_place(name: str, value: Any, ref: type, *, variables: int, count: int) -> None:
    what = "an action" if ref is ActionRef else "a state"
    if isinstance(value, ref):
        _check_index(f"{name}.index", value.index, variables, "a variable")  # type: ignore[attr-defined]
    elif value != -1 or isinstance(value, bool):
        _check_index(name, value, count, f"-1, a {ref.__name__} or {what}")


def _check_index(name: str, value: Any, count: int, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
        raise ValueError(f"{name} = {value!r}: expected {what} below {count}")


def _check_range(name: str, values: Sequence[Any], count: int, what: str) -> None:
    if not values:
        raise ValueError(f"{name} = (): expected at least one of the {what}")
    for value in values:
        _check_index(name, value, count, what)
    if len(set(values)) < len(values):
        raise ValueError(f"{name} = {tuple(values)}: expected {what} that differ")


def _check_share(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name} = {value!r}: expected a number from 0 to 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
