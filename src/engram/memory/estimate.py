"""What neighbours answer: the weighted mean of their values."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.checks import choice as check_choice

KERNELS = ("idw", "mean")


def estimate(
    values: Annotated[Tensor, "*batch k value_dim"],
    squared_distances: Annotated[Tensor, "*batch k"],
    *,
    kernel: str = "idw",
    delta: float | str = 1e-3,
    exact_match: bool = True,
    empty_value: float = 0.0,
) -> Float[Tensor, "*batch value_dim"]:
    """Return the weighted mean of neighbours' values.

        w_i = 1 / (d_i^2 + delta), or 1;   sum_i w_i v_i / sum_i w_i

    Args:
        values: v, nearest first, (..., k, value_dim).
        squared_distances: d^2, infinite for a neighbour that is none, (..., k).
        kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
        delta: Added to squared distances; ``"auto"``: their mean.
        exact_match: Whether a neighbour at distance 0 answers alone.
        empty_value: The answer without neighbours.

    Raises:
        ValueError: ``kernel`` or ``delta`` is out of range.

    Source: Pritzel et al., "Neural episodic control" (2017), equations 2 and 5.

    Examples:
        >>> estimate(torch.tensor([[10.0], [20.0]]), torch.tensor([1.0, 9.0]), delta=0.0)
        tensor([11.])
    """
    check_estimate(kernel, delta)
    there = squared_distances.isfinite()
    d2 = squared_distances.masked_fill(~there, 0)
    found = there.sum(-1, keepdim=True)
    added = d2.sum(-1, keepdim=True) / found.clamp(min=1) if delta == "auto" else float(delta)
    endless = (d2[..., :1] + added == 0) & (found > 0)
    weights = there.to(d2.dtype)
    if kernel == "idw":
        inverse = weights / (d2 + added).masked_fill(~there | endless, 1)
        weights = torch.where(endless, (there & (d2 == 0)).to(d2.dtype), inverse)
    answer = (weights[..., None] * values).sum(-2) / weights.sum(-1, keepdim=True).masked_fill(found == 0, 1)
    if exact_match:
        answer = torch.where((d2[..., :1] == 0) & (found > 0), values[..., 0, :], answer)
    return torch.where(found == 0, empty_value, answer)


def fast_estimate(
    values: Annotated[np.ndarray, "tables capacity value_dim"],
    rows: Annotated[np.ndarray, "pairs k"],
    squared_distances: Annotated[np.ndarray, "pairs k"],
    tables: Annotated[np.ndarray, " samples_or_none"],
    *,
    kernel: str,
    delta: float | str,
    exact_match: bool,
    empty_value: float,
) -> Float[np.ndarray, "pairs value_dim"]:
    """Return what ``estimate`` does of the values in rows, row -1 being none; see ``Search`` for pairs and tables."""
    from engram.memory.kernels import neighbours

    out = np.empty((len(rows), values.shape[2]), values.dtype)
    added = -1.0 if delta == "auto" else float(delta)
    neighbours.estimate(values, rows, squared_distances, tables, kernel == "idw", added, exact_match, empty_value, out)
    return out


def check_estimate(kernel: str, delta: float | str) -> None:
    """Raise unless these are arguments of ``estimate``."""
    check_choice("kernel", kernel, KERNELS)
    if delta != "auto" and (isinstance(delta, str) or not 0 <= delta < math.inf):
        raise ValueError(f"delta = {delta!r}: expected at least 0, or 'auto'")
