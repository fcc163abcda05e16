"""What is to be proved: a set of inputs, and a property that all their outputs shall have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from torch import nn

from engram import checks
from engram.analysis.verify.network import AffineReLU, Array, Mask, exact_affine, kept_softmax, without_softmax

ArrayLike = np.ndarray | Sequence[Any]
LARGEST = 1e300  # an end of a box, so that a side has a length


class SolverError(RuntimeError):
    """HiGHS could not solve a program, mostly since its numbers are of too different sizes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HiGHS ended with status {status}: {message}")


@dataclass(frozen=True, eq=False, init=False)
class Box:
    """All x with low <= x <= high, (inputs,) each.

    Examples:
        >>> Box([0, 0], [1, -1])
        Traceback (most recent call last):
        ValueError: low[1] = 0.0 is above high[1] = -1.0: expected a box that is not empty
    """

    low: Array
    high: Array

    def __init__(self, low: ArrayLike, high: ArrayLike) -> None:
        low = checks.array("low", low, ("inputs",))
        high = checks.array("high", high, (len(low),))
        for name, end in (("low", low), ("high", high)):
            if (np.abs(end) > LARGEST).any():
                i = int(np.argmax(np.abs(end)))
                raise ValueError(f"{name}[{i}] = {end[i]}: expected ends of at most {LARGEST} in size")
        checks.size("len(low)", len(low))
        if (low > high).any():
            i = int(np.argmax(low > high))
            raise ValueError(f"low[{i}] = {low[i]} is above high[{i}] = {high[i]}: expected a box that is not empty")
        _set(self, low=low, high=high)


@dataclass(frozen=True, eq=False, init=False)
class Polytope:
    """All x with A x <= b, (rows, inputs) and (rows,); bounded and not empty."""

    A: Array
    b: Array

    def __init__(self, A: ArrayLike, b: ArrayLike) -> None:
        A = checks.array("A", A, ("rows", "inputs"))
        b = checks.array("b", b, (len(A),))
        checks.size("A.size", A.size)
        _set(self, A=A, b=b)
        found = linprog(np.zeros(A.shape[1]), A_ub=A, b_ub=b, bounds=(None, None), method="highs")
        if found.status not in (0, 2):
            raise SolverError(found.status, found.message)
        if found.status == 2:
            raise ValueError("A x <= b has no solution: expected a polytope that is not empty")


@dataclass(frozen=True)
class Argmax:
    """Output ``label`` is larger than every other: y_c > y_i for all i != c."""

    label: int


@dataclass(frozen=True, eq=False, init=False)
class LinearProperty:
    """All rows of C y <= d hold, (rows, outputs) and (rows,)."""

    C: Array
    d: Array

    def __init__(self, C: ArrayLike, d: ArrayLike) -> None:
        C = checks.array("C", C, ("rows", "outputs"))
        d = checks.array("d", d, (len(C),))
        checks.size("len(d)", len(d))
        _set(self, C=C, d=d)


@dataclass(frozen=True)
class AnyOf:
    """At least one of several properties holds."""

    properties: tuple[Property, ...]


@dataclass(frozen=True)
class AllOf:
    """Each of several properties holds."""

    properties: tuple[Property, ...]


Property = Argmax | LinearProperty | AnyOf | AllOf


class Clause(NamedTuple):
    """One of the rows of Q y + c is positive; where ``strict`` is false, zero will do. A property is some clauses."""

    Q: Array
    c: Array
    strict: Mask

    def holds(self, values: Array) -> Mask:
        """Say whether the clause follows from values, or lower bounds, of its rows, (..., rows)."""
        return np.asarray(((values > 0) | ((values == 0) & ~self.strict)).any(-1))


