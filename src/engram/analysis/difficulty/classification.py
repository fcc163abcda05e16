"""Difficulty of a classification task, measured on its data."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Shaped

from engram import checks
from engram.analysis.difficulty.closed_form import GeneralizationTask, MeasuredDifficulty, with_uncertainty
from engram.analysis.difficulty.dimension import METHODS as DIMENSION_METHODS
from engram.analysis.difficulty.dimension import intrinsic_dimension
from engram.analysis.difficulty.margin import METHODS as MARGIN_METHODS
from engram.analysis.difficulty.margin import check_labels, class_margin
from engram.analysis.difficulty.nearest_neighbours import as_points


def classification_difficulty(
    X: Shaped[np.ndarray, "samples *features"],
    y: Shaped[np.ndarray, " labels"],
    *,
    error: float,
    m: float | int | str = "mle",
    resolution: float | int | str = "evt",
    k: int = 5,
    n_queries: int | None = 10_000,
    drop_conflicts: bool = False,
    seed: int | np.random.Generator = 0,
) -> MeasuredDifficulty:
    """The inductive bias complexity of a data set, where each class is a separate manifold.

    The radius is the largest norm. The bits are only as good as the dimension: an error of 1 in the dimension changes
    them by a factor of about 2 pi radius / (m resolution); ``low`` and ``high`` show the effect of its standard error.

    Args:
        X: Samples, flattened.
        y: Their labels.
        error: Target error, between 0 and 1.
        m: The intrinsic dimension, or the method of ``intrinsic_dimension`` that measures it; below 1, it counts as 1.
        resolution: The margin between classes, or the method of ``class_margin`` that measures it.
        k: Number of neighbours for measuring the dimension.
        n_queries: Number of points whose neighbours are searched; None: all.
        drop_conflicts: Leave out equal samples with different labels, instead of raising an error.
        seed: Seed of all draws, or a generator.

    Raises:
        ValueError: A method is unknown, a number is out of range, there is not one label for each sample, or there are
            fewer than two labels; or as for ``intrinsic_dimension`` and ``class_margin``, where these measure.

    Source: Boopathy et al. (2023); the dimension is rounded there, and not here.

    Examples:
        >>> X, y = np.random.default_rng(0).normal(size=(200, 2)), np.repeat([0, 1], 100)
        >>> round(classification_difficulty(X + 9 * y[:, None], y, error=0.01, resolution="exact").dimension.value)
        2
    """
    checks.arguments()
    for name, value, methods in (("m", m, DIMENSION_METHODS), ("resolution", resolution, MARGIN_METHODS)):
        if isinstance(value, str) and value not in methods:
            raise ValueError(f"{name} = {value!r}: expected a number, or one of {', '.join(map(repr, methods))}")
    points = as_points(X)
    y = check_labels(y, len(points))
    rng = checks.rng("seed", seed)
    classes = len(np.unique(y))
    margin = dimension = None
    if isinstance(resolution, str):
        margin = class_margin(X, y, resolution, drop_conflicts=drop_conflicts, seed=rng)
        resolution = margin.value
    elif classes < 2:
        raise ValueError(f"y: expected at least two labels, found {classes}")
    if isinstance(m, str):
        dimension = intrinsic_dimension(X, k, n_queries=n_queries, method=m, seed=rng)
        m = dimension.value
    radius = math.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64).max())
    task = GeneralizationTask(len(points), m, radius, resolution, error, n_discrete=classes, out_dim=classes - 1)
    return with_uncertainty(task, dimension, margin)
