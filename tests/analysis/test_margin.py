import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from engram.analysis import class_margin, extreme_quantile


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 8)), rng.integers(4, size=400)


def smallest(X, y):
    distances = cdist(X, X)
    distances[y[:, None] == y] = np.inf
    return distances.min()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_exact_margin_is_the_smallest_distance(clusters, dtype):
    X, y = clusters[0].astype(dtype), clusters[1]
    for labels in (y, np.array(["d", "a", "b", "c"])[y], np.arange(400)):
        margin = class_margin(X, labels, "exact")
        assert margin.value == pytest.approx(smallest(X.astype(float), labels), rel=1e-12)
        i, j = margin.pair
        assert labels[i] != labels[j]
        assert np.linalg.norm(X[i].astype(float) - X[j]) == pytest.approx(margin.value, rel=1e-12)


def test_few_pairs_are_all_looked_at_and_of_many_a_sample(clusters):
    X, y = clusters
    assert class_margin(X, y) == class_margin(X, y, "exact")
    part = class_margin(X, y, "sample", n_sample=100, seed=1)
    assert part.value > class_margin(X, y, "exact").value
    assert part == class_margin(X, y, "sample", n_sample=100, seed=1)
    margin = class_margin(X, y, "evt", n_pairs=20_000, n_top=200)
    assert margin.method == "evt"
    i, j = margin.pair
    assert y[i] != y[j]
    assert np.linalg.norm(X[i] - X[j]) == pytest.approx(margin.smallest, rel=1e-6)
    assert 0.5 < margin.value / class_margin(X, y, "exact").value < 2


def test_as_the_authors_extrapolate_all_ordered_pairs_count_and_no_tail_is_bounded(clusters):
    X, y = clusters[0][:, :2], clusters[1]  # in the plane the tail is heavy, so that the extrapolation counts
    from engram.analysis.difficulty.margin import _random_pairs

    distances, *_ = _random_pairs(X, np.arange(400), y, 20_000, np.random.default_rng(0))
    largest, _ = extreme_quantile(1 / distances, 200, 400**2 * (1 - 1 / 4) / 20_000, bounded_factor=False)
    margin = class_margin(X, y, "evt", n_pairs=20_000, n_top=200, author_evt=True)
    assert margin.value == pytest.approx(min(1 / largest, distances.min()), rel=1e-12)
    assert margin.value < class_margin(X, y, "evt", n_pairs=20_000, n_top=200).value


def test_random_pairs_are_of_all_pairs_alike():
    X = np.array([[0.0], [1.0], [10.0], [100.0]])
    y = np.array([0, 0, 1, 2])
    from engram.analysis.difficulty.margin import _random_pairs

    distances, first, second = _random_pairs(X, np.arange(4), y, 50_000, np.random.default_rng(0))
    assert np.array_equal(distances, np.abs(X[first] - X[second]).ravel())
    values, counts = np.unique(distances, return_counts=True)
    assert values.tolist() == [9, 10, 90, 99, 100]
    assert counts == pytest.approx(10_000, abs=500)


def test_digits():
    X, y = load_digits(return_X_y=True)
    assert class_margin(X / 16, y, "exact").value == pytest.approx(1.1792, abs=1e-4)


@pytest.mark.parametrize(("m", "index"), [(2, 0.5), (10, 0.1)])
def test_power_laws_are_extrapolated(m, index):
    distances = np.random.default_rng(0).random(400_000) ** (1 / m)
    largest, estimate = extreme_quantile(1 / distances, 2000, 100)
    assert estimate == pytest.approx(index, abs=0.06)
    truth = (1 / (400_000 * 100)) ** (1 / m)
    assert 0.5 < (1 / largest) / truth < 2


def test_tails_with_an_end_end_there():
    rng = np.random.default_rng(0)
    largest, index = extreme_quantile(1 / (1 + rng.random(400_000)), 2000, 100)
    assert index == pytest.approx(-1, abs=0.15)
    assert 1 / largest == pytest.approx(1.0001, abs=2e-4)


def test_the_factor_that_the_script_lacks_matters():
    distances = 1 + np.random.default_rng(0).random(400_000) ** (1 / 3)
    right, author = (extreme_quantile(1 / distances, 2000, 100, bounded_factor=factor)[0] for factor in (True, False))
    truth = 1 + (1 / 4e7) ** (1 / 3)
    assert abs(1 / right - truth) < 0.01
    assert 1 / author - truth > 0.02


