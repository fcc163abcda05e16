import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from engram.generative.design import GraphLabelSmoother, encode, expand_hamming1, hamming_neighbours, random_mutants
from engram.generative.design.expand import hamming1_shell

STAR = np.array([[0, 0], [1, 0], [0, 1]])  # a centre, and two leaves that are farther from each other
LAPLACIANS = ("normalized", "combinatorial", "random_walk")


def sequences(seed, n, length=28, vocab=20):
    return np.random.default_rng(seed).integers(vocab, size=(n, length)).astype(np.uint8)


def dense(smoother):
    weights = smoother.graph_.toarray().astype(float)
    degree = weights.sum(0)
    match smoother.laplacian:
        case "normalized":
            return np.eye(len(weights)) - weights / np.sqrt(np.outer(degree, degree))
        case "combinatorial":
            return np.diag(degree) - weights
        case _:
            return np.eye(len(weights)) - weights / degree[:, None]


@pytest.mark.parametrize("laplacian", LAPLACIANS)
def test_a_pair_meets_in_its_middle_third(laplacian):
    smoothed = GraphLabelSmoother(k=1, laplacian=laplacian, tol=1e-12).fit_transform([[0], [1]], [0.0, 3.0])
    np.testing.assert_allclose(smoothed, [1, 2])


def test_a_star_in_closed_form():
    smoother = GraphLabelSmoother(k=1, laplacian="combinatorial", tol=1e-12)
    smoothed = smoother.fit_transform(STAR, [0.0, 3.0, 3.0])
    np.testing.assert_allclose(smoothed, [1.5, 2.25, 2.25])
    assert smoothed.sum() == pytest.approx(6)
    assert smoother.variation(np.array([0.0, 3.0, 3.0])) == pytest.approx(18)  # two edges, of squared difference 9


@pytest.mark.parametrize("metric", ["hamming", "euclidean"])
@pytest.mark.parametrize("edge_weight", ["inverse", "distance", "binary", "gaussian"])
@pytest.mark.parametrize("laplacian", LAPLACIANS)
@pytest.mark.parametrize("center", [True, False])
def test_it_solves_the_dense_system(metric, edge_weight, laplacian, center):
    X, y = sequences(0, 60, 6, 4), np.random.default_rng(1).normal(size=60)
    X = np.unique(X, axis=0)
    y = y[: len(X)]
    options = {"metric": metric, "edge_weight": edge_weight, "laplacian": laplacian, "center": center}
    smoother = GraphLabelSmoother(0.7, k=5, tol=1e-13, **options).fit(X, y)
    offset = y.mean() if center else 0
    solved = offset + np.linalg.solve(np.eye(len(y)) + 0.7 * dense(smoother), y - offset)
    np.testing.assert_allclose(smoother.smoothed_, solved, atol=1e-8)
    assert smoother.variation(smoother.smoothed_) < smoother.variation(y)


@pytest.mark.parametrize("laplacian", LAPLACIANS)
def test_smoothing_does_not_depend_on_the_unit_and_offset_of_the_labels(laplacian):
    X, y = np.unique(sequences(0, 60, 6, 4), axis=0), np.random.default_rng(1).normal(size=60)
    smoother = GraphLabelSmoother(k=5, laplacian=laplacian)
    smoothed = smoother.fit_transform(X, y[: len(X)])
    for scale, offset in ((1, 1e7), (1000, 0), (-1e-3, 5)):
        shifted = smoother.fit_transform(X, scale * y[: len(X)] + offset)
        np.testing.assert_allclose((shifted - offset) / scale, smoothed, atol=1e-6)


def test_euclidean_neighbours_do_not_depend_on_the_offset_of_the_rows():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 20)).astype(np.float32).astype(float), rng.normal(size=80)
    near, far = (GraphLabelSmoother(k=4, metric="euclidean").fit(X + offset, y) for offset in (0, 2.0**26))
    np.testing.assert_array_equal(near.indices_, far.indices_)
    np.testing.assert_allclose(near.smoothed_, far.smoothed_, rtol=1e-5)
    apart = np.r_[X, X + 1e8]  # without an offset that could be taken out
    both = GraphLabelSmoother(k=4, metric="euclidean")
    with pytest.warns(UserWarning, match="2 parts that are not joined"):
        both.fit(apart, np.r_[y, y])
    np.testing.assert_array_equal(both.indices_[80:] - 80, near.indices_)


def test_rows_that_differ_by_rounding_are_equal():
    X = np.random.default_rng(0).normal(size=(9, 3))
    X[8] = np.nextafter(X[2], 9)
    with pytest.raises(ValueError, match=r"X\[2\] and X\[8\] are equal"):
        GraphLabelSmoother(k=2, metric="euclidean").fit(X, np.arange(9.0))


