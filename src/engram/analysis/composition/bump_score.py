"""Count the bumps in images, and check whether a single bump is where it should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from engram import checks

HALF = 0.5
LARGEST = 6.0  # a bump has at most this multiple of the area that a clean bump has above half its height
SINGLE, CORRECT = 0.5, 0.8


@dataclass(frozen=True)
class BumpScore:
    """Shares of images with no bump, one bump, and several bumps or a blot; and of those whose bump is in place.

    ``accuracy`` requires both coordinates to be right, ``acc_x`` and ``acc_y`` only one; all require a single bump.
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
        """A: mostly not a single bump; B: a single bump, often misplaced; C: a single bump, in place in at least 80%.

        Source: Liang et al., "Do diffusion models learn semantically meaningful and efficient representations?" (2024);
        the thresholds are ours.
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
    """Count the bumps in images, and compare the position of a single bump with its label (x, y), column and row.

    Bumps are the 4-connected components of the pixels brighter than 0.5, or, if a clean bump at the label does not
    reach 0.5 in any pixel, brighter than half of its largest value. The position of a bump is the mean of its pixels,
    weighted by their values, and within a pixel of the border up to half a pixel too far inside. A component with more
    than six times the area of a clean bump above half its height is a blot, and counts as several bumps.

    Args:
        images: Images of bright bumps on black, with values of about 0 to 1.
        labels: The position (x, y) where each bump should be.
        tol: Largest error of a coordinate that counts as right, in pixels.
        sigma: Width (standard deviation) of a clean bump in pixels; or a pair, along x and y.

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
    clean_maximum = np.prod(
        [
            np.exp(-(((np.arange(pixels) - labels[:, axis, None]) / widths[axis]) ** 2).min(1) / 2)
            for axis, pixels in ((0, width), (1, height))
        ],
        axis=0,
    )
    threshold = np.where(clean_maximum > HALF, HALF, clean_maximum / 2)
    structure = np.zeros((3, 3, 3), dtype=bool)  # connects pixels of one image, not different images
    structure[1] = ndimage.generate_binary_structure(2, 1)
    components, n_components = ndimage.label(images > threshold[:, None, None], structure)
    image, row, column = np.nonzero(components)
    component, value = components[image, row, column], images[image, row, column]
    weightings = value, np.ones_like(value), value * column, value * row
    weight, area, x, y = (np.bincount(component, weights, n_components + 1)[1:] for weights in weightings)
    image_of = np.zeros(n_components, dtype=int)
    image_of[component - 1] = image
    n_bumps = np.bincount(image_of, minlength=count)
    blot_widths = [max(width, HALF) for width in widths]  # a narrow bump between pixels covers four of them
    is_blot = area > LARGEST * math.pi * 2 * math.log(2) * blot_widths[0] * blot_widths[1]
    single = n_bumps == 1
    single[image_of[is_blot]] = False
    errors = np.full((count, 2), np.inf)
    is_single = single[image_of]
    errors[image_of[is_single]] = np.stack([x, y], 1)[is_single] / weight[is_single, None] - labels[image_of[is_single]]
    is_right = np.abs(errors) <= tol
    return BumpScore(
        none=float((n_bumps == 0).mean()),
        one=float(single.mean()),
        multi=float(((n_bumps > 0) & ~single).mean()),
        accuracy=float(is_right.all(1).mean()),
        acc_x=float(is_right[:, 0].mean()),
        acc_y=float(is_right[:, 1].mean()),
        error=float(np.median(np.linalg.norm(errors[single], axis=1))) if single.any() else math.nan,
    )
