"""Diagnosis of the defects of a meta-task, by exact planning in its instances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from engram import checks
from engram.tasks.meta.instance import Instance, free_cells
from engram.tasks.meta.parts import StimVar
from engram.tasks.meta.planning import Model, Outcomes, enumerate_instances, model, optimal, outcomes, take, value_of
from engram.tasks.meta.task import MetaTask

DEGENERACIES = (
    "NO_VARIATION",
    "UNREACHABLE",
    "TRAP",
    "NO_REWARD",
    "TRIVIAL",
    "SAME_INSTANCES",
    "SINGLE_OPTIMUM",
    "SMALL_GAP",
)
COSMETIC = ("DEAD_RULE", "SHADOWED", "FLAG_UNUSED", "FLAG_CONSTANT")
MINIMUM_GAP, MAXIMUM_RANDOM = 0.02, 0.95
STARTS = 20  # of the search for the best fixed policy, if there are too many policies to try all; fewer in large spaces
_POLICIES, _ENTRIES, _RENAMINGS, _WORK = 4096, 4e6, 5040, 2e6


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The diagnosis of a meta-task; its values are discounted returns from the start, averaged over instances.

    Attributes:
        codes: The codes of its defects, with explanations.
        oracle_value: The optimal value if the instance is known.
        random_value: The value of uniformly random actions.
        best_fixed_value: The value of the best policy that depends on state and flag only, not on the instance.
        gap: 1 - best_fixed_value / oracle_value; 0 if there is no reward.
        ambiguous: Pairs of states that differ only in their variable stimuli, and need different actions.
        instances: The instances that were solved.
        per_instance: The optimal value in each of these instances.
        exact: Whether these are all instances (with uniform probabilities on a grid), and all fixed policies were
            tried; otherwise the best fixed value is a lower bound, and the gap an upper one.
    """

    codes: Mapping[str, str]
    oracle_value: float
    random_value: float
    best_fixed_value: float
    gap: float
    ambiguous: tuple[tuple[int, int], ...]
    instances: tuple[Instance, ...]
    per_instance: Float[np.ndarray, "instances"]
    exact: bool

    @property
    def degeneracies(self) -> tuple[str, ...]:
        """The codes of defects that leave nothing, or too little, to be learnt; the others are cosmetic."""
        return tuple(code for code in self.codes if code in DEGENERACIES)


