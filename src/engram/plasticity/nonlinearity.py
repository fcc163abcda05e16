"""Nonlinearities of units for which ``torch`` has no function of one argument."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def identity(current: Float[Tensor, "*batch units"]) -> Float[Tensor, "*batch units"]:
    """Return the current as it is."""
    return current


def softmax(current: Float[Tensor, "*batch units"]) -> Float[Tensor, "*batch units"]:
    """Return exp(c[j]) / sum_k exp(c[k]), over the units."""
    return current.softmax(-1)
