"""How large the features of receptive fields are, and how much of a field one Gabor function or blob explains."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

CENTRES = np.linspace(0.2, 0.8, 7)  # all lengths are relative to the side of the field
ORIENTATIONS = np.arange(8) * np.pi / 8
CYCLES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # over the field; with none it is a blob
WIDTHS, ASPECTS = (0.1, 0.2, 0.35), (1.0, 2.0)


def feature_size(fields: Float[np.ndarray, "n c side side"]) -> Float[np.ndarray, " n"]:
    """The scale over which receptive fields change, |f| / |grad f|, in pixels; that of a Gaussian blob is its width.

    Args:
        fields: Receptive fields of one or more colours; outside they are 0.

    Examples:
        >>> x = np.arange(24) - 11.5
        >>> blob = np.exp(-(x**2 + x[:, None] ** 2) / 2 / 3**2)
        >>> feature_size(blob[None, None]).round(1)
        array([3.])
    """
    framed = np.pad(fields.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    slope = sum((np.diff(framed, axis=axis) ** 2).sum((1, 2, 3)) for axis in (2, 3))
    return np.asarray(np.sqrt((framed**2).sum((1, 2, 3)) / slope))


def explained_by_one(fields: Float[np.ndarray, "n c side side"]) -> Float[np.ndarray, " n"]:
    """The share of the energy of receptive fields in the best of many Gabor functions and blobs, of one colour.

    The functions have the same sizes relative to the field whatever its side, and any phase.

    Args:
        fields: Receptive fields of one or more colours.

    Examples:
        >>> x = np.arange(20) - 9.5
        >>> blob = np.exp(-(x**2 + x[:, None] ** 2) / 2 / 4**2)
        >>> bool(explained_by_one(blob[None, None])[0] > 0.99)
        True
    """
    flat = fields.reshape(*fields.shape[:2], -1).astype(float)
    _, values, patterns = np.linalg.svd(flat, full_matrices=False)
    even, odd = _functions(fields.shape[-1])
    explained = ((patterns[:, 0] @ even.T) ** 2 + (patterns[:, 0] @ odd.T) ** 2).max(1)
    return np.asarray(explained * values[:, 0] ** 2 / (values**2).sum(1))


@cache
def _functions(side: int) -> tuple[Float[np.ndarray, "functions pixels"], Float[np.ndarray, "functions pixels"]]:
    """Pairs of orthonormal functions, whose sums are a Gabor function in all phases; of a blob, the second one is 0."""
    ticks = (np.arange(side) + 0.5) / side
    y, x = (part.ravel() for part in np.meshgrid(ticks, ticks, indexing="ij"))
    centre_y, centre_x, angle, cycles, width, aspect = (
        part.reshape(-1, 1) for part in np.meshgrid(CENTRES, CENTRES, ORIENTATIONS, CYCLES, WIDTHS, ASPECTS)
    )
    along = (x - centre_x) * np.cos(angle) + (y - centre_y) * np.sin(angle)
    across = (y - centre_y) * np.cos(angle) - (x - centre_x) * np.sin(angle)
    envelope = np.exp(-(along**2 + (across / aspect) ** 2) / 2 / width**2)
    even, odd = (envelope * wave(2 * np.pi * cycles * along) for wave in (np.cos, np.sin))
    even /= np.linalg.norm(even, axis=1, keepdims=True)
    odd -= (odd * even).sum(1, keepdims=True) * even
    odd /= np.maximum(np.linalg.norm(odd, axis=1, keepdims=True), 1e-12)
    return even, odd