def diagnose(task: MetaTask, gamma: float = 0.95, grid: Sequence[float] = (0.1, 0.5, 0.9)) -> Diagnosis:
    """The diagnosis of whether a meta-task is worth learning in.

    Each instance is solved exactly, as a Markov decision process of the state and the flag. The codes:

    - NO_VARIATION: no variable occurs in a rule, or a pair of stimuli, that can matter
    - UNREACHABLE: a state cannot be reached, not even by a paid step that then moves the agent elsewhere
    - TRAP: from a reachable state there is no way back to the start; not on a grid, nor if the episode ends
    - NO_REWARD: the optimal mean value is 0
    - TRIVIAL: random actions have 95 % of the optimal mean value
    - SAME_INSTANCES: all instances are equal, up to names of states that look the same
    - SINGLE_OPTIMUM: one fixed policy is optimal in all instances
    - SMALL_GAP: one fixed policy has 98 % of the optimal mean value
    - DEAD_RULE, SHADOWED: a rule never matches, or is always overridden
    - FLAG_UNUSED, FLAG_CONSTANT: no rule that counts reads the flag, or it is never set

    A fixed policy is a map from state and flag to actions. A task with an ambiguous pair of stimuli, whose meaning has
    to be found out in every instance, has none of SAME_INSTANCES, SINGLE_OPTIMUM and SMALL_GAP. If there are too many
    instances, some are drawn, always the same ones; if there are too many fixed policies, they are searched by changes
    of single actions. Variables with a hazard or a drift are treated as constant.

    Args:
        task: The task.
        gamma: Discount for each step, at least 0 and below 1.
        grid: Values of uniform probabilities, as fractions of the way from the lower to the upper bound.

    Raises:
        ValueError: ``gamma`` is not from 0 to below 1, or ``grid`` is empty or has a value that is not from 0 to 1.

    Source: issues named in Miconi, "Procedural generation of meta-reinforcement learning tasks" (2023); our tests.

    Examples:
        >>> from engram.tasks.meta import named
        >>> diagnosis = diagnose(named.two_step())
        >>> diagnosis.codes, round(diagnosis.gap, 2)
        ({}, 0.39)
    """
    checks.arguments()
    checks.number("gamma", gamma, minimum=0, below=1)
    checks.size("len(grid)", len(grid))
    for i, share in enumerate(grid):
        checks.number(f"grid[{i}]", share, minimum=0, maximum=1)
    entries = task.n_actions * (task.n_states * (2 if task.flag_rules else 1)) ** 2
    instances, complete = enumerate_instances(task, grid, maximum=int(np.clip(_ENTRIES / entries, 16, 729)))
    step = outcomes(task, instances)
    full = model(task, instances, step)
    reached = full.reachable()
    ever: Bool[np.ndarray, "z"] = np.asarray(reached.any(0))
    restricted = full
    if not ever.all():  # leave out what cannot be reached in any instance
        selected = np.ix_(np.arange(len(instances)), ever, np.arange(task.n_actions), ever)
        matrices = full.unpaid[selected], full.paid[selected], full.value[selected]
        restricted = Model(*matrices, full.reward[:, ever], full.start[:, ever])
    Q = optimal(restricted, gamma)
    best = (restricted.start * Q.max(2)).sum(1)
    oracle = float(best.mean())
    # A policy that draws every action with equal probability.
    policy = np.full(Q.shape[1:], 1 / task.n_actions)
    V = value_of(np.einsum("za,izay->izy", policy, restricted.transition), (restricted.reward * policy).sum(2), gamma)
    random = float((restricted.start * V).sum(1).mean())
    optimal_actions = Q.max(2, keepdims=True) - 1e-6 * np.abs(Q).max((1, 2), keepdims=True) <= Q
    pairs = _ambiguous(task, full, reached, ever, optimal_actions)
    fixed, all_tried = _best_fixed(restricted, Q, gamma)
    fixed, scale = min(fixed, oracle), abs(oracle)  # the fixed value is smaller, up to rounding
    rewarded = scale > 1e-9
    gap = (oracle - fixed) / scale if rewarded else 0.0
    codes = dict([*_about_variation(task, step, reached, pairs), *_about_states(task, full, step, reached, instances)])
    if not rewarded:
        codes["NO_REWARD"] = "the optimal mean value is 0"
    elif oracle - random <= (1 - MAXIMUM_RANDOM) * scale + 1e-9 * scale:
        codes["TRIVIAL"] = f"random actions have {random:.4g} of {oracle:.4g}"
    if not pairs:
        if _same(task, restricted, ever):
            codes["SAME_INSTANCES"] = f"all of {len(instances)} instances are the same up to names of states"
        if optimal_actions.all(0).any(1).all():
            codes["SINGLE_OPTIMUM"] = "one policy is optimal in all instances"
        if gap < MINIMUM_GAP:
            codes["SMALL_GAP"] = f"one policy has all but {gap:.2%} of the optimal mean value"
    codes |= dict(_about_rules(task, step, reached))
    codes = {code: codes[code] for code in (*DEGENERACIES, *COSMETIC) if code in codes}
    return Diagnosis(codes, oracle, random, fixed, gap, pairs, instances, best, complete and all_tried)


