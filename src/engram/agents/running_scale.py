"""Standardisation of observations by running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram.state import check_state


class RunningScale:
    """Standardisation of vectors by the running mean and variance of each feature.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products" (1962).

    Examples:
        >>> RunningScale(1)(np.array([3.0], dtype=np.float32)).tolist()
        [3.0]
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0
        self.mean, self.squares = np.zeros(n_features), np.zeros(n_features)

    def update(self, x: Float[np.ndarray, "features"]) -> None:
        """Update mean and variance with a vector."""
        self.count += 1
        delta = x - self.mean
        self.mean += delta / self.count
        self.squares += delta * (x - self.mean)

    def __call__(self, x: Float[np.ndarray, "*batch features"]) -> Float[np.ndarray, "*batch features"]:
        """Standardised vectors; a feature of zero variance is centred only."""
        deviation = np.sqrt(self.squares / max(1, self.count))
        deviation[deviation == 0] = 1.0
        return ((x - self.mean) / deviation).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Mean and variance so far."""
        return {"count": self.count, "mean": self.mean.copy(), "squares": self.squares.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        check_state(state, self.state_dict())
        self.count = state["count"]
        self.mean[...], self.squares[...] = state["mean"], state["squares"]
