"""A call that is refused changes nothing."""

import numpy as np
import pytest

from engram.analysis import cross_temporal_decoding, maximum_likelihood_dimension, permutation_test
from engram.verify import Box
from engram.verify.nnet import Normalisation


def test_a_statistic_that_is_nan_is_refused():
    points, labels = np.random.default_rng(0).normal(size=(8, 2)), np.array([0] * 7 + [1])
    distances = np.linalg.norm(points[:, None] - points, axis=2)

    def closeness(distances, labels):  # NaN for a label that occurs once
        groups = [distances[np.ix_(labels == k, labels == k)] for k in np.unique(labels)]
        with np.errstate(invalid="ignore"):
            return -np.mean([g.sum() / (g.size - len(g)) for g in groups])

    with pytest.raises(ValueError, match="is NaN: expected finite numbers"):
        permutation_test(distances, labels, np.random.default_rng(0), 99, closeness)


def test_decoding_refuses_nan():
    activity = np.ones((8, 2, 3))
    activity[0, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"activity\[0, 1, 0\] is NaN"):
        cross_temporal_decoding(activity, np.arange(8) % 2)


def test_a_box_of_other_inputs_is_refused():
    scaling = Normalisation(np.zeros(3), np.full(3, 10.0), np.zeros(4), np.ones(4))
    with pytest.raises(ValueError, match=r"box.low.shape = \(1,\): expected \(3\)"):
        scaling.box(Box([1.0], [2.0]))


@pytest.mark.parametrize("distances", [[[0.0, 1.0], [1.0, 2.0]], [[np.nan, 1.0]], [[-2.0, -1.0]], [[1.0], [2.0]]])
@pytest.mark.parametrize("pooled", [True, False])
def test_no_dimension_of_distances_that_are_not_above_zero(distances, pooled):
    with pytest.raises(ValueError, match=r"distances = .* above 0"):
        maximum_likelihood_dimension(np.array(distances), pooled=pooled)
