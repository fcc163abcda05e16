"""Extremes of a ReLU network by linear and by mixed-integer programming, solved by HiGHS."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from engram import checks
from engram.verify.bounds import ON, Phases, Relaxation, batched, lower_lines, minimum, relax
from engram.verify.dual import dual_bound
from engram.verify.network import AffineReLU, Array, Index
from engram.verify.specification import Box, Clause, Domain, SolverError, as_domain

FEASIBILITY = 1e-6  # tolerance of HiGHS for constraints and integrality
PRICE = 1e3  # cost of exceeding a bound, in an elastic program
Blocks = Sequence[tuple[Index, Array]]  # columns, and their values in some rows
NODES = 1_000_000  # maximum of the solver's search; unlike a limit of time, the same on every machine


@dataclass(frozen=True, eq=False)
class Bound:
    """A maximum, which is between the largest ``value`` found, at the input ``witness``, and its ``upper`` bound.

    ``value`` is minus infinity if no input was found. No value is above ``upper``, up to the solver's tolerance
    ``tol``, which is 0 for bounds that account for their rounding. ``status`` is ``"optimal"``, ``"bounded"``
    (by a relaxation, or when time ran out) or ``"infeasible"``.
    """

    value: float
    upper: float
    witness: Array | None
    status: Literal["optimal", "bounded", "infeasible"]
    tol: float


class Solution(NamedTuple):
    """The minimum of the largest of some rows, over a relaxation or over the network itself."""

    value: float  # inf: nothing satisfies the constraints
    x: Array | None
    gaps: tuple[Array, ...]  # how far h is above relu(z) in each hidden layer; for a relaxation only
    multipliers: Array | None  # of the rows, then of each hidden layer, then of the half-spaces
    finished: bool


def maximize(
    net: AffineReLU,
    box: Box,
    objective: Float[np.ndarray, " outputs"],
    *,
    of_inputs: Float[np.ndarray, " inputs"] | None = None,
    pattern: Sequence[Phases] | None = None,
    halfspaces: tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, " rows"]] | None = None,
    engine: Literal["crown", "lp", "milp"] = "milp",
    time_limit: float = 60.0,
) -> Bound:
    """The maximum of q . y + r . x over a box, where the phases of hidden units may be prescribed.

    With engine ``"milp"`` each unit whose pre-activation z can have both signs, l < z < u, has a binary t and

        h >= 0,  h >= z,  h <= z - l (1 - t),  h <= u t;

    with ``"lp"`` the triangle h <= u (z - l) / (u - l) takes the place of the last two; ``"crown"`` is one backward
    pass. l and u are those of ``crown_bounds``. ``"milp"`` is complete, the others give upper bounds.

    Args:
        net: The network.
        box: The inputs.
        objective: q.
        of_inputs: r; None: 0.
        pattern: Phases of each hidden layer: 1 on (z >= 0), 0 off (z <= 0), 2 free; None: free.
        halfspaces: H and v; only inputs with H x <= v count.
        engine: ``"crown"``, ``"lp"`` or ``"milp"``.
        time_limit: Seconds for the solver; ``"crown"`` needs none.

    Raises:
        ValueError: The box, the objective, the half-spaces or the pattern does not fit the network or is not finite,
            ``engine`` is unknown, or ``time_limit`` is negative.
        RuntimeError: HiGHS could not solve the program, mostly because its numbers differ too much in size.

    Source: Tjeng, Xiao and Tedrake, "Evaluating robustness of neural networks with mixed integer programming" (2019).

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
        >>> [round(maximize(net, Box([-1, -1], [1, 1]), np.ones(1), engine=e).upper, 6) for e in ("lp", "milp")]
        [3.0, 2.0]
    """
    checks.arguments()
    checks.number("time_limit", time_limit, minimum=0)
    domain = as_domain(box, net.sizes[0])
    if halfspaces is not None:
        H = checks.array("halfspaces[0]", halfspaces[0], ("rows", net.sizes[0]))
        domain = domain._replace(H=H, v=checks.array("halfspaces[1]", halfspaces[1], (len(H),)))
    objective = checks.array("objective", objective, (net.sizes[-1],))
    r = np.zeros(net.sizes[0]) if of_inputs is None else checks.array("of_inputs", of_inputs, net.sizes[:1])
    relaxation = relax(net, domain.low[None], domain.high[None], batched(net, pattern, 1))
    if relaxation.empty[0]:
        return Bound(-np.inf, -np.inf, None, "infeasible", 0.0)
    if engine == "crown":
        A, c = lower_lines(net, relaxation, -objective[None], np.zeros(1, dtype=np.intp))
        upper = -float(minimum(A - r, c, domain.low[None], domain.high[None])[0])
        return Bound(-np.inf, upper, None, "bounded", 0.0)
    clause = Clause(-objective[None], np.zeros(1), np.ones(1, dtype=bool))
    solution = solve(
        net, relaxation, clause, domain, pattern=pattern, of_inputs=-r, binary=engine == "milp",
        time_limit=time_limit,
    )  # fmt: skip
    tol = FEASIBILITY * max(1.0, float(np.abs(objective) @ np.linalg.norm(net.weights[-1], axis=1)))
    if solution.value == np.inf:
        return Bound(-np.inf, -np.inf, None, "infeasible", tol)
    value, witness = -np.inf, None
    if solution.x is not None:
        witness = np.clip(solution.x, domain.low, domain.high)
        value = float(net(witness) @ objective + witness @ r)
    is_optimal = engine == "milp" and solution.finished
    return Bound(value, -solution.value, witness, "optimal" if is_optimal else "bounded", tol)


def solve(
    net: AffineReLU,
    relaxation: Relaxation,
    clause: Clause,
    domain: Domain,
    *,
    pattern: Sequence[Phases] | None = None,
    of_inputs: Array | None = None,
    tau: float = 0.0,
    binary: bool,
    time_limit: float = 60.0,
    node_limit: int = NODES,
    below: float = np.inf,
    radius_from: Array | None = None,
    elastic: bool = False,
) -> Solution:
    """The minimum of the largest of Q y + c + r x, over one box and its relaxation.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units.
        clause: Q and c.
        domain: The box and its half-spaces.
        pattern: Phases of each hidden layer: 1 on (z >= tau), 0 off (z <= 0), 2 free; None: free.
        of_inputs: r; None: 0.
        tau: Smallest z at which a unit counts as on.
        binary: Whether each unit that may be on or off has a binary, which makes the program exact; False: triangles.
        time_limit: Seconds.
        node_limit: Nodes of the solver.
        below: Any value below this is accepted, which is found much sooner; if there is none, the result is infinity.
        radius_from: A point x0: minimise the largest |x - x0| instead, where all rows are at most zero.
        elastic: Whether bounds of units and half-spaces may be exceeded at a cost: such a program always has
            multipliers, which prove infeasibility if nothing is feasible.
    """
    fixed = batched(net, pattern, 1)
    model = _Model()
    x = model.columns(domain.low, domain.high)
    h, layers, equations = x, [], []
    excess = model.columns(np.zeros(int(elastic)), np.full(int(elastic), np.inf))
    for k in range(len(net.weights) - 1):
        lower, upper = relaxation.lower[k][0], relaxation.upper[k][0]
        on = np.zeros(len(lower), dtype=bool) if fixed is None else fixed[k][0] == ON
        ends = np.where(on, np.maximum(lower, tau), lower), np.where(on, np.maximum(upper, tau), upper)
        free, stable = np.flatnonzero((lower < 0) & (upper > 0)), np.flatnonzero(lower >= 0)
        beyond = np.where(lower >= 0, np.inf, 0.0) if elastic else 0.0
        z = model.columns(ends[0] - (np.inf if elastic else 0.0), ends[1] + (np.inf if elastic else 0.0))
        if elastic:
            for sign, limit in zip((-1, 1), ends, strict=True):
                model.rows([(z, sign * np.eye(len(z))), (excess, -np.ones((len(z), 1)))], high=sign * limit)
        equations.append(model.rows([(z, np.eye(len(z))), (h, -net.weights[k])], net.biases[k], net.biases[k]))
        h = model.columns(np.maximum(ends[0], 0) - beyond, np.maximum(ends[1], 0) + beyond)
        layers.append((z, h))
        free_eye, stable_eye = np.eye(len(free)), np.eye(len(stable))
        model.rows([(h[stable], stable_eye), (z[stable], -stable_eye)], 0.0, 0.0)
        model.rows([(h[free], free_eye), (z[free], -free_eye)], low=0.0)
        low, high = lower[free], upper[free]
        if binary:
            t = model.columns(np.zeros(len(free)), np.ones(len(free)), integral=True)
            model.rows([(h[free], free_eye), (t, -np.diag(high))], high=0.0)
            model.rows([(h[free], free_eye), (z[free], -free_eye), (t, -np.diag(low))], high=-low)
        else:
            slope = high / (high - low)
            model.rows([(h[free], free_eye), (z[free], -np.diag(slope))], high=-slope * low)
    y = model.columns(np.full(net.sizes[-1], -np.inf), np.full(net.sizes[-1], np.inf))
    model.rows([(y, np.eye(len(y))), (h, -net.weights[-1])], net.biases[-1], net.biases[-1])
    s = model.columns(np.array([-np.inf]), np.array([below]))
    r, count = np.zeros(len(x)) if of_inputs is None else of_inputs, len(clause.c)
    if radius_from is None:
        clause_rows = model.rows(
            [(y, clause.Q), (x, np.tile(r, (count, 1))), (s, -np.ones((count, 1)))], high=-clause.c
        )
    else:
        clause_rows = model.rows([(y, clause.Q)], high=-clause.c)
        for sign in (1, -1):
            model.rows([(x, sign * np.eye(len(x))), (s, -np.ones((len(x), 1)))], high=sign * radius_from)
    cuts = model.rows([(x, domain.H), (excess, -np.ones((len(domain.v), len(excess))))], high=domain.v)
    cost = np.zeros(model.count)
    cost[s], cost[excess] = 1, PRICE
    if binary:
        gap = 1e-9 if np.isinf(below) else 1e30
        options = {"time_limit": max(time_limit, 1e-3), "node_limit": node_limit, "mip_rel_gap": gap}
        return model.solved_exactly(cost, x, options)
    result, dual = model.solved_relaxed(cost)
    if result is None:
        return Solution(np.inf, None, (), None, True)
    gaps = tuple(np.maximum(result.x[h], 0) - np.maximum(result.x[z], 0) for z, h in layers)
    multipliers = np.concatenate([-dual[clause_rows], *(dual[rows] for rows in equations), -dual[cuts]])
    return Solution(float(result.fun), result.x[x], gaps, multipliers, True)


def linear_bound(net: AffineReLU, relaxation: Relaxation, clause: Clause, domain: Domain) -> tuple[float, Solution]:
    """The lower bound that the multipliers of the linear program prove, and the program's solution.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over one box.
        clause: Clause to bound.
        domain: The box and its half-spaces.
    """
    solution = solve(net, relaxation, clause, domain, binary=False)
    if solution.x is None:  # the solver says that it is infeasible; the elastic program has multipliers that prove it
        solution = solve(net, relaxation, clause, domain, binary=False, elastic=True)
    if solution.multipliers is None:
        return -np.inf, solution
    return dual_bound(net, relaxation, clause, domain, solution.multipliers), solution


class _Model:
    """A program to which columns and rows are added."""

    def __init__(self) -> None:
        self.low, self.high, self.integral = np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
        self.row_low, self.row_high = np.zeros(0), np.zeros(0)
        self.parts: list[tuple[Index, Index, Array]] = []  # row, column, value

    @property
    def count(self) -> int:
        return len(self.low)

    def columns(self, low: Array, high: Array, *, integral: bool = False) -> Index:
        self.low, self.high = np.append(self.low, low), np.append(self.high, high)
        self.integral = np.append(self.integral, np.full(len(low), int(integral)))
        return np.arange(self.count - len(low), self.count)

    def rows(self, blocks: Blocks, low: Array | float = -np.inf, high: Array | float = np.inf) -> Index:
        """Add rows low <= sum over the blocks of values x columns <= high."""
        start, count = len(self.row_low), len(blocks[0][1])
        self.row_low = np.append(self.row_low, np.broadcast_to(low, count))
        self.row_high = np.append(self.row_high, np.broadcast_to(high, count))
        for columns, values in blocks:
            i, j = np.nonzero(values)
            self.parts.append((start + i, columns[j], values[i, j]))
        return np.arange(start, start + count)

    @property
    def matrix(self) -> Any:
        row, column, value = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return sparse.csr_array((value, (row, column)), shape=(len(self.row_low), self.count))

    def solved_exactly(self, cost: Array, x: Index, options: Any) -> Solution:
        ends, rows = Bounds(self.low, self.high), LinearConstraint(self.matrix, self.row_low, self.row_high)
        with _silent():
            result = milp(cost, integrality=self.integral, bounds=ends, constraints=rows, options=options)
        if result.status == 2:
            return Solution(np.inf, None, (), None, True)
        limit = result.status == 1 or "Solution limit" in result.message  # of time, or of nodes
        if result.status != 0 and not limit:
            raise SolverError(result.status, result.message)
        # Without integral columns HiGHS gives no dual bound, and its value is exact.
        dual = result.mip_dual_bound if self.integral.any() else result.fun
        value = -np.inf if dual is None or np.isnan(dual) else float(dual)
        return Solution(value, None if result.x is None else result.x[x], (), None, result.status == 0)

    def solved_relaxed(self, cost: Array) -> tuple[Any, Array]:
        """The solution, or None if there is none, and the multipliers of the rows."""
        matrix, dual = self.matrix, np.zeros(len(self.row_low))
        equal = self.row_low == self.row_high
        below, above = ~equal & np.isfinite(self.row_high), ~equal & np.isfinite(self.row_low)
        A = sparse.vstack([matrix[below], -matrix[above]])
        b = np.concatenate([self.row_high[below], -self.row_low[above]])
        ends: Any = np.column_stack([self.low, self.high])
        result: Any = linprog(cost, A, b, matrix[equal], self.row_high[equal], ends, method="highs")
        if result.status == 2:
            return None, dual
        if result.status != 0:
            raise SolverError(result.status, result.message)
        dual[equal], dual[below] = result.eqlin.marginals, result.ineqlin.marginals[: below.sum()]
        return result, dual


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard the C library's standard output: HiGHS prints lines there that no option stops."""
    sys.stdout.flush()
    try:
        stdout = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
