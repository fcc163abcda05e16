"""Activation patterns, and convex sets of inputs with a known prediction: their size, boxes inside, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linprog
from scipy.stats import binomtest

from engram import checks
from engram.verify.bounds import FREE, ON, Phases
from engram.verify.network import AffineReLU, Array, Mask
from engram.verify.specification import Box, Polytope, largest_ball

Pattern = tuple[Phases, ...]
Made = Literal["direct", "structural", "fallback", "crown"]
Comparison = Literal["equal", "contains", "contained", "incomparable"]
MOST_DIMENSIONS = 10  # for which a volume is estimated by sampling
MOST_STEPS = 10**5  # for each sampled point


def activation_pattern(net: AffineReLU, x: Float[np.ndarray, "*batch inputs"]) -> Pattern:
    """The phases of all hidden units at one input or many, x, (..., inputs): 1 on (z > 0), 0 off.

    The result has an array (..., units) for each hidden layer.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
        >>> activation_pattern(net, np.array([0.0, 1.0]))
        (array([1, 0], dtype=int8),)
    """
    checks.arguments()
    return tuple((z > 0).astype(np.int8) for z in net.preactivations(x)[:-1])


def local_affine(net: AffineReLU, pattern: Sequence[Phases]) -> list[tuple[Array, Array]]:
    """The affine maps z_k = A_k x + a_k of all layers for inputs with a full pattern.

    A_1 = W_1,   A_{k+1} = W_{k+1} D_k A_k,   D_k = diag(on),   and a_k likewise
    """
    checks.arguments()
    if [len(phases) for phases in pattern] != list(net.sizes[1:-1]) or any((p == FREE).any() for p in pattern):
        raise ValueError(f"pattern = {pattern}: expected phases 0 or 1 of {net.sizes[1:-1]} hidden units")
    A, a = net.weights[0], net.biases[0]
    maps = [(A, a)]
    for W, b, phases in zip(net.weights[1:], net.biases[1:], pattern, strict=True):
        active_weights = W * (phases == ON)
        A, a = active_weights @ A, active_weights @ a + b
        maps.append((A, a))
    return maps


def pattern_halfspaces(
    net: AffineReLU, at: Sequence[Phases], pattern: Sequence[Phases], tau: float = 0.0
) -> tuple[Array, Array]:
    """The half-spaces G x <= h of the inputs that have a pattern, where a unit counts as on if z >= tau.

    Args:
        net: The network.
        at: The full pattern from which units were freed.
        pattern: Phases of each hidden layer, 2 where free; before a layer with a fixed unit, no unit may be free.
        tau: Smallest z at which a unit counts as on.

    Raises:
        ValueError: A pattern has other layers or units than the network; a unit of ``at`` is free; or ``pattern`` fixes
            a unit to another phase than ``at``, or after a layer with a free one.
    """
    checks.arguments()
    if [len(phases) for phases in pattern] != list(net.sizes[1:-1]):
        raise ValueError(f"pattern = {checks.shown(pattern)}: expected phases of {net.sizes[1:-1]} hidden units")
    rows, right = [np.zeros((0, net.sizes[0]))], [np.zeros(0)]
    free = False
    for (A, a), full, phases in zip(local_affine(net, at), at, pattern, strict=False):
        fixed = phases != FREE
        if (free and fixed.any()) or (phases[fixed] != full[fixed]).any():
            raise ValueError(
                "pattern: expected fixed phases equal to those of at, and none after a layer with free units"
            )
        free = free or not fixed.all()
        on = phases[fixed] == ON
        rows.append(np.where(on[:, None], -A[fixed], A[fixed]))
        right.append(np.where(on, a[fixed] - tau, -a[fixed]))
    return np.vstack(rows), np.concatenate(right)


class InnerBox(NamedTuple):
    """The largest box inside a region, by volume or by perimeter; ``dimensions`` counts the sides that are not fixed.

    ``log_volume`` is the logarithm of the product of these sides; minus infinity if the box is flat.
    """

    low: Array
    high: Array
    log_volume: float
    dimensions: int


@dataclass(frozen=True, eq=False)
class Region:
    """All x of a box with G x <= h, for which a network predicts one class.

    The rows of G have norm 1, and none is zero or a copy. ``pattern`` has the phases of the hidden units that the
    region needs, 2 where free. ``mode`` is ``"direct"``, ``"structural"``, ``"fallback"`` or ``"crown"``; ``status`` is
    ``"tie"`` if two classes tie at the point that it was made for, and the region is then empty. For each other class,
    ``slack`` is the allowed error of the affine margin in structural regions. ``tol`` is the tolerance of the solver
    that the proof allows for; ``queries`` are the numbers of attempts refuted by samples, of calls of CROWN, and of
    calls of the solver.
    """

    G: Float[np.ndarray, "rows inputs"]
    h: Float[np.ndarray, " rows"]
    box: Box
    label: int
    pattern: Pattern
    mode: Made
    status: Literal["proved", "tie"]
    slack: Float[np.ndarray, " others"]
    tol: float
    queries: tuple[int, ...] = (0, 0, 0)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        checks.arguments()
        checks.has_shape("G", self.G.shape, ("rows", len(self.box.low)))

    @property
    def rows(self) -> tuple[Array, Array]:
        """The whole region as A x <= b: the half-spaces, then the sides of the box."""
        eye = np.eye(len(self.box.low))
        return np.vstack([self.G, eye, -eye]), np.concatenate([self.h, self.box.high, -self.box.low])

    @property
    def polytope(self) -> Polytope:
        """The region as inputs for ``verify``."""
        return Polytope(*self.rows)

    def contains(self, X: Float[np.ndarray, "*batch inputs"]) -> Bool[np.ndarray, "*batch"]:
        """Whether points are inside."""
        checks.arguments()
        if X.shape[-1:] != self.box.low.shape:
            raise ValueError(f"X.shape = {X.shape}: expected (..., {len(self.box.low)}), as the box has inputs")
        inside = (self.box.low <= X).all(-1) & (self.box.high >= X).all(-1)
        if self.status == "tie":
            inside &= False
        return np.asarray(inside & (self.h >= X @ self.G.T).all(-1))

    def support(self, X: Float[np.ndarray, "points inputs"]) -> int:
        """The number of points that are inside."""
        checks.arguments()
        return sum(int(self.contains(X[i : i + 8192]).sum()) for i in range(0, len(X), 8192))

    @cached_property
    def centre(self) -> tuple[Array, float]:
        """Centre and radius of the largest ball inside; the radius is negative if the region is empty."""
        return largest_ball(self.G, self.h, self.box.low, self.box.high)

    @property
    def degenerate(self) -> bool:
        """Whether the region is empty or has no volume."""
        return self.centre[1] <= 1e-12

    def volume_fraction(self, n: int, rng: np.random.Generator) -> tuple[float, float, float]:
        """The share of the box that the region fills, from n uniform points, with a 95 % interval (Wilson).

        More than 10 dimensions are refused, since shares are then too small to be sampled.
        """
        checks.arguments()
        size = len(self.box.low)
        if size > MOST_DIMENSIONS:
            raise ValueError(f"{size} inputs: expected at most {MOST_DIMENSIONS}; take volume_box in more dimensions")
        inside = int(self.contains(rng.uniform(self.box.low, self.box.high, (checks.size("n", n), size))).sum())
        interval = binomtest(inside, n).proportion_ci(0.95, "wilson")
        return inside / n, float(interval.low), float(interval.high)

    def perimeter_box(self, contain: Float[np.ndarray, " inputs"] | None = None) -> InnerBox:
        """The box inside with the largest sum of sides that contains the point ``contain``, if given; it may be flat.

        max sum(u - l),   l <= u,   max(w, 0) . u + min(w, 0) . l <= v for each half-space w . x <= v
        """
        checks.arguments()
        size = len(self.box.low)
        return self._inner(np.concatenate([np.ones(size), -np.ones(size)]), contain)

    def volume_box(self, contain: Float[np.ndarray, " inputs"] | None = None) -> InnerBox:
        """The box inside with the largest volume: as ``perimeter_box``, max sum log(u - l), by a log barrier.

        Source: Boyd and Vandenberghe, "Convex optimization" (2004), section 11.3.
        """
        checks.arguments()
        open_sides = np.flatnonzero(self.box.high > self.box.low)
        start = self._inner(None, contain)
        sides = (start.high - start.low)[open_sides]
        if not len(sides) or not sides.min() > 1e-9:  # also NaN: no box is inside
            return start._replace(log_volume=-np.inf)
        # An end that the point leaves no room for stays at the point.
        free = np.tile(self.box.high > self.box.low, 2)
        if contain is not None:
            free &= np.concatenate([self.box.high - contain, contain - self.box.low]) > 1e-9
        around = (start.low + start.high) / 2 if contain is None else contain
        high, low = np.split(_barrier(self.h, self._ends(contain), start, around, free), 2)
        return InnerBox(low, high, float(np.log((high - low)[open_sides]).sum()), len(open_sides))

    def compare(self, other: Region) -> Comparison:
        """The containment between two regions, found by a linear program for each half-space."""
        checks.arguments()
        inside, around = _within(self, other), _within(other, self)
        if inside and around:
            return "equal"
        return "contained" if inside else "contains" if around else "incomparable"

    def sample(self, n: int, rng: np.random.Generator, thin: int = 20) -> Float[np.ndarray, "n inputs"]:
        """Nearly uniform points inside, by hit-and-run; the region must have a volume.

        Args:
            n: Number of points; those that rounding puts outside are left out.
            rng: Source of the points.
            thin: Steps for each point, at most 100,000.

        Raises:
            ValueError: The region is empty or flat, or ``n`` or ``thin`` is out of range.
        """
        checks.arguments()
        checks.size("thin", thin, maximum=MOST_STEPS)
        if self.degenerate:
            raise ValueError("the region is empty or flat: it has no points to draw")
        open_sides, (A, b) = self.box.high > self.box.low, self.rows
        x, points = self.centre[0].copy(), np.empty((checks.size("n", n), len(open_sides)))
        for i in range(n):
            for _ in range(thin):
                direction = rng.normal(size=len(x)) * open_sides
                along, room = A @ direction, b - A @ x
                with np.errstate(divide="ignore", invalid="ignore"):
                    steps = room / along
                far = steps[along > 1e-14].min(initial=np.inf)
                near = steps[along < -1e-14].max(initial=-np.inf)
                x = x + rng.uniform(min(near, 0.0), max(far, 0.0)) * direction
            points[i] = np.clip(x, self.box.low, self.box.high)
        return np.asarray(points[self.contains(points)])

    def _ends(self, contain: Array | None) -> tuple[Array, Array, Array]:
        """B, with B (u, l) <= h for boxes inside, and the least and the largest values of their ends (u, l)."""
        B, size = np.hstack([np.maximum(self.G, 0), np.minimum(self.G, 0)]), len(self.box.low)
        lowest, highest = (np.full(size, limit) if contain is None else contain for limit in (-np.inf, np.inf))
        return B, np.concatenate([lowest, self.box.low]), np.concatenate([self.box.high, highest])

    def _inner(self, gain: Array | None, contain: Array | None) -> InnerBox:
        """The box of largest gain by linear programming; without a gain, the box whose shortest side is longest."""
        if contain is not None:
            checks.has_shape("contain", contain.shape, self.box.low.shape)
        B, lowest, highest = self._ends(contain)
        size = len(self.box.low)
        open_sides = self.box.high > self.box.low
        order = np.hstack([-np.eye(size), np.eye(size), open_sides[:, None] * float(gain is None)])
        rows = np.vstack([np.column_stack([B, np.zeros(len(B))]), order])
        cost = np.append(np.zeros(2 * size), -1.0) if gain is None else np.append(-gain, 0.0)
        bounds: Any = np.vstack([np.column_stack([lowest, highest]), [0.0, np.inf if gain is None else 0.0]])
        result: Any = linprog(cost, A_ub=rows, b_ub=np.append(self.h, np.zeros(size)), bounds=bounds, method="highs")
        sides = int(open_sides.sum())
        if result.status != 0:
            undefined = np.full(size, np.nan)
            return InnerBox(undefined, undefined, -np.inf, sides)
        high, low = result.x[:size], result.x[size : 2 * size]
        with np.errstate(divide="ignore"):
            volume = float(np.log(np.maximum(high - low, 0)[open_sides]).sum())
        return InnerBox(low, high, volume, sides)


class _Barrier(NamedTuple):
    """The ends v = (u, l) of boxes with B v <= h and ``least`` <= v <= ``most``; only the ends in ``free`` move."""

    B: Array
    h: Array
    least: Array
    most: Array
    free: Mask
    open_sides: Mask

    def rooms(self, v: Array) -> tuple[Array, ...]:
        """The lengths of the open sides, and the distances of the ends from all that bounds them."""
        above, below = self.bounded
        side = -np.diff(v.reshape(2, -1), axis=0)[0][self.open_sides]
        return side, self.h - self.B @ v, (self.most - v)[above], (v - self.least)[below]

    @property
    def bounded(self) -> tuple[Mask, Mask]:
        return self.free & np.isfinite(self.most), self.free & np.isfinite(self.least)

    def value(self, v: Array, t: float) -> float:
        """The function to minimise, -t sum log(u - l) - sum log of each room."""
        side, *rooms = self.rooms(v)
        if min(part.min(initial=np.inf) for part in (side, *rooms)) <= 0:
            return np.inf
        return float(-t * np.log(side).sum() - sum(np.log(room).sum() for room in rooms))

    def newton(self, v: Array, t: float) -> tuple[Array, float]:
        """Newton's step and its decrement.

        Except for the rows of B, which are few, the Hessian has 2 x 2 blocks, so that Woodbury's identity inverts it.
        """
        size, (above, below), (side, room, up, down) = len(self.open_sides), self.bounded, self.rooms(v)
        rows, pull, coupling, diagonal = self.B * self.free, np.zeros(size), np.zeros(size), np.zeros(2 * size)
        pull[self.open_sides], coupling[self.open_sides] = t / side, t / side**2
        gradient = rows.T @ (1 / room) + np.concatenate([-pull, pull]) * self.free
        gradient[above] += 1 / up
        gradient[below] -= 1 / down
        diagonal[above] += 1 / up**2
        diagonal[below] += 1 / down**2
        high, low = np.where(self.free, diagonal + np.tile(coupling, 2), 1.0).reshape(2, -1)
        both_free = self.free.reshape(2, -1).all(0)
        determinant = np.where(
            both_free, coupling * diagonal.reshape(2, -1).sum(0) + diagonal[:size] * diagonal[size:], high * low
        )

        def by_blocks(x: Array) -> Array:
            upper, lower = x[..., :size], x[..., size:]
            swapped = [low * upper + coupling * both_free * lower, coupling * both_free * upper + high * lower]
            return np.asarray(np.concatenate(swapped, -1) / np.tile(determinant, 2))

        block_step, block_rows = by_blocks(gradient), by_blocks(rows)
        step = np.linalg.solve(np.diag(room**2) + block_rows @ rows.T, rows @ block_step) @ block_rows - block_step
        return step, -float(gradient @ step)


def _barrier(h: Array, ends: tuple[Array, Array, Array], start: InnerBox, around: Array, free: Mask) -> Array:
    """Maximise sum log(u - l) over B (u, l) <= h by Newton's method, moving the ends that are free; return (u, l)."""
    B, lowest, highest = ends
    start_ends, middle = np.concatenate([start.high, start.low]), np.tile(around, 2)
    # A little smaller than the start, so that no row is met with equality.
    v = np.where(free, middle + 0.9 * (start_ends - middle), start_ends)
    is_used = np.abs(B[:, free]).max(1, initial=0) > 0
    problem = _Barrier(B[is_used], h[is_used], lowest, highest, free, start.high > start.low)
    rows, t = sum(map(len, problem.rooms(v)[1:])), 1.0
    if not np.isfinite(problem.value(v, t)):
        return start_ends
    while rows / t > 1e-9:
        for _ in range(60):
            (step, decrement), length = problem.newton(v, t), 1.0
            old_value = problem.value(v, t)
            while problem.value(v + length * step, t) > old_value - 0.25 * length * decrement and length > 1e-12:
                length /= 2
            if decrement < 1e-10 or length <= 1e-12:
                break
            v = v + length * step
        t *= 20
    return v


def _within(inner: Region, outer: Region) -> bool:
    """Whether one region lies in another, to 1e-9."""
    if inner.degenerate:
        return True
    bounds: Any = np.column_stack([inner.box.low, inner.box.high])
    for row, limit in zip(*outer.rows, strict=True):
        result: Any = linprog(-row, A_ub=inner.G, b_ub=inner.h, bounds=bounds, method="highs")
        if result.status != 0 or -result.fun > limit + 1e-9 * max(1, abs(limit)):
            return False
    return True