def clauses(prop: Property, outputs: int) -> list[Clause]:
    """Write a property as clauses, all of which must hold."""
    match prop:
        case Argmax(label=label):
            checks.size("outputs", outputs, 2)
            checks.size("label", label, 0, outputs - 1)
            eye = np.eye(outputs)
            others = [i for i in range(outputs) if i != label]
            return [Clause(eye[[label]] - eye[[i]], np.zeros(1), np.ones(1, dtype=bool)) for i in others]
        case LinearProperty(C=C, d=d):
            if C.shape[1] != outputs:
                raise ValueError(f"C.shape = {C.shape}: expected (rows, {outputs}), the network's outputs")
            none = np.zeros(1, dtype=bool)
            return [Clause(-row[None], limit, none) for row, limit in zip(C, d[:, None], strict=True)]
        case AllOf(properties=parts) if parts:
            return [clause for part in parts for clause in clauses(part, outputs)]
        case AnyOf(properties=parts) if parts:
            every = itertools.product(*(clauses(part, outputs) for part in parts))
            return [Clause(*(np.concatenate(field) for field in zip(*chosen, strict=True))) for chosen in every]
    raise ValueError(f"property = {prop!r}: expected Argmax, LinearProperty, or AnyOf or AllOf of at least one of them")


def order_alone(wanted: Iterable[Clause]) -> bool:
    """Say whether clauses just compare outputs: each row is c (y_i - y_j) with c > 0, and no offset."""
    Q, c = (np.concatenate(parts) for parts in zip(*((clause.Q, clause.c) for clause in wanted), strict=True))
    return bool((c == 0).all() and ((Q != 0).sum(1) == 2).all() and (Q.max(1) == -Q.min(1)).all())


def question(
    network: nn.Module | AffineReLU, inputs: Box | Polytope, prop: Property, input_shape: Sequence[int] | None = None
) -> tuple[AffineReLU, Domain, list[Clause]]:
    """Return what is asked in numbers; a softmax at the end is left out where the order of the outputs decides."""
    net, softmax = without_softmax(network, input_shape)
    wanted = clauses(prop, net.sizes[-1])
    if softmax and not order_alone(wanted):
        raise kept_softmax(softmax, "expected a property that just compares outputs, or a network without it")
    return net, domain(inputs, net.sizes[0]), wanted


class Domain(NamedTuple):
    """A box and half-spaces H x <= v within it: what the engines take."""

    low: Array
    high: Array
    H: Array
    v: Array
    centre: Array  # of the largest ball inside; of a box, anything

    @classmethod
    def box(cls, low: Array, high: Array) -> Domain:
        """Return a box that nothing cuts."""
        return cls(low, high, np.zeros((0, len(low))), np.zeros(0), low)

    def contains(self, x: Array) -> Mask:
        """Say of points (..., inputs) whether they are inside."""
        inside = (x >= self.low).all(-1) & (x <= self.high).all(-1)
        return np.asarray(inside & (x @ self.H.T <= self.v).all(-1))

    def pulled(self, x: Array) -> Array:
        """Return points, (points, inputs), each at its place, at the border if it was beyond it, and just inside."""
        if not len(self.v):
            return x
        beyond = np.maximum(x @ self.H.T - self.v, 0)
        room = np.maximum(self.v - self.centre @ self.H.T, 1e-300)
        share = (beyond / (beyond + room)).max(1, keepdims=True)
        shares = [share + inwards for inwards in (0, 1e-12, 1e-9, 1e-6)]
        return np.vstack([x, *(x + one.clip(0, 1) * (self.centre - x) for one in shares)])

    def certainly_contains(self, x: Array) -> bool:
        """Say of one point whether it is inside, without rounding."""
        cut = all(value <= 0 for value in exact_affine(self.H, -self.v, [Fraction(value) for value in x.tolist()]))
        return bool((x >= self.low).all() and (x <= self.high).all() and cut)


