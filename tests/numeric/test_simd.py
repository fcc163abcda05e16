"""Rows are copied and cleared as NumPy does it, and only in arrays whose flat indices are places in memory."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from engram.numeric.simd import clear, copy_row, section


@njit
def moved(source, target):
    copy_row(source, 4, target, 1, 3)
    clear(section(target, 5, 3), 1, 2)


def test_rows_are_copied_and_cleared_and_nothing_beside_them():
    source, target = np.arange(9, dtype=np.float32).reshape(3, 3), np.full(9, -1, dtype=np.float32)
    moved(source, target)
    assert target.tolist() == [-1, 4, 5, 6, -1, -1, 0, 0, -1]


@pytest.mark.parametrize(
    ("source", "target"),
    [(np.ones((3, 3)).T, np.ones(9)), (np.ones(9), np.ones(18)[::2]), (np.ones(9), np.ones(9, np.float32))],
)
def test_other_arrays_are_refused(source, target):
    with pytest.raises(TypingError):
        moved(source, target)
