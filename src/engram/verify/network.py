"""A ReLU network as matrices, which all proofs are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from engram import checks

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.intp]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


class UnsupportedLayerError(TypeError):
    """A module has a layer that is not piecewise linear, or that cannot be read as matrices; the message names it."""


@dataclass(frozen=True, eq=False)
class AffineReLU:
    """Affine layers with ReLU between them, in 64-bit floating point.

        h_0 = x,   z_k = W_k h_{k-1} + b_k,   h_k = max(z_k, 0),   y = z_L

    ``weights`` are W_k, (out, in), and ``biases`` b_k, (out,), of at least one layer; all are finite.

    Examples:
        >>> AffineReLU((np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))(np.ones(2))
        array([2.])
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        checks.arguments()
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(
                f"{len(self.weights)} weights and {len(self.biases)} biases: expected equal numbers, at least 1"
            )
        for kind, arrays in (("weights", self.weights), ("biases", self.biases)):
            copies = tuple(np.array(a, dtype=np.float64) for a in arrays)  # nothing else can change these
            for k, a in enumerate(copies):
                checks.finite(f"{kind}[{k}]", a)
                a.setflags(write=False)
            object.__setattr__(self, kind, copies)
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            n_inputs = self.weights[k - 1].shape[0] if k else W.shape[-1]
            if W.ndim != 2 or b.shape != W.shape[:1] or W.shape[1] != n_inputs or 0 in W.shape:
                raise ValueError(
                    f"layer {k} has weights {W.shape} and biases {b.shape}: expected (n, {n_inputs}) and (n,)"
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of inputs, of hidden units in each layer, and of outputs."""
        return (self.weights[0].shape[1], *(len(b) for b in self.biases))

    def __call__(self, x: Float[np.ndarray, "*batch inputs"]) -> Float[np.ndarray, "*batch outputs"]:
        """The outputs y."""
        return self.preactivations(x)[-1]

    def preactivations(self, x: Float[np.ndarray, "*batch inputs"]) -> list[Array]:
        """The pre-activations z_1 to z_L, (..., units) each; the last are the outputs."""
        with checks.noted(x=x):
            preactivations, h = [], np.asarray(x, dtype=np.float64)
        self.check_inputs("x", h)
        for W, b in zip(self.weights, self.biases, strict=True):
            preactivations.append(h @ W.T + b)
            h = np.maximum(preactivations[-1], 0)
        return preactivations

    def check_inputs(self, name: str, x: Float[np.ndarray, "*batch inputs"]) -> None:
        """Raise a ValueError unless the last axis of an array has the size of the inputs."""
        checks.instance(name, x, np.ndarray)
        if x.shape[-1:] != self.sizes[:1]:
            raise ValueError(f"{name}.shape = {x.shape}: expected (..., {self.sizes[0]}), as the network has inputs")

    def exact(self, x: Float[np.ndarray, " inputs"]) -> list[Fraction]:
        """The outputs for one input without any rounding, as rational numbers."""
        h = [Fraction(v) for v in checks.array("x", x, self.sizes[:1]).tolist()]
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = exact_affine(W, b, h)
            h = z if k == len(self.weights) - 1 else [max(v, Fraction(0)) for v in z]
        return h


def exact_affine(W: Array, b: Array, x: Sequence[Fraction]) -> list[Fraction]:
    """W x + b without any rounding.

    Args:
        W: Weights.
        b: Biases.
        x: Input, as rational numbers.
    """
    return [
        sum((Fraction(w) * v for w, v in zip(row, x, strict=True) if w and v), Fraction(offset))
        for row, offset in zip(W.tolist(), b.tolist(), strict=True)
    ]
