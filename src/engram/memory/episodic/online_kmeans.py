"""Single-pass k-means, and a form that follows a changing stream, with scikit-learn's interface."""

from __future__ import annotations

from numbers import Integral
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.memory.episodic.neighbours import closest
from engram.memory.episodic.policies.kmeans import FREE, WEIGHTINGS
from engram.state import Axes
from engram.storage.estimator_state import EstimatorState
from engram.storage.saveable import Saveable

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else


class OnlineKMeans(
    EstimatorState, Saveable, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator  # type: ignore[misc]
):  # fmt: skip
    """The first samples become centres; each later one joins the nearest centre and moves it, less and less.

        centre <- centre + (x - centre) / (c + 1),   c <- c + 1

    Args:
        n_clusters: Largest number of centres.
        weighting: ``"count"``, or ``"author"`` for the published code, which does not merge samples that equal a
            centre; see ``engram.memory.episodic.policies.DynamicKMeans``.

    Attributes:
        labels_: Index of the nearest centre of each sample of ``fit``, (samples,).
        n_samples_seen_: Number of samples learned from, repetitions included.

    Raises:
        ValueError: An argument is out of range (in ``fit``), or X is not valid or has another width (in all methods).

    Source: MacQueen, "Some methods for classification and analysis of multivariate observations" (1967); "k_means" of
    the code of Agostinelli et al. (2019).

    Examples:
        >>> OnlineKMeans(2).partial_fit([[0.0], [9.0], [1.0], [2.0]]).cluster_centers_.tolist()
        [[1.0], [9.0]]
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "weighting": [StrOptions(set(WEIGHTINGS))],
    }
    _forgets: ClassVar[bool] = False

    n_features_in_: int
    n_samples_seen_: int
    labels_: np.ndarray

    # scikit-learn demands that the constructor accepts anything and that ``fit`` checks it.
    def __init__(
        self, n_clusters: Annotated[Any, int] = 8, *, weighting: Annotated[Any, Literal["count", "author"]] = "count"
    ) -> None:
        self.n_clusters = n_clusters
        self.weighting = weighting

    @property
    def cluster_centers_(self) -> np.ndarray:
        """The centres, (clusters, features); fewer than ``n_clusters`` until there have been enough samples."""
        check_is_fitted(self)
        return self._centres[: self._filled].copy()

    @property
    def counts_(self) -> np.ndarray:
        """Weight of each centre, (clusters,)."""
        check_is_fitted(self)
        return self._counts[: self._filled].copy()

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> OnlineKMeans:
        """Forget everything and learn from samples, (samples, features), in their order, looking at each once."""
        samples = np.asarray(checks.samples(self, X, dtype=[np.float64, np.float32], order="C"))
        self._start(samples)
        self._learn(samples)
        self.labels_ = self._labels(samples)
        return self

    def partial_fit(self, X: Data, y: object = None) -> OnlineKMeans:
        """Continue learning from samples, at least one, in their order."""
        if not self._plain(X):
            self._validate_params()
            first = not hasattr(self, "_centres")
            X = np.asarray(checks.samples(self, X, dtype=[np.float64, np.float32], order="C", reset=first))
            if first:
                self._start(X)
        self._learn(X)
        return self

    def predict(self, X: Data) -> np.ndarray:
        """The index of the nearest centre of each sample, (samples,)."""
        check_is_fitted(self)
        return self._labels(checks.samples(self, X, dtype=[np.float64, np.float32], order="C", reset=False))

    def transform(self, X: Data) -> np.ndarray:
        """The distances of samples from centres, (samples, clusters)."""
        check_is_fitted(self)
        samples = checks.samples(self, X, dtype=[np.float64, np.float32], reset=False)
        # By differences: squared norms minus products lose the distances of samples that are far from 0.
        return np.asarray(cdist(samples, self.cluster_centers_), samples.dtype)

    @property
    def _n_features_out(self) -> int:
        return self._filled

    def _form(self, state: dict[str, Any]) -> dict[str, Any]:
        # As many as there were at the first batch, also if ``n_clusters`` was set to another number since.
        centres = Axes(("clusters", state.get("n_features_in_", "features")), np.ndarray)
        counts = Axes(("clusters",), np.ndarray)
        numbers = dict.fromkeys(("n_features_in_", "_filled", "n_samples_seen_"), int)
        return {**numbers, "_centres": centres, "_counts": counts, "labels_": Axes(("samples",), np.ndarray)}

    def _plain(self, X: Data) -> bool:
        """Whether scikit-learn's checks of X can be skipped: they take far longer than a step."""
        return (
            type(X) is np.ndarray
            and hasattr(self, "_centres")
            and self.weighting in WEIGHTINGS
            and not hasattr(self, "feature_names_in_")
            and X.dtype in (np.float64, np.float32)
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == self.n_features_in_
            and X.flags.c_contiguous
            and bool(np.isfinite(X).all())
        )

    def _start(self, samples: np.ndarray) -> None:
        # In double precision for any samples, since the steps of a mean of many soon vanish in single precision.
        self._centres = np.zeros((self.n_clusters, samples.shape[1]))
        self._counts = np.zeros(self.n_clusters)
        self._filled = self.n_samples_seen_ = 0

    def _learn(self, samples: np.ndarray) -> None:
        from engram.memory.episodic import kernels

        self.n_samples_seen_ += len(samples)
        samples = samples + np.float64(0)  # so that -0 is stored as 0
        loss, published = float(self._forgets) / self._counts.size, self.weighting == "author"
        self._filled = kernels.online_kmeans(self._centres, self._counts, self._filled, samples, loss, FREE, published)

    def _labels(self, samples: np.ndarray) -> np.ndarray:
        writable = np.require(samples, np.float64, ("C", "W"))  # read-only arrays would be another type to compile for
        return closest(self._centres, self._filled, writable)[0]


class DynamicOnlineKMeans(OnlineKMeans):
    """Online k-means whose centres lose weight over time and start again elsewhere when they starve.

        centre <- centre + (x - centre) / (c + 1),   c <- c + 1,   then all counts less max(0, sum c - n) / n

    for n clusters. A centre whose count has fallen to 0 moves to the next sample. A centre that gets at least its fair
    share of the samples survives. Counts stay near 1, so that centres follow a changing stream, at the price of some
    noise.

    Source: Agostinelli, Arulkumaran, Sarrico, Richemond and Bharath, "Memory-efficient episodic control reinforcement
    learning with dynamic online k-means" (2019).

    Examples:
        >>> model = DynamicOnlineKMeans(2).partial_fit([[0.0], [9.0], [1.0], [1.0], [5.0]])
        >>> model.cluster_centers_.tolist(), model.counts_.tolist()
        ([[0.7], [5.0]], [1.5, 0.5])
    """

    _forgets: ClassVar[bool] = True
