"""A stream of points around centres that jump: what shows whether an online clusterer follows."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Float


class DriftingGaussians:
    """Points around ``n_centres`` centres in the unit cube, all of which are drawn anew at the times in ``jumps``.

    Args:
        n_centres: Number of centres.
        n_features: Dimensions.
        scale: Standard deviation around a centre.
        jumps: Numbers of the samples before which all centres move.
        random_state: Settles all.

    Attributes:
        centres: Where they are now, (centres, features).
        n_samples: Samples drawn so far.
    """

    def __init__(
        self,
        n_centres: int = 32,
        n_features: int = 2,
        scale: float = 0.02,
        jumps: Collection[int] = (2000,),
        random_state: int | np.random.Generator = 0,
    ) -> None:
        raise NotImplementedError

    def sample(self, n_samples: int) -> Float[np.ndarray, "samples features"]:
        """Return the next samples of the stream."""
        raise NotImplementedError
