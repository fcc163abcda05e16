"""Arguments and shapes are checked in tests, by which wrong ones are found."""

from __future__ import annotations

import beartyped
import numpy as np
import pytest
from jaxtyping import Float

Row = Float[np.ndarray, "features"]


@beartyped.jaxtyped
def product(rows: Float[np.ndarray, "samples features"], weight: Row, columns: int = 1) -> Float[np.ndarray, "samples"]:
    return (rows @ weight)[: len(rows) // columns]


def test_one_name_is_one_length_in_a_call_and_another_in_the_next():
    for size in (2, 3):
        assert product(np.ones((4, size)), np.ones(size)).tolist() == [size] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((4, 2)), np.ones(3)), "parameter weight"),
        ((np.ones((4, 2)), np.ones(2), 2), "return"),
        ((np.ones((4, 2)), np.ones(2), "1"), "parameter columns"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        product(*arguments)


def test_many_calls_of_a_test_are_checked_at_intervals():
    def call(times, weight):
        for _ in range(times):
            product(np.ones((4, 2)), weight)

    call(2 * beartyped.DENSE, np.ones(2))
    with pytest.raises(TypeError, match="parameter weight"):
        call(beartyped.STRIDE, np.ones(2, dtype=int))
