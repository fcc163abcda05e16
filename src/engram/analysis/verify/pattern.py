"""Activation patterns: which hidden units are on, and the affine map that the network is while they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from engram.analysis.verify.bounds import FREE, ON, Phases
from engram.analysis.verify.network import AffineReLU, Array

Pattern = tuple[Phases, ...]


def activation_pattern(net: AffineReLU, x: Float[np.ndarray, "*batch inputs"]) -> Pattern:
    """Return the phases of all hidden units at an input, or at many: 1 on (z > 0), 0 off; (..., units) of each layer.

    Examples:
        >>> net = AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))
        >>> activation_pattern(net, np.array([0.0, 1.0]))
        (array([1, 0], dtype=int8),)
    """
    return tuple((z > 0).astype(np.int8) for z in net.preactivations(x)[:-1])


def local_affine(net: AffineReLU, pattern: Sequence[Phases]) -> list[tuple[Array, Array]]:
    """Return the affine maps z_k = A_k x + a_k of all layers while the units are in a pattern.

        A_1 = W_1,   A_{k+1} = W_{k+1} D_k A_k,   D_k = diag(on),   and a_k likewise

    Raises:
        ValueError: The pattern does not fit the network, or a phase is open.
    """
    if [len(phases) for phases in pattern] != list(net.sizes[1:-1]) or any((p == FREE).any() for p in pattern):
        raise ValueError(f"pattern = {pattern}: expected phases 0 or 1 of {net.sizes[1:-1]} hidden units")
    A, a = net.weights[0], net.biases[0]
    found = [(A, a)]
    for W, b, phases in zip(net.weights[1:], net.biases[1:], pattern, strict=True):
        open_units = W * (phases == ON)
        A, a = open_units @ A, open_units @ a + b
        found.append((A, a))
    return found


def pattern_halfspaces(
    net: AffineReLU, at: Sequence[Phases], pattern: Sequence[Phases], tau: float = 0.0
) -> tuple[Array, Array]:
    """Return the half-spaces G x <= h of the inputs that have a pattern, a unit counting as on from z = tau.

    ``at`` is the full pattern from which units were freed (2). If a unit is fixed, so are all in the layers before: the
    set is convex then.

    Raises:
        ValueError: A unit is fixed behind a free one, or otherwise than in ``at``.
    """
    rows, right = [np.zeros((0, net.sizes[0]))], [np.zeros(0)]
    free = False
    for (A, a), full, phases in zip(local_affine(net, at), at, pattern, strict=False):
        fixed = phases != FREE
        if (free and fixed.any()) or (phases[fixed] != full[fixed]).any():
            raise ValueError("pattern fixes a unit behind a free layer, or not as it is: the set would not be convex")
        free = free or not fixed.all()
        on = phases[fixed] == ON
        rows.append(np.where(on[:, None], -A[fixed], A[fixed]))
        right.append(np.where(on, a[fixed] - tau, -a[fixed]))
    return np.vstack(rows), np.concatenate(right)
