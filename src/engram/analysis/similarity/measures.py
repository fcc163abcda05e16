"""The library's measures of similarity with one interface: of dynamics (by operators), and of shapes (by samples)."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

from engram.analysis.similarity.hankel_dmd import HankelDMD
from engram.analysis.similarity.linear_cka import linear_cka
from engram.analysis.similarity.measure import SimilarityMeasure
from engram.analysis.similarity.operator_distance import operator_distance
from engram.analysis.similarity.procrustes_angle import procrustes_angle
from engram.analysis.similarity.rsa import rsa
from engram.analysis.similarity.spectral_distance import spectral_distance
from engram.analysis.similarity.trials import Recording

DELAYS, RANK = 10, 15  # of operators
SAMPLES = 300  # maximum number of samples between which distances are ranked
Square = Float[np.ndarray, "rank rank"]


def operator_of(trials: list[Recording]) -> Square:
    """The operator of ``HankelDMD`` with at most 10 delays and rank 15, or its default rank if 15 is too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an unstable fit has an operator as well
        delays = max(1, min(DELAYS, min(map(len, trials)) // 4))
        try:
            return np.asarray(HankelDMD(delays, rank=RANK).fit(trials).operator_)
        except ValueError:  # the data have a lower rank
            return np.asarray(HankelDMD(delays).fit(trials).operator_)


class DynamicalAngle(SimilarityMeasure):
    """Dynamical similarity analysis: the angle between operators up to a change of coordinates, ``operator_distance``.

    Examples:
        >>> t = np.linspace(0, 60, 600)
        >>> slow, fast = (np.stack([np.sin(f * t), np.cos(f * t)], 1) for f in (1, 7))
        >>> round(DynamicalAngle()(slow, 2 * slow[:, ::-1]), 4), round(DynamicalAngle()(slow, fast), 1)
        (0.0, 0.6)
    """

    invariant = ("scale", "rotation")

    def describe(self, trials: list[Recording]) -> Square:
        """The operator that ``operator_of`` fits to the trials, (rank, rank)."""
        return operator_of(trials)

    def distance(self, first: Square, second: Square) -> float:
        """The angle in radians, between leading blocks of the smaller of the two sizes."""
        rank = min(len(first), len(second))
        return operator_distance(first[:rank, :rank], second[:rank, :rank])


class EigenvalueDistance(SimilarityMeasure):
    """The distance between the eigenvalues of operators, ``spectral_distance``."""

    invariant = ("scale", "rotation")

    def describe(self, trials: list[Recording]) -> Square:
        """The operator that ``operator_of`` fits to the trials, (rank, rank)."""
        return operator_of(trials)

    def distance(self, first: Square, second: Square) -> float:
        """The Wasserstein distance between the eigenvalues of two operators, each set with a total weight of one."""
        return spectral_distance(first, second, pad="mass")


class ShapeAngle(SimilarityMeasure):
    """The angle between shapes after shift, scale and rotation, ``procrustes_angle``."""

    paired = True
    invariant = ("shift", "scale", "rotation")

    def describe(self, trials: list[Recording]) -> Recording:
        """All samples."""
        return np.concatenate(trials)

    def distance(self, first: Recording, second: Recording) -> float:
        """The angle, in radians."""
        return procrustes_angle(first, second)


class AlignmentLoss(SimilarityMeasure):
    """One minus linear CKA, ``1 - linear_cka``."""

    paired = True
    invariant = ("shift", "scale", "rotation")

    def describe(self, trials: list[Recording]) -> Recording:
        """All samples."""
        return np.concatenate(trials)

    def distance(self, first: Recording, second: Recording) -> float:
        """The loss, from 0 to 1."""
        return 1 - linear_cka(first, second)


class RankCorrelationLoss(SimilarityMeasure):
    """One minus the rank correlation of distances among samples, ``1 - rsa`` with Euclidean distances.

    If there are more than 300 samples, 300 evenly spaced ones are used.
    """

    paired = True
    invariant = ("shift", "scale", "rotation")

    def describe(self, trials: list[Recording]) -> Recording:
        """Up to 300 samples."""
        samples = np.concatenate(trials)
        indices = np.unique(np.linspace(0, len(samples) - 1, SAMPLES).round().astype(int))
        return np.asarray(samples[indices])

    def distance(self, first: Recording, second: Recording) -> float:
        """The loss, from 0 to 2."""
        return 1 - rsa(first, second, "euclidean")
