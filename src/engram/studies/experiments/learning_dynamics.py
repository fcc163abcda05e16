"""The dynamics of learning: a linear operator by which the activity of a network changes while it learns."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

from engram import analysis


def path_of(
    activity: Float[np.ndarray, "looks probes units"], components: int
) -> Float[np.ndarray, "looks components"]:
    """The path of a network through its first principal components.

    Args:
        activity: The activity of all units for the same probes, at successive times while it learns.
        components: Number of components, at most the number of times.
    """
    path: np.ndarray = PCA(components, random_state=0).fit_transform(activity.reshape(len(activity), -1))
    return path


def operator_of(path: Float[np.ndarray, "looks components"], delays: int, rank: int) -> Float[np.ndarray, "rank rank"]:
    """The linear operator that best predicts a path from its delay embedding.

    Args:
        path: The path; its scale does not matter.
        delays: Number of successive points that are embedded together.
        rank: The size of the operator.
    """
    return np.asarray(analysis.HankelDMD(delays, rank=rank).fit([path / path.std()]).operator_)
