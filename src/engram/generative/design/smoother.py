"""Label smoothing over a graph of nearest neighbours (Tikhonov regularisation with the graph's Laplacian)."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int32, Num
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted, validate_data

from engram import checks
from engram.generative.design.sequences import ROUNDING
from engram.numeric.rounding import relative_rounding
from engram.numeric.threads import in_ranges

Data = Annotated[Any, ArrayLike]
Metric = Literal["hamming", "euclidean"]
EdgeWeight = Literal["inverse", "distance", "binary", "gaussian"]
Laplacian = Literal["normalized", "combinatorial", "random_walk"]

LEAST_WEIGHT = 1e-30  # of an edge
WORD = 32  # positions compared at a time


class GraphLabelSmoother(BaseEstimator):  # type: ignore[misc]
    r"""Smoothing of labels so that they vary little between neighbours and differ little from the given ones.

    Two rows are joined if one is among the k nearest neighbours of the other, with a weight W_ij that depends on their
    distance. With the Laplacian L of that graph,

        yhat = argmin |y - yhat|^2 + gamma yhat' L yhat = (I + gamma L)^-1 y

    solved by conjugate gradients. L is D - W (combinatorial), I - D^-1/2 W D^-1/2 (normalized), or I - D^-1 W (random
    walk, for which the error |y - yhat|^2 is weighted by the degrees D). With ``center`` y is counted from its mean,
    so that an offset of all labels is an offset of the result; smoothing preserves the labels' mean (combinatorial) or
    the component of their differences from it along the square root of the degrees (normalized).

    Args:
        gamma: Strength of smoothing, at least 0; 0 leaves the labels unchanged.
        k: Number of neighbours; ``"sqrt"``: the square root of the number of rows, rounded down.
        metric: ``"hamming"``, the number of differing positions (exact, ties by row index), or ``"euclidean"``.
        edge_weight: Weight of an edge of length d: 1 / d (inverse); d (distance), as in the published code, which gives
            more weight to farther neighbours; 1 (binary); or exp(-d^2 / 2 s^2), with the median length s (gaussian).
        laplacian: One of the three Laplacians above.
        center: Whether labels are counted from their mean. False: as published, where with the normalized Laplacian
            an offset of all labels is smoothed as well, towards the square root of the degrees.
        tol: Largest residual, relative to the labels, which with ``center`` are counted from their mean.
        n_jobs: Number of threads, as in joblib.

    Attributes:
        smoothed_: The smoothed labels, (samples).
        indices_: The row indices of each row's neighbours, sorted, (samples, k).
        weights_: The weights A of these edges, halved for edges that go both ways, so that W = A + A'.
        degree_: The sum of each row's weights in W, (samples).
        n_components_: Number of connected components of the graph; labels are smoothed within each.
        n_iter_: Number of iterations of conjugate gradients.

    Raises:
        ValueError: A number is out of range, or two rows are equal, with ``"euclidean"`` up to rounding.

    Source: Kirjner et al., "Improving protein optimization with smoothed fitness landscapes", ICLR 2024, section 4.1.

    Examples:
        >>> smoother = GraphLabelSmoother(k=1, laplacian="combinatorial")
        >>> smoother.fit_transform(np.array([[0], [1]]), [0.0, 3.0]).round(6).tolist()
        [1.0, 2.0]
    """

    def __init__(
        self,
        gamma: Annotated[Any, float] = 1.0,
        *,
        k: Annotated[Any, int | Literal["sqrt"]] = "sqrt",
        metric: Annotated[Any, Metric] = "hamming",
        edge_weight: Annotated[Any, EdgeWeight] = "inverse",
        laplacian: Annotated[Any, Laplacian] = "normalized",
        center: Annotated[Any, bool] = True,
        tol: Annotated[Any, float] = 1e-6,
        n_jobs: Annotated[Any, int | None] = None,
    ) -> None:
        self.gamma = gamma
        self.k = k
        self.metric = metric
        self.edge_weight = edge_weight
        self.laplacian = laplacian
        self.center = center
        self.tol = tol
        self.n_jobs = n_jobs

    def fit(self, X: Data, y: Data) -> GraphLabelSmoother:
        """Build the graph of the rows of ``X``, (samples, features), and smooth their labels ``y``, (samples)."""
        from engram.generative.design import kernels

        checks.number("gamma", self.gamma, minimum=0)
        checks.instance("center", self.center, bool)
        checks.number("tol", self.tol, above=0, below=1)
        for name, kind in (("metric", Metric), ("edge_weight", EdgeWeight), ("laplacian", Laplacian)):
            checks.choice(name, getattr(self, name), get_args(kind))
        dtype = "numeric" if self.metric == "hamming" else np.float64
        with checks.noted(X=X, y=y):
            given = checks.as_array(y)
            if np.asarray(given).dtype.kind == "f":
                checks.finite("y", np.asarray(given))
            samples = checks.as_array(X)
            unit = max(ROUNDING, 0.0 if self.metric == "hamming" else relative_rounding(np.asarray(samples)))
            X, labels = validate_data(self, samples, given, dtype=dtype, y_numeric=True, ensure_min_samples=2)
        samples = np.asarray(X)
        self.indices_, self.weights_ = self._neighbours(
            samples.view(np.uint8) if samples.dtype == bool else samples, unit
        )
        rows = len(self.indices_)
        in_ranges(
            lambda first, stop: kernels.halve_mutual(self.indices_, self.weights_, first, stop), rows, self.n_jobs
        )
        self.n_components_ = int(kernels.components(self.indices_))
        if self.n_components_ > 1:
            components = f"{self.n_components_} parts that are not joined: labels are smoothed within each"
            warnings.warn(f"k = {self.k!r}: the graph of X has {components}", UserWarning, stacklevel=2)
        self.degree_ = self._product(np.ones(rows))
        labels = labels.astype(np.float64)
        offset = labels.mean() if self.center and self.gamma else 0.0
        self.smoothed_ = offset + self._solve(labels - offset)
        return self

    def fit_transform(self, X: Data, y: Data) -> Float[np.ndarray, "samples"]:
        """The smoothed labels ``y`` of the rows of ``X``."""
        return self.fit(X, y).smoothed_

    @property
    def graph_(self) -> sparse.csr_array:
        """The symmetric weights W, (samples, samples)."""
        check_is_fitted(self)
        rows, k = self.indices_.shape
        starts = np.arange(0, rows * k + 1, k)
        half = sparse.csr_array((self.weights_.ravel(), self.indices_.ravel(), starts), shape=(rows, rows))
        return sparse.csr_array(half + half.T)

    def variation(self, y: Float[np.ndarray, "samples"]) -> float:
        """The variation of labels over the graph, y' L y; for the random walk y' D L y, as for the combinatorial L.

        Args:
            y: A label for each of the fitted rows.

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: There is not one label for each row, or a label is not finite.
        """
        check_is_fitted(self)
        y = checks.array("y", y, (len(self.degree_),))
        return float(y @ self._laplacian(y))

    def _neighbours(self, X: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of each row, sorted by index, and their weights; ``unit`` is the rounding of X."""
        k = math.isqrt(len(X)) if self.k == "sqrt" else checks.size("k", self.k, 1, len(X) - 1)
        if self.metric == "hamming":
            indices, distances = hamming_neighbours(X, k, self.n_jobs)
        else:
            # A tree, since brute force would subtract squares of the rows, which cancel far from 0.
            search = NearestNeighbors(n_neighbors=k, algorithm="kd_tree", n_jobs=self.n_jobs)
            distances, indices = search.fit(X).kneighbors()
            indices = indices.astype(np.int32)
        rounding = 0.0 if self.metric == "hamming" else unit * np.linalg.norm(X, axis=1)
        if (equal := distances[:, 0] <= rounding).any():
            row = int(equal.argmax())
            raise ValueError(f"X[{row}] and X[{indices[row, 0]}] are equal: expected different rows, a label for each")
        weights = np.empty(indices.shape, np.float32 if self.metric == "hamming" else np.float64)
        spread = float(np.median(distances)) if self.edge_weight == "gaussian" else 1.0
        for row in range(len(indices)):
            order = indices[row].argsort()
            indices[row] = indices[row, order]
            weights[row] = self._weight(distances[row, order].astype(np.float64), spread)
        return indices, weights

    def _weight(self, distance: np.ndarray, spread: float) -> np.ndarray:
        match self.edge_weight:
            case "inverse":
                return np.asarray(1 / distance)
            case "distance":
                return distance
            case "binary":
                return np.ones(len(distance))
            case _:
                # An outlier whose weights are all 0 would have a degree of 0, by which the Laplacian divides.
                return np.maximum(np.exp(-0.5 * np.square(distance / spread)), LEAST_WEIGHT)

    def _product(self, x: np.ndarray) -> np.ndarray:
        """W x."""
        from engram.generative.design import kernels

        out = np.empty(len(x))
        kernels.product(self.indices_, self.weights_, x, out)
        return out

    def _laplacian(self, x: np.ndarray) -> np.ndarray:
        """L x; for the random walk D L x, which is symmetric."""
        if self.laplacian == "normalized":
            root = np.sqrt(self.degree_)
            return np.asarray(x - self._product(x / root) / root)
        return np.asarray(self.degree_ * x - self._product(x))

    def _solve(self, y: np.ndarray) -> np.ndarray:
        """(I + gamma L)^-1 y; for the random walk both sides of the system are multiplied by D."""
        if not self.gamma:
            self.n_iter_ = 0
            return y.copy()
        diag = self.degree_ if self.laplacian == "random_walk" else np.ones_like(y)
        scale = diag + self.gamma * (1.0 if self.laplacian == "normalized" else self.degree_)
        iterations: list[int] = []
        system = LinearOperator((len(y), len(y)), lambda x: diag * x.ravel() + self.gamma * self._laplacian(x.ravel()))
        scaled = LinearOperator(system.shape, lambda x: x.ravel() / scale)
        count: Any = lambda _: iterations.append(1)  # noqa: E731
        smoothed, status = cg(system, diag * y, x0=y, rtol=self.tol, atol=0.0, M=scaled, callback=count)
        self.n_iter_ = len(iterations)
        if status:
            message = f"conjugate gradients did not reach tol = {self.tol} in {self.n_iter_} iterations"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return np.asarray(smoothed)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class Neighbours(NamedTuple):
    """The nearest neighbours of each row, nearest first, ties in the order of their indices.

    Attributes:
        indices: The row indices of the neighbours.
        distances: The number of differing letters.
    """

    indices: Int32[np.ndarray, "rows k"]
    distances: Num[np.ndarray, "rows k"]