def domain(inputs: Box | Polytope, size: int) -> Domain:
    """Return the box around a set of inputs, and the half-spaces that cut it."""
    given = len(inputs.low) if isinstance(inputs, Box) else inputs.A.shape[1]
    if given != size:
        raise ValueError(f"the set of inputs has {given} dimensions: expected {size}, the network's inputs")
    if isinstance(inputs, Box):
        return Domain.box(inputs.low, inputs.high)
    A, b = inputs.A, inputs.b
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    cuts = np.ones(len(b), dtype=bool)
    for i in np.flatnonzero((A != 0).sum(1) == 1):
        j = int(np.flatnonzero(A[i])[0])
        end, outward = float(b[i]) / float(A[i, j]), np.copysign(np.inf, A[i, j])
        if not np.isfinite(end):
            continue
        # The row goes only if the side of the box says the same; one that was rounded lies outside.
        cuts[i] = Fraction(end) * Fraction(A[i, j]) != Fraction(b[i])
        end = np.nextafter(end, outward) if cuts[i] else end
        if outward > 0:
            high[j] = min(high[j], end)
        else:
            low[j] = max(low[j], end)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        around = _bounding_box(A, b)
        low, high = np.maximum(low, around[0]), np.minimum(high, around[1])
    high = np.maximum(low, high)
    return Domain(low, high, A[cuts], b[cuts], largest_ball(A, b, low, high)[0])


def largest_ball(G: Array, h: Array, low: Array, high: Array) -> tuple[Array, float]:
    """Return centre and radius of the largest ball in a box with G x <= h; the radius is negative if nothing is."""
    open_sides = high > low
    size = int(open_sides.sum())
    if size == 0:
        return low, 0.0
    A = np.vstack([G[:, open_sides], np.eye(size), -np.eye(size)])
    b = np.concatenate([h - G[:, ~open_sides] @ low[~open_sides], high[open_sides], -low[open_sides]])
    A, cost = np.column_stack([A, np.linalg.norm(A, axis=1)]), np.append(np.zeros(size), -1.0)
    found: Any = linprog(cost, A_ub=A, b_ub=b, bounds=(None, None), method="highs")
    if found.status != 0:
        raise SolverError(found.status, found.message)
    x = low.copy()
    x[open_sides] = found.x[:-1]
    return x, float(found.x[-1])


def _bounding_box(A: Array, b: Array) -> tuple[Array, Array]:
    """Return a box that surely contains A x <= b, from the multipliers of linear programs.

    With e = A' nu + r for a nu >= 0, e . x <= nu . b + |r|_1 max |x|. Where all |r|_1 < 1 the polytope is bounded, and
    max |x| <= max(nu . b) / (1 - max |r|_1); rounding is part of r.
    """
    size = A.shape[1]
    limit, rest = np.zeros((2, size)), np.zeros((2, size))
    for side, j in itertools.product(range(2), range(size)):
        e = np.zeros(size)
        e[j] = 1 - 2 * side
        found = linprog(-e, A_ub=A, b_ub=b, bounds=(None, None), method="highs")
        if found.status != 0:
            raise ValueError(f"A x <= b does not bound input {j}: expected a bounded polytope ({found.message})")
        nu = np.maximum(-found.ineqlin.marginals, 0)
        rounding = (len(A) + 4) * 2.0**-51
        rest[side, j] = (np.abs(e - nu @ A) + rounding * (1 + nu @ np.abs(A))).sum() * (1 + rounding * size)
        limit[side, j] = nu @ b + rounding * (nu @ np.abs(b))
    if rest.max() >= 0.5:
        raise ValueError("A x <= b: the solver gives no multipliers that bound it; scale its rows to norm 1")
    reach = max(float(limit.max()), 0.0) / (1 - rest.max())
    ends = limit + rest * reach * (1 + 1e-12) + 1e-290
    return -ends[1], ends[0]


def _set(self: Any, **arrays: Array) -> None:
    """Set read-only fields of a frozen dataclass."""
    for name, array in arrays.items():
        array.setflags(write=False)
        object.__setattr__(self, name, array)
