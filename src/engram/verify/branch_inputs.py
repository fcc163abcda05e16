"""Branch and bound by halving the box of inputs: for few inputs, up to about ten."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engram.verify.bounds import FREE, Relaxation, relax
from engram.verify.certificate import (
    Case,
    Rows,
    bound_clauses,
    by_layer,
    chunk,
    outside,
    proved_clauses,
    stable_phases,
)
from engram.verify.counterexample import first_counterexample
from engram.verify.dual import dual_bound
from engram.verify.exact import linear_bound
from engram.verify.network import AffineReLU, Array, Mask
from engram.verify.specification import Clause, Domain

CASE, MULTIPLIER = 200, 32  # bytes of one case, and of each of its multipliers
# Most halvings are decided soon; combinations of rows are tried where that was not so.
EASY = 10_000  # boxes after which rows are combined
MOST_UNSTABLE = 40  # units of a box in which they are
MARGIN = 1e-10  # of a bound, which a checker may compute in another order
STEPS, SLOPE_RATE, WEIGHT_RATE = 20, 0.1, 0.3


class Outcome(NamedTuple):
    """The outcome of a search: a proof, a counterexample, or neither and the exhausted limit."""

    cases: tuple[Case, ...]
    counterexample: Array | None
    exhausted: str
    bound: float  # lower bound of all that has to be positive, as far as the search got
    nodes: int


class Progress(NamedTuple):
    """How far a search has got."""

    nodes: int  # boxes or cases that were bounded
    waiting: int  # those that wait
    share: float  # of the inputs, which is proved
    bound: float  # lowest bound of those that wait


def spent(deadline: float, nodes: bool, memory: bool) -> str:
    """The resource that a search has used up: "time", "nodes", "memory", or "".

    Args:
        deadline: Time of ``time.monotonic`` at which the search ends.
        nodes: Whether all nodes are used up.
        memory: Whether the memory is used up.
    """
    return "time" if time.monotonic() >= deadline else "nodes" if nodes else "memory" if memory else ""


def branch_inputs(
    net: AffineReLU,
    clauses: Sequence[Clause],
    domain: Domain,
    *,
    deadline: float,
    nodes: int,
    megabytes: float,
    progress: Callable[[Progress], object] | None = None,
) -> Outcome:
    """Halve boxes until each is proved, or contains a counterexample.

    Boxes are bounded in batches by CROWN, those with the lowest bounds first. A box is halved along the input with the
    largest |A_j| (high_j - low_j), where |A| is the sum over the lines below all rows of the clause that is furthest
    from being proved, plus a hundredth of its largest entry.

    Args:
        net: The network.
        clauses: Clauses to prove.
        domain: The set of inputs.
        deadline: Time of ``time.monotonic`` at which the search ends.
        nodes: Maximum number of boxes.
        megabytes: Memory for the batch and the waiting boxes, and as much again for the cases.
        progress: Called after each batch; None: nothing is.

    Source: Wang et al., "Formal security analysis of neural networks using symbolic intervals" (2018).
    """
    size, units = net.sizes[0], sum(net.sizes[1:-1])
    batch, most_open = chunk(net, megabytes / 2), int(megabytes / 2 * 1e6 / (16 * size + units + 200))
    cases = [Case()]
    # Of the waiting boxes: their cases, bounds, and shares of the whole.
    number, score, share = np.zeros(1, dtype=np.intp), np.full(1, -np.inf), np.ones(1)
    low, high, waiting_phases = domain.low[None], domain.high[None], np.full((1, units), FREE, dtype=np.int8)
    n_done, proved, stored = 0, np.inf, 0

    def ended(exhausted: str, counterexample: Array | None = None) -> Outcome:
        return Outcome(tuple(cases), counterexample, exhausted, min(proved, float(score.min(initial=np.inf))), n_done)

    while len(number):
        if limit := spent(
            deadline, n_done >= nodes, len(number) > most_open or len(cases) * CASE + stored > megabytes * 1e6
        ):
            return ended(limit)
        batch_nodes = np.argpartition(score, batch)[:batch] if len(number) > batch else np.arange(len(number))
        batch_numbers, box_low, box_high = number[batch_nodes], low[batch_nodes], high[batch_nodes]
        relaxation = relax(net, box_low, box_high, by_layer(net, waiting_phases[batch_nodes]))
        clause_rows = bound_clauses(net, relaxation, clauses)
        n_done += len(batch_nodes)
        is_empty = relaxation.empty | outside(domain, box_low, box_high)
        closed = proved_clauses(clauses, clause_rows) | is_empty[:, None]
        if len(domain.v):
            closed_cases, hit = _cut(net, clauses, domain, relaxation, clause_rows=clause_rows, closed=closed)
            if hit is not None:
                return ended("", hit)
            for i, case in closed_cases.items():
                cases[batch_numbers[i]] = case
        elif n_done > EASY:
            closed_cases = _combine(net, clauses, domain, relaxation, clause_rows=clause_rows, closed=closed)
            for i, case in closed_cases.items():
                cases[batch_numbers[i]] = case
                stored += MULTIPLIER * sum(map(len, case.multipliers))
        # The next split depends on the clause furthest from being proved, and on its row nearest to being proved.
        best_bounds = np.stack([rows.least.max(1) for rows in clause_rows], axis=1)
        best_bounds[is_empty] = np.inf
        score[batch_nodes] = np.where(closed, np.inf, best_bounds).min(1)
        open_clauses = np.where(closed, np.inf, best_bounds).argmin(1)
        line = np.stack([clause_rows[j].A[i, clause_rows[j].least[i].argmax()] for i, j in enumerate(open_clauses)])
        slope = np.stack([np.abs(clause_rows[j].A[i]).sum(0) for i, j in enumerate(open_clauses)])
        is_open = ~closed.all(1)
        proved = min(proved, float(best_bounds[~is_open].min(initial=np.inf)))
        points = np.vstack([np.where(line > 0, box_low, box_high)[is_open], (box_low / 2 + box_high / 2)[is_open]])
        if (hit := first_counterexample(net, clauses, domain, points)) is not None:
            return ended("", hit)
        open_low, open_high, index = box_low[is_open], box_high[is_open], np.arange(is_open.sum())
        # Slopes can cancel, and the search might not end if some input were never halved.
        tilt = slope[is_open] + slope[is_open].max(1, keepdims=True) / 100 + 1e-300
        axes = np.where(open_high > open_low, tilt * (open_high - open_low), -1).argmax(1)
        middle = open_low[index, axes] / 2 + open_high[index, axes] / 2
        if ((middle <= open_low[index, axes]) | (middle >= open_high[index, axes])).any():
            return ended("precision: a box cannot be halved any further")
        child = len(cases) + 2 * index
        for node, j, split, next_node in zip(batch_numbers[is_open], axes, middle, child, strict=True):
            cases[node] = Case(int(j), float(split), int(next_node))
        cases += [Case()] * (2 * len(index))
        upper_low, lower_high = open_low.copy(), open_high.copy()
        upper_low[index, axes] = lower_high[index, axes] = middle
        is_kept = np.ones(len(number), dtype=bool)
        is_kept[batch_nodes] = False
        phases, scores = stable_phases(relaxation, waiting_phases[batch_nodes])[is_open], score[batch_nodes][is_open]
        number = np.concatenate([number[is_kept], child, child + 1])
        low, high = (
            np.concatenate([low[is_kept], open_low, upper_low]),
            np.concatenate([high[is_kept], lower_high, open_high]),
        )
        waiting_phases = np.concatenate([waiting_phases[is_kept], phases, phases])
        halves = share[batch_nodes][is_open] / 2
        share = np.concatenate([share[is_kept], halves, halves])
        score = np.concatenate([score[is_kept], scores, scores])
        if progress is not None:
            open_share = min(float(share.sum()), 1.0)
            progress(Progress(n_done, len(number), 1 - open_share, float(score.min(initial=np.inf))))
    return ended("")


def _cut(
    net: AffineReLU,
    clauses: Sequence[Clause],
    domain: Domain,
    relaxation: Relaxation,
    *,
    clause_rows: list[Rows],
    closed: Mask,
) -> tuple[dict[int, Case], Array | None]:
    """The cases that linear programs with the half-spaces prove, or a counterexample."""
    cases: dict[int, Case] = {}
    for i in np.flatnonzero(~closed.all(1)).tolist():
        within = domain._replace(low=relaxation.low[i], high=relaxation.high[i])
        multipliers: list[tuple[float, ...]] = [()] * len(clauses)
        for j in np.flatnonzero(~closed[i]).tolist():
            bound, program = linear_bound(net, relaxation.only(i), clauses[j], within)
            if program.x is not None:
                x = program.x.clip(within.low, within.high)[None]
                if (hit := first_counterexample(net, clauses, domain, x)) is not None:
                    return cases, hit
            clause_rows[j].least[i] = np.maximum(clause_rows[j].least[i], bound)  # a bound of the largest row
            if bound <= 0 or program.multipliers is None:
                break
            closed[i, j], multipliers[j] = True, tuple(program.multipliers.tolist())
        if closed[i].all():
            cases[i] = Case(multipliers=tuple(multipliers))
    return cases, None


def _combine(
    net: AffineReLU,
    clauses: Sequence[Clause],
    domain: Domain,
    relaxation: Relaxation,
    *,
    clause_rows: list[Rows],
    closed: Mask,
) -> dict[int, Case]:
    """The cases that combinations of rows prove, of boxes with few unstable units."""
    unstable = sum((lower < 0) & (upper > 0) for lower, upper in zip(relaxation.lower, relaxation.upper, strict=True))
    tried = np.flatnonzero(~closed.all(1) & (np.sum(unstable, axis=-1) <= MOST_UNSTABLE))
    multipliers: dict[int, list[tuple[float, ...]]] = {int(i): [()] * len(clauses) for i in tried}
    for j, clause in enumerate(clauses):
        boxes = tried[~closed[tried, j]]
        if not len(boxes):
            continue
        found, bounds = raised_multipliers(net, relaxation.only(boxes), clause)
        for i, row in zip(boxes[bounds > 0].tolist(), found[bounds > 0], strict=True):
            within = domain._replace(low=relaxation.low[i], high=relaxation.high[i])
            bound = dual_bound(net, relaxation.only(i), clause, within, row)
            if bound > MARGIN:
                closed[i, j], multipliers[i][j] = True, tuple(row.tolist())
                clause_rows[j].least[i] = np.maximum(clause_rows[j].least[i], bound)
    return {i: Case(multipliers=tuple(multipliers[i])) for i in multipliers if closed[i].all()}


def raised_multipliers(net: AffineReLU, relaxation: Relaxation, clause: Clause) -> tuple[Array, Array]:
    """Multipliers for ``dual_bound`` of each box, and the bounds that they give, up to rounding.

    A clause holds in a box if a combination of its rows, with weights w >= 0, is positive there, even where no row is
    positive everywhere. Adam raises the minimum over the box of the line below

        w . (Q y + c),   w = softmax(logits)

    by its choice of w and of the slopes in [0, 1] of the lines below all ReLUs; bounds of hidden units stay.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over all boxes.
        clause: Q and c.

    Source: Xu et al., "Fast and complete" (2021), for the slopes.
    """
    boxes, hidden = len(relaxation.low), len(net.weights) - 1
    weights, biases = ([torch.tensor(array) for array in arrays] for arrays in (net.weights, net.biases))
    Q, offset = torch.from_numpy(np.array(clause.Q)), torch.from_numpy(np.array(clause.c))
    low, high = torch.from_numpy(relaxation.low), torch.from_numpy(relaxation.high)
    middle, radius = (low + high) / 2, (high - low) / 2
    upper_slope, intercept = (
        [torch.from_numpy(a) for a in part] for part in (relaxation.upper_slope, relaxation.intercept)
    )
    alpha = [torch.tensor(slope, requires_grad=True) for slope in relaxation.lower_slope]
    logits = torch.zeros(boxes, len(offset), dtype=torch.float64, requires_grad=True)
    groups = [{"params": alpha, "lr": SLOPE_RATE}, {"params": [logits], "lr": WEIGHT_RATE}]
    optimizer = torch.optim.Adam(groups, maximize=True)

    def backward() -> tuple[Tensor, list[Tensor]]:
        w = torch.softmax(logits, 1)
        A, c, lambdas = w @ Q, w @ offset, [w]
        for k in range(hidden, -1, -1):
            c, A = c + A @ biases[k], A @ weights[k]
            if k:
                c = c + (A.clamp(max=0) * intercept[k - 1]).sum(1)
                A = A.clamp(min=0) * alpha[k - 1] + A.clamp(max=0) * upper_slope[k - 1]
                lambdas.insert(1, A)
        return (A * middle).sum(1) - (A.abs() * radius).sum(1) + c, lambdas

    best = torch.full((boxes,), -torch.inf, dtype=torch.float64)
    multipliers = torch.zeros(boxes, len(offset) + sum(net.sizes[1:-1]), dtype=torch.float64)
    for _ in range(STEPS):
        value, lambdas = backward()
        better = (value > best).detach()
        best[better] = value.detach()[better]
        multipliers[better] = torch.cat([a.detach()[better] for a in lambdas], 1)
        if (best > 0).all():
            break
        optimizer.zero_grad()
        value.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for slope in alpha:
                slope.clamp_(0, 1)
    return multipliers.numpy(), best.numpy()
