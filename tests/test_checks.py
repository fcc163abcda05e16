"""Arguments are held to their annotations where they enter, and nothing stands between a call and its function."""

from __future__ import annotations

import collections.abc
import inspect
import pickle
import random
import re
import traceback
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import engram
from engram import checks
from engram.analysis import AccuracyMatrix
from engram.continual import slow_parameters
from engram.memory.episodic.policies import LRU
from engram.memory.episodic.policies.table import Policy


def product(
    rows: Float[Tensor, "samples features"], weight: Float[Tensor, "features"], *, of: Literal["all", "none"] = "all"
) -> Tensor:
    checks.arguments()
    return rows @ weight


def total(numbers: list[int]) -> int:
    checks.arguments()
    return sum(numbers)


@dataclass
class Range:
    low: float
    high: float = 1.0

    def __post_init__(self) -> None:
        checks.arguments()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: product(torch.ones(2, 3), torch.ones(4)), ValueError, r"weight\.shape = \(4,\).*'features'"),
        (lambda: product(torch.ones(2, 3), torch.ones(3, dtype=int)), ValueError, r"weight.*int64: expected Float"),
        (lambda: product([[1.0]], torch.ones(1)), TypeError, r"rows = \[\[1.0\]\]: expected Float\[Tensor"),
        (lambda: product(torch.ones(2, 3), np.ones(3)), TypeError, "weight = array of shape"),
        (
            lambda: product(torch.ones(2, 3), torch.ones(3), of="some"),
            ValueError,
            "of = 'some': expected one of 'all', 'none'",
        ),
        (lambda: total(["a"]), TypeError, r"numbers = \['a'\]: expected list\[int\]"),
        (lambda: Range("a"), TypeError, "low = 'a': expected float"),
        (
            lambda: checks.choice("preset", ["smoke"], {"smoke": 1, "laptop": 2}),
            ValueError,
            r"preset = \['smoke'\]: expected one of 'smoke', 'laptop'",
        ),
        (lambda: checks.number("low", np.float32("inf")), ValueError, "low = inf: expected a finite number"),
        (
            lambda: checks.instance("policy", LRU, Policy),
            TypeError,
            r"policy = LRU: expected an instance, as LRU\(\) makes, not the class",
        ),
        (
            lambda: checks.instance("flag", 1, bool | np.bool_),
            TypeError,
            r"flag is a int: expected an instance of bool \| numpy\.bool",
        ),
    ],
)
def test_what_is_not_as_annotated_is_refused_the_first_time_and_after_a_good_call(call, error, message):
    for _ in range(2):
        with pytest.raises(error, match=message):
            call()
        assert product(torch.ones(2, 3), torch.ones(3)).tolist() == [3, 3]
        assert total([1, 2]) == 3
        assert Range(np.float32(0), 2).high == 2


@pytest.mark.parametrize(
    ("numbers", "dtype", "message"),
    [
        ([0.0, 0.5], np.int64, r"cells\[1\] = 0\.5: expected an integer, of int64"),
        ([0.0, np.nan], np.int64, r"cells\[1\] is NaN"),
        ([0, 300], np.int8, r"cells\[1\] = 300: expected an integer, of int8"),
        ([-1, 0], np.uint8, r"cells\[0\] = -1: expected an integer, of uint8"),
        ([1, 1e300], np.int64, r"cells\[1\] = 1e\+300: expected an integer"),
    ],
)
def test_an_array_of_integers_is_made_of_integers(numbers, dtype, message):
    with pytest.raises(ValueError, match=message):
        checks.array("cells", numbers, ("n",), dtype)
    assert checks.array("cells", [2.0, 1], ("n",), dtype).tolist() == [2, 1]


