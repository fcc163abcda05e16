"""Whether neighbours in a representation are neighbours in what it represents."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist

from engram import checks


@dataclass(frozen=True)
class RepresentationOrder:
    """The order of a representation, and for each label how well neighbours predict it (R^2).

    ``order`` is 1 where neighbours are as far apart in their labels as any two, and small where they are close.
    """

    order: float
    knn_r2: tuple[float, ...]


def representation_order(
    H: Float[np.ndarray, "n features"], labels: Float[np.ndarray, "n labels"], k: int = 5
) -> RepresentationOrder:
    """How far apart nearest neighbours in a representation are in their labels, against all pairs.

        order = mean distance of labels to those of the k nearest others in H / mean distance of labels of all pairs

    and of each label the R^2 of its prediction by the mean of the k nearest others.

    Args:
        H: The representation.
        labels: The label of each row.
        k: Neighbours, less than n.

    Returns:
        The order and the R^2; NaN, with a warning, if labels are constant.

    Raises:
        ValueError: There are no more than k rows, or a value is not finite.

    Source: ours.

    Examples:
        >>> grid = np.stack(np.meshgrid(np.linspace(1, 14, 10), np.linspace(1, 14, 10)), -1).reshape(-1, 2)
        >>> representation_order(grid @ np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]), grid).order < 0.5
        True
    """
    checks.arguments()
    checks.finite("H", H)
    checks.finite("labels", labels)
    if checks.size("k", k) >= len(H):
        raise ValueError(f"k = {k}: expected less than the {len(H)} rows of H")
    between = cdist(H, H)
    np.fill_diagonal(between, np.inf)
    near = labels[np.argpartition(between, k - 1, axis=1)[:, :k]]
    spread = labels.var(0)
    if not spread.all():
        warnings.warn("labels are constant, so that what tells them has no R^2", stacklevel=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = np.linalg.norm(near - labels[:, None], axis=2).mean() / pdist(labels).mean()
        r2 = np.where(spread > 0, 1 - ((near.mean(1) - labels) ** 2).mean(0) / spread, np.nan)
    return RepresentationOrder(float(order), tuple(r2.tolist()))
