"""Specifications: a set of inputs, and a property of all their outputs."""

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
from engram.verify.modules import kept_softmax, without_softmax
from engram.verify.network import AffineReLU, Array, Mask, exact_affine
from engram.verify.running import compare

ArrayLike = np.ndarray | Sequence[Any]
LARGEST = 1e300  # largest end of a box, so that the length of a side does not overflow


class SolverError(RuntimeError):
    """HiGHS could not solve a program, mostly because its numbers differ too much in size."""

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
        for name, bound in (("low", low), ("high", high)):
            if (np.abs(bound) > LARGEST).any():
                axis = int(np.argmax(np.abs(bound)))
                raise ValueError(f"{name}[{axis}] = {bound[axis]}: expected ends of at most {LARGEST} in size")
        checks.size("len(low)", len(low))
        if (low > high).any():
            axis = int(np.argmax(low > high))
            raise ValueError(
                f"low[{axis}] = {low[axis]} is above high[{axis}] = {high[axis]}: expected a box that is not empty"
            )
        _set(self, low=low, high=high)


@dataclass(frozen=True, eq=False, init=False)
class Polytope:
    """All x with A x <= b, (rows, inputs) and (rows,); bounded and not empty."""

    A: Array
    b: Array

    def __init__(self, A: ArrayLike, b: ArrayLike) -> None:
        self._set_rows(A, b)
        A, b = self.A, self.b
        result = linprog(np.zeros(A.shape[1]), A_ub=A, b_ub=b, bounds=(None, None), method="highs")
        if result.status not in (0, 2):
            raise SolverError(result.status, result.message)
        if result.status == 2:
            raise ValueError("A x <= b has no solution: expected a polytope that is not empty")

    @classmethod
    def maybe_empty(cls, A: ArrayLike, b: ArrayLike) -> Polytope:
        """A polytope that need not have a point, so that any property holds for all of them."""
        polytope = object.__new__(cls)
        polytope._set_rows(A, b)
        return polytope

    def _set_rows(self, A: ArrayLike, b: ArrayLike) -> None:
        A = checks.array("A", A, ("rows", "inputs"))
        b = checks.array("b", b, (len(A),))
        checks.size("A.size", A.size)
        _set(self, A=A, b=b)


@dataclass(frozen=True)
class Argmax:
    """Output ``label`` is larger than every other: y_c > y_i for all i != c."""

    label: int


@dataclass(frozen=True, eq=False, init=False)
class LinearProperty:
    """All rows of C y <= d hold, (rows, outputs) and (rows,); of C y < d, if ``strict``."""

    C: Array
    d: Array
    strict: bool

    def __init__(self, C: ArrayLike, d: ArrayLike, *, strict: bool = False) -> None:
        C = checks.array("C", C, ("rows", "outputs"))
        d = checks.array("d", d, (len(C),))
        checks.size("len(d)", len(d))
        _set(self, C=C, d=d)
        object.__setattr__(self, "strict", checks.instance("strict", strict, bool))


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
    """The condition that a row of Q y + c is positive, or zero if not ``strict``. A property is a list of clauses."""

    Q: Array
    c: Array
    strict: Mask

    def holds(self, values: Array) -> Mask:
        """Whether the clause follows from the values of its rows, (..., rows), or from lower bounds of them."""
        return np.asarray(((values > 0) | ((values == 0) & ~self.strict)).any(-1))


def clauses(prop: Property, outputs: int) -> list[Clause]:
    """The clauses that must all hold for a property to hold."""
    match prop:
        case Argmax(label=label):
            checks.size("outputs", outputs, 2)
            checks.size("label", label, 0, outputs - 1)
            eye = np.eye(outputs)
            other_labels = [i for i in range(outputs) if i != label]
            return [Clause(eye[[label]] - eye[[i]], np.zeros(1), np.ones(1, dtype=bool)) for i in other_labels]
        case LinearProperty(C=C, d=d, strict=strict):
            if C.shape[1] != outputs:
                raise ValueError(f"C.shape = {C.shape}: expected (rows, {outputs}), the network's outputs")
            mask = np.full(1, strict)
            return [Clause(-row[None], limit, mask) for row, limit in zip(C, d[:, None], strict=True)]
        case AllOf(properties=parts) if parts:
            return [clause for part in parts for clause in clauses(part, outputs)]
        case AnyOf(properties=parts) if parts:
            choices = itertools.product(*(clauses(part, outputs) for part in parts))
            return [Clause(*(np.concatenate(field) for field in zip(*choice, strict=True))) for choice in choices]
    raise ValueError(f"property = {prop!r}: expected Argmax, LinearProperty, or AnyOf or AllOf of at least one of them")


