"""The effects of the rules of a meta-task: which rules have an effect, and for which the order matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engram.tasks.meta.parts import FlagRule, StateRef
from engram.tasks.meta.planning import enumerate_instances, outcomes
from engram.tasks.meta.task import MetaTask

_EXACT = 200_000  # the most cases for which the effects of rules are compared case by case


def effective_rules(task: MetaTask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The indices of the reward rules and of the flag rules that have an effect.

    A rule has none if it can never match, is always overridden, or only repeats the others. With more than some 200,000
    cases, and on grids, a rule is taken to have an effect unless a single later rule covers it.

    Examples:
        >>> from engram.tasks.meta import named
        >>> effective_rules(named.example(1))
        ((0, 1), ())
    """
    rewards, flags = list(range(len(task.reward_rules))), list(range(len(task.flag_rules)))
    cases, counts_before = _cases(task), None
    while counts_before != (len(rewards), len(flags)):
        counts_before = len(rewards), len(flags)
        settable = any(task.flag_rules[i].set_to for i in flags)
        for i in tuple(rewards):
            other_rules = [j for j in rewards if j != i]
            if cases is None:
                idle = _is_covered(task.reward_rules, i, other_rules) or (
                    task.reward_rules[i].flag == 1 and not settable
                )
            else:
                has_effect = cases.rewards(task, rewards) != cases.rewards(task, other_rules)
                idle = not (has_effect & ((cases.flag == 0) | settable)).any()
            rewards = other_rules if idle else rewards
        if all(task.reward_rules[i].flag == -1 for i in rewards) or not settable:
            flags = []
        for i in tuple(flags):
            other_rules = [j for j in flags if j != i]
            has_same_flags = cases is not None and (cases.flags(task, flags) == cases.flags(task, other_rules)).all()
            flags = (
                other_rules
                if has_same_flags or (cases is None and _is_covered(task.flag_rules, i, other_rules))
                else flags
            )
    return tuple(rewards), tuple(flags)


def commute(task: MetaTask, first: Any, second: Any) -> bool:
    """Whether the order of two rules does not matter, since they never match together or do the same.

    Args:
        task: The task.
        first: A reward rule or a flag rule.
        second: Another rule of the same kind.
    """
    if isinstance(first, FlagRule):
        is_same = first.set_to == second.set_to
    else:
        is_same = (first.p, first.value, first.ends) == (second.p, second.value, second.ends)
        is_same |= -1 not in (first.flag, second.flag) and first.flag != second.flag
    ends = ((first.old, second.old), (first.new, second.new), (first.action, second.action))
    return is_same or not all(_may_meet(task, *pair) for pair in ends)


class _Cases(NamedTuple):
    """All possible steps for all values of the state and action variables, as arrays (cases,)."""

    flag: Any
    clears: Any  # whether state 0 is reached
    matches: list[Any]  # for each reward rule
    flag_matches: list[Any]

    def rewards(self, task: MetaTask, indices: Sequence[int]) -> Any:
        """The effect of reward rules in each case, as a number for each different effect."""
        id_of: dict[Any, int] = {}
        ids = [id_of.setdefault((rule.p, rule.value, rule.ends), len(id_of) + 1) for rule in task.reward_rules]
        effects = np.zeros(len(self.flag), dtype=np.int64)
        for i in indices:
            rule = task.reward_rules[i]
            pays_nothing = rule.p == 0 or (rule.value == 0 and not rule.ends)
            effects[self.matches[i]] = 0 if pays_nothing else ids[i]
        return effects

    def flags(self, task: MetaTask, indices: Sequence[int]) -> Any:
        """The flag after flag rules in each case."""
        flags = self.flag.copy()
        for i in indices:
            flags[self.flag_matches[i]] = task.flag_rules[i].set_to
        return np.where(self.clears, 0, flags)


def _cases(task: MetaTask) -> _Cases | None:
    if task.topology is not None:
        return None
    transition = np.array(task.transition) > 0
    events = int(transition.sum() + transition[1:].sum())  # with flag 0, and where it can be 1
    instances, complete = enumerate_instances(task, None, maximum=max(1, _EXACT // events))
    if not complete:
        return None
    step = outcomes(task, instances, flags=2)
    possible = np.broadcast_to((step.chance > 0)[:, None], step.p.shape).copy()
    possible[:, 1, 0] = False  # in state 0 the flag is 0
    flag = np.broadcast_to(np.arange(2)[:, None, None, None], possible.shape)
    clears = np.broadcast_to((step.reached == 0)[:, None], possible.shape)
    matches = ([match[possible] for match in matches_of_kind] for matches_of_kind in (step.matches, step.flag_matches))
    return _Cases(flag[possible], clears[possible], *matches)


def _is_covered(rules: Sequence[Any], i: int, other_rules: Sequence[int]) -> bool:
    """Whether one of the other rules is later than rule i and matches wherever it does."""
    ends = [end for end in ("old", "new", "action", "flag") if hasattr(rules[i], end)]
    later = [rules[j] for j in other_rules if j > i]
    return any(all(getattr(rule, end) in (-1, getattr(rules[i], end)) for end in ends) for rule in later)


def _may_meet(task: MetaTask, first: Any, second: Any) -> bool:
    """Whether two states, or two actions, of rules may be equal in some instance."""
    if -1 in (first, second) or first == second:
        return True
    if isinstance(first, StateRef) and isinstance(second, StateRef):
        pair = {first.index, second.index}
        if any(task.state_vars[k].distinct_from in pair - {k} for k in pair):
            return False
    return bool(_values(task, first) & _values(task, second))


def _values(task: MetaTask, ref: Any) -> set[Any]:
    if (column := task.column(ref)) is None:
        return {ref}
    group = next(group for group in task.groups if column in group.columns)
    return {option[group.columns.index(column)] for option in group.options}