@pytest.mark.filterwarnings("error")
def test_numbers_of_fewer_bits_are_numbers():
    assert checks.number("low", np.float32(0.5), minimum=0, maximum=1) == checks.number("low", np.float16(0.5)) == 0.5
    assert checks.array("scores", torch.tensor([0.5, 1], dtype=torch.bfloat16), (2,)).tolist() == [0.5, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_no_other(dtype):
    half, double = torch.tensor([0.1, 3.0], dtype=dtype, requires_grad=True), torch.ones(2, dtype=torch.float64)
    assert checks.widened(half).dtype == torch.float32
    assert checks.as_array(half).tolist() == half.tolist()
    assert checks.widened(double) is double
    assert checks.as_array("text") == "text"


def test_annotations_of_arrays_are_named_without_their_module():
    refusal = checks._refusal("values", "a", Float[Tensor, "n"] | None)
    assert str(refusal) == "values = 'a': expected Float[Tensor, 'n'] | None"


def test_lists_and_tuples_of_arrays_are_told_apart():
    row = "array of shape (2,) and dtype float64"
    assert checks.shown([np.ones(2)] * 2) == f"[{row}, {row}]"
    assert checks.shown((np.ones(2),) * 4) == f"({row}, {row}, {row}, ...)"


def test_an_error_passes_through_no_frame_of_the_checks():
    with pytest.raises(TypeError) as caught, checks.noted(numbers=[1, None]):
        sum([1, None])
    assert caught.value.__notes__ == ["numbers = [1, None]"]
    assert {frame.filename for frame in traceback.extract_tb(caught.tb)} == {__file__}


def test_compiled_and_under_transforms():
    rows, weight = torch.ones(2, 3), torch.ones(3)
    compiled = torch.compile(product, fullgraph=True, backend="eager")
    assert compiled(rows, weight).tolist() == [3, 3]
    assert torch.func.vmap(product, in_dims=(0, None))(rows[None], weight).shape == (1, 2)
    assert torch.func.grad(lambda w: product(rows, w).sum())(weight).tolist() == [2, 2, 2]
    assert product(rows.to("meta"), weight.to("meta")).shape == (2,)


def test_public_functions_are_their_own():
    assert inspect.unwrap(slow_parameters).__module__ == slow_parameters.__module__
    assert pickle.loads(pickle.dumps(slow_parameters)) is slow_parameters
    assert pickle.loads(pickle.dumps(engram.nn.mlp)) is engram.nn.mlp


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize(
    ("number", "named"),
    [(np.nan, "NaN"), (np.inf, "infinity (inf)"), (-np.inf, "minus infinity (-inf)"), (complex(0, np.nan), "NaN")],
)
def test_the_number_that_is_not_finite_is_named(number, named, kind):
    with pytest.raises(ValueError, match=re.escape(f"x[1] is {named}: expected finite numbers")):
        checks.finite("x", kind([1.0, number]))
    checks.finite("x", kind([1.0, 1j]))


def length(rows: collections.abc.Sequence[int]) -> int:
    checks.arguments()
    return len(rows)


def test_no_number_is_drawn_from_pythons_global_generator():
    state = random.getstate()
    assert length([1, 2, 3]) == 3
    with pytest.raises(TypeError, match="rows"):
        length(["a"])
    assert random.getstate() == state


def largest(numbers: Float[np.ndarray, "numbers"]) -> float:
    checks.arguments()
    return float(np.asarray(numbers).max())  # without its mask


def anything(values: object) -> None:
    checks.arguments()


@pytest.mark.parametrize(
    "put",
    [
        lambda array: [np.zeros(3), array],
        lambda array: (np.zeros(3), [array]),
        lambda array: {"a": 0.0, "b": array},
        lambda array: np.array([np.zeros(2), array], dtype=object),
        lambda array: inspect.FullArgSpec(*[None] * 6, array),
    ],
)
def test_masked_numbers_within_lists_are_found_wherever_they_are(put):
    plain, masked = (np.ma.masked_array([1, 2, 999], mask) for mask in ([0, 0, 0], [0, 0, 1]))
    for _ in range(2):
        anything(put(plain))
        with pytest.raises(ValueError, match="an item of values is a masked array: expected one in which no number is"):
            anything(put(masked))
    rows = np.asarray(checks.as_array([[1.0, 2.0, 3.0], masked]))
    np.testing.assert_array_equal(rows, [[1, 2, 3], [1, 2, np.nan]])
    cells = checks.as_array(np.array([None, masked], dtype=object))
    np.testing.assert_array_equal(cells[1], [1, 2, np.nan])
    with pytest.raises(TypeError, match="a masked array of dtype <U1: expected one in which nothing is masked"):
        checks.as_array(np.ma.masked_array(["a", "b"], [0, 1]))
    assert checks.as_array(np.ma.masked_array([1j, 2j], [0, 1]))[0] == 1j
    named = checks.as_array({"plain": plain, "rows": [masked, 2]})
    assert named["plain"] is plain
    assert np.isnan(named["rows"][0][2])


def test_lists_of_numbers_of_numpy_are_not_searched(monkeypatch):
    seen, plain = [], checks.has_masked
    monkeypatch.setattr(checks, "has_masked", lambda value: seen.append(value) or plain(value))
    for kind in (np.float32, np.int64, np.bool_):
        assert not plain([kind(1)] * 3)
    assert seen == []


def test_masked_numbers_are_refused_or_become_nan():
    plain, masked = (np.ma.masked_array([1.0, 2.0, 1e20], mask) for mask in ([0, 0, 0], [0, 0, 1]))
    for _ in range(2):
        assert largest(plain) == 1e20
        with pytest.raises(ValueError, match="numbers is a masked array: expected one in which no number is masked"):
            largest(masked)
    with pytest.raises(ValueError, match=r"x\[2\] is NaN: expected finite numbers"):
        checks.array("x", masked, (3,))
    assert checks.array("x", plain, (3,)).tolist() == [1, 2, 1e20]
    assert AccuracyMatrix(np.ma.masked_array([[0.5, 9.0], [0.25, 0.75]], [[0, 1], [0, 0]])).average_accuracy() == 0.5


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_fit_that_fails_or_is_stopped_leaves_the_earlier_one(error):
    class Mean:
        def fit(self) -> None:
            with checks.restored_on_error(self):
                self.mean_, self.count_ = 3.0, 1
                raise error

    model = Mean()
    model.mean_ = 2.0
    with pytest.raises(error):
        model.fit()
    assert vars(model) == {"mean_": 2.0}
