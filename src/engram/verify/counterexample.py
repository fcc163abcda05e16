"""Search for an input that violates a property, and confirm it without rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engram.verify.bounds import TINY, interval_bounds
from engram.verify.network import AffineReLU, Array, exact_affine
from engram.verify.specification import Clause, Domain

SAMPLES, FACE_SAMPLES, STARTS, STEPS = 256, 2000, 5, 40


def _confirmed(net: AffineReLU, clauses: Sequence[Clause], x: Array) -> bool:
    """Whether an input certainly violates a clause: by intervals and, if they do not decide, by rational numbers."""
    low, high = interval_bounds(net, x, x)
    undecided = []
    for clause in clauses:
        top = clause.Q.clip(0) @ high + clause.Q.clip(None, 0) @ low + clause.c
        size = np.abs(clause.Q) @ np.maximum(np.abs(low), np.abs(high)) + np.abs(clause.c)
        error = (len(high) + 8) * 2.0**-51 * size + TINY
        if (top + error < 0).all():
            return True
        if (top - 4 * (error + np.abs(clause.Q) @ (high - low)) <= 0).all():
            undecided.append(clause)
    if not undecided:
        return False
    y = net.exact(x)
    values = ((exact_affine(clause.Q, clause.c, y), clause.strict) for clause in undecided)
    return any(all(v < 0 or (v == 0 and strict) for v, strict in zip(*rows, strict=True)) for rows in values)


def first_counterexample(net: AffineReLU, clauses: Sequence[Clause], domain: Domain, points: Array) -> Array | None:
    """The first of some points that lies inside and certainly violates a clause, or None.

    Args:
        net: The network.
        clauses: The property.
        domain: The set of inputs.
        points: The points, (points, inputs).
    """
    points = domain.pulled(points)
    inside = points[domain.contains(points)]
    if not len(inside):
        return None
    worst = _worst(net(inside), clauses)
    for i in np.flatnonzero(worst <= 0)[:8]:  # not all: many may violate it only by rounding
        if domain.certainly_contains(inside[i]) and _confirmed(net, clauses, inside[i]):
            return np.array(inside[i])
    return None


def attack(net: AffineReLU, clauses: Sequence[Clause], domain: Domain, rng: np.random.Generator) -> Array | None:
    """A counterexample found at random or by projected gradients from the worst points, or None.

    256 points are tried, then 40 shrinking steps, the first a twentieth of the box, from the five nearest points. Many
    counterexamples lie where inputs are at their ends, which uniform points never are: the same is done with 2,000
    points whose coordinates are at the lower end, at the upper end or anywhere, with equal probability.

    Args:
        net: The network.
        clauses: The property.
        domain: The set of inputs.
        rng: Source of the points.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks" (2018).
    """
    size = len(domain.low)
    low, high = domain.low + 0.0, domain.high + 0.0  # -0.0 becomes 0.0: NumPy draws nothing between 0.0 and -0.0
    points = rng.uniform(low, high, (SAMPLES, size))
    points = np.vstack([(domain.low + domain.high) / 2, points]).clip(domain.low, domain.high)
    if (hit := _descend(net, clauses, domain, points)) is not None:
        return hit
    points = rng.uniform(low, high, (FACE_SAMPLES, size)).clip(domain.low, domain.high)
    places = rng.integers(3, size=points.shape)
    points = np.choose(
        places, [points, np.broadcast_to(domain.low, points.shape), np.broadcast_to(domain.high, points.shape)]
    )
    return _descend(net, clauses, domain, points)


def _descend(net: AffineReLU, clauses: Sequence[Clause], domain: Domain, points: Array) -> Array | None:
    """A counterexample among points, or on the way down from the worst of them, or None."""
    if (hit := first_counterexample(net, clauses, domain, points)) is not None:
        return hit
    inside = domain.contains(points)
    points = points[inside] if inside.any() else points
    x = points[np.argsort(_worst(net(points), clauses))[:STARTS]]
    length = (domain.high - domain.low) / 20
    for step in range(STEPS):
        x = (x - length * 0.93**step * np.sign(_gradient(net, clauses, x))).clip(domain.low, domain.high)
        if (hit := first_counterexample(net, clauses, domain, x)) is not None:
            return hit
    return None


def _worst(y: Array, clauses: Sequence[Clause]) -> Array:
    """The margin of the clause that is nearest to being violated, for each output."""
    return np.asarray(np.min([(y @ clause.Q.T + clause.c).max(-1) for clause in clauses], axis=0))


def _gradient(net: AffineReLU, clauses: Sequence[Clause], x: Array) -> Array:
    preactivations = net.preactivations(x)
    values = [preactivations[-1] @ clause.Q.T + clause.c for clause in clauses]
    clause_indices = np.argmin([value.max(-1) for value in values], axis=0)
    rows = [clauses[c].Q[np.argmax(values[c][i])] for i, c in enumerate(clause_indices)]
    gradient: Array = np.stack(rows) @ net.weights[-1]
    for z, W in zip(preactivations[-2::-1], net.weights[-2::-1], strict=True):
        gradient = (gradient * (z > 0)) @ W
    return gradient