def test_an_index_of_about_0_is_its_limit():
    values = np.random.default_rng(0).exponential(size=100_000) + 1
    largest, index = extreme_quantile(values, 1000, 100)
    assert largest == pytest.approx(1 + math.log(1e7), rel=0.25)
    assert abs(index) < 0.2


def test_duplicates_are_left_out_and_conflicts_refused():
    X = np.array([[0.0], [0.0], [1.0], [1.0], [3.0]])
    margin = class_margin(X, np.array([0, 0, 0, 0, 1]))
    assert (margin.value, margin.n_duplicates, margin.n_conflicts) == (2, 2, 0)
    y = np.array([0, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="samples 2 and 3 are equal, up to rounding, and have different labels"):
        class_margin(X, y)
    margin = class_margin(X, y, drop_conflicts=True)
    assert (margin.value, margin.pair, margin.n_duplicates, margin.n_conflicts) == (3, (0, 4), 1, 2)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (np.zeros(400), {}, "expected at least two labels among the 400 samples, found 1"),
        (np.zeros(3), {}, "y: expected 400 labels"),
        (np.where(np.arange(400) == 7, math.nan, 0), {}, "y has nan as label 7"),
        (np.arange(400) % 2, {"method": "nearest"}, "method = 'nearest'"),
        (np.arange(400) % 2, {"n_pairs": 1000}, "n_top = 2000: expected 2 to 999"),
        (np.arange(400) % 2, {"n_pairs": -1}, "n_pairs = -1"),
        (np.arange(400) % 2, {"n_sample": 0, "method": "sample"}, "n_sample = 0"),
    ],
)
def test_bad_inputs_are_named(clusters, y, options, message):
    with pytest.raises(ValueError, match=message):
        class_margin(clusters[0], y, **options)


def test_values_without_a_tail_are_refused():
    with pytest.raises(ValueError, match="k = 10: expected 2 to 9"):
        extreme_quantile(np.ones(10), 10, 2.0)
    with pytest.raises(ValueError, match="k = 1: expected 2 to 9"):  # one value has no deviation
        extreme_quantile(np.arange(1.0, 11), 1, 2.0)
    with pytest.raises(ValueError, match="the largest 3 are all equal multiples of the next"):
        extreme_quantile(np.ones(10), 3, 2.0)
    with pytest.raises(ValueError, match=r"values\[2\] is NaN: expected finite numbers"):
        extreme_quantile(np.array([1.0, 2.0, np.nan, 4.0]), 2, 2.0)


def test_the_tail_is_of_positive_values():
    with pytest.raises(ValueError, match="expected more than k = 5 positive ones"):
        extreme_quantile(-np.arange(1.0, 20), 5, 10)


def test_samples_that_differ_by_rounding_conflict():
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = np.repeat([0, 1], 20)
    near = np.concatenate([X, np.nextafter(X[:2], np.inf), np.nextafter(X[20:22], -np.inf)])
    expected = class_margin(X[2:], y[2:])
    same = class_margin(near, np.concatenate([y, [0, 0, 1, 1]]))
    assert (same.value, same.n_duplicates) == (class_margin(X, y).value, 4)
    labels = np.concatenate([y, [1, 1, 1, 1]])
    with pytest.raises(ValueError, match="samples 0 and 40 are equal, up to rounding, and have different labels"):
        class_margin(near, labels)
    dropped = class_margin(near, labels, drop_conflicts=True)
    assert (dropped.value, dropped.n_duplicates, dropped.n_conflicts) == (expected.value, 2, 4)


def test_a_tail_of_values_that_are_equal_up_to_rounding_is_refused():
    values = np.concatenate([np.ones(20), [0.1 + 0.2, 0.3] * 5]) * 10
    with pytest.raises(ValueError, match="all equal multiples"):
        extreme_quantile(10 - values, 9, 10)


def test_labels_that_differ_by_rounding_are_one_label():
    X, y = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0.3, 0.1 + 0.2, 0.5, 0.5])
    assert class_margin(X, y, "exact").value == 2
    assert class_margin(np.vstack([X, X[:1]]), np.append(y, 0.3 - 2**-54), "exact").n_duplicates == 1
    with pytest.raises(ValueError, match="expected at least two labels"):
        class_margin(X[:2], y[:2], "exact")
    single = np.float32([0.7, 0.7000001, 0.5, 0.5])
    assert class_margin(X, single, "exact").value == class_margin(X, single.astype(float), "exact").value == 2