def test_the_graph_is_the_union_of_neighbours():
    X = np.unique(sequences(2, 200, 6, 4), axis=0)
    smoother = GraphLabelSmoother(k=7).fit(X, np.arange(len(X), dtype=float))
    graph, distances = smoother.graph_.toarray(), cdist(X, X, "hamming") * 6
    near = hamming_neighbours(X, 7).indices
    joined = np.zeros_like(graph, bool)
    np.put_along_axis(joined, near, True, 1)
    joined |= joined.T
    np.testing.assert_array_equal(graph > 0, joined)
    np.testing.assert_allclose(graph[joined], 1 / distances[joined], rtol=1e-6)
    assert (graph == graph.T).all()
    assert not graph.diagonal().any()
    assert (joined.sum(1) >= 7).all()


def test_gamma_at_its_ends():
    X, y = sequences(3, 50), np.random.default_rng(4).normal(size=50)
    np.testing.assert_array_equal(GraphLabelSmoother(0.0).fit_transform(X, y), y)
    most = {"gamma": 1e9, "k": 20, "tol": 1e-14}
    np.testing.assert_allclose(
        GraphLabelSmoother(laplacian="combinatorial", **most).fit_transform(X, y), y.mean(), atol=1e-6
    )
    smoother = GraphLabelSmoother(**most).fit(X, y)
    root = np.sqrt(smoother.degree_) / np.linalg.norm(np.sqrt(smoother.degree_))
    np.testing.assert_allclose(smoother.smoothed_ - y.mean(), root * (root @ (y - y.mean())), atol=1e-6)


def test_parts_that_are_not_joined_are_told_and_smoothed_alone():
    X = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [5, 5, 5, 5], [5, 5, 5, 4]])
    smoother = GraphLabelSmoother(1e9, k=1, laplacian="combinatorial", tol=1e-14)
    with pytest.warns(UserWarning, match="2 parts that are not joined"):
        smoothed = smoother.fit_transform(X, [0.0, 2.0, 10.0, 20.0])
    np.testing.assert_allclose(smoothed, [1, 1, 15, 15], atol=1e-5)


