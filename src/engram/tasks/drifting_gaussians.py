"""A stream of points around centres that jump, to test whether an online clusterer follows them."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from engram import checks


class DriftingGaussians:
    """Points around centres in the unit cube; all centres are drawn again at given times.

        x = random centre + scale N(0, 1),   centres uniform in [0, 1]^features

    Args:
        n_centres: Number of centres.
        n_features: Number of dimensions.
        scale: Standard deviation of the points around their centre.
        jumps: Indices of the samples, from 0, before which all centres are drawn again.
        random_state: A seed or a generator.

    Attributes:
        centres: The current centres, (centres, features).
        n_samples: Number of samples drawn so far.

    Source: ours, a benchmark without the noise of reinforcement learning.

    Examples:
        >>> DriftingGaussians(jumps=[10]).sample(20).shape
        (20, 2)
    """

    __repr__ = checks.described

    def __init__(
        self,
        n_centres: int = 32,
        n_features: int = 2,
        scale: float = 0.02,
        jumps: Collection[int] = (2000,),
        random_state: int | np.random.Generator = 0,
    ) -> None:
        checks.arguments()
        shape = checks.size("n_centres", n_centres), checks.size("n_features", n_features)
        self.scale, self.jumps = checks.number("scale", scale, minimum=0), frozenset(jumps)
        self.n_samples = 0
        self._rng = checks.rng("random_state", random_state)
        self.centres = self._rng.random(shape)

    def sample(self, n_samples: int) -> Float[np.ndarray, "samples features"]:
        """The next samples of the stream."""
        end = self.n_samples + checks.size("n_samples", n_samples, minimum=0)
        edges = [self.n_samples, *sorted(jump for jump in self.jumps if self.n_samples < jump < end), end]
        segments = []
        for start, stop in pairwise(edges):
            if start in self.jumps and start < stop:
                self.centres = self._rng.random(self.centres.shape)
            components = self._rng.integers(len(self.centres), size=stop - start)
            noise = self._rng.standard_normal((stop - start, self.centres.shape[1]))
            segments.append(self.centres[components] + self.scale * noise)
        self.n_samples = end
        return np.concatenate(segments)
