"""Branch and bound over the phases of hidden units: for many inputs, and for margins that are 0 on a face."""

from __future__ import annotations

import numpy as np

from engram.verify.bounds import FREE, Phases, relax
from engram.verify.branch_inputs import CASE, Outcome, spent
from engram.verify.certificate import Case, bound_clauses, by_layer, outside, stable_phases
from engram.verify.counterexample import first_counterexample
from engram.verify.exact import linear_bound
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Clause, Domain


def branch_relus(
    net: AffineReLU, clause: Clause, domain: Domain, *, deadline: float, nodes: int, megabytes: float
) -> Outcome:
    """Split units into off and on until each case is proved, or contains a counterexample.

    A case is bounded by CROWN, then by the linear program with a triangle for each unit whose phase is open; the
    program's multipliers are stored, since they prove the bound by themselves (``dual_bound``). The unit whose
    activation is furthest from its ReLU in the solution is split next. With all phases fixed, the program is exact.

    Args:
        net: The network.
        clause: Clause to prove.
        domain: The set of inputs.
        deadline: Time of ``time.monotonic`` at which the search ends.
        nodes: Maximum number of cases.
        megabytes: Memory for all cases.

    Source: Bunel et al., "Branch and bound for piecewise linear neural network verification" (2020).
    """
    units = sum(net.sizes[1:-1])
    cases = [Case()]
    waiting: list[tuple[int, Phases, float]] = [(0, np.full(units, FREE, dtype=np.int8), -np.inf)]
    n_done, proved = 0, np.inf

    def ended(exhausted: str, counterexample: Array | None = None) -> Outcome:
        lowest = min([proved, *(score for *_, score in waiting)])
        return Outcome(tuple(cases), counterexample, exhausted, lowest, n_done)

    while waiting:
        memory = len(waiting) * (units + 300) + len(cases) * CASE > megabytes * 1e6
        if limit := spent(deadline, n_done >= nodes, memory):
            return ended(limit)
        number, phases, score = waiting.pop()
        n_done += 1
        relaxation = relax(net, domain.low[None], domain.high[None], by_layer(net, phases[None]))
        if relaxation.empty[0] or (n_done == 1 and outside(domain, domain.low[None], domain.high[None])[0]):
            continue
        (rows,) = bound_clauses(net, relaxation, [clause])
        best = float(rows.least.max())
        if clause.holds(rows.least)[0]:
            proved = min(proved, best)
            continue
        bound, solution = linear_bound(net, relaxation, clause, domain)
        if solution.x is not None and solution.multipliers is not None:
            points = solution.x.clip(domain.low, domain.high)[None]
            if (hit := first_counterexample(net, [clause], domain, points)) is not None:
                waiting.append((number, phases, best))
                return ended("", hit)
            if bound > 0:
                cases[number] = Case(multipliers=(tuple(solution.multipliers.tolist()),))
                proved = min(proved, bound)
                continue
            best = max(best, bound)
        unstable = stable_phases(relaxation, phases[None])[0] == FREE
        if not unstable.any():
            waiting.append((number, phases, max(best, score)))
            return ended("precision: the margin of a case is too thin for the solver")
        gaps = np.concatenate(solution.gaps) if solution.gaps else np.zeros(units)
        unit = int(np.where(unstable, gaps, -1).argmax())
        cases[number] = Case(net.sizes[0] + unit, 0.0, len(cases))
        for side in (0, 1):
            child_phases = phases.copy()
            child_phases[unit] = side
            waiting.append((len(cases) + side, child_phases, best))
        cases += [Case(), Case()]
    return ended("")
