import dataclasses
import math

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.stats import ortho_group
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from engram.analysis import IntrinsicDimension, intrinsic_dimension, maximum_likelihood_dimension, nearest_distances
from engram.analysis.difficulty.nearest_neighbours import distinct_up_to_rounding
from engram.tasks.data import load


def sphere(m, count=2000, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, m + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def torus(m, count=2000, seed=0):
    return np.exp(2j * np.pi * np.random.default_rng(seed).random((count, m))).view(float)


def cube(m, count=2000, seed=0):
    return np.random.default_rng(seed).random((count, m))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_distances_are_those_of_scipy(scale, offset):
    points = (sphere(20, 700) + offset) * scale
    expected = KDTree(points / scale).query(points / scale, 6)[0][:, 1:]
    assert nearest_distances(points, 5) / scale == pytest.approx(expected, rel=1e-9)


def test_distances_are_those_of_scikit_learn_and_any_precision_of_the_data_does():
    X = load_digits().data
    expected = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(X).kneighbors()[0]
    for dtype in (np.float32, np.float64):
        distances = nearest_distances(X.astype(dtype), 4, np.arange(100, 200))
        assert distances == pytest.approx(expected[100:200], rel=1e-12)


def test_an_outlier_and_points_much_nearer_than_single_precision_tells_are_seen():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 5))
    points[0] = 1e7
    points[1] = points[2] + 1e-12
    distances = nearest_distances(points, 2)
    assert distances[1, 0] == pytest.approx(np.linalg.norm(points[1] - points[2]), rel=1e-12)
    assert distances == pytest.approx(KDTree(points).query(points, 3)[0][:, 1:], rel=1e-12)


@pytest.mark.parametrize("m", [1.0, 3.5, 14.0])
def test_exact_law_of_the_ratios(m):
    queries, k = 20_000, 5
    distances = np.sort(np.random.default_rng(0).random((queries, k)) ** (1 / m), axis=1)
    dimension, se = maximum_likelihood_dimension(distances)
    assert se == pytest.approx(m / math.sqrt(queries * (k - 1)), rel=0.03)
    assert abs(dimension - m) < 4 * se
    each, _ = maximum_likelihood_dimension(distances, pooled=False)
    assert each == pytest.approx(m * (k - 1) / (k - 2), rel=0.03)  # the bias that pooling is free of


@pytest.mark.parametrize(
    ("points", "m", "measured"),
    [
        (sphere(1), 1, 0.99),
        (sphere(2), 2, 1.97),
        (sphere(5), 5, 4.85),
        (torus(2), 2, 1.97),
        (torus(4), 4, 4.18),  # distances in space are shorter than those on the torus, the longer ones more so
        (cube(2), 2, 1.95),
        (cube(4), 4, 3.87),
    ],
)
def test_known_shapes(points, m, measured):
    """Measured: by another implementation, on other points."""
    dimension = intrinsic_dimension(points)
    assert dimension.value == pytest.approx(m, rel=0.06)
    assert dimension.value == pytest.approx(measured, abs=4 * dimension.se)
    assert 0.8 < dimension.se / (dimension.value / math.sqrt(4 * 2000)) < 1.4
    assert intrinsic_dimension(points, method="twonn").value == pytest.approx(m, rel=0.1)


@pytest.mark.parametrize(("m", "low", "high"), [(10, 9.0, 9.6), (20, 15.6, 16.8)])
def test_high_dimensions_come_out_too_low(m, low, high):
    assert low < intrinsic_dimension(sphere(m)).value < high


def test_isometry_scale_order_and_further_axes_do_not_matter():
    points = sphere(4, 500)
    expected = intrinsic_dimension(points).value
    rng = np.random.default_rng(1)
    turned = np.hstack([points, np.zeros((500, 7))]) @ ortho_group.rvs(12, random_state=1) * 1e-3 + 4.0
    for same in (turned, rng.permutation(points), 1e6 * points, points.reshape(500, 5, 1)):
        assert intrinsic_dimension(same).value == pytest.approx(expected, rel=1e-9)


def test_a_sample_of_the_queries_is_settled_by_its_seed():
    points = sphere(3)
    some = [intrinsic_dimension(points, n_queries=500, seed=seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert some[0].n_queries == 500
    assert abs(some[0].value - intrinsic_dimension(points).value) < 4 * some[0].se


def test_duplicates_are_left_out_counted_and_warned_of():
    points = sphere(2, 500)
    assert intrinsic_dimension(np.vstack([points, points[:20]])).n_duplicates == 20
    with pytest.warns(UserWarning, match="17% of the samples equal another"):
        dimension = intrinsic_dimension(np.vstack([points, points[:100]]))
    assert dimension.value == intrinsic_dimension(points).value
    zeros = np.vstack([points, np.zeros((1, 3)), -np.zeros((1, 3))])
    assert intrinsic_dimension(zeros).n_duplicates == 1


def test_ties_are_counted():
    assert intrinsic_dimension(sphere(2, 300)).ties == 0
    grid = np.stack(np.meshgrid(range(12), range(12)), -1).reshape(-1, 2)
    assert intrinsic_dimension(grid).ties > 0.6
    with pytest.raises(ValueError, match="nearest neighbours of all samples are all at one distance"):
        intrinsic_dimension(np.eye(8))
    with pytest.raises(ValueError, match="of query 1 are"):
        intrinsic_dimension(grid, 3, pooled=False)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.eye(3), {"k": 3}, "k = 3: expected at least 2, and less than the 3 distinct samples"),
        (np.eye(3), {"k": 1}, "k = 1: expected at least 2"),
        (np.ones((9, 2)), {}, "k = 5: .* the 1 distinct samples"),
        (np.array([["a", "b"]]), {}, "X.dtype = <U1: expected real numbers"),
        (sphere(2, 50), {"method": "pca"}, "method = 'pca'"),
        (sphere(2, 50), {"n_queries": 1}, "n_queries = 1: expected at least 2"),
    ],
)
def test_bad_inputs_are_named(points, options, message):
    with pytest.raises(ValueError, match=message):
        intrinsic_dimension(points, **options)


