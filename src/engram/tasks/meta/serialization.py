"""Meta-tasks as JSON, with the keys and codes of the published generator and all else under "ext".

A state or action in a condition is its number, -1 for any, 100 + k for a state variable, 200 + k for an action
variable; a probability is a number, 1000 + k for a probability variable, 2000 + k for one minus it; a stimulus is -1, a
number below 100, 10000 + k for a variable one, or a list of these. ``{"literal": number}`` is a number that would
otherwise be read as a code.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from engram import checks
from engram.tasks.meta.fields import STRICT, Count, Index, Number, Share, explained
from engram.tasks.meta.grid import Grid
from engram.tasks.meta.parts import (
    ActionRef,
    ActionVar,
    FlagRule,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
)
from engram.tasks.meta.task import MetaTask

_CODES: dict[type, int] = {StateRef: 100, ActionRef: 200, ProbRef: 1000, OneMinus: 2000, StimVar: 10000}
_ENDS = {StateRef: 200, ActionRef: 1200, ProbRef: 2000, OneMinus: 3000, StimVar: 2**63}
_SLIP = 4000


def to_json(task: MetaTask) -> str:
    """A task as JSON, with the keys of the published generator and all else under "ext"."""
    checks.arguments()
    state_vars = [_non_default_fields(var, "values") for var in task.state_vars]
    ext = {
        "state_vars": state_vars if any(state_vars) else [],
        "prob_vars": [_non_default_fields(var, *(("low", "high") if var.values else ())) for var in task.prob_vars],
        "action_vars": [_non_default_fields(var) for var in task.action_vars],
        "stim": _non_default_fields(task.stim),
        "horizon": task.horizon if task.horizon != 100 else None,
        "topology": task.topology and dataclasses.asdict(task.topology),
        "ends": [i for i, rule in enumerate(task.reward_rules) if rule.ends],
    }
    ext = {key: value for key, value in ext.items() if value}
    rewards = [
        [
            *map(_code, (reward_rule.old, reward_rule.new, reward_rule.action, reward_rule.p)),
            float(reward_rule.value),
            reward_rule.flag,
        ]
        for reward_rule in task.reward_rules
    ]
    published = {
        "T": task.transition,
        "flagconditions": [[*map(_code, (rule.old, rule.new, rule.action)), rule.set_to] for rule in task.flag_rules],
        "rewardconditions": rewards,
        "stimuli": [list(map(_code, part)) if isinstance(part, tuple) else _code(part) for part in task.stimuli],
        "statevarranges": [variable.values for variable in task.state_vars],
    }
    return json.dumps(published | ({"ext": ext} if ext else {}), allow_nan=False)


def from_json(text: str, *, legacy: bool = False) -> MetaTask:
    """The task that ``to_json`` or the published generator wrote.

    With ``legacy``, stimulus 1000 + k is variable stimulus k, as in older files.

    Raises:
        ValueError: The text is not JSON, or a field is wrong; the message gives its name.

    Warns:
        UserWarning: A probability 4000 + k, an error of the published generator, is read as 2000 + k.
    """
    checks.arguments()
    try:
        file = _FILE.validate_json(text, context={"legacy": legacy})
    except pydantic.ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise ValueError(f"text: expected JSON; {error.errors()[0]['msg']}") from None
        raise ValueError(_unknown_key(error) or _with_field_names(explained(error, json.loads(text), "text"))) from None
    ext, ranges = file.ext, file.statevarranges
    if ext.ends and max(ext.ends) >= len(file.rewardconditions):
        raise ValueError(f"ext.ends = {ext.ends}: expected indices of rewardconditions")
    extensions = (_StateVarExt(),) * len(ranges) if ext.state_vars is None else ext.state_vars
    if len(extensions) != len(ranges):
        raise ValueError(f"ext.state_vars: expected as many as statevarranges, {len(ranges)}, found {len(extensions)}")
    state_vars = (
        StateVar(values, ext.hazard, ext.distinct_from) for values, ext in zip(ranges, extensions, strict=True)
    )
    prob_indices = {rule.p.index for rule in file.rewardconditions if isinstance(rule.p, ProbRef | OneMinus)}
    return MetaTask(
        transition=file.T,
        reward_rules=tuple(RewardRule(*rule, ends=i in ext.ends) for i, rule in enumerate(file.rewardconditions)),
        flag_rules=tuple(FlagRule(*rule) for rule in file.flagconditions),
        stimuli=file.stimuli,
        state_vars=tuple(state_vars),
        prob_vars=(ProbVar(),) * (1 + max(prob_indices, default=-1)) if ext.prob_vars is None else ext.prob_vars,
        action_vars=ext.action_vars,
        stim=ext.stim,
        horizon=ext.horizon,
        topology=ext.topology,
    )


def _non_default_fields(part: Any, *implied: str) -> dict[str, Any]:
    """The fields that differ from their defaults, except those that other fields imply."""
    fields = [field for field in dataclasses.fields(part) if field.name not in implied]
    return {field.name: getattr(part, field.name) for field in fields if getattr(part, field.name) != field.default}


def _code(ref: Any) -> Any:
    if type(ref) in _CODES:
        return _CODES[type(ref)] + ref.index
    return {"literal": ref} if ref >= _CODES[StateRef] else ref


def _decoded(expected: str, *kinds: Any, literal: bool = True) -> Callable[[Any, Any], Any]:
    """A function that reads a number, or one of several kinds of references."""

    def decode(value: Any, info: Any) -> Any:
        if literal and isinstance(value, dict) and set(value) == {"literal"} and isinstance(value["literal"], int):
            return value["literal"]
        if isinstance(value, list) and StimVar in kinds:
            return tuple(decode(part, info) for part in value)
        if not isinstance(value, int if literal else int | float) or isinstance(value, bool):
            raise ValueError("an integer" if literal else "a number")
        if value < (_CODES[StateRef] if literal else _CODES[ProbRef]):
            return value
        for kind in kinds:
            if _CODES[kind] <= value < _ENDS[kind]:
                return kind(value - _CODES[kind])
        if OneMinus in kinds and 0 <= value - _SLIP < 1000:
            message = f"rewardconditions: p = {value}: read as one minus probability variable {value - _SLIP}"
            warnings.warn(message, stacklevel=4)
            return OneMinus(value - _SLIP)
        if StimVar in kinds and (info.context or {}).get("legacy") and 1000 <= value < 2000:
            return StimVar(value - 1000)
        raise ValueError(f"{expected}, or {' or '.join(f'{_CODES[kind]} + k' for kind in kinds)}")

    return decode


_State = Annotated[Any, pydantic.PlainValidator(_decoded("a state", StateRef))]
_Action = Annotated[Any, pydantic.PlainValidator(_decoded("an action", ActionRef))]
_Prob = Annotated[Any, pydantic.PlainValidator(_decoded("a probability", ProbRef, OneMinus, literal=False))]
_Stimulus = Annotated[Any, pydantic.PlainValidator(_decoded("a stimulus below 100", StimVar))]


class _Reward(NamedTuple):
    old: _State
    new: _State
    action: _Action
    p: _Prob
    value: Number
    flag: int


class _Flag(NamedTuple):
    old: _State
    new: _State
    action: _Action
    set_to: int


@dataclass(frozen=True)
class _StateVarExt:
    __pydantic_config__ = STRICT
    hazard: Share = 0.0
    distinct_from: Index | None = None


@dataclass(frozen=True)
class _Ext:
    __pydantic_config__ = STRICT
    state_vars: tuple[_StateVarExt, ...] | None = None
    prob_vars: tuple[ProbVar, ...] | None = None
    action_vars: tuple[ActionVar, ...] = ()
    stim: Stim = field(default_factory=Stim)
    horizon: Count = 100
    topology: Grid | None = None
    ends: tuple[Index, ...] = ()


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = STRICT
    T: Any = None
    flagconditions: tuple[_Flag, ...] = ()
    rewardconditions: tuple[_Reward, ...] = ()
    stimuli: tuple[_Stimulus, ...] = ()
    statevarranges: tuple[tuple[int, ...] | Literal["all", "all_but_start"], ...] = ()
    ext: _Ext = field(default_factory=_Ext)


_FILE: pydantic.TypeAdapter[_File] = pydantic.TypeAdapter(_File)
_PARTS: dict[str, Any] = {"": _File, "ext": _Ext, "stim": Stim, "topology": Grid}
_PARTS |= {"state_vars": _StateVarExt, "prob_vars": ProbVar, "action_vars": ActionVar}


def _with_field_names(message: str) -> str:
    """A message in which the fields of conditions, which are lists, have their names."""

    def field_of(match: re.Match[str]) -> str:
        names = (_Reward if match[1] == "reward" else _Flag)._fields
        return f"{match[1]}conditions[{match[2]}].{names[int(match[3])]}"

    return re.sub(r"(reward|flag)conditions\[(\d+)\]\[(\d)\]", field_of, message.replace("text.", ""))


def _unknown_key(error: pydantic.ValidationError) -> str | None:
    for problem in error.errors():
        if problem["type"] == "unexpected_keyword_argument":
            *path, key = problem["loc"]
            part = next((key_above for key_above in reversed(path) if key_above in _PARTS), "")
            field_names = ", ".join(field.name for field in dataclasses.fields(_PARTS[str(part)]))
            return f"{part or 'text'}: unknown key {key!r}; expected some of {field_names}"
    return None
