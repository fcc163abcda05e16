"""Exact nearest neighbours among sequences, by the number of differing letters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Num

from engram import checks
from engram.numeric.threads import in_ranges

WORD = 32  # positions compared at a time


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
