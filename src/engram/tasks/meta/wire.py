"""Meta-tasks as JSON, with the keys and codes of the published generator and the rest under "ext".

A place in a condition is -1 for any, a state or an action, 100 + k a state variable, 200 + k an action variable; a
probability is a number, 1000 + k a probability variable, 2000 + k one minus it; a stimulus is -1, a number below 100,
10000 + k a variable one, or a list of these. A number that would be taken for a code is written as
``{"literal": number}``.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any

from engram.tasks.meta.grid import Grid
from engram.tasks.meta.task import (
    ActionRef,
    ActionVar,
    FlagRule,
    MetaTask,
    OneMinus,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    StimVar,
)

STATE, ACTION, PROB, ONE_MINUS, SLIP, STIM = 100, 200, 1000, 2000, 4000, 10000
_SPAN = 1000  # how many variables of one kind there may be
_KEYS = ("T", "flagconditions", "rewardconditions", "stimuli", "statevarranges", "ext")
_EXT = ("state_vars", "prob_vars", "action_vars", "stim", "horizon", "topology", "ends")


def to_json(task: MetaTask) -> str:
    """Return a task as JSON.

    Args:
        task: The task.
    """
    ext: dict[str, Any] = {}
    for name in ("state_vars", "prob_vars", "action_vars"):
        changed = [_changed(variable) for variable in getattr(task, name)]
        for one in changed:
            if name == "state_vars":
                one.pop("values")
            if one.get("values") and name == "prob_vars":  # which tell the bounds
                one.pop("low", None), one.pop("high", None)
        if any(changed) or (name != "state_vars" and changed):
            ext[name] = changed
    if changed_stim := _changed(task.stim):
        ext["stim"] = changed_stim
    if task.horizon != 100:
        ext["horizon"] = task.horizon
    if task.topology is not None:
        ext["topology"] = dataclasses.asdict(task.topology)
    if ends := [i for i, rule in enumerate(task.reward_rules) if rule.ends]:
        ext["ends"] = ends
    whole = {
        "T": task.transition,
        "flagconditions": [
            [_place(rule.old), _place(rule.new), _place(rule.action), rule.set_to] for rule in task.flag_rules
        ],
        "rewardconditions": [
            [_place(rule.old), _place(rule.new), _place(rule.action), _prob(rule.p), float(rule.value), rule.flag]
            for rule in task.reward_rules
        ],
        "stimuli": [
            [_stimulus(one) for one in shown] if isinstance(shown, tuple) else _stimulus(shown)
            for shown in task.stimuli
        ],
        "statevarranges": [variable.values for variable in task.state_vars],
    }
    return json.dumps(whole | ({"ext": ext} if ext else {}), allow_nan=False)


def from_json(text: str, *, legacy: bool = False) -> MetaTask:
    """Read a task from JSON.

    Args:
        text: The JSON.
        legacy: Whether stimuli 1000 + k are variable ones.

    Raises:
        ValueError: It is no JSON, or breaks a rule; the message names the field.
    """
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"text: expected JSON; {error}") from None
    if not isinstance(whole, dict):
        raise ValueError(f"text: expected a JSON object with the keys {', '.join(_KEYS)}")
    ext = whole.get("ext", {})
    _known("text", whole, _KEYS)
    _known("ext", ext, _EXT)
    ends = _list("ext.ends", ext.get("ends", []))
    rewards = []
    for i, condition in enumerate(_list("rewardconditions", whole.get("rewardconditions", []))):
        name = f"rewardconditions[{i}]"
        old, new, action, p, value, flag = _fields(name, condition, "old, new, action, p, value, flag")
        places = _state(f"{name}.old", old), _state(f"{name}.new", new), _action(f"{name}.action", action)
        chance, reward = _read_prob(f"{name}.p", p), _number(f"{name}.value", value)
        rewards.append(RewardRule(*places, chance, reward, _number(f"{name}.flag", flag, int), i in ends))
    flags = []
    for i, condition in enumerate(_list("flagconditions", whole.get("flagconditions", []))):
        name = f"flagconditions[{i}]"
        old, new, action, set_to = _fields(name, condition, "old, new, action, set_to")
        places = _state(f"{name}.old", old), _state(f"{name}.new", new), _action(f"{name}.action", action)
        flags.append(FlagRule(*places, _number(f"{name}.set_to", set_to, int)))
    if not all(isinstance(i, int) and 0 <= i < len(rewards) for i in ends):
        raise ValueError(f"ext.ends = {ends}: expected indices of rewardconditions")
    ranges = _list("statevarranges", whole.get("statevarranges", []))
    more = _list("ext.state_vars", ext.get("state_vars", [{}] * len(ranges)))
    if len(more) != len(ranges):
        raise ValueError(f"ext.state_vars: expected as many as statevarranges, {len(ranges)}, found {len(more)}")
    names = {rule.p.index for rule in rewards if isinstance(rule.p, ProbRef | OneMinus)}
    probs = _list("ext.prob_vars", ext.get("prob_vars", [{}] * (1 + max(names, default=-1))))
    return MetaTask(
        transition=whole.get("T"),
        reward_rules=tuple(rewards),
        flag_rules=tuple(flags),
        stimuli=tuple(
            tuple(_read_stimulus(f"stimuli[{state}]", one, legacy=legacy) for one in shown)
            if isinstance(shown, list)
            else _read_stimulus(f"stimuli[{state}]", shown, legacy=legacy)
            for state, shown in enumerate(_list("stimuli", whole.get("stimuli", [])))
        ),
        state_vars=tuple(
            _made(f"state_vars[{k}]", StateVar, _known(f"ext.state_vars[{k}]", one) | {"values": values})
            for k, (values, one) in enumerate(zip(ranges, more, strict=True))
        ),
        prob_vars=tuple(_made(f"ext.prob_vars[{k}]", ProbVar, one) for k, one in enumerate(probs)),
        action_vars=tuple(
            _made(f"ext.action_vars[{k}]", ActionVar, one)
            for k, one in enumerate(_list("ext.action_vars", ext.get("action_vars", [])))
        ),
        stim=_made("ext.stim", Stim, ext.get("stim", {})),
        horizon=_number("ext.horizon", ext.get("horizon", 100), int),
        topology=_made("ext.topology", Grid, ext["topology"]) if "topology" in ext else None,
    )


def _changed(part: Any) -> dict[str, Any]:
    """The fields that are not as they are by default."""
    fields = dataclasses.fields(part)
    return {one.name: getattr(part, one.name) for one in fields if getattr(part, one.name) != one.default}


def _place(place: Any) -> Any:
    if isinstance(place, StateRef):
        return STATE + place.index
    if isinstance(place, ActionRef):
        return ACTION + place.index
    return {"literal": place} if place >= STATE else place


def _prob(p: Any) -> float | int:
    if isinstance(p, ProbRef):
        return PROB + p.index
    return ONE_MINUS + p.index if isinstance(p, OneMinus) else float(p)


def _stimulus(one: Any) -> Any:
    if isinstance(one, StimVar):
        return STIM + one.index
    return {"literal": one} if one >= STATE else one


def _known(name: str, found: Any, keys: tuple[str, ...] | None = None) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{name} = {found!r}: expected a JSON object")
    for key in found:
        if keys is not None and key not in keys:
            raise ValueError(f"{name}: unknown key {key!r}; expected some of {', '.join(keys)}")
    return found


def _list(name: str, found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise ValueError(f"{name} = {found!r}: expected a list")
    return found


def _fields(name: str, condition: Any, fields: str) -> list[Any]:
    count = fields.count(",") + 1
    if not isinstance(condition, list) or len(condition) != count:
        raise ValueError(f"{name} = {condition!r}: expected a list of {fields}")
    return condition


def _made(name: str, kind: Any, fields: Any) -> Any:
    """Build a part of a task from its fields, lists having become tuples."""
    _known(name, fields, tuple(one.name for one in dataclasses.fields(kind)))
    try:
        return kind(**{key: _frozen(value) for key, value in fields.items()})
    except TypeError as error:
        raise ValueError(f"{name} = {fields!r}: {error}") from None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _literal(name: str, found: Any) -> Any:
    """The number that is meant, or None if it is a code."""
    if isinstance(found, dict):
        if set(found) != {"literal"} or not isinstance(found["literal"], int):
            raise ValueError(f"{name} = {found!r}: expected a number, or {{'literal': number}}")
        return found["literal"]
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError(f"{name} = {found!r}: expected an integer")
    return found if found < STATE else None


def _number(name: str, found: Any, kind: Any = (int, float)) -> Any:
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{name} = {found!r}: expected {'an integer' if kind is int else 'a number'}")
    return found


def _state(name: str, found: Any) -> int | StateRef:
    literal = _literal(name, found)
    if literal is None and not STATE <= found < ACTION:
        raise ValueError(f"{name} = {found}: expected a state, or {STATE} + k for a state variable")
    return StateRef(found - STATE) if literal is None else int(literal)


def _action(name: str, found: Any) -> int | ActionRef:
    literal = _literal(name, found)
    if literal is None and not ACTION <= found < ACTION + _SPAN:
        raise ValueError(f"{name} = {found}: expected an action, or {ACTION} + k for an action variable")
    return ActionRef(found - ACTION) if literal is None else int(literal)


def _read_prob(name: str, found: Any) -> Any:
    if isinstance(found, float) or _number(name, found) < PROB:
        return found
    if SLIP <= found < SLIP + _SPAN:
        warnings.warn(f"{name} = {found}: read as one minus probability variable {found - SLIP}", stacklevel=4)
        return OneMinus(found - SLIP)
    if PROB <= found < PROB + _SPAN:
        return ProbRef(found - PROB)
    if ONE_MINUS <= found < ONE_MINUS + _SPAN:
        return OneMinus(found - ONE_MINUS)
    raise ValueError(f"{name} = {found}: expected a probability, or {PROB} + k or {ONE_MINUS} + k")


def _read_stimulus(name: str, found: Any, *, legacy: bool) -> int | StimVar:
    literal = _literal(name, found)
    if literal is not None:
        return int(literal)
    if found >= STIM:
        return StimVar(found - STIM)
    if legacy and PROB <= found < PROB + _SPAN:
        return StimVar(found - PROB)
    hint = "" if legacy else f"; {PROB} + k with legacy=True"
    raise ValueError(f"{name} = {found}: expected a stimulus below {STATE}, or {STIM} + k for a variable one{hint}")