def _best_fixed(mdps: Model, Q: Float[np.ndarray, "instances z actions"], gamma: float) -> tuple[float, bool]:
    """The maximum mean value of a deterministic policy, and whether all of them were tried."""
    Z, A = Q.shape[1:]
    if A**Z > _POLICIES:
        return _search(mdps, Q, gamma), False
    transition, each, best = mdps.transition, np.arange(Z), -np.inf
    all_policies = np.array(list(itertools.product(range(A), repeat=Z)))
    for policies in np.array_split(all_policies, max(1, len(all_policies) * len(Q) * Z * Z // 2_000_000)):
        P, r = transition[:, each, policies], mdps.reward[:, each, policies]  # (instances, policies, z, ...)
        V = value_of(P, r, gamma)
        best = max(best, float((V * mdps.start[:, None]).sum(2).mean(0).max()))
    return best, True


def _search(mdps: Model, Q: Float[np.ndarray, "instances z actions"], gamma: float) -> float:
    """The best mean value among several policies that no change of a single action improves.

    With M = (1 - gamma P)^-1 under the policy, taking a in z changes the value from the start by

        occupancy(z) (Q(z, a) - V(z)) / (1 - gamma (P(. | z, a) - P(. | z)) M[:, z])

    in each instance. All improving changes are made at once, or only the best one if together they do not improve.
    """
    rng = np.random.default_rng(0)
    Z, A = Q.shape[1:]
    count = int(np.clip(_WORK / mdps.unpaid.size, 2, STARTS))
    starts = [Q.mean(0).argmax(1), *(rng.integers(A, size=Z) for _ in range(count))]
    transition = mdps.transition

    def evaluate(policy: Int[np.ndarray, "z"]) -> tuple[float, Any]:
        actions = np.broadcast_to(policy, Q.shape[:2])
        P, r = take(transition, actions), take(mdps.reward, actions)
        inverse = np.linalg.inv(np.eye(Z) - gamma * P)
        V = (inverse @ r[..., None])[..., 0]
        advantage = mdps.reward + gamma * (transition @ V[:, None, :, None])[..., 0] - V[..., None]
        occupancy = (mdps.start[:, None] @ inverse)[:, 0]
        revisits = (transition @ inverse.swapaxes(1, 2)[..., None])[..., 0]  # (instances, z, actions)
        gain = occupancy[..., None] * advantage / (1 - gamma * (revisits - take(revisits, actions)[..., None]))
        return float((mdps.start * V).sum(1).mean()), gain.mean(0)

    best = -np.inf
    for first in starts:
        policy = first
        value, gain = evaluate(policy)
        while gain.max() > 1e-9 * (1 + abs(value)):
            new_policy = np.where(gain.max(1) > 0, gain.argmax(1), policy)
            new_value, new_gain = evaluate(new_policy)
            if new_value <= value:
                z, a = np.unravel_index(gain.argmax(), gain.shape)
                new_policy = policy.copy()
                new_policy[z] = a
                new_value, new_gain = evaluate(new_policy)
                if new_value <= value:  # by rounding
                    break
            policy, value, gain = new_policy, new_value, new_gain
        best = max(best, value)
    return best


def _ambiguous(
    task: MetaTask,
    full: Model,
    reached: Bool[np.ndarray, "instances z"],
    ever: Bool[np.ndarray, "z"],
    optimal_actions: Bool[np.ndarray, "instances reached actions"],
) -> tuple[tuple[int, int], ...]:
    """The pairs of states that differ only in their variable stimuli, if that matters."""
    variable = [s for s in range(len(task.stimuli)) if any(isinstance(part, StimVar) for part in task.parts_of(s))]
    alike = [pair for pair in itertools.combinations(variable, 2) if _look_alike(task, *pair)]
    if not alike:
        return ()
    n_states = task.n_states
    follows = (full.transition > 0) & reached[:, :, None, None]
    follows = follows.reshape(*follows.shape[:3], -1, n_states).any(3)  # which states may follow
    together = [pair for pair in alike if follows[..., pair].all(-1).any()]
    best = np.zeros(full.reward.shape, dtype=bool)
    best[:, ever] = optimal_actions

    def matters(n: int, x: int, y: int) -> bool:
        return bool(reached[n, x] and reached[n, y]) and _mistakes(task, _parts(full, n), best[n], (x, y))

    cases = list(itertools.product(range(len(reached)), range(0, full.start.shape[1], n_states)))
    return tuple((i, j) for i, j in together if any(matters(n, flag + i, flag + j) for n, flag in cases))


def _mistakes(
    task: MetaTask, instance: tuple[Any, ...], best: Bool[np.ndarray, "z actions"], mistaken: tuple[int, int]
) -> bool:
    """Whether an agent that confuses two z cannot act optimally in both.

    Either no action is optimal in both, or each such action may lead, with the same reward, to two z that look the same
    and for which the same is true: they differ in the flag, since a cue had another meaning.
    """
    n_states = task.n_states
    leads: dict[tuple[int, int], list[set[tuple[int, int]]]] = {}
    pending = [mistaken]
    all_unpaid, all_paid, _, value_of_step = instance
    while pending:
        pair = x, y = pending.pop()
        if pair in leads:
            continue
        leads[pair] = []
        for a in np.flatnonzero(best[x] & best[y]):
            successors = set(itertools.product(*(np.flatnonzero(all_unpaid[z, a]).tolist() for z in pair)))
            next_pairs = itertools.product(*(np.flatnonzero(all_paid[z, a]).tolist() for z in pair))
            successors |= {
                (next_x, next_y)
                for next_x, next_y in next_pairs
                if value_of_step[x, a, next_x] == value_of_step[y, a, next_y]
            }
            confusable = {
                (next_x, next_y)
                for next_x, next_y in successors
                if next_x != next_y
                and (next_x % n_states == next_y % n_states or _look_alike(task, next_x % n_states, next_y % n_states))
            }
            leads[pair].append(confusable)
            pending += confusable
    wrong = {pair for pair, ways in leads.items() if not ways}
    while more := {pair for pair, ways in leads.items() if pair not in wrong and all(way & wrong for way in ways)}:
        wrong |= more
    return mistaken in wrong


def _look_alike(task: MetaTask, i: int, j: int) -> bool:
    """Whether two states show different stimuli that are equal up to a renaming of the variable ones."""
    parts_i, parts_j = task.parts_of(i), task.parts_of(j)
    if parts_i == parts_j:
        return False
    pairs = set(zip(parts_i, parts_j, strict=True))
    variable = {pair for pair in pairs if all(isinstance(stimulus, StimVar) for stimulus in pair)}
    is_one_to_one = all(len(set(side)) == len(variable) for side in zip(*variable, strict=True))
    return is_one_to_one and all(a == b for a, b in pairs - variable)


def _about_variation(
    task: MetaTask, step: Outcomes, reached: Bool[np.ndarray, "instances z"], pairs: Sequence[Any]
) -> Iterator[tuple[str, str]]:
    counting, counting_flags = (_counts(step, rules, reached) for rules in (step.rule, step.flag_rule))
    rules = [task.reward_rules[i] for i in counting]
    reads = any(rule.flag != -1 for rule in rules)
    flag_rules = [task.flag_rules[i] for i in counting_flags] if reads else []
    columns = task.columns_of([*rules, *flag_rules])
    varies = any(group.varies and columns & {*group.columns} for group in task.groups)
    if not varies and not pairs and not task.is_maze:
        yield "NO_VARIATION", "no variable occurs in a rule, or a pair of stimuli, that can matter"


def _about_states(
    task: MetaTask,
    full: Model,
    step: Outcomes,
    reached: Bool[np.ndarray, "instances z"],
    instances: Sequence[Instance],
) -> Iterator[tuple[str, str]]:
    n_states = task.n_states
    states: Bool[np.ndarray, "states"] = np.asarray(reached.reshape(-1, n_states).any(0))
    missing: Bool[np.ndarray, "states"] = np.asarray(np.any(free_cells(task, instances), 0) & ~states)
    # A paid step may put the agent elsewhere, or end the episode: then a cell is reached, but no step starts there.
    missing[np.broadcast_to(step.reached[:, None], step.p.shape)[_possible(step, reached)]] = False
    if missing.any():
        yield "UNREACHABLE", f"states {np.flatnonzero(missing).tolist()}"
    if task.topology is None:  # on a grid every move can be undone
        may_follow: Any = np.any(full.transition, (0, 2))  # from z to z
        edges = (
            may_follow.reshape(-1, n_states, may_follow.shape[0] // n_states, n_states).any((0, 2)) & states[:, None]
        )
        # The end of the episode is a way out too.
        ends: Any = (full.transition.sum(3) < 1 - 1e-9).any((0, 2))
        leads = ends.reshape(-1, n_states).any(0)
        leads[0] = True
        while (more := (edges & leads).any(1) & ~leads).any():
            leads |= more
        if (trapped := np.flatnonzero(states & ~leads)).size:
            yield "TRAP", f"from states {trapped.tolist()} there is no way back to 0"


def _same(task: MetaTask, mdps: Model, ever: Bool[np.ndarray, "z"]) -> bool:
    """Whether all instances are equal up to a permutation of states other than 0 that look the same."""
    # Rewards that cannot be paid do not matter.
    mdps = mdps._replace(value=np.where(mdps.paid > 0, mdps.value, 0.0))
    first, other_parts = _parts(mdps, 0), [_parts(mdps, i) for i in range(1, len(mdps.start))]
    other_parts = [arrays for arrays in other_parts if not _equal(first, arrays)]
    if not other_parts:
        return True
    if task.topology is not None:  # the effects of moves identify a cell
        return False
    n_states = task.n_states
    labels: dict[Any, list[int]] = {}
    for s in range(n_states):
        labels.setdefault(0 if s == 0 else (task.parts_of(s), ever[s::n_states].tobytes()), []).append(s)
    if math.prod(math.factorial(len(states)) for states in labels.values()) > _RENAMINGS:
        return False
    rank, z, renamings = np.cumsum(ever) - 1, np.flatnonzero(ever), []
    for choice in itertools.product(*(itertools.permutations(states) for states in labels.values())):
        state = np.arange(n_states)
        for old, new in zip(labels.values(), choice, strict=True):
            state[old] = new
        renamings.append(rank[z // n_states * n_states + state[z % n_states]])
    return all(
        any(_equal(first, tuple(_renamed(array, names) for array in arrays)) for names in renamings)
        for arrays in other_parts
    )


def _parts(mdps: Model, i: int) -> tuple[Any, ...]:
    return mdps.unpaid[i], mdps.paid[i], mdps.reward[i], mdps.value[i]


def _renamed(array: Any, names: Int[np.ndarray, "z"]) -> Any:
    return array[names] if array.ndim == 2 else array[np.ix_(names, np.arange(array.shape[1]), names)]


def _equal(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return all(np.allclose(a, b, rtol=0, atol=1e-9) for a, b in zip(first, second, strict=True))


def _possible(step: Outcomes, reached: Bool[np.ndarray, "instances z"]) -> Bool[np.ndarray, "..."]:
    """Whether each outcome ever occurs."""
    return reached.reshape(*step.p.shape[:3], 1, 1) & (step.chance > 0)[:, None]


def _counts(step: Outcomes, rule: Any, reached: Bool[np.ndarray, "instances z"]) -> list[int]:
    """The indices of the rules that ever count."""
    return [int(i) for i in np.unique(rule[_possible(step, reached)]) if i >= 0]


def _about_rules(task: MetaTask, step: Outcomes, reached: Bool[np.ndarray, "instances z"]) -> Iterator[tuple[str, str]]:
    dead: list[str] = []
    shadowed: list[str] = []
    kinds = ("reward_rules", step.rule, step.matches), ("flag_rules", step.flag_rule, step.flag_matches)
    for name, rule, matched in kinds:
        for i in set(range(len(matched))) - set(_counts(step, rule, reached)):
            (shadowed if (matched[i] & _possible(step, reached)).any() else dead).append(f"{name}[{i}]")
    if dead:
        yield "DEAD_RULE", f"{', '.join(sorted(dead))} never match"
    if shadowed:
        yield "SHADOWED", f"{', '.join(sorted(shadowed))} never count"
    if not task.flag_rules and all(rule.flag == -1 for rule in task.reward_rules):
        return
    if all(task.reward_rules[i].flag == -1 for i in _counts(step, step.rule, reached)):
        yield "FLAG_UNUSED", "no rule that counts reads the flag"
    if not reached[:, task.n_states :].any():
        yield "FLAG_CONSTANT", "the flag is never set"
