"""Representational similarity analysis."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import pdist

from engram import checks
from engram.numeric.rounding import FEW, precision, varies

TIES = 10  # decimals of distances, relative to the largest, that are compared


def rsa(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"], metric: Annotated[Any, str] = "correlation"
) -> float:
    """The rank correlation between the distances among samples in two sets of activity.

        Spearman correlation of pdist(X) and pdist(Y), in [-1, 1]

    Args:
        X: Activity in three samples or more; the distances among samples must not all be equal, up to rounding.
        Y: Activity of other units in the same samples.
        metric: Name of a distance in ``scipy.spatial.distance.pdist``.

    Raises:
        ValueError: The numbers of samples differ or are below 3; ``metric`` is unknown; distances are not finite, or
            all equal up to rounding; or, for a correlation or a cosine, a sample is the same in all units or zero.

    Source: Kriegeskorte, Mur and Bandettini, "Representational similarity analysis" (2008).

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 3))
        >>> rsa(X, 2 * X)
        1.0
    """
    checks.arguments()
    if len(X) != len(Y) or len(X) < 3:
        raise ValueError(f"X.shape, Y.shape = {X.shape}, {Y.shape}: expected equal numbers of samples, at least 3")
    distances = [_compared(name, values, metric) for name, values in (("X", X), ("Y", Y))]
    return float(stats.spearmanr(distances[0], distances[1]).statistic)


def _compared(name: str, values: Float[np.ndarray, "samples units"], metric: Any) -> Float[np.ndarray, " pairs"]:
    """The distances between samples, relative to the largest, with those equal that differ by rounding alone.

    So equal distances stay tied when the samples are rotated, and distances that are rounding errors are all equal.
    """
    unit = FEW * precision(values.dtype)
    values = np.where(varies(values), values, values[0])  # some metrics divide by the deviation of a unit
    distances = pdist(values, metric)
    largest = float(np.abs(distances).max())
    if metric in ("correlation", "co", "cosine", "cos"):
        lengths = np.linalg.norm(
            values - (values.mean(1, keepdims=True) if metric in ("correlation", "co") else 0), axis=1
        )
        sizes = np.linalg.norm(values, axis=1)
        if (short := lengths <= unit * sizes).any():
            sample = f"sample {int(short.argmax())} of {name} is the same in all units, up to rounding, or zero"
            raise ValueError(f"{sample}: expected a pattern, for metric = {metric!r}")
        rounding, scale = unit * float((sizes / lengths).max()), largest
    else:
        rounding = unit * float(np.abs(values).max(initial=0))
        scale = float(np.abs(values - values.mean(0)).max(initial=0))
    if np.isfinite(distances).all() and largest > 0 and scale > 0:
        distances = np.round(distances / largest, TIES)
        if rounding / scale > 10.0**-TIES:
            distances = _tied(distances, rounding / scale)
        if np.ptp(distances) > 0:
            return np.asarray(distances)
    raise ValueError(f"distances between samples of {name} are all equal, or not finite: expected some that differ")


def _tied(values: Float[np.ndarray, " pairs"], gap: float) -> Float[np.ndarray, " pairs"]:
    """The values with those made equal that differ by at most ``gap``, and all of them by at most that.

    Values that are reached from each other in steps of at most ``gap`` are one group, since equal distances should not
    fall into two; a group that is wider, as of many distances without a gap among them, is cut into parts of that
    width: its ends do differ.
    """
    order = np.argsort(values)
    ascending = values[order]
    is_first = np.diff(ascending, prepend=-np.inf) > gap
    first = ascending[is_first][np.cumsum(is_first) - 1]
    tied = np.empty_like(values)
    tied[order] = first + gap * np.maximum(np.ceil((ascending - first) / gap) - 1, 0)
    return tied
