"""Intrinsic dimension of data, estimated from distances to nearest neighbours."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from engram import checks
from engram.analysis.difficulty.nearest_neighbours import as_points, distinct_up_to_rounding, nearest_distances
from engram.numeric.rounding import FEW, precision, varies

KEPT_SHARE = 0.9  # the share of the ratios, smallest first, that TwoNN uses
MANY_DUPLICATES = 0.05
METHODS = ("mle", "twonn")


@dataclass(frozen=True)
class DimensionEstimate:
    """An intrinsic dimension.

    ``se`` is its standard error if the queries are independent. It is computed from ``k`` neighbours of ``n_queries``
    points among ``n_points`` distinct ones; ``n_duplicates`` points that equal another, up to rounding, were left out.
    ``ties`` is the share of neighbours as far away as the next one, up to rounding; if it is large, as for data with
    few values, the estimate is unreliable, since it assumes a continuous distribution.
    """

    value: float
    se: float
    k: int
    n_points: int
    n_queries: int
    n_duplicates: int
    ties: float


def intrinsic_dimension(
    X: Shaped[np.ndarray, "samples *features"],
    k: int = 5,
    *,
    n_queries: int | None = 10_000,
    method: str = "mle",
    pooled: bool = True,
    seed: int | np.random.Generator = 0,
) -> DimensionEstimate:
    """The intrinsic dimension of data, from the distances T_j of points to their j-th nearest neighbours.

    The maximum-likelihood estimate, pooled over the queries, is

        m = 1 / mean over queries and j < k of log(T_k / T_j)

    or, if not pooled, the mean over queries of 1 / mean over j. TwoNN is the slope through the origin of
    -log(1 - F(mu)) against log(mu), where F is the empirical distribution of mu = T_2 / T_1, without its largest
    tenth. Duplicates, rows that are the same within a few units in the last place of the type of X, are left out first,
    with a warning if they are more than 5 %. Estimates of high dimensions are too low: 9.3 for 10 and 16 for 20, with
    2000 points.

    Args:
        X: Samples, flattened.
        k: Number of neighbours, at least 2; not used by ``"twonn"``.
        n_queries: Number of points, drawn at random, whose neighbours among all points are searched; None: all.
        method: ``"mle"``, maximum likelihood, or ``"twonn"``.
        pooled: Whether to average the logarithms over the queries, rather than the dimensions.
        seed: Seed of this draw, or a generator.

    Raises:
        ValueError: There are at most k distinct points, a number is not finite, or all distances are equal.

    Source: Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension" (2004), with the average of
    MacKay and Ghahramani (2005); Facco et al., "Estimating the intrinsic dimension ..." (2017).

    Examples:
        >>> flat = np.random.default_rng(0).random((1000, 2)) @ np.ones((2, 30)) * np.arange(30)
        >>> round(intrinsic_dimension(flat).value, 1)
        1.0
    """
    checks.arguments()
    points = as_points(X)
    checks.choice("method", method, METHODS)
    rng = checks.rng("seed", seed)
    k = 2 if method == "twonn" else k
    first_rows, _ = distinct_up_to_rounding(points, X.dtype)
    n_duplicates = len(points) - len(first_rows)
    if not 2 <= k < len(first_rows):
        raise ValueError(f"k = {k}: expected at least 2, and less than the {len(first_rows)} distinct samples")
    if n_queries is not None:
        checks.size("n_queries", n_queries, 2)
    if n_duplicates > MANY_DUPLICATES * len(points):
        warnings.warn(f"{n_duplicates / len(points):.0%} of the samples equal another, and are left out", stacklevel=2)
    points = points[first_rows] if n_duplicates else points
    queries = None
    if n_queries is not None and n_queries < len(points):
        queries = np.sort(rng.choice(len(points), n_queries, replace=False))
    distances = nearest_distances(points, k, queries)
    noise = FEW * precision(X.dtype) * float(np.abs(points[:, varies(points)]).max(initial=0))
    distances = np.where(distances[:, -1:] - distances <= noise, distances[:, -1:], distances)
    value, standard_error = (
        two_nearest(distances) if method == "twonn" else maximum_likelihood_dimension(distances, pooled=pooled)
    )
    ties = float((distances[:, 1:] - distances[:, :-1] <= noise).mean())
    return DimensionEstimate(value, standard_error, k, len(points), len(distances), n_duplicates, ties)


def maximum_likelihood_dimension(
    distances: Float[np.ndarray, "queries k"], *, pooled: bool = True
) -> tuple[float, float]:
    """The maximum-likelihood dimension and its standard error, as in ``intrinsic_dimension``.

    ``distances`` are T_1 to T_k of each query, in ascending order; all are above 0, and not all are equal, up to
    rounding.

    Examples:
        >>> distances = np.random.default_rng(0).random((4000, 5)) ** (1 / 3)  # uniform in a ball of 3 dimensions
        >>> round(maximum_likelihood_dimension(np.sort(distances, axis=1))[0], 1)
        3.0
    """
    checks.arguments()
    if distances.shape[1] < 2 or not len(distances) or not (distances > 0).all():
        raise ValueError(f"distances = {checks.shown(distances)}: expected at least two of each query, above 0")
    log_ratios = np.log(distances[:, -1:] / distances[:, :-1])
    inverse_dimensions = np.where(log_ratios <= FEW * precision(distances.dtype), 0.0, log_ratios).mean(1)
    inverse_dimension = inverse_dimensions.mean() if pooled else inverse_dimensions.min()
    if inverse_dimension <= 0:
        subject = "all samples" if pooled else f"query {int(inverse_dimensions.argmin())}"
        raise ValueError(
            f"X: the {distances.shape[1]} nearest neighbours of {subject} are all at one distance: expected some nearer"
        )
    root_n = math.sqrt(len(inverse_dimensions))
    deviation = float(inverse_dimensions.std(ddof=1)) if len(inverse_dimensions) > 1 else math.nan
    if pooled:
        return float(1 / inverse_dimension), float(deviation / inverse_dimension**2 / root_n)
    dimensions = 1 / inverse_dimensions
    return float(dimensions.mean()), float(dimensions.std(ddof=1) / root_n) if len(dimensions) > 1 else math.nan


def two_nearest(distances: Float[np.ndarray, "queries 2"]) -> tuple[float, float]:
    """The dimension of TwoNN and its standard error, from distances to the two nearest neighbours.

    Source: Facco et al. (2017), equation 5 and algorithm; the standard error is that of maximum likelihood.
    """
    log_ratios = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    log_ratios[log_ratios <= FEW * precision(distances.dtype)] = 0.0
    rank = np.arange(1, len(log_ratios) + 1) / len(log_ratios)
    n_used = max(1, int(KEPT_SHARE * len(log_ratios)))
    x, y = log_ratios[:n_used], -np.log1p(-rank[:n_used])
    if not (finite := np.isfinite(y)).all():  # a single ratio has rank 1
        x, y = x[finite], y[finite]
    if not x.any():
        raise ValueError("X: the two nearest neighbours of most samples are at one distance: expected two distances")
    value = float(x @ y / (x @ x))
    return value, value / math.sqrt(n_used)


class IntrinsicDimension(BaseEstimator):  # type: ignore[misc]
    """``intrinsic_dimension`` as a scikit-learn estimator.

    Args:
        k: Number of neighbours, at least 2; not used by ``"twonn"``.
        n_queries: Number of points, drawn at random, whose neighbours among all points are searched; None: all.
        method: ``"mle"``, maximum likelihood, or ``"twonn"``.
        pooled: Whether to average the logarithms over the queries, rather than the dimensions.
        random_state: Seed of the draw, or a ``RandomState``.

    Attributes:
        dimension_: The estimate.
        se_: Its standard error.
        estimate_: The ``DimensionEstimate``.

    Examples:
        >>> circle = np.exp(2j * np.pi * np.random.default_rng(0).random((500, 1))).view(float)
        >>> round(IntrinsicDimension(random_state=0).fit(circle).dimension_, 1)
        1.0
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012  scikit-learn's name and form
        "k": [Interval(Integral, 2, None, closed="left")],
        "n_queries": [None, Interval(Integral, 2, None, closed="left")],
        "method": [StrOptions({"mle", "twonn"})],
        "pooled": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        k: Annotated[Any, int] = 5,
        n_queries: Annotated[Any, int | None] = 10_000,
        method: Annotated[Any, Literal["mle", "twonn"]] = "mle",
        pooled: Annotated[Any, bool] = True,
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.n_queries = n_queries
        self.method = method
        self.pooled = pooled
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Annotated[Any, ArrayLike], y: Any = None) -> IntrinsicDimension:
        """Estimate the dimension of samples.

        Args:
            X: Samples, (samples, features), at least two.
            y: Not used; present for scikit-learn.

        Raises:
            ValueError: As for ``intrinsic_dimension``.
        """
        X = checks.samples(self, X, dtype=[np.float64, np.float32, np.float16], ensure_min_samples=2)
        seed = check_random_state(self.random_state).randint(2**31)
        n_queries = None if self.n_queries is None else int(self.n_queries)
        self.estimate_ = intrinsic_dimension(
            X, int(self.k), n_queries=n_queries, method=self.method, pooled=bool(self.pooled), seed=seed
        )
        self.dimension_, self.se_ = self.estimate_.value, self.estimate_.se
        return self
