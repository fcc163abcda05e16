"""What differs by rounding alone is equal, in the precision in which it was computed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.numeric.rounding import are_equal, difference, levelled, relative_rounding, varies

THIRD = [0.1 + 0.2, 0.3, 0.3 - 2**-54]  # 0.3 in three ways


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8), st.sampled_from([1e-300, 1e-9, 1.0, 2.0**40]))
def test_levels_keep_the_order_and_move_by_rounding_alone(numbers, scale):
    numbers = [number * scale for number in numbers]
    levels = levelled(numbers)
    unit = relative_rounding(np.array(numbers))
    for number, level in zip(numbers, levels.tolist(), strict=True):
        assert level == number or 0 <= number - level <= unit * max(abs(number), abs(level))
    order = np.argsort(numbers, kind="stable")
    assert (levels[order][1:] >= levels[order][:-1]).all()
    np.testing.assert_array_equal(levelled(levels), levels)


@pytest.mark.parametrize("scale", [1e-290, 1e-6, 1.0, -7.0, 1e200])
def test_one_number_in_several_ways_is_one_number(scale):
    numbers = [scale * third for third in THIRD]
    assert are_equal(numbers)
    assert not varies(np.array(numbers))
    assert len(set(levelled([*numbers, scale]).tolist())) == 2
    assert difference(numbers[0], numbers[1]) == 0
    assert difference(numbers[0], scale) == numbers[0] - scale


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 0.7, -7.1])
def test_what_was_computed_in_single_precision_is_equal_up_to_its_rounding(scale):
    single = np.float32(scale) * np.float32([1, 1 + 2e-7, 1])
    assert len(set(single.tolist())) == 2
    for numbers in (single, single.astype(np.float64), single.tolist()):
        assert are_equal(numbers)
        assert len(set(levelled(numbers).tolist())) == 1
    assert not are_equal([*single.tolist()[:2], scale])  # a number of 64 bits is beside them


def test_whole_numbers_and_infinities_are_what_they_are():
    assert not are_equal([10**7, 10**7 + 1])
    assert not are_equal([1e7, 1e7 + 1])
    assert levelled([-math.inf, 1.0, math.inf, math.inf]).tolist() == [-math.inf, 1.0, math.inf, math.inf]
    assert are_equal([math.inf, math.inf])
    assert not are_equal([math.inf, 1.0])
    assert not are_equal([math.nan, math.nan])
    assert math.isnan(difference(math.inf, math.inf))
    assert difference(math.inf, 1.0) == math.inf
