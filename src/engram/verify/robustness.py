"""Certified radii: by how much every coordinate of an input may change before the prediction can change."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from engram import checks
from engram.verify.bounds import lower_lines, minimum, relax
from engram.verify.counterexample import attack
from engram.verify.exact import FEASIBILITY, NODES, solve
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Argmax, Clause, Domain, clauses

STEPS, ATTACK_STEPS = 20, 12


def certified_radius(
    net: AffineReLU,
    X: Float[np.ndarray, "points inputs"],
    labels: Integer[np.ndarray, " labels"],
    method: Literal["crown", "exact", "attack"] = "crown",
    *,
    low: float = -np.inf,
    high: float = np.inf,
    maximum: float = 1.0,
    time_limit: float = 60.0,
    node_limit: int = NODES,
) -> Float[np.ndarray, " points"]:
    """The radius r of max |x - x0| of each input within which the prediction is the label; 0 if it is not at x0.

    Args:
        net: The network.
        X: Inputs x0.
        labels: Their labels.
        method: ``"crown"``: bisection, with one backward pass for all inputs in each step; a lower bound. ``"exact"``:
            the distance to the nearest input at which another class ties, by HiGHS inside the ball of the attack, to
            1e-6.
            ``"attack"``: bisection with a search for counterexamples; an upper bound.
        low: Minimum of each coordinate of an input.
        high: Maximum of each coordinate.
        maximum: Largest radius that is considered.
        time_limit: Seconds for each call of HiGHS, after which its dual bound is used, a lower bound.
        node_limit: Likewise, nodes of its search; unlike seconds, the same on every machine.

    Raises:
        ValueError: There is not one label for each input, a label is not a class of the network, an input is not finite
            or has a coordinate beyond ``low`` and ``high``, or ``maximum`` is not above 0.
        RuntimeError: With ``"exact"``, HiGHS could not solve a program, mostly because its numbers differ too much in
            size.

    Source: Tjeng, Xiao and Tedrake (2019), for ``"exact"``.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 0.0], [0.0, 1.0]]),), (np.zeros(2),))
        >>> certified_radius(net, np.array([[0.5, 0.1]]), np.array([0]), method="exact").round(5)
        array([0.2])
    """
    checks.arguments()
    net.check_inputs("X", X)
    if len(labels) != len(X):
        raise ValueError(f"labels: expected {len(X)}, one for each input, found {len(labels)}")
    checks.number("maximum", maximum, above=0)
    if (invalid := ((low > X) | (high < X) | ~np.isfinite(X)).any(1)).any():
        raise ValueError(f"X[{invalid.argmax()}] is not finite, or outside the box: expected {low} to {high}")
    properties = [clauses(Argmax(int(label)), net.sizes[-1]) for label in labels]
    ball = _Balls(low, high, maximum)
    if not len(X):
        return np.zeros(0)
    if method == "attack":
        return np.array(
            [_attacked(net, x, point_clauses, ball) for x, point_clauses in zip(X, properties, strict=True)]
        )
    spec = np.stack([np.vstack([clause.Q for clause in point_clauses]) for point_clauses in properties])
    radii = _by_crown(net, X, spec, ball)
    if method == "crown":
        return np.asarray(radii.min(1))
    limits = {"time_limit": time_limit, "node_limit": node_limit}
    cases = zip(X, properties, radii, strict=True)
    return np.array(
        [_nearest(net, x, point_clauses, certified, ball, **limits) for x, point_clauses, certified in cases]
    )


class _Balls(NamedTuple):
    """The range of inputs and the maximum of the radii."""

    low: float
    high: float
    maximum: float

    def around(self, x: Array, radius: Array | float) -> tuple[Array, Array]:
        """The box of this radius around points, cut to the range."""
        return np.maximum(x - radius, self.low), np.minimum(x + radius, self.high)


def _by_crown(net: AffineReLU, X: Array, spec: Array, ball: _Balls) -> Array:
    """The radius within which each row of spec, (points, rows, outputs), is positive, (points, rows)."""
    points, rows = spec.shape[:2]
    good, bad = np.zeros((points, rows)), np.full((points, rows), ball.maximum)
    box = np.repeat(np.arange(points), rows)
    for step in range(STEPS):
        # Every row has its own radius, and so its own box.
        radius = (good + bad) / 2 if step else bad
        lower, upper = ball.around(X[box], radius.reshape(-1, 1))
        A, c = lower_lines(net, relax(net, lower, upper), spec.reshape(points * rows, -1), np.arange(points * rows))
        holds = (minimum(A, c, lower, upper) > 0).reshape(points, rows)
        good, bad = np.where(holds, radius, good), np.where(holds, bad, radius)
    return good


def _attacked(net: AffineReLU, x: Array, point_clauses: list[Clause], ball: _Balls) -> float:
    if not all(clause.holds(clause.Q @ net(x)) for clause in point_clauses):
        return 0.0
    rng, good, bad = np.random.default_rng(0), 0.0, ball.maximum
    for step in range(ATTACK_STEPS):
        radius = (good + bad) / 2 if step else bad
        hit = attack(net, point_clauses, Domain.box(*ball.around(x, radius)), rng)
        if hit is not None:
            bad = float(np.abs(hit - x).max())
        elif step == 0:
            break
        else:
            good = radius
    return bad


def _nearest(
    net: AffineReLU, x: Array, point_clauses: list[Clause], certified: Array, ball: _Balls, **limits: Any
) -> float:
    best = _attacked(net, x, point_clauses, ball)  # in a smaller ball, fewer units are unstable
    if best == 0:
        return best
    for i in np.argsort(certified):
        if certified[i] >= best:
            break
        lower, upper = ball.around(x, best)
        relaxation, domain = relax(net, lower[None], upper[None]), Domain.box(lower, upper)
        solution = solve(net, relaxation, point_clauses[i], domain, binary=True, radius_from=x, **limits)
        if solution.value < np.inf:  # minus infinity if the solver has no bound yet
            best = min(best, max(solution.value - FEASIBILITY, float(certified[i])))
    return best
