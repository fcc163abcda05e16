import math

import numpy as np

from engram.numeric.unit_rows import unit_rows


def test_rows_of_zeros_stay_and_large_numbers_do_not_overflow():
    rows = np.array([[0.0, 0.0], [3e200, 4e200], [1.0, -1.0]])  # the last one sums to zero
    np.testing.assert_allclose(unit_rows(rows), [[0, 0], [0.6, 0.8], [math.sqrt(0.5), -math.sqrt(0.5)]])
    single = unit_rows(np.full((1, 4), 1e30, np.float32))
    assert single.dtype == np.float32
    assert single.tolist() == [[0.5] * 4]