def only_compares(required: Iterable[Clause]) -> bool:
    """Whether clauses only compare outputs: each row is c (y_i - y_j) with c > 0, and no offset."""
    Q, c = (np.concatenate(arrays) for arrays in zip(*((clause.Q, clause.c) for clause in required), strict=True))
    return bool((c == 0).all() and ((Q != 0).sum(1) == 2).all() and (Q.max(1) == -Q.min(1)).all())


def question(
    network: nn.Module | AffineReLU, inputs: Box | Polytope, prop: Property, input_shape: Sequence[int] | None = None
) -> tuple[AffineReLU, Domain, list[Clause]]:
    """The network, the set of inputs and the clauses of a question, in the form that engines take.

    Args:
        network: The network; a softmax at its end is removed if only the order of outputs matters.
        inputs: The set of inputs.
        prop: The property.
        input_shape: Shape of one input, if the first layer does not give it.
    """
    checks.arguments()
    net, softmax = without_softmax(network, input_shape)
    required = clauses(prop, net.sizes[-1])
    if softmax and not only_compares(required):
        raise kept_softmax(softmax, "expected a property that just compares outputs, or a network without it")
    domain = as_domain(inputs, net.sizes[0])
    if isinstance(network, nn.Module):
        shape = tuple(input_shape or (net.sizes[0],))
        compare(network, net, shape, softmax, (domain.low, domain.high))
    return net, domain, required


class Domain(NamedTuple):
    """A box and half-spaces H x <= v within it, the form that engines take."""

    low: Array
    high: Array
    H: Array
    v: Array
    centre: Array  # of the largest ball inside; not used for a box

    @classmethod
    def box(cls, low: Array, high: Array) -> Domain:
        """A box without half-spaces."""
        return cls(low, high, np.zeros((0, len(low))), np.zeros(0), low)

    def contains(self, x: Array) -> Mask:
        """Whether points (..., inputs) are inside."""
        inside = (x >= self.low).all(-1) & (x <= self.high).all(-1)
        return np.asarray(inside & (x @ self.H.T <= self.v).all(-1))

    def pulled(self, x: Array) -> Array:
        """The points, (points, inputs), then copies that are pulled to the border if beyond it, and just inside."""
        if not len(self.v):
            return x
        beyond = np.maximum(x @ self.H.T - self.v, 0)
        room = np.maximum(self.v - self.centre @ self.H.T, 1e-300)
        share = (beyond / (beyond + room)).max(1, keepdims=True)
        shares = [share + inwards for inwards in (0, 1e-12, 1e-9, 1e-6)]
        return np.vstack([x, *(x + inward_share.clip(0, 1) * (self.centre - x) for inward_share in shares)])

    def certainly_contains(self, x: Array) -> bool:
        """Whether one point is inside, computed without rounding."""
        cut = all(value <= 0 for value in exact_affine(self.H, -self.v, [Fraction(value) for value in x.tolist()]))
        return bool((x >= self.low).all() and (x <= self.high).all() and cut)


