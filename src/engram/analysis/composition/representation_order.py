"""Whether neighbours in a representation are neighbours in what it represents."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist

from engram import checks
from engram.numeric.rounding import varies


@dataclass(frozen=True)
class RepresentationOrder:
    """The order of a representation, and how well neighbours predict each label (R^2).

    ``order`` is 1 if the labels of neighbours are as far apart as those of any two rows, and small if they are close.
    """

    order: float
    knn_r2: tuple[float, ...]


def representation_order(
    H: Float[np.ndarray, "n features"], labels: Float[np.ndarray, "n labels"], k: int = 5
) -> RepresentationOrder:
    """The distance between labels of nearest neighbours in a representation, relative to that of all pairs.

        order = mean distance of labels to those of the k nearest others in H / mean distance of labels of all pairs

    and, for each label, the R^2 of its prediction by the mean of the k nearest others.

    Args:
        H: The representation.
        labels: The label of each row.
        k: Number of neighbours, less than n.

    Returns:
        The order and the R^2; NaN, with a warning, if labels or the representation are constant up to
        rounding.

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
        raise ValueError(f"k = {k}: expected fewer neighbours than the {len(H)} rows of H")
    changing = varies(H)  # the others would add rounding errors to the distances
    if not changing.any():
        warnings.warn("H is constant, up to rounding, so its order is NaN: expected activity that varies", stacklevel=2)
        return RepresentationOrder(np.nan, (np.nan,) * labels.shape[1])
    between = cdist(H[:, changing], H[:, changing])
    np.fill_diagonal(between, np.inf)
    neighbour_labels = labels[np.argpartition(between, k - 1, axis=1)[:, :k]]
    variance = np.where(varies(labels), labels.var(0), 0.0)
    if not variance.all():
        column = int(variance.argmin())
        message = f"labels[:, {column}] is constant, so its R^2 is NaN: expected a label that varies"
        warnings.warn(message, stacklevel=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = np.linalg.norm(neighbour_labels - labels[:, None], axis=2).mean() / pdist(labels).mean()
        r2 = np.where(variance > 0, 1 - ((neighbour_labels.mean(1) - labels) ** 2).mean(0) / variance, np.nan)
    return RepresentationOrder(float(order), tuple(r2.tolist()))
