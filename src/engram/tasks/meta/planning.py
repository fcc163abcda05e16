"""Exact planning in instances of a meta-task, many instances at once.

A planning state is the state together with the flag, z = flag * states + state. Variables are treated as constant,
even if they have a hazard or a drift.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.tasks.meta.instance import Instance, check_instance, free_cells, sample_instance
from engram.tasks.meta.parts import ProbVar
from engram.tasks.meta.program import rule_arrays, space_arrays
from engram.tasks.meta.task import MetaTask

QValues = Float[np.ndarray, "instances z actions"]


class Outcomes(NamedTuple):
    """The outcomes of steps by the rules: branches are the states reached, and flags are those before the step."""

    reached: Int[np.ndarray, "instances states actions branches"]
    chance: Float[np.ndarray, "instances states actions branches"]  # probability of the state reached
    p: Float[np.ndarray, "instances flags states actions branches"]  # probability that a reward is paid
    value: Float[np.ndarray, "instances flags states actions branches"]
    ends: Bool[np.ndarray, "instances flags states actions branches"]  # whether a paid reward terminates
    flag: Int[np.ndarray, "instances flags states actions branches"]  # after the step
    rule: Int[np.ndarray, "instances flags states actions branches"]  # the rule that counts, or -1
    flag_rule: Int[np.ndarray, "instances flags states actions branches"]  # likewise; -1 also if state 0 clears it
    matches: list[Bool[np.ndarray, "instances flags states actions branches"]]  # for each rule, overridden or not
    flag_matches: list[Bool[np.ndarray, "instances flags states actions branches"]]


class Model(NamedTuple):
    """Instances as Markov decision processes on z: the probabilities of successors without and with a reward.

    One minus the sum of these probabilities is the probability that the episode ends.
    """

    unpaid: Float[np.ndarray, "instances z actions z"]
    paid: Float[np.ndarray, "instances z actions z"]
    value: Float[np.ndarray, "instances z actions z"]  # the reward that is paid on the way to each successor
    reward: QValues  # expected, including the rewards of steps that end the episode
    start: Float[np.ndarray, "instances z"]  # probabilities

    @property
    def transition(self) -> Float[np.ndarray, "instances z actions z"]:
        """Probability of each successor."""
        return np.asarray(self.unpaid + self.paid)

    def reachable(self) -> Bool[np.ndarray, "instances z"]:
        """Whether each z can be reached from the start under some policy, in each instance."""
        edges = (self.transition > 0).any(2).astype(np.float32)
        reached, extended = None, self.start > 0
        while reached is None or (extended != reached).any():
            reached = extended
            extended = reached | ((reached[:, None, :] @ edges)[:, 0] > 0)
        return np.asarray(reached)


def enumerate_instances(
    task: MetaTask, grid: Sequence[float] | None = (0.1, 0.5, 0.9), *, maximum: int = 729
) -> tuple[tuple[Instance, ...], bool]:
    """The instances that a task can have, except for their stimuli, which are zeros.

    Variables that are in no rule have their first value.

    Args:
        task: The task.
        grid: Values of a probability that is uniform between bounds, as fractions of the way from the lower to the
            upper bound; None: each probability has its first value.
        maximum: Maximum number of instances; if there are more, and for random mazes, random ones are drawn.

    Returns:
        The instances, and whether these are all.

    Examples:
        >>> from engram.tasks.meta import named
        >>> instances, complete = enumerate_instances(named.t_maze())
        >>> [instance.states for instance in instances], complete
        ([(2,), (3,)], True)
    """
    if task.is_maze:
        rng = np.random.default_rng(0)
        return tuple(sample_instance(task, rng) for _ in range(min(maximum, 32))), False
    ranges, distinct_from = _ranges(task, grid), [var.distinct_from for var in task.state_vars]
    counts = [len(option) for option in ranges]
    all_options = (
        state_values + other_options
        for state_values in _distinct(ranges, distinct_from)
        for other_options in itertools.product(*ranges[len(distinct_from) :])
    )
    first_options = list(itertools.islice(all_options, maximum))
    complete = float(np.prod(counts, dtype=float)) <= maximum or len(first_options) < maximum
    if complete:
        candidates: Any = first_options
    else:
        rng = np.random.default_rng(0)
        rows = (tuple(int(rng.integers(count)) for count in counts) for _ in range(100 * maximum))
        random_options = (tuple(option[i] for option, i in zip(ranges, row, strict=True)) for row in rows)
        candidates = itertools.chain(random_options, first_options)  # in case that few of those drawn are distinct
    zeros = ((0.0,) * task.stim.size,) * task.n_stim_vars
    states_end, actions_end = np.cumsum([len(task.state_vars), task.n_action_columns])
    instances: dict[Instance, None] = {}
    for options in candidates:
        values = tuple(itertools.chain(*options))
        if all(earlier is None or values[k] != values[earlier] for k, earlier in enumerate(distinct_from)):
            instances[Instance(values[:states_end], values[states_end:actions_end], values[actions_end:], zeros)] = None
        if len(instances) == maximum:
            break
    return tuple(instances), complete


def _distinct(
    ranges: Sequence[Sequence[Any]], distinct_from: Sequence[int | None], chosen: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """The options of all state variables, in the order of ``itertools.product``, that differ where they have to."""
    if len(chosen) == len(distinct_from):
        yield chosen
        return
    earlier = distinct_from[len(chosen)]
    for option in ranges[len(chosen)]:
        if earlier is None or option != chosen[earlier]:
            yield from _distinct(ranges, distinct_from, (*chosen, option))


def _ranges(task: MetaTask, grid: Sequence[float] | None) -> list[Sequence[tuple[Any, ...]]]:
    """The options of each variable; only the first if the variable is in no rule."""
    columns, ranges = task.columns_of([*task.reward_rules, *task.flag_rules]), []
    for k, state_var in enumerate(task.state_vars):
        if state_var.distinct_from is not None:
            columns |= {k, state_var.distinct_from}
    for group in task.groups:
        options = group.options
        if isinstance(group.variable, ProbVar) and not options:
            low, high = group.variable.low, group.variable.high
            options = [(value,) for value in dict.fromkeys(low + (high - low) * share for share in grid or [0.0])]
        fixed = grid is None and group.kind == "probs"
        ranges.append(options if columns & {*group.columns} and not fixed else options[:1])
    return ranges


def outcomes(task: MetaTask, instances: Sequence[Instance], flags: int | None = None) -> Outcomes:
    """The outcomes of every step, in each instance.

    Args:
        task: The task.
        instances: Instances of the task.
        flags: Number of values of the flag; None: 2 if there are flag rules, else 1.
    """
    for instance in instances:
        check_instance(task, instance)
    row, flags = rule_arrays(task), (2 if task.flag_rules else 1) if flags is None else flags
    # The last column is for rules without a reference.
    value = np.array([(*instance.values, 0.0) for instance in instances])
    reached, chance = _branches(task, instances)
    shape = (len(instances), flags, *reached.shape[1:])
    new, flag_before = reached[:, None], np.arange(flags)[:, None, None, None]
    old, action = np.arange(task.n_states)[:, None, None], np.arange(task.n_actions)[:, None]

    def each(column: Any) -> Any:
        return np.broadcast_to(column, len(instances))[:, None, None, None, None]

    def matching(kind: str, **conditions: Any) -> tuple[list[Any], Any]:
        """Whether each rule of a kind matches, and the last one that does."""
        matches, last = [], np.full(shape, -1)
        for i in range(len(row[f"{kind}_old"])):
            match = np.ones(shape, dtype=bool)
            for name, actual in conditions.items():
                number = int(row[f"{kind}_{name}"][i])
                required = each(number if number >= -1 else value[:, -2 - number])
                match &= (required < 0) | (required == actual)
            last[match] = i
            matches.append(match)
        return matches, last

    def of_rule(last: Any, rule_values: Any, otherwise: Any) -> Any:
        """The value of the rule that counts, from (rules,) or (instances, rules), or ``otherwise`` without one."""
        values = np.broadcast_to(rule_values, (len(instances), rule_values.shape[-1]))
        values = np.concatenate([values, np.zeros_like(values, shape=(len(values), 1))], axis=1)
        return np.where(last >= 0, values[each(np.arange(len(values))), last], otherwise)

    matches, rule = matching("rule", old=old, new=new, action=action, flag=flag_before)
    flag_matches, flag_rule = matching("flag", old=old, new=new, action=action)
    flag = of_rule(flag_rule, row["flag_set"], flag_before)
    if task.topology is None:
        cleared = np.broadcast_to(new == 0, shape)
        flag[cleared], flag_rule[cleared] = 0, -1
    probability = of_rule(rule, row["rule_p"] + row["rule_slope"] * value[:, row["rule_column"]], 0.0)
    value_paid, ends = of_rule(rule, row["rule_value"], 0.0), of_rule(rule, row["rule_ends"], otherwise=False)
    return Outcomes(reached, chance, probability, value_paid, ends, flag, rule, flag_rule, matches, flag_matches)


def _branches(task: MetaTask, instances: Sequence[Instance]) -> tuple[Any, Any]:
    """The states that actions may lead to in each instance, and their probabilities."""
    if task.topology is None:
        reached = space_arrays(task)["successor"]
        chance = np.take_along_axis(np.array(task.transition), reached, 2)
        shape = (len(instances), *reached.shape)
        return np.broadcast_to(reached, shape), np.broadcast_to(chance, shape)
    wall, target = ~free_cells(task, instances), task.topology.moved()
    reached = np.where(wall[:, target], np.arange(task.n_states)[:, None], target)[..., None]
    return reached, np.ones(reached.shape)


def model(task: MetaTask, instances: Sequence[Instance], known: Outcomes | None = None) -> Model:
    """Instances, at least one, as Markov decision processes.

    Args:
        task: The task.
        instances: Instances of the task.
        known: Their ``outcomes``; None: they are computed.

    Examples:
        >>> from engram.tasks.meta import named
        >>> model(named.two_step(), [Instance(states=(2,))]).reward[0, :, 0].tolist()
        [0.0, 0.1, 0.9]
    """
    step = outcomes(task, instances) if known is None else known
    count, flags = len(instances), step.p.shape[1]
    n_states, n_actions, Z = task.n_states, task.n_actions, flags * task.n_states
    chance = np.broadcast_to(step.chance[:, None], step.p.shape)
    target_z = (step.flag * n_states + step.reached[:, None]).reshape(count, Z, n_actions, -1)
    pays, goes_on = chance * step.p, ~step.ends
    unpaid, paid_transition, value = (np.zeros((count, Z, n_actions, Z)) for _ in range(3))
    grid = task.topology
    np.put_along_axis(unpaid, target_z, (chance - pays).reshape(target_z.shape), 3)
    start, free, cell = np.zeros((count, Z)), free_cells(task, instances), 0 if grid is None else grid.start_cell
    if cell is None:
        start[:, :n_states] = free / free.sum(1, keepdims=True)
    else:
        start[:, cell] = 1.0
    if grid is None or grid.on_reward in ("none", "terminate"):
        np.put_along_axis(paid_transition, target_z, (pays * goes_on).reshape(target_z.shape), 3)
        np.put_along_axis(value, target_z, step.value.reshape(target_z.shape), 3)
    else:
        value[:] = step.value.reshape(count, Z, n_actions, 1)
        amount = (pays * goes_on).reshape(count, Z, n_actions, 1)
        if grid.on_reward == "reset":
            paid_transition += amount * start[:, None, None, :]
        else:
            elsewhere = free[:, None, None, None, :] * (
                np.arange(n_states) != step.reached[:, None]
            )  # (i, 1, s, a, s')
            elsewhere = elsewhere / np.maximum(elsewhere.sum(-1, keepdims=True), 1)
            for flag in range(flags):
                flagged = np.where((step.flag == flag), pays * goes_on, 0.0) * elsewhere
                paid_transition[..., flag * n_states : (flag + 1) * n_states] = flagged.reshape(
                    count, Z, n_actions, n_states
                )
    reward = (pays * step.value).sum(-1).reshape(count, Z, n_actions)
    return Model(unpaid, paid_transition, value, reward, start)


def value_of(
    transition: Float[np.ndarray, "*batch z z"], reward: Float[np.ndarray, "*batch z"], gamma: float
) -> Float[np.ndarray, "*batch z"]:
    """The discounted value of a policy, V = (1 - gamma P)^-1 r.

    Args:
        transition: P, the transition probabilities under the policy.
        reward: r, the expected rewards under the policy.
        gamma: Discount for each step.
    """
    return np.linalg.solve(np.eye(transition.shape[-1]) - gamma * transition, reward[..., None])[..., 0]


def optimal(mdps: Model, gamma: float) -> QValues:
    """The optimal discounted values of actions, by policy iteration.

        Q(z, a) = r(z, a) + gamma sum over z' of P(z' | z, a) max over a' of Q(z', a')

    Source: Howard, "Dynamic programming and Markov processes" (1960).

    Examples:
        >>> from engram.tasks.meta import named
        >>> mdps = model(named.dependent_bandit(), [Instance(probs=(0.8,))])
        >>> optimal(mdps, 0.9)[0, 0].round(6).tolist()
        [8.0, 7.4]
    """
    transition, reward = mdps.transition, mdps.reward
    policy = reward.argmax(2)
    while True:
        V = value_of(take(transition, policy), take(reward, policy), gamma)
        Q: QValues = reward + gamma * (transition @ V[:, None, :, None])[..., 0]
        better = Q.max(2) > take(Q, policy) + 1e-12 * (1 + np.abs(Q).max((1, 2))[:, None])
        if not better.any():
            return Q
        policy = np.where(better, Q.argmax(2), policy)


def take(per_action: Any, policy: Any) -> Any:
    """The entries of an array (instances, z, actions, ...) for the actions of a policy (instances, z)."""
    index = policy.reshape(*policy.shape, *[1] * (per_action.ndim - 2))
    return np.take_along_axis(per_action, index, 2)[:, :, 0]
