"""Branch and bound by halving the box of inputs: for few inputs, up to about ten."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from engram.analysis.verify.bounds import FREE, Relaxation, relax
from engram.analysis.verify.certificate import (
    Case,
    Rows,
    bound_clauses,
    by_layer,
    chunk,
    cut_bound,
    outside,
    stable_phases,
)
from engram.analysis.verify.counterexample import first_counterexample
from engram.analysis.verify.exact import PRICE
from engram.analysis.verify.network import AffineReLU, Array, Index, Mask
from engram.analysis.verify.specification import Clause, Domain

CASE = 200  # bytes of one


class Outcome(NamedTuple):
    """What a search came to: a proof, a counterexample, or neither and what was exhausted."""

    cases: tuple[Case, ...]
    counterexample: Array | None
    exhausted: str
    bound: float  # lower bound of all that the clauses need to be positive, as far as the search got
    nodes: int


def spent(deadline: float, nodes: bool, memory: bool) -> str:
    """Return what a search has used up: time, nodes or memory, or nothing."""
    return "time" if time.monotonic() >= deadline else "nodes" if nodes else "memory" if memory else ""


def branch_inputs(
    net: AffineReLU, wanted: Sequence[Clause], place: Domain, *, deadline: float, nodes: int, megabytes: float
) -> Outcome:
    """Halve boxes until each is proved, or holds a counterexample.

    Boxes are bounded in batches by CROWN, those with the lowest bounds first. A box is halved along the input with the
    largest |A_j| (high_j - low_j), |A| being summed over the lines under all rows of the clause that is furthest from
    being proved, plus a hundredth of the largest. ``deadline`` is a time of ``time.monotonic``; ``megabytes`` is for
    the batch and the boxes that wait, and as much again for the cases.

    Source: Wang et al., "Formal security analysis of neural networks using symbolic intervals" (2018).
    """
    chosen, size, units = list(wanted), net.sizes[0], sum(net.sizes[1:-1])
    batch, most_open = chunk(net, megabytes / 2), int(megabytes / 2 * 1e6 / (16 * size + units + 200))
    cases = [Case()]
    number, score = np.zeros(1, dtype=np.intp), np.full(1, -np.inf)  # of the boxes that wait
    low, high, known = place.low[None], place.high[None], np.full((1, units), FREE, dtype=np.int8)
    done, proved = 0, np.inf

    def ended(exhausted: str, counterexample: Array | None = None) -> Outcome:
        return Outcome(tuple(cases), counterexample, exhausted, min(proved, float(score.min(initial=np.inf))), done)

    while len(number):
        if over := spent(deadline, done >= nodes, len(number) > most_open or len(cases) * CASE > megabytes * 1e6):
            return ended(over)
        take = np.argpartition(score, batch)[:batch] if len(number) > batch else np.arange(len(number))
        here, box_low, box_high = number[take], low[take], high[take]
        relaxation = relax(net, box_low, box_high, by_layer(net, known[take]))
        found = bound_clauses(net, relaxation, chosen)
        done += len(take)
        closed = np.stack([clause.holds(rows.least) for clause, rows in zip(chosen, found, strict=True)], axis=1)
        nothing = relaxation.empty | outside(place, box_low, box_high)
        closed |= nothing[:, None]
        if len(place.v):
            hit = _cut(net, chosen, place, relaxation, here=here, found=found, closed=closed, cases=cases)
            if hit is not None:
                return ended("", hit)
        # The clause that is furthest from being proved, and of it the row that is nearest, decide how to go on.
        best = np.stack([rows.least.max(1) for rows in found], axis=1)
        best[nothing] = np.inf
        score[take] = np.where(closed, np.inf, best).min(1)
        worst = np.where(closed, np.inf, best).argmin(1)
        line = np.stack([found[j].A[i, found[j].least[i].argmax()] for i, j in enumerate(worst)])
        slope = np.stack([np.abs(found[j].A[i]).sum(0) for i, j in enumerate(worst)])
        going = ~closed.all(1)
        proved = min(proved, float(best[~going].min(initial=np.inf)))
        points = np.vstack([np.where(line > 0, box_low, box_high)[going], (box_low / 2 + box_high / 2)[going]])
        if (hit := first_counterexample(net, chosen, place, points)) is not None:
            return ended("", hit)
        lo, hi, at = box_low[going], box_high[going], np.arange(going.sum())
        # Slopes of units can cancel; an input that is never halved would keep the others from ending.
        tilt = slope[going] + slope[going].max(1, keepdims=True) / 100 + 1e-300
        along = np.where(hi > lo, tilt * (hi - lo), -1).argmax(1)
        middle = lo[at, along] / 2 + hi[at, along] / 2
        if ((middle <= lo[at, along]) | (middle >= hi[at, along])).any():
            return ended("precision: a box cannot be halved any further")
        child = len(cases) + 2 * at
        for node, j, split, next_node in zip(here[going], along, middle, child, strict=True):
            cases[node] = Case(int(j), float(split), int(next_node))
        cases += [Case()] * (2 * len(at))
        upper_low, lower_high = lo.copy(), hi.copy()
        upper_low[at, along] = lower_high[at, along] = middle
        keep = np.ones(len(number), dtype=bool)
        keep[take] = False
        phases, scores = stable_phases(relaxation, known[take])[going], score[take][going]
        number = np.concatenate([number[keep], child, child + 1])
        low, high = np.concatenate([low[keep], lo, upper_low]), np.concatenate([high[keep], lower_high, hi])
        known = np.concatenate([known[keep], phases, phases])
        score = np.concatenate([score[keep], scores, scores])
    return ended("")


def _cut(
    net: AffineReLU,
    chosen: list[Clause],
    place: Domain,
    relaxation: Relaxation,
    *,
    here: Index,
    found: list[Rows],
    closed: Mask,
    cases: list[Case],
) -> Array | None:
    """Close what the half-spaces close, with multipliers noted, or return a counterexample."""
    for i in np.flatnonzero(~closed.all(1)):
        within = place._replace(low=relaxation.low[i], high=relaxation.high[i])
        noted: list[tuple[float, ...]] = [()] * len(chosen)
        for j in np.flatnonzero(~closed[i]):
            numbers, x = _least_under_cuts(found[j].A[i], found[j].c[i], within)
            if x is not None and (hit := first_counterexample(net, chosen, place, x[None])) is not None:
                return hit
            bound = cut_bound(found[j].A[i], found[j].c[i], within, numbers)
            found[j].least[i] = np.maximum(found[j].least[i], bound)  # of the largest row
            if bound <= 0:
                break
            closed[i, j], noted[j] = True, tuple(numbers.tolist())
        if closed[i].all():
            cases[here[i]] = Case(multipliers=tuple(noted))
    return None


def _least_under_cuts(A: Array, c: Array, place: Domain) -> tuple[Array, Array | None]:
    """Minimise the largest of A x + c, at a price for overstepping half-spaces; return multipliers and the point."""
    rows, size = A.shape
    cuts = len(place.v)
    matrix = np.block(
        [[A, -np.ones((rows, 1)), np.zeros((rows, 1))], [place.H, np.zeros((cuts, 1)), -np.ones((cuts, 1))]]
    )
    bounds = [*zip(place.low, place.high, strict=True), (None, None), (0, None)]
    cost = np.array([0.0] * size + [1.0, PRICE])
    found: Any = linprog(cost, A_ub=matrix, b_ub=np.concatenate([-c, place.v]), bounds=bounds, method="highs")
    if found.status != 0:
        return np.zeros(rows + cuts), None
    return np.maximum(-found.ineqlin.marginals, 0), found.x[:size].clip(place.low, place.high)
