"""Whitening of whole images that changes them as little as possible, with scikit-learn's interface."""

from __future__ import annotations

from numbers import Real
from typing import Annotated, Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from engram import checks
from engram.rules.hebbian_conv.competition import per_sample_standardize

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else in its own words
EXACT = 1024  # up to this many features, eigenvectors are computed in 64 bits


class ZCAWhitening(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Zero-phase whitening: rows are multiplied by the symmetric matrix that makes their second moments the identity.

        C = X^T X / n + eps 1 = E diag(e) E^T,   P = E diag(e^-1/2) E^T,   x <- P x

    The means of the features are not subtracted. If a layer standardises its input, only the ratio of eps to the
    moments matters: the published code, which divides 9,000 rows of 3,072 values by 3,072 and adds 1e-3, has an eps of
    3.4e-4.

    Args:
        eps: Added to the diagonal of the moments, so that directions which hardly occur are not amplified too much.
        standardize: Whether to give each row mean 0 and standard deviation 1 first, as published for images.
        mirror: Whether to fit to the images and their mirror images, so that whitening and mirroring commute. This is
            also four times as fast, since even and odd parts are then uncorrelated.
        image_shape: (channels, height, width) of the rows, which ``mirror`` needs unless X has four axes.

    Attributes:
        matrices_: A list of P alone or, with ``mirror``, of P for the even and for the odd part.

    Raises:
        ValueError: An argument is out of range (in ``fit``), or X is not valid or has another width (in all methods).

    Source: Bell and Sejnowski, "The 'independent components' of natural scenes are edge filters" (1997); as used by
    Miconi (2021).

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[2.0, 1.0], [0.0, 1.0]]
        >>> white = ZCAWhitening(1e-9, standardize=False).fit_transform(X)
        >>> np.allclose(white.T @ white / 500, np.eye(2))
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "eps": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "mirror": ["boolean"],
        "image_shape": ["array-like", None],
    }

    n_features_in_: int

    # scikit-learn demands that the constructor accepts anything and that ``fit`` checks it.
    def __init__(
        self,
        eps: Annotated[Any, float] = 3.4e-4,
        *,
        standardize: Annotated[Any, bool] = True,
        mirror: Annotated[Any, bool] = False,
        image_shape: Annotated[Any, tuple[int, int, int]] = None,
    ) -> None:
        self.eps = eps
        self.standardize = standardize
        self.mirror = mirror
        self.image_shape = image_shape

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> ZCAWhitening:
        """Compute the matrix from images, (samples, features) or (samples, channels, height, width)."""
        with checks.restored_on_error(self):
            values = self._values(X, reset=True)
        self.matrices_ = [_whitening(part, self.eps) for part in self._parts(self._standard(values))]
        return self

    def transform(self, X: Data) -> np.ndarray:
        """The whitened images, with the shape of X."""
        check_is_fitted(self)
        values = self._values(X)
        parts_and_matrices = zip(self._parts(self._standard(values)), self.matrices_, strict=True)
        white = [part @ matrix.astype(part.dtype, copy=False) for part, matrix in parts_and_matrices]
        return self._joined(white).reshape(values.shape)

    def inverse_transform(self, X: Data) -> np.ndarray:
        """The images, standardised if ``standardize``, from which whitened ones were computed."""
        check_is_fitted(self)
        values = self._values(X)
        parts_and_matrices = zip(self._parts(values.reshape(len(values), -1)), self.matrices_, strict=True)
        images = [scipy.linalg.solve(matrix, part.T, assume_a="pos").T for part, matrix in parts_and_matrices]
        return self._joined(images).reshape(values.shape)

    def _values(self, X: Data, reset: bool = False) -> np.ndarray:
        values = np.asarray(checks.samples(self, X, dtype=[np.float32, np.float64], allow_nd=True, reset=reset))
        if values.ndim not in (2, 4):
            raise ValueError(
                f"X.shape = {values.shape}: expected (samples, features) or (samples, channels, height, width)"
            )
        if reset:
            shape = values.shape[1:] if values.ndim == 4 and self.image_shape is None else self.image_shape
            if self.mirror and shape is None:
                raise ValueError("image_shape = None: expected (channels, height, width), as mirror = True")
            self._shape = (1, 1, values.shape[1]) if shape is None else tuple(shape)
        is_turned = values.ndim == 4 and values.shape[1:] != self._shape  # as with the channels last
        if is_turned or np.prod(values.shape[1:]) != np.prod(self._shape):
            raise ValueError(f"X.shape = {values.shape}: expected rows of {self._shape}, channels, height and width")
        return values

    def _standard(self, values: np.ndarray) -> np.ndarray:
        rows = np.require(values.reshape(len(values), -1), requirements="W")
        return per_sample_standardize(torch.from_numpy(rows)).numpy() if self.standardize else rows

    def _parts(self, rows: np.ndarray) -> list[np.ndarray]:
        """The coordinates of rows; with ``mirror``, those along even and those along odd images."""
        if not self.mirror:
            return [rows]
        images = rows.reshape(len(rows), *self._shape)
        half = self._shape[2] // 2
        left, middle = images[..., :half], images[..., half : self._shape[2] - half]
        right, root = images[..., ::-1][..., :half], rows.dtype.type(np.sqrt(0.5))
        even = np.concatenate(((left + right) * root, middle), 3)
        return [part.reshape(len(rows), -1) for part in (even, (left - right) * root)]

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        """The rows with these coordinates."""
        if not self.mirror:
            return parts[0]
        half, root = self._shape[2] // 2, parts[0].dtype.type(np.sqrt(0.5))
        even, odd = (part.reshape(len(part), *self._shape[:2], -1) for part in parts)
        middle, even = even[..., half:], even[..., :half]
        left, right = (even + odd) * root, (even - odd) * root
        return np.concatenate((left, middle, right[..., ::-1]), 3)


def _whitening(rows: np.ndarray, eps: float) -> np.ndarray:
    """P, computed in 64 bits up to ``EXACT`` features, otherwise in the precision of the rows."""
    exact = rows.shape[1] <= EXACT
    rows = rows.astype(np.float64) if exact else rows
    moments = rows.T @ rows / rows.dtype.type(len(rows))
    moments[np.diag_indices_from(moments)] += rows.dtype.type(eps)
    values, vectors = scipy.linalg.eigh(moments, overwrite_a=True, check_finite=False, driver="evd")
    scaled = vectors * np.maximum(values, rows.dtype.type(eps)) ** rows.dtype.type(-0.5)
    return np.asarray(scaled @ vectors.T)
