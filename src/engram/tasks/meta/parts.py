"""The parts of a meta-task: rules, the variables that they refer to, and stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from annotated_types import Ge, Le
from pydantic import Strict

from engram import checks
from engram.tasks.meta.fields import PLAIN, STRICT, Count, Index, Number, Share


class _Part:
    """A part of a description, which is validated with the whole."""

    __pydantic_config__: ClassVar = STRICT


@dataclass(frozen=True, order=True)
class _Ref(_Part):
    index: Index


class StateRef(_Ref):
    """In a rule: the state that ``state_vars[index]`` has in an instance."""


class ActionRef(_Ref):
    """In a rule: the action that action variable ``index`` has in an instance; a joint variable counts as several."""


class ProbRef(_Ref):
    """In a rule: the probability that ``prob_vars[index]`` has in an instance."""


class OneMinus(_Ref):
    """In a rule: one minus the probability that ``prob_vars[index]`` has in an instance."""


class StimVar(_Ref):
    """As a stimulus: one whose vector is new in each instance; equal indices have the same vector."""


NumberOrAny = Annotated[int, Strict(), Ge(-1), PLAIN]
State = NumberOrAny | StateRef
Action = NumberOrAny | ActionRef
Stimulus = NumberOrAny | StimVar | tuple[NumberOrAny | StimVar, ...]
Indices = Annotated[tuple[Index, ...], Strict(False)]


@dataclass(frozen=True)
class RewardRule(_Part):
    """A reward for matching steps; of several rules that match, the last one counts.

    Args:
        old: State before the step; -1: any.
        new: State after the step; -1: any.
        action: Action; -1: any.
        p: Probability that the reward is paid.
        value: The reward.
        flag: The flag before the step, 0 or 1; -1: any.
        ends: Whether the episode terminates when the reward is paid.
    """

    old: State = -1
    new: State = -1
    action: Action = -1
    p: Share | ProbRef | OneMinus = 1.0
    value: Number = 1.0
    flag: Annotated[int, Ge(-1), Le(1), PLAIN] = -1
    ends: bool = False


@dataclass(frozen=True)
class FlagRule(_Part):
    """A new value of the hidden flag after matching steps; of several rules that match, the last one counts.

    Args:
        old: State before the step; -1: any.
        new: State after the step; -1: any.
        action: Action; -1: any.
        set_to: The flag after the step, 0 or 1.
    """

    old: State = -1
    new: State = -1
    action: Action = -1
    set_to: Annotated[int, Ge(0), Le(1), PLAIN] = 1


@dataclass(frozen=True)
class StateVar(_Part):
    """One state, drawn from a range with equal probability.

    Args:
        values: The range; on a grid also "all" free cells, or "all_but_start".
        hazard: Probability that it changes to another value of the range at the start of a trial.
        distinct_from: Index of an earlier state variable whose value this one never has.
    """

    values: Indices | Literal["all", "all_but_start"]
    hazard: Share = 0.0
    distinct_from: Index | None = None


@dataclass(frozen=True)
class ProbVar(_Part):
    """One probability, drawn from Uniform(low, high), or from some values with equal probability.

    Args:
        low: Lower bound.
        high: Upper bound.
        values: The values, if it is not uniform; the bounds are then their minimum and maximum.
        hazard: Probability that it changes to another value at the start of a trial.
        drift: Standard deviation of a Gaussian walk reflected at the bounds, with a step at the start of each trial.

    Examples:
        >>> ProbVar(values=(0.9, 0.1))
        ProbVar(low=0.1, high=0.9, values=(0.9, 0.1), hazard=0.0, drift=0.0)
    """

    low: Share = 0.0
    high: Share = 1.0
    values: tuple[Share, ...] = ()
    hazard: Share = 0.0
    drift: Annotated[Number, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        checks.arguments()
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        if self.values:
            object.__setattr__(self, "low", min(self.values))
            object.__setattr__(self, "high", max(self.values))


@dataclass(frozen=True)
class ActionVar(_Part):
    """One action, drawn from a range with equal probability; or several, drawn together.

    Args:
        values: The range; None: all actions.
        joint: The allowed combinations, all of one length; ``ActionRef(i)``, ``ActionRef(i + 1)`` ... are its actions.
        hazard: Probability that it changes to another value of the range at the start of a trial.

    Examples:
        >>> ActionVar(joint=((0, 1), (1, 0))).width
        2
    """

    values: Indices | None = None
    joint: Annotated[tuple[Indices, ...], Strict(False)] = ()
    hazard: Share = 0.0

    @property
    def width(self) -> int:
        """Number of actions drawn together."""
        return len(self.joint[0]) if self.joint else 1


@dataclass(frozen=True)
class Stim(_Part):
    """The vectors that stimuli are shown as; the absence of a stimulus is shown as zeros.

    Fixed stimuli are drawn once, from ``seed``; variable ones in each instance.

    Args:
        size: Length of a vector; at most 48 if it is binary.
        kind: "binary" (fair bits), "onehot", "gaussian" (of variance 1 / size), "sphere" (of norm 1), or "given".
        seed: Seed of the fixed stimuli.
        distinct: Whether binary stimuli are drawn without replacement, and never all zero.
        vectors: If "given": the fixed stimuli, then those from which variable ones are drawn, without replacement.
        hazard: Probability that all variable stimuli get new vectors at the start of a trial.

    Examples:
        >>> Stim(3).pool, Stim(3, "onehot").pool
        (7, 3)
    """

    size: Count = 5
    kind: Literal["binary", "onehot", "gaussian", "sphere", "given"] = "binary"
    seed: Index = 0
    distinct: bool = True
    vectors: tuple[tuple[Number, ...], ...] = ()
    hazard: Share = 0.0

    def __post_init__(self) -> None:
        checks.arguments()
        object.__setattr__(self, "vectors", tuple(tuple(map(float, vector)) for vector in self.vectors))

    @property
    def pool(self) -> int:
        """Number of different vectors; 0 if they are continuous."""
        if self.kind == "binary":
            return int(2**self.size) - self.distinct
        return {"onehot": self.size, "given": len(self.vectors)}.get(str(self.kind), 0)


class Group(NamedTuple):
    """A variable as columns of an instance's values, which are states, then actions, then probabilities."""

    kind: Literal["states", "actions", "probs"]  # the field of an instance
    variable: StateVar | ActionVar | ProbVar
    columns: range
    options: Sequence[tuple[float | int, ...]]  # rows of these columns; none for a probability between bounds

    @property
    def varies(self) -> bool:
        """Whether it has more than one value."""
        if isinstance(self.variable, ProbVar):
            return self.variable.low < self.variable.high
        return len(self.options) > 1

    def of(self, values: Sequence[float | int]) -> tuple[float | int, ...]:
        """The values in its columns."""
        return tuple(values[column] for column in self.columns)
