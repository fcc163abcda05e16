from itertools import pairwise

import numpy as np
import pytest

from engram.tasks import DriftingGaussians


def test_the_stream_jumps_where_it_should_however_it_is_cut():
    stream = DriftingGaussians(4, 3, 1e-6, jumps=[0, 5, 7], random_state=1)
    known = []
    for n in (0, 5, 1, 1, 3):
        X = stream.sample(n)
        assert X.shape == (n, 3)
        known.append(stream.centres.copy())
        assert all(np.abs(x - stream.centres).max(1).min() < 1e-4 for x in X)
    assert [np.array_equal(a, b) for a, b in pairwise(known)] == [False, False, True, False]
    assert stream.n_samples == 10
    again = DriftingGaussians(4, 3, 1e-6, jumps=[0, 5, 7], random_state=1)
    np.testing.assert_array_equal(again.sample(0), np.zeros((0, 3)))
    for wrong in ({"n_centres": 0}, {"scale": -1.0}):
        with pytest.raises(ValueError, match=r"expected (a number of )?at least"):
            DriftingGaussians(**wrong)