@pytest.mark.parametrize(("n", "length", "vocab", "k"), [(500, 28, 20, 22), (300, 70, 2, 299), (90, 5, 200, 4)])
def test_neighbours_are_those_of_brute_force(n, length, vocab, k):
    X = sequences(5, n, length, vocab)
    X[n // 2 :] = X[: n - n // 2]  # equal rows, and many equal distances
    mutated = sequences(6, n, length, vocab)
    X = np.where(np.random.default_rng(7).random(X.shape) < 0.1, mutated, X)
    distances = (X[:, None] != X[None]).sum(2)
    np.fill_diagonal(distances, length + 1)
    order = distances.argsort(1, kind="stable")[:, :k]
    for threads in (1, 2):
        neighbours = hamming_neighbours(X, k, n_jobs=threads)
        np.testing.assert_array_equal(neighbours.indices, order)
        np.testing.assert_array_equal(neighbours.distances, np.take_along_axis(distances, order, 1))


def test_neighbours_where_all_are_equally_far():
    neighbours = hamming_neighbours(np.arange(40)[:, None] * np.ones(3), 5)
    assert (neighbours.distances == 3).all()
    assert neighbours.indices[2].tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"gamma": -1.0}, "gamma = -1.0"),
        ({"k": 4}, "k = 4: expected 1 to 3"),
        ({"tol": 0.0}, "tol = 0.0"),
    ],
)
def test_bad_arguments_of_the_smoother(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        GraphLabelSmoother(**arguments).fit(np.eye(4), np.arange(4.0))


@pytest.mark.parametrize(("label", "what"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_a_label_that_is_no_number_is_named(label, what):
    for labels in ([0.0, 1.0, label, 3.0], np.array([0.0, 1.0, label, 3.0], np.float32)):
        with pytest.raises(ValueError, match=rf"y\[2\] is {what}"):
            GraphLabelSmoother(k=1).fit(np.eye(4), labels)


def test_equal_rows_are_refused():
    with pytest.raises(ValueError, match=r"X\[0\] and X\[2\] are equal"):
        GraphLabelSmoother().fit([[0, 1], [1, 0], [0, 1]], [0.0, 1.0, 2.0])


def test_expansion_is_of_mutants_of_the_pool():
    pool = np.concatenate([encode(["ARND"] * 2), sequences(8, 5, 4)])
    nodes = expand_hamming1(pool, 200, np.random.default_rng(0))
    assert len(np.unique(nodes, axis=0)) == len(nodes) == 200
    np.testing.assert_array_equal(nodes[:6], pool[1:])
    assert (nodes[6:, None] != pool).sum(2).min(1).tolist() == [1] * 194
    again = expand_hamming1(pool, 200, np.random.default_rng(0))
    np.testing.assert_array_equal(nodes, again)
    walked = expand_hamming1(pool, 200, np.random.default_rng(0), explore="walk")
    assert (walked[:, None] != pool).sum(2).min(1).max() > 1


def test_the_shell_is_all_that_is_one_letter_away():
    pool = sequences(9, 3, 3, 3)
    everything = np.array(list(itertools.product(range(3), repeat=3)), dtype=np.uint8)
    distances = (everything[:, None] != pool).sum(2).min(1)
    np.testing.assert_array_equal(hamming1_shell(pool, 3), everything[distances == 1])
    capacity = int((distances <= 1).sum())
    assert len(expand_hamming1(pool, capacity, np.random.default_rng(0), vocab=3)) == capacity
    with pytest.warns(UserWarning, match=f"there are {capacity} sequences"):
        assert len(expand_hamming1(pool, capacity + 1, np.random.default_rng(0), vocab=3)) == capacity
    assert len(expand_hamming1(pool, capacity - 1, np.random.default_rng(0), vocab=3)) == capacity - 1


def test_more_sequences_than_exist_give_all_with_a_warning():
    everything = np.array(list(itertools.product(range(2), repeat=3)), dtype=np.uint8)
    with pytest.warns(UserWarning, match="n = 9: there are 8 sequences at most one letter away"):
        np.testing.assert_array_equal(expand_hamming1(everything, 9, np.random.default_rng(0), vocab=2), everything)
    with pytest.warns(UserWarning, match="n = 9: there are 8 sequences$"):
        walked = expand_hamming1(everything[:1], 9, np.random.default_rng(0), vocab=2, explore="walk")
    np.testing.assert_array_equal(np.unique(walked, axis=0), everything)
    # Seven of eight sequences have the last one as their only new mutant, and most parents never yield it.
    assert len(expand_hamming1(everything[:7], 8, np.random.default_rng(0), vocab=2)) == 8


def test_random_mutants_differ_in_as_many_letters():
    mutants = random_mutants(np.zeros((1, 6), np.uint8), 500, np.random.default_rng(0), vocab=3, letters=4)
    assert ((mutants > 0).sum(1) == 4).all()
    assert {1, 2} == set(mutants[mutants > 0])


def test_an_outlier_has_a_label_too():
    points = np.append(np.arange(8.0), 1e4)[:, None]
    smoothed = GraphLabelSmoother(k=1, metric="euclidean", edge_weight="gaussian").fit_transform(points, np.arange(9.0))
    assert np.isfinite(smoothed).all()


def test_distances_of_more_positions_than_16_bits():
    rows = np.zeros((3, 70_000), np.uint8)
    rows[1], rows[2, :100] = 1, 2
    assert hamming_neighbours(rows, 2).distances[0].tolist() == [100, 70_000]


def test_the_rows_may_be_booleans():
    rows = np.random.default_rng(0).random((20, 9)) < 0.5
    labels = rows.sum(1).astype(float)
    smoothed = [GraphLabelSmoother(k=3).fit_transform(X, labels) for X in (rows, rows.astype(np.uint8))]
    np.testing.assert_array_equal(*smoothed)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_rows_that_are_equal_in_single_precision_are_equal(offset):
    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32) + np.float32(offset)
    X[7] = np.nextafter(X[2], np.float32(np.inf))
    for rows in (X, X.astype(np.float64), X.tolist()):
        with pytest.raises(ValueError, match=r"X\[2\] and X\[7\] are equal"):
            GraphLabelSmoother(k=8, metric="euclidean").fit(rows, np.arange(12.0))
    far = X.astype(np.float64)
    far[7] += 1e-3
    assert np.isfinite(GraphLabelSmoother(k=8, metric="euclidean").fit(far, np.arange(12.0)).weights_).all()


def test_masked_labels_and_rows_are_missing():
    X, y = sequences(0, 20), np.arange(20.0)
    with pytest.raises(ValueError, match="y"):
        GraphLabelSmoother(k=2).fit(X, np.ma.masked_equal(y, 3))
    with pytest.raises(ValueError, match="NaN"):
        GraphLabelSmoother(k=2).fit(np.ma.masked_equal(X, X[0, 0]), y)
