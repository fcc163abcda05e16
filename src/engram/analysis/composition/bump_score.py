"""Count the bumps in images, and check whether a single one is in place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from engram import checks

HALF = 0.5
LARGEST = 6.0  # times the area of a bump above half of its height, beyond which a component is none
SINGLE, CORRECT = 0.5, 0.8


@dataclass(frozen=True)
class BumpScore:
    """Shares of images with no bump, one bump, and several bumps or a blot; and of those whose bump is in place.

    ``accuracy`` requires both coordinates to be right, ``acc_x`` and ``acc_y`` one; all three require a single bump.
    ``error`` is the median distance of single bumps from their labels, NaN where there is none.
    """

    none: float
    one: float
    multi: float
    accuracy: float
    acc_x: float
    acc_y: float
    error: float

    @property
    def phase(self) -> Literal["A", "B", "C"]:
        """A: mostly not one bump; B: one bump, often misplaced; C: one bump, in place in four of five images.

        Source: Liang et al., "Do diffusion models learn semantically meaningful and efficient representations?" (2024);
        the limits are ours.
        """
        if self.one < SINGLE:
            return "A"
        return "B" if self.accuracy < CORRECT else "C"


def bump_score(
    images: Float[np.ndarray, "n height width"],
    labels: Float[np.ndarray, "n 2"],
    tol: float = 1.0,
    sigma: float | tuple[float, float] = 1.0,
) -> BumpScore:
    """Count the bumps of images, and compare the place of a single one with its label (x, y), column and row.

    Bumps are the 4-connected components of what is brighter than 0.5, or, where a clean bump of that label does not
    reach 0.5 in any pixel, than half of its largest value. The place of one is the mean of its pixels, weighted by
    their values. A component of more than six times the area of a bump above half its height is a blot, and counts as
    several bumps. The measured place of a bump within a pixel of the border is up to half a pixel too far inside.

    Args:
        images: Images with values about 0 to 1, bright bumps on black.
        labels: Where each bump should be.
        tol: Largest error of each coordinate.
        sigma: Width of a clean bump; or two, along x and y.

    Raises:
        ValueError: There is no image, or a value is not finite or out of range.

    Source: ours.

    Examples:
        >>> column, row = np.meshgrid(np.arange(16), np.arange(16))
        >>> image = np.exp(-((column - 4) ** 2 + (row - 9) ** 2) / 2)
        >>> score = bump_score(np.stack([image, image + image.T]), np.array([[4.0, 9.0], [4.0, 9.0]]))
        >>> score.one, score.multi, score.accuracy, round(score.error, 3), score.phase
        (0.5, 0.5, 0.5, 0.0, 'B')
    """
    checks.arguments()
    if not images.size:
        raise ValueError(f"images.shape = {images.shape}: expected at least one image")
    checks.finite("images", images)
    checks.finite("labels", labels)
    checks.number("tol", tol, minimum=0)
    widths = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    for width in widths:
        checks.number("sigma", width, above=0)
    count, (height, width) = len(images), images.shape[1:]
    highest = np.prod(
        [
            np.exp(-(((np.arange(pixels) - labels[:, axis, None]) / widths[axis]) ** 2).min(1) / 2)
            for axis, pixels in ((0, width), (1, height))
        ],
        axis=0,
    )
    threshold = np.where(highest > HALF, HALF, highest / 2)
    within = np.zeros((3, 3, 3), dtype=bool)  # pixels of one image touch, images do not
    within[1] = ndimage.generate_binary_structure(2, 1)
    components, n_components = ndimage.label(images > threshold[:, None, None], within)
    image, row, column = np.nonzero(components)
    which, value = components[image, row, column], images[image, row, column]
    parts = value, np.ones_like(value), value * column, value * row
    weight, area, x, y = (np.bincount(which, part, n_components + 1)[1:] for part in parts)
    of_image = np.zeros(n_components, dtype=int)
    of_image[which - 1] = image
    n_bumps = np.bincount(of_image, minlength=count)
    wide = [max(width, HALF) for width in widths]  # one between pixels has four of them
    blot = area > LARGEST * math.pi * 2 * math.log(2) * wide[0] * wide[1]
    single = n_bumps == 1
    single[of_image[blot]] = False
    off = np.full((count, 2), np.inf)
    alone = single[of_image]
    off[of_image[alone]] = np.stack([x, y], 1)[alone] / weight[alone, None] - labels[of_image[alone]]
    near = np.abs(off) <= tol
    return BumpScore(
        none=float((n_bumps == 0).mean()),
        one=float(single.mean()),
        multi=float(((n_bumps > 0) & ~single).mean()),
        accuracy=float(near.all(1).mean()),
        acc_x=float(near[:, 0].mean()),
        acc_y=float(near[:, 1].mean()),
        error=float(np.median(np.linalg.norm(off[single], axis=1))) if single.any() else math.nan,
    )
