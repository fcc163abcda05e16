"""Certified radii: how far an input may be changed, each coordinate by as much, before the answer can change."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram.analysis.verify.bounds import lower_lines, minimum, relax
from engram.analysis.verify.counterexample import attack
from engram.analysis.verify.exact import FEASIBILITY, NODES, solve
from engram.analysis.verify.network import AffineReLU, Array
from engram.analysis.verify.specification import Argmax, Clause, Domain, clauses

STEPS, ATTACK_STEPS = 20, 12


def certified_radius(
    net: AffineReLU,
    X: Float[np.ndarray, "points inputs"],
    labels: Int[np.ndarray, " points"],
    method: Literal["crown", "exact", "attack"] = "crown",
    *,
    low: float = -np.inf,
    high: float = np.inf,
    most: float = 1.0,
    time_limit: float = 60.0,
    node_limit: int = NODES,
) -> Float[np.ndarray, " points"]:
    """Return, for each input, a radius r of max |x - x0| within which the answer is the label; 0 where it is another.

    ``"crown"`` bisects with one backward pass for all inputs at a time: a lower bound. ``"exact"`` asks HiGHS for the
    nearest input that another class ties, inside the ball of the attack, to 1e-6; where ``time_limit`` seconds or
    ``node_limit`` nodes (the same on every machine) end a question, it is the solver's dual bound, a lower one.
    ``"attack"`` bisects with a search for counterexamples: an upper bound. Inputs have values from ``low`` to ``high``,
    and radii are not looked for beyond ``most``.

    Raises:
        ValueError: A label is no class, or an input is out of range.

    Source: Tjeng, Xiao and Tedrake (2019), for ``"exact"``.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 0.0], [0.0, 1.0]]),), (np.zeros(2),))
        >>> certified_radius(net, np.array([[0.5, 0.1]]), np.array([0]), method="exact").round(5)
        array([0.2])
    """
    if (wrong := ((low > X) | (high < X) | ~np.isfinite(X)).any(1)).any():
        raise ValueError(f"X[{wrong.argmax()}] is outside {low} to {high}, or not finite")
    properties = [clauses(Argmax(int(label)), net.sizes[-1]) for label in labels]
    ball = _Balls(low, high, most)
    if method == "attack":
        return np.array([_attacked(net, x, one, ball) for x, one in zip(X, properties, strict=True)])
    spec = np.stack([np.vstack([clause.Q for clause in one]) for one in properties])
    radii = _by_crown(net, X, spec, ball)
    if method == "crown":
        return np.asarray(radii.min(1))
    limits = {"time_limit": time_limit, "node_limit": node_limit}
    every = zip(X, properties, radii, strict=True)
    return np.array([_nearest(net, x, one, known, ball, **limits) for x, one, known in every])


class _Balls(NamedTuple):
    """What inputs may be, and the largest radius looked for."""

    low: float
    high: float
    most: float

    def around(self, x: Array, radius: Array | float) -> tuple[Array, Array]:
        """Return the box around points, inside the range."""
        return np.maximum(x - radius, self.low), np.minimum(x + radius, self.high)


def _by_crown(net: AffineReLU, X: Array, spec: Array, ball: _Balls) -> Array:
    """Return the radius within which each row of spec, (points, rows, outputs), is positive, (points, rows)."""
    points, rows = spec.shape[:2]
    good, bad = np.zeros((points, rows)), np.full((points, rows), ball.most)
    box = np.repeat(np.arange(points), rows)
    for step in range(STEPS):
        # Every row has a radius, and so a box, of its own.
        radius = (good + bad) / 2 if step else bad
        lower, upper = ball.around(X[box], radius.reshape(-1, 1))
        A, c = lower_lines(net, relax(net, lower, upper), spec.reshape(points * rows, -1), np.arange(points * rows))
        holds = (minimum(A, c, lower, upper) > 0).reshape(points, rows)
        good, bad = np.where(holds, radius, good), np.where(holds, bad, radius)
    return good


def _attacked(net: AffineReLU, x: Array, one: list[Clause], ball: _Balls) -> float:
    rng, good, bad = np.random.default_rng(0), 0.0, ball.most
    for step in range(ATTACK_STEPS):
        radius = (good + bad) / 2 if step else bad
        hit = attack(net, one, Domain.box(*ball.around(x, radius)), rng)
        if hit is not None:
            bad = float(np.abs(hit - x).max())
        elif step == 0:
            break
        else:
            good = radius
    return bad


def _nearest(net: AffineReLU, x: Array, one: list[Clause], known: Array, ball: _Balls, **limits: Any) -> float:
    if not all(clause.holds(clause.Q @ net(x)) for clause in one):
        return 0.0
    best = _attacked(net, x, one, ball)  # in a smaller ball fewer units are open
    for i in np.argsort(known):
        if known[i] >= best:
            break
        lower, upper = ball.around(x, best)
        relaxation, place = relax(net, lower[None], upper[None]), Domain.box(lower, upper)
        found = solve(net, relaxation, one[i], place, binary=True, radius_from=x, **limits)
        if found.value < np.inf:  # minus infinity where the solver has no bound yet
            best = min(best, max(found.value - FEASIBILITY, float(known[i])))
    return best