def as_domain(inputs: Box | Polytope, size: int) -> Domain:
    """The box around a set of inputs, and the half-spaces that cut it."""
    dimensions = len(inputs.low) if isinstance(inputs, Box) else inputs.A.shape[1]
    if dimensions != size:
        raise ValueError(f"the set of inputs has {dimensions} dimensions: expected {size}, the network's inputs")
    if isinstance(inputs, Box):
        return Domain.box(inputs.low, inputs.high)
    A, b = inputs.A, inputs.b
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    cuts = np.ones(len(b), dtype=bool)
    for row in np.flatnonzero((A != 0).sum(1) == 1):
        axis = int(np.flatnonzero(A[row])[0])
        bound, outward = float(b[row]) / float(A[row, axis]), np.copysign(np.inf, A[row, axis])
        if not np.isfinite(bound):
            continue
        # The row is dropped only if the side of the box equals it; a side that was rounded is moved outwards.
        cuts[row] = Fraction(bound) * Fraction(A[row, axis]) != Fraction(b[row])
        bound = np.nextafter(bound, outward) if cuts[row] else bound
        if outward > 0:
            high[axis] = min(high[axis], bound)
        else:
            low[axis] = max(low[axis], bound)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        bounding_box = _bounding_box(A, b)
        low, high = np.maximum(low, bounding_box[0]), np.minimum(high, bounding_box[1])
    if (low > high).any():
        cuts[:] = True  # so that no point is inside, if the polytope is empty
    high = np.maximum(low, high)
    return Domain(low, high, A[cuts], b[cuts], largest_ball(A, b, low, high)[0])


def largest_ball(G: Array, h: Array, low: Array, high: Array) -> tuple[Array, float]:
    """Centre and radius of the largest ball in a box with G x <= h; the radius is negative if this set is empty.

    Args:
        G: Rows of the half-spaces.
        h: Their limits.
        low: Lower ends of the box.
        high: Upper ends.
    """
    open_sides = high > low
    size = int(open_sides.sum())
    if size == 0:
        return low, 0.0
    A = np.vstack([G[:, open_sides], np.eye(size), -np.eye(size)])
    b = np.concatenate([h - G[:, ~open_sides] @ low[~open_sides], high[open_sides], -low[open_sides]])
    A, cost = np.column_stack([A, np.linalg.norm(A, axis=1)]), np.append(np.zeros(size), -1.0)
    result: Any = linprog(cost, A_ub=A, b_ub=b, bounds=(None, None), method="highs")
    if result.status == 2:  # a half-space that does not depend on the open sides
        return low, -np.inf
    if result.status != 0:
        raise SolverError(result.status, result.message)
    x = low.copy()
    x[open_sides] = result.x[:-1]
    return x, float(result.x[-1])


def _bounding_box(A: Array, b: Array) -> tuple[Array, Array]:
    """A box that certainly contains A x <= b, from the multipliers of linear programs.

    With e = A' nu + r for a nu >= 0, e . x <= nu . b + |r|_1 max |x|. Where all |r|_1 < 1 the polytope is bounded, and
    max |x| <= max(nu . b) / (1 - max |r|_1); rounding is part of r.
    """
    size = A.shape[1]
    limit, residual = np.zeros((2, size)), np.zeros((2, size))
    for side, j in itertools.product(range(2), range(size)):
        e = np.zeros(size)
        e[j] = 1 - 2 * side
        result = linprog(-e, A_ub=A, b_ub=b, bounds=(None, None), method="highs")
        if result.status != 0:
            raise ValueError(f"A x <= b does not bound input {j}: expected a bounded polytope ({result.message})")
        nu = np.maximum(-result.ineqlin.marginals, 0)
        rounding = (len(A) + 4) * 2.0**-51
        residual[side, j] = (np.abs(e - nu @ A) + rounding * (1 + nu @ np.abs(A))).sum() * (1 + rounding * size)
        limit[side, j] = nu @ b + rounding * (nu @ np.abs(b))
    if residual.max() >= 0.5:
        raise ValueError("A x <= b: expected a polytope that the solver can bound; scale its rows to norm 1")
    reach = max(float(limit.max()), 0.0) / (1 - residual.max())
    ends = limit + residual * reach * (1 + 1e-12) + 1e-290
    return -ends[1], ends[0]


def _set(self: Any, **arrays: Array) -> None:
    """Set read-only fields of a frozen dataclass."""
    for name, array in arrays.items():
        array.setflags(write=False)
        object.__setattr__(self, name, array)
