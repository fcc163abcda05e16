"""Images of a bump at a labelled position: the smallest data set with two factors to compose."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from engram import checks

OFF = 1.5  # label of an absent factor, as a multiple of the canvas size
TINY = 1e-9  # share of a step by which rounding may miss the end of the lattice
Square = tuple[Literal["square"], float, float]
Band = tuple[Literal["band"], int, float, float]


class GaussianBumps(Dataset[tuple[Tensor, Tensor]]):
    """Gaussian bumps on a lattice of positions, with images in [-1, 1] and the positions as labels.

        image = 2 v - 1,   v(j, i) = exp(-(j - x)^2 / (2 sx^2)) exp(-(i - y)^2 / (2 sy^2))

    for pixels of column j and row i, and a bump at the label (x, y). A factor whose label is ``off`` is absent: its
    exponential is 1, which leaves a stripe; if both are absent, v is 0. ``"sos"`` has the mean of the two exponentials
    instead of their product.

    Args:
        size: N, the number of pixels along a side.
        dx: Distance between neighbouring positions along x, in pixels.
        dy: The same along y.
        sigma: Width of a bump in pixels, or a pair of widths (sx, sy).
        invert: Whether bumps are dark, 1 - v.
        kind: ``"bump"``, ``"sos"``, or ``"stripe_x"`` and ``"stripe_y"``, with the factor x or y alone.
        margin: Positions lie from ``margin`` to N - 1 - ``margin``, ends included; None: from 0 to below N.
        keep: Probability that a position is kept.
        holdout: Positions left out: ``("square", low, high)``, all with low < x < high and low < y < high, or
            ``("band", axis, low, high)``, all between low and high along x (axis 0) or y (axis 1).
        seed: A seed or a generator, which draws the positions to keep.

    Attributes:
        labels, images: The labels, (n, 2), and images, (n, 1, N, N), of all positions.
        off: The label of an absent factor.

    Raises:
        ValueError: An argument is out of range, or no position is left.

    Source: Liang et al., "Do diffusion models learn semantically meaningful and efficient representations?" (2024),
    with a factor 2 in the exponent that is ours.

    Examples:
        >>> len(GaussianBumps(32)), len(GaussianBumps(16, 0.5, 0.5, margin=0.0))
        (1024, 961)
        >>> held_out = GaussianBumps(16, 0.5, 0.5, margin=0.0, holdout=("band", 0, 5.0, 10.0))
        >>> len(held_out), held_out[0][1]
        (682, tensor([0., 0.]))
    """

    __repr__ = checks.described

    def __init__(
        self,
        size: int = 32,
        dx: float = 1.0,
        dy: float = 1.0,
        sigma: float | tuple[float, float] = 1.0,
        *,
        invert: bool = False,
        kind: Literal["bump", "sos", "stripe_x", "stripe_y"] = "bump",
        margin: float | None = None,
        keep: float = 1.0,
        holdout: Square | Band | None = None,
        seed: int | np.random.Generator = 0,
    ) -> None:
        checks.arguments()
        self.size, self.kind, self.invert = checks.size("size", size, 4, 4096), kind, invert
        self.sigma = sigma if isinstance(sigma, tuple) else (sigma, sigma)
        for width in self.sigma:
            checks.number("sigma", width, above=0)
        self.off = OFF * size
        x, y = (self._lattice(name, step, margin) for name, step in (("dx", dx), ("dy", dy)))
        x = np.array([self.off]) if kind == "stripe_y" else x
        y = np.array([self.off]) if kind == "stripe_x" else y
        positions = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        positions = positions[~self._held_out(positions, holdout)]
        checks.number("keep", keep, above=0, maximum=1)
        if keep < 1:
            positions = positions[checks.rng("seed", seed).random(len(positions)) < keep]
        if not len(positions):
            raise ValueError(f"keep = {keep}, holdout = {holdout}: expected at least one position, but none is left")
        self.labels = torch.from_numpy(positions).float()
        self.images = self.render(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def render(self, labels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 1 size size"]:
        """The images of labels, each in [0, N) or ``off``.

        Raises:
            ValueError: A label is neither in this range nor ``off``.
        """
        checks.arguments()
        checks.finite("labels", labels)
        absent = labels == self.off
        if bool((wrong := ~absent & ((labels < 0) | (labels >= self.size))).any()):
            value = labels[wrong][0].item()
            raise ValueError(f"labels: {value:g} is outside the canvas: expected 0 to below {self.size}, or {self.off}")
        pixels = torch.arange(self.size, dtype=labels.dtype, device=labels.device)
        profiles = [
            torch.where(absent[:, axis, None], 1.0, torch.exp(-((pixels - labels[:, axis, None]) / width).square() / 2))
            for axis, width in enumerate(self.sigma)
        ]
        x, y = profiles[0][:, None, :], profiles[1][:, :, None]
        bumps = (x + y) / 2 if self.kind == "sos" else x * y
        image = bumps * ~absent.all(1)[:, None, None]
        scaled: Tensor = 1 - 2 * image if self.invert else 2 * image - 1
        return scaled.unsqueeze(1)

    def _lattice(self, name: str, step: float, margin: float | None) -> Float[np.ndarray, " n"]:
        """Multiples of the step, so that rounding neither adds nor loses a position."""
        checks.number(name, step, above=0, maximum=self.size)
        if margin is None:
            return np.arange(math.ceil(self.size / step - TINY)) * step
        checks.number("margin", margin, minimum=0, maximum=(self.size - 1) / 2)
        return margin + np.arange(math.floor((self.size - 1 - 2 * margin) / step + TINY) + 1) * step

    @staticmethod
    def _held_out(positions: Float[np.ndarray, "n 2"], holdout: Square | Band | None) -> np.ndarray:
        if holdout is None:
            return np.zeros(len(positions), dtype=bool)
        low, high = holdout[-2:]
        if not low < high:
            raise ValueError(f"holdout = {holdout}: expected low < high")
        within = (positions > low) & (positions < high)
        if holdout[0] == "square":
            return np.asarray(within.all(1))
        return np.asarray(within[:, checks.size("axis of holdout", holdout[1], 0, 1)])
