"""Features that Hebbian layers learn from images without labels, with scikit-learn's interface."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from engram import checks
from engram.rules.hebbian_conv.competition import per_sample_standardize
from engram.rules.hebbian_conv.layer import HebbianConv2d

Data = Annotated[Any, ArrayLike]  # scikit-learn refuses anything else in its own words
Numbers = Annotated[Any, Sequence[int]]


def quadrants(activity: Float[Tensor, "batch units height width"]) -> Float[Tensor, "batch features"]:
    """The means of each map over its four quadrants: all units of one quadrant, then those of the next.

    If a side is odd, the middle row or column belongs to the later quadrants.

    Raises:
        ValueError: Height or width is below 2.

    Source: Miconi (2021).

    Examples:
        >>> quadrants(torch.arange(16.0).view(1, 1, 4, 4))
        tensor([[ 2.5000,  4.5000, 10.5000, 12.5000]])
    """
    checks.arguments()
    height, width = activity.shape[2:]
    if min(height, width) < 2:
        raise ValueError(f"activity.shape = {tuple(activity.shape)}: expected height and width of at least 2")
    halves = [(slice(0, side // 2), slice(side // 2, side)) for side in (height, width)]
    return torch.cat([activity[:, :, rows, columns].mean((2, 3)) for rows in halves[0] for columns in halves[1]], 1)


def layer_features(layers: nn.Sequential, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
    """The features of each layer for a readout, (batch, 4 units): quadrants of its output, as the next layer sees it.

    The activity is therefore standardised, except in the last layer.

    Source: Miconi (2021).
    """
    checks.arguments()
    features = []
    for layer in layers:
        images = layer(images)
        last = layer is layers[-1]
        features.append(quadrants(images if last else per_sample_standardize(images)))
    return features


class HebbianFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A stack of ``HebbianConv2d`` layers that all learn at the same time, and their features for a linear readout.

    Each layer averages its output over windows of 2 x 2, unless it sees a single pixel.

    X holds images, (samples, channels, height, width), or one row for each image of shape ``image_shape``. Rows without
    ``image_shape`` are not images: a single layer of ``n_filters[0]`` units then learns from whole rows. Whiten images
    first (``ZCAWhitening``): since neighbouring pixels are correlated, filters would otherwise become blobs, worse than
    random filters.

    Args:
        n_filters: Number of filters of each layer.
        kernel_sizes: Side of each layer's filters.
        fan_ins: Number of inputs that each filter of a layer sees; None: all.
        lr: Share of a filter that a batch replaces, for each layer.
        image_shape: (channels, height, width) of the images in the rows of X.
        activation: ``"triangle"`` or ``"wta"``; see ``HebbianConv2d``.
        threshold_rate: Rate at which thresholds adapt; 0: not at all.
        burn_in: Number of batches before filters learn, in which thresholds settle.
        n_epochs: Number of passes of ``fit`` over the samples.
        batch_size: Number of samples in a batch.
        flip: Whether each image is mirrored with probability 1/2 during learning.
        output: ``"flat"``, the whole output of the last layer; ``"quadrants"``, its means over the four quadrants; or
            ``"all-quadrants"``, those of every layer.
        random_state: Seed of filters, connections, order and flips.

    Attributes:
        network_: The layers, an ``nn.Sequential``, in eval mode.
        image_shape_: (channels, height, width), or (features, 1, 1) for rows that are not images.

    Raises:
        ValueError: In ``fit``: an argument is out of range, or images are too small for the layers; in all methods: X
            is not valid data, or has another shape.

    Source: as for ``HebbianConv2d``.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import RidgeClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> from engram.rules import ZCAWhitening
        >>> features = HebbianFeatures((40,), (4,), (None,), (0.05,), image_shape=(1, 8, 8), flip=False, random_state=0)
        >>> pipeline, (X, y) = make_pipeline(ZCAWhitening(), features, RidgeClassifier()), load_digits(return_X_y=True)
        >>> bool(pipeline.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.9)
        True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "n_filters": ["array-like"],
        "kernel_sizes": ["array-like"],
        "fan_ins": [list, tuple],
        "lr": ["array-like"],
        "image_shape": ["array-like", None],
        "activation": [StrOptions({"triangle", "wta"})],
        "threshold_rate": [Interval(Real, 0, None, closed="left")],
        "burn_in": [Interval(Integral, 0, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "flip": ["boolean"],
        "output": [StrOptions({"flat", "quadrants", "all-quadrants"})],
        "random_state": ["random_state"],
    }

    n_features_in_: int

    # scikit-learn demands that the constructor accepts anything and that ``fit`` checks it.
    def __init__(
        self,
        n_filters: Numbers = (100, 196, 400),
        kernel_sizes: Numbers = (5, 3, 3),
        fan_ins: Annotated[Any, Sequence[int | None]] = (None, 9, 18),
        lr: Annotated[Any, Sequence[float]] = (0.078, 0.03, 0.03),
        *,
        image_shape: Annotated[Any, tuple[int, int, int]] = None,
        activation: Annotated[Any, Literal["triangle", "wta"]] = "triangle",
        threshold_rate: Annotated[Any, float] = 3.0,
        burn_in: Annotated[Any, int] = 0,
        n_epochs: Annotated[Any, int] = 5,
        batch_size: Annotated[Any, int] = 100,
        flip: Annotated[Any, bool] = True,
        output: Annotated[Any, Literal["flat", "quadrants", "all-quadrants"]] = "flat",
        random_state: Annotated[Any, int] = None,
    ) -> None:
        self.n_filters = n_filters
        self.kernel_sizes = kernel_sizes
        self.fan_ins = fan_ins
        self.lr = lr
        self.image_shape = image_shape
        self.activation = activation
        self.threshold_rate = threshold_rate
        self.burn_in = burn_in
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.flip = flip
        self.output = output
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Data, y: object = None) -> HebbianFeatures:
        """Forget everything and learn from images in random order, ``n_epochs`` times each."""
        with checks.restored_on_error(self):
            images = self._start(X)
        for _ in range(self.n_epochs):
            self._learn(images[self._rng.permutation(len(images))])
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Data, y: object = None) -> HebbianFeatures:
        """Learn from further images once, in the given order, in which classes should be mixed."""
        self._learn(self._images(X) if hasattr(self, "network_") else self._start(X))
        return self

    def transform(self, X: Data) -> np.ndarray:
        """The features of images, (samples, features)."""
        check_is_fitted(self)
        with torch.no_grad():
            batches = torch.split(torch.from_numpy(self._images(X)), self.batch_size)
            return np.asarray(torch.cat([self._features(batch) for batch in batches]).numpy())

    @property
    def _n_features_out(self) -> int:
        with torch.no_grad():
            return self._features(torch.from_numpy(np.zeros((1, *self.image_shape_), self._dtype))).shape[1]

    def _features(self, images: Tensor) -> Tensor:
        if self.output == "all-quadrants":
            return torch.cat(layer_features(self.network_, images), 1)
        last: Tensor = self.network_(images)
        return last.flatten(1) if self.output == "flat" else quadrants(last)

    def _learn(self, images: np.ndarray) -> None:
        self.network_.train()
        try:
            for first in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(images[first : first + self.batch_size])
                if self.flip:
                    flipped = torch.from_numpy(self._rng.random(len(batch)) < 0.5)
                    batch = torch.where(flipped.view(-1, 1, 1, 1), batch.flip(3), batch)
                self.network_(batch)
        finally:
            self.network_.eval()  # else ``transform`` would go on learning after an interruption

    def _images(self, X: Data, reset: bool = False) -> np.ndarray:
        """X as images, (samples, channels, height, width)."""
        values = np.asarray(checks.samples(self, X, dtype=[np.float32, np.float64], allow_nd=True, reset=reset))
        if reset:
            shape = (*values.shape[1:], 1, 1) if values.ndim == 2 else values.shape[1:]
            self.image_shape_ = shape if self.image_shape is None else tuple(self.image_shape)
            self._dtype = values.dtype
        is_turned = values.ndim == 4 and values.shape[1:] != self.image_shape_  # as with the channels last
        if is_turned or np.prod(values.shape[1:]) != np.prod(self.image_shape_) or values.ndim not in (2, 4):
            raise ValueError(f"X.shape = {values.shape}: expected (samples, {', '.join(map(str, self.image_shape_))})")
        return np.ascontiguousarray(values.reshape(len(values), *self.image_shape_), self._dtype)

    def _start(self, X: Data) -> np.ndarray:
        """Make the layers; return X as images."""
        if not len(self.n_filters) == len(self.kernel_sizes) == len(self.fan_ins) == len(self.lr):
            lengths = ", ".join(
                f"{name} = {getattr(self, name)}" for name in ("n_filters", "kernel_sizes", "fan_ins", "lr")
            )
            raise ValueError(f"{lengths}: expected a value for each layer in all of them")
        images = self._images(X, reset=True)
        self._rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        generator = torch.Generator().manual_seed(int(self._rng.integers(2**31)))
        channels, *sides = self.image_shape_
        layers: list[HebbianConv2d] = []
        shared = {"activation": self.activation, "threshold_rate": self.threshold_rate, "burn_in": self.burn_in}
        layer_settings = list(zip(self.n_filters, self.kernel_sizes, self.fan_ins, self.lr, strict=True))
        if images.shape[2:] == (1, 1):
            layer_settings = [(layer_settings[0][0], 1, None, layer_settings[0][3])]
        for units, kernel, fan_in, lr in layer_settings:
            pool = 1 if sides == [1, 1] else 2
            if (least := kernel + pool - 1) > min(sides):
                raise ValueError(
                    f"kernel_sizes = {tuple(self.kernel_sizes)}: a layer sees images of {sides[0]} x {sides[1]}, too "
                    f"small for kernels of {kernel} and windows of {pool} x {pool}, which take {least} x {least}"
                )
            layers.append(
                HebbianConv2d(channels, units, kernel, lr=lr, pool=pool, fan_in=fan_in, generator=generator, **shared)
            )
            channels, sides = units, [(side - kernel + 1) // pool for side in sides]
        if self.output != "flat" and min(sides) < 2:
            raise ValueError(
                f"output = {self.output!r}: expected 'flat', as the last layer has {sides[0]} x {sides[1]}"
            )
        if sides == [1, 1] and len(layers) > 1:
            warnings.warn("the last layer is 1 x 1, which a read-out decodes badly: take smaller kernels", stacklevel=3)
        self.network_ = nn.Sequential(*layers).to(torch.from_numpy(images[:0]).dtype).eval()
        return images
