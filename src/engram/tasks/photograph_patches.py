"""Patches of a photograph that needs no download, as samples for learning a dictionary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks

TRAINING_SHARE = 0.7  # share of the photograph's columns, from the left, for training patches


def photograph_patches(
    count: int, size: int, split: str, rng: np.random.Generator
) -> Float[np.ndarray, "samples features"]:
    """Square patches of a photograph at random positions, each minus its mean; their norms are 1 on average.

    A quarter more are drawn, and those of the least contrast are left out.

    Args:
        count: Number of patches; there are fewer if the photograph has fewer positions.
        size: Side of a patch, in pixels, at least 2.
        split: ``"train"``: from the left 70 % of the columns; ``"test"``: from the rest.
        rng: Draws the positions.

    Raises:
        ValueError: ``split`` is unknown, ``count`` is below 1, or ``size`` is below 2 or above a side of the
            photograph's part.

    Source: our own; the photograph is china.jpg of scikit-learn.

    Examples:
        >>> photograph_patches(10, 8, "test", np.random.default_rng(0)).shape
        (10, 64)
    """
    from sklearn.datasets import load_sample_image
    from sklearn.feature_extraction.image import extract_patches_2d

    checks.arguments()
    checks.choice("split", split, ("train", "test"))
    checks.size("count", count)
    image = load_sample_image("china.jpg").mean(axis=2)
    border = int(TRAINING_SHARE * image.shape[1])
    image = image[:, :border] if split == "train" else image[:, border:]
    checks.size("size", size, 2, min(image.shape))
    seed = int(rng.integers(2**31))
    patches = extract_patches_2d(image, (size, size), max_patches=count * 5 // 4 + 1, random_state=seed)
    patches = patches.reshape(len(patches), -1)
    patches = patches - patches.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(patches, axis=1)
    patches = patches[np.sort(np.argsort(-norms, kind="stable")[:count])]
    return np.asarray(patches / np.linalg.norm(patches, axis=1).mean())