def test_measured_dimensions_of_digits():
    digits = load_digits().data / 16
    dimensions = [intrinsic_dimension(digits, k).value for k in (3, 5, 10, 20)]
    assert dimensions == pytest.approx([8.78, 8.11, 7.42, 6.85], abs=0.01)
    assert IntrinsicDimension(k=10).fit(digits).dimension_ == pytest.approx(7.42, abs=0.01)


@pytest.mark.needs_data("mnist/t10k-images-idx3-ubyte.gz")
def test_measured_dimensions_of_mnist():
    mnist = load("mnist", split="test").images.reshape(10_000, 784)
    distances = nearest_distances(mnist.astype(np.float32), 10, np.arange(2000))
    dimensions = [maximum_likelihood_dimension(distances[:, :k])[0] for k in (3, 5, 10)]
    assert dimensions == pytest.approx([13.9, 13.5, 13.2], abs=0.05)
    # The first half of them is by other writers than the second.
    assert intrinsic_dimension(mnist, n_queries=1000).value == pytest.approx(12.6, abs=0.8)


NEAR = np.random.default_rng(0).normal(size=(1000, 10))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_rows_that_differ_by_rounding_are_duplicates(dtype, towards):
    X = NEAR.astype(dtype)
    repeated = np.concatenate([X, np.nextafter(X[:50], dtype(towards))])
    alone, together = intrinsic_dimension(X), intrinsic_dimension(repeated)
    assert together == dataclasses.replace(alone, n_duplicates=50)
    assert IntrinsicDimension(random_state=0).fit(repeated).estimate_.n_duplicates == 50


def test_rows_that_were_shifted_and_back_are_duplicates():
    X = np.concatenate([NEAR, NEAR[:50] + 1 - 1])
    assert intrinsic_dimension(X).n_duplicates == 50


@pytest.mark.parametrize(
    "points",
    [
        10 ** np.random.default_rng(0).uniform(-300, 0, size=(2000, 1)),
        np.hstack([np.full((1000, 1), 1.7e9), NEAR]).astype(np.float32),  # a constant says nothing of other features
        np.arange(2000)[:, None] + 2**40,  # whole numbers have no rounding
        np.arange(2000.0)[:, None] + 2**45,
    ],
)
def test_rows_that_differ_by_more_are_no_duplicates(points):
    first_rows, groups = distinct_up_to_rounding(points.astype(np.float64), points.dtype)
    assert first_rows.tolist() == groups.tolist() == list(range(len(points)))


def test_near_rows_by_a_search_of_all_pairs():
    rng = np.random.default_rng(0)
    points = rng.integers(1, 4, size=(300, 3)) + rng.integers(-6, 7, size=(300, 3)) * np.spacing(1.0)
    size = np.abs(points)
    noise = 4 * np.finfo(float).eps * np.maximum(size, np.minimum(size.max(1, keepdims=True), np.median(size, axis=0)))
    owner = []
    for i, point in enumerate(points):
        near = [j for j in range(i) if owner[j] == j and (np.abs(points[j] - point) <= noise[j]).all()]
        owner.append(min(near, default=i))
    first_rows, groups = distinct_up_to_rounding(points, points.dtype)
    assert first_rows[groups].tolist() == owner
    assert 27 <= len(first_rows) < 300


@pytest.mark.parametrize("method", ["mle", "twonn"])
def test_a_turned_lattice_has_no_nearer_neighbours(method):
    turn = ortho_group.rvs(3, random_state=0)
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    for points in (lattice, 0.1 * lattice, lattice @ turn, (lattice @ turn).astype(np.float32)):
        with pytest.raises(ValueError, match=r"at one distance"):
            intrinsic_dimension(points, 3, method=method)
    with pytest.raises(ValueError, match="at one distance"):
        maximum_likelihood_dimension(np.array([[0.3, 0.1 + 0.2]] * 3))
    assert intrinsic_dimension(lattice @ turn, 9).ties == intrinsic_dimension(lattice, 9).ties > 0.5


def test_a_seed_that_is_none_is_named_even_if_nothing_is_drawn():
    with pytest.raises(ValueError, match="non-negative") as caught:
        intrinsic_dimension(np.random.default_rng(0).normal(size=(50, 2)), seed=-1)
    assert any("seed = -1" in note for note in caught.value.__notes__)