def hamming_neighbours(X: Num[np.ndarray, "rows length"], k: int, n_jobs: int | None = None) -> Neighbours:
    """The k nearest other rows of each row, by the number of differing positions.

    All pairs are compared, 32 positions at a time, so the result is exact; ties are broken by row index, so it is the
    same on every machine.

    Args:
        X: Rows of values that can be compared for equality, such as tokens.
        k: Number of neighbours, less than the number of rows.
        n_jobs: Number of threads, as in joblib.

    Raises:
        ValueError: ``X`` is empty or has fewer than k + 1 rows.

    Examples:
        >>> hamming_neighbours(np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]], dtype=np.uint8), k=1).indices.tolist()
        [[1], [0], [1]]
    """
    from engram.generative.design import kernels

    checks.arguments()
    if not X.size:
        raise ValueError(f"X.shape = {X.shape}: expected at least one row of at least one place")
    k = checks.size("k", k, 1, len(X) - 1)
    planes = bit_planes(X)
    dtype: Any = np.min_scalar_type(X.shape[1])
    indices, distances = np.empty((len(X), k), np.int32), np.empty((len(X), k), dtype)
    in_ranges(
        lambda first, stop: kernels.neighbours(planes, X.shape[1], first, stop, indices, distances), len(X), n_jobs
    )
    return Neighbours(indices, distances)


def bit_planes(X: Num[np.ndarray, "rows length"]) -> np.ndarray:
    """The bits of tokens packed into words of 32 positions, (words, bits of a token, rows)."""
    tokens = X if X.dtype == np.uint8 else np.unique(X, return_inverse=True)[1].reshape(X.shape)
    bits = max(1, int(tokens.max()).bit_length())
    words = -(-X.shape[1] // WORD)
    planes = np.zeros((words, bits, len(X)), np.uint32)
    for position in range(X.shape[1]):
        for bit in range(bits):
            set_bits = (tokens[:, position] >> bit & 1).astype(np.uint32)
            planes[position // WORD, bit] |= set_bits << np.uint32(position % WORD)
    return planes
