"""K-means by one look at each sample, and its form that follows a stream which changes; scikit-learn's interface."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClusterMixin

Data = Annotated[Any, ArrayLike]


class OnlineKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Samples join the nearest centre one after another and move it by 1 / its count; the first ones are the centres.

    Args:
        n_clusters: Centres.
        batch_size: Samples taken together; with 1, the default, it does not matter how a stream is cut into calls.
        weighting: ``"count"`` or ``"author"``; see ``engram.memory.policies.DynamicKMeans``.
        max_iter: Passes of ``fit`` over the samples.

    Attributes:
        cluster_centers_: (clusters, features); fewer than ``n_clusters`` before as many samples came.
        counts_: Weight of each centre, (clusters,).
        labels_: Nearest centre of each sample of the last call, at its end.
    """

    def partial_fit(self, X: Data, y: object = None) -> OnlineKMeans:
        """Learn from samples in their order."""
        raise NotImplementedError

    def predict(self, X: Data) -> np.ndarray:
        """Return the nearest centre of each sample."""
        raise NotImplementedError


class DynamicOnlineKMeans(OnlineKMeans):
    """Online k-means whose centres lose weight over time and start anew elsewhere when they starve."""
