"""Kernel estimates from neighbours: the weighted mean of their values."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

KERNELS = ("idw", "mean")


class Averaging(NamedTuple):
    """How the values of neighbours are averaged."""

    kernel: str = "idw"  # weights 1 / (squared distance + delta), or equal ones, "mean"
    delta: float | str = 1e-3  # "auto": the mean squared distance
    exact_match: bool = True  # a neighbour at distance 0 answers alone
    empty_value: float = 0.0  # the answer without neighbours
    shared_keys: bool = False  # different states may have one key: all neighbours at distance 0 answer, by their mean

    def checked(self) -> Averaging:
        """The settings themselves; ValueError if one is out of range."""
        checks.choice("kernel", self.kernel, KERNELS)
        checks.instance("exact_match", self.exact_match, bool | np.bool_)  # type: ignore[arg-type]
        if self.delta != "auto":
            checks.number("delta", self.delta, minimum=0)
        return self


def estimate(
    values: Annotated[Tensor, "*batch k value_dim"],
    squared_distances: Annotated[Tensor, "*batch k"],
    averaging: Averaging,
) -> Float[Tensor, "*batch value_dim"]:
    """The weighted mean of the values of neighbours, nearest first; d^2 is infinite where there is no neighbour.

        w_i = 1 / (d_i^2 + delta), or 1;   sum_i w_i v_i / sum_i w_i

    Args:
        values: v, (..., k, value_dim).
        squared_distances: d^2, (..., k).
        averaging: Kernel, delta, and the answer without neighbours or at an exact match.

    Source: Pritzel et al., "Neural episodic control" (2017), equations 2 and 5.
    """
    is_present = squared_distances.isfinite()
    finite_distances = squared_distances.masked_fill(~is_present, 0)
    count = is_present.sum(-1, keepdim=True)
    delta = (
        finite_distances.sum(-1, keepdim=True) / count.clamp(min=1)
        if averaging.delta == "auto"
        else float(averaging.delta)
    )
    is_infinite = (finite_distances[..., :1] + delta == 0) & (count > 0)
    weights = is_present.to(finite_distances.dtype)
    if averaging.kernel == "idw":
        inverse = weights / (finite_distances + delta).masked_fill(~is_present | is_infinite, 1)
        weights = torch.where(is_infinite, (is_present & (finite_distances == 0)).to(finite_distances.dtype), inverse)
    average = (weights[..., None] * values).sum(-2) / weights.sum(-1, keepdim=True).masked_fill(count == 0, 1)
    if averaging.exact_match:
        is_same = (is_present & (finite_distances == 0)).to(values.dtype)[..., None]
        of_key = (
            (is_same * values).sum(-2) / is_same.sum(-2).clamp(min=1) if averaging.shared_keys else values[..., 0, :]
        )
        average = torch.where((finite_distances[..., :1] == 0) & (count > 0), of_key, average)
    return torch.where(count == 0, averaging.empty_value, average).to(values.dtype)


def fast_estimate(
    values: Annotated[np.ndarray, "tables capacity value_dim"],
    rows: Annotated[np.ndarray, "pairs k"],
    squared_distances: Annotated[np.ndarray, "pairs k"],
    tables: Annotated[np.ndarray, " samples_or_none"],
    averaging: Averaging,
) -> Float[np.ndarray, "pairs value_dim"]:
    """The ``estimate`` for pairs of a sample and a table, by the numba kernel.

    Args:
        values: Values of all rows, (tables, capacity, value_dim).
        rows: Neighbours of each pair, nearest first, -1 for none, (pairs, k).
        squared_distances: Squared distances of these neighbours.
        tables: Table of each sample; if empty, all tables, with pairs ordered by sample, then by table.
        averaging: Kernel, delta, and the answer without neighbours or at an exact match.
    """
    from engram.memory.episodic import kernels

    estimates = np.empty((len(rows), values.shape[2]), values.dtype)
    delta = -1.0 if averaging.delta == "auto" else float(averaging.delta)
    idw = averaging.kernel == "idw"
    exact, shared = averaging.exact_match, averaging.shared_keys
    kernels.estimate(
        values, rows, squared_distances, tables, idw, delta, exact, shared, averaging.empty_value, estimates
    )
    return estimates
