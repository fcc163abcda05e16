import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from scipy.stats import ortho_group

from engram.analysis import (
    align_operators,
    compare_operators,
    operator_bounds,
    operator_distance,
    operator_distances,
    spectral_distance,
)
from engram.analysis.similarity import kernels


def gaussian(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n))


def rotation(n, seed=0, det=1):
    Q = ortho_group.rvs(n, random_state=seed)
    Q[0] *= np.sign(np.linalg.det(Q)) * det
    return Q


def angle(A, B):
    return 2 * np.arcsin(np.linalg.norm(A / np.linalg.norm(A) - B / np.linalg.norm(B)) / 2)


@pytest.mark.parametrize("det", [1, -1])
@pytest.mark.parametrize("n", [1, 2, 5, 15, 30])
def test_conjugate_operators_are_at_distance_zero(n, det):
    A, Q = gaussian(n, n), rotation(n, n, det)
    alignment = align_operators(A, Q.T @ A @ Q)
    assert alignment.distance < 1e-7
    np.testing.assert_allclose(alignment.transform @ Q.T @ A @ Q @ alignment.transform.T, A, atol=1e-6)
    assert operator_distance(A, A) == 0


@pytest.mark.parametrize("kind", ["rotation", "nilpotent", "projection", "repeated"])
def test_so_are_conjugate_operators_with_repeated_eigenvalues(kind):
    A = {
        "rotation": np.kron(np.eye(3), [[0.0, -1.0], [1.0, 0.0]]),
        "nilpotent": np.diag(np.ones(5), 1),
        "projection": np.diag([1.0, 1, 1, 0, 0, 0]),
        "repeated": np.eye(6) + np.diag([1.0, 0, 0, 0, 0], 1),
    }[kind]
    Q = rotation(6, 3)
    assert operator_distance(A, Q.T @ A @ Q) < 1e-6


def test_two_by_two_is_as_the_grid_over_both_components_has_it():
    angles = np.linspace(0, 2 * np.pi, 20_001)
    turn = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    both = np.concatenate([turn, turn @ np.diag([1, -1])])
    for seed in range(5):
        A, B = gaussian(2, seed), gaussian(2, 100 + seed)
        A, B = A / np.linalg.norm(A), B / np.linalg.norm(B)
        grid = np.linalg.norm(A - both @ B @ both.swapaxes(1, 2), axis=(1, 2)).min()
        alignment = align_operators(A, B, "euclidean")
        assert alignment.distance == pytest.approx(grid, abs=1e-6)
        a, w, s = zip(*(
            (np.trace(M) / 2, abs(M[1, 0] - M[0, 1]) / 2, np.hypot((M[0, 0] - M[1, 1]) / 2, (M[0, 1] + M[1, 0]) / 2))
            for M in (A, B)
        ), strict=True)  # fmt: skip
        closed = np.sqrt(2 * sum((x - y) ** 2 for x, y in (a, w, s)))
        assert alignment.distance == pytest.approx(closed, abs=1e-9)
        assert alignment.bound == pytest.approx(closed, abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [5, 6])
def test_the_bound_is_attained_by_symmetric_and_antisymmetric_pairs(n, sign):
    for seed in range(3):
        A, B = (M + sign * M.T for M in (gaussian(n, seed), gaussian(n, 50 + seed)))
        alignment = align_operators(A, B)
        assert alignment.distance == pytest.approx(alignment.bound, abs=1e-10)


@given(n=st.integers(1, 7), seed=st.integers(0, 1000), scale=st.floats(1e-150, 1e150))
def test_it_is_a_metric_up_to_conjugation_with_a_lower_bound(n, seed, scale):
    A, B, C = np.random.default_rng(seed).normal(size=(3, n, n))
    alignment = align_operators(A, B)
    assert alignment.bound <= alignment.distance <= angle(A, B) + 1e-9
    assert operator_distance(B, A) == alignment.distance
    assert operator_distance(scale * A, B) == pytest.approx(alignment.distance, abs=1e-6)
    euclidean = operator_distance(A, B, "euclidean")
    assert euclidean == pytest.approx(2 * np.sin(alignment.distance / 2), abs=1e-12)
    assert operator_distance(A, B, "squared") == pytest.approx(euclidean**2, abs=1e-12)
    aligned = alignment.transform @ B @ alignment.transform.T
    assert angle(A, aligned) == pytest.approx(alignment.distance, abs=1e-7)
    np.testing.assert_allclose(alignment.transform @ alignment.transform.T, np.eye(n), atol=1e-10)
    if n <= 4:  # where the search finds the best
        assert euclidean <= operator_distance(A, C, "euclidean") + operator_distance(C, B, "euclidean") + 1e-6


def test_opposite_operators():
    symmetric = gaussian(3)
    symmetric = rotation(6).T @ np.diag([-3.0, -2, -1, 1, 2, 3]) @ rotation(6)
    assert operator_distance(symmetric, -symmetric) < 1e-7
    assert operator_distance(np.eye(4), -np.eye(4)) == pytest.approx(np.pi)


def test_rotations_alone_reach_less():
    A = gaussian(5)
    B = np.diag([1.0, 1, 1, 1, -1]) @ A @ np.diag([1.0, 1, 1, 1, -1])
    assert operator_distance(A, B) < 1e-7
    alignment = align_operators(A[:4, :4], B[1:, 1:], group="SO")
    assert np.linalg.det(alignment.transform) == pytest.approx(1)
    even = gaussian(4)
    mirrored = np.diag([1.0, 1, 1, -1]) @ even @ np.diag([1.0, 1, 1, -1])
    assert operator_distance(even, mirrored) < 1e-7
    assert operator_distance(even, mirrored, group="SO") > 0.1


def test_no_small_turn_comes_nearer():
    rng = np.random.default_rng(0)
    for n in (4, 9):
        A, B = rng.normal(size=(2, n, n))
        alignment = align_operators(A, B)
        A, M = A / np.linalg.norm(A), alignment.transform @ B @ alignment.transform.T / np.linalg.norm(B)

        def overlap(turn, A=A, M=M):
            Q = linalg.expm(turn)
            return (A * (Q @ M @ Q.T)).sum()

        for _ in range(10):
            X = rng.normal(size=(n, n))
            X = (X - X.T) / np.linalg.norm(X - X.T)
            assert (overlap(1e-4 * X) - overlap(-1e-4 * X)) / 2e-4 == pytest.approx(0, abs=1e-6)
            assert overlap(1e-2 * X) < overlap(0 * X)


def test_a_climb_goes_along_the_gradient():
    rng = np.random.default_rng(0)
    A, M = rng.normal(size=(2, 5, 5)) / 5
    G = (A @ M.T - M.T @ A) / 2
    G = G - G.T
    for _ in range(5):
        X = rng.normal(size=(5, 5))
        X = X - X.T
        Q = linalg.expm(1e-5 * X)
        there, back = ((A * (R @ M @ R.T)).sum() for R in (Q, Q.T))
        assert (there - back) / 2e-5 == pytest.approx((G * X).sum(), abs=1e-8)
    before = (A * M).sum()
    turned, C = M.copy(), np.eye(5)
    value = kernels.climb(A, turned, C, 1e-12, 1)
    np.testing.assert_allclose(C @ M @ C.T, turned, atol=1e-14)
    np.testing.assert_allclose(C @ C.T, np.eye(5), atol=1e-14)
    assert value == pytest.approx((A * turned).sum())
    assert value > before
    assert ((C - C.T) * G).sum() > 0  # a rotation towards the gradient


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.3])
def test_a_perturbed_copy_is_aligned_as_well_as_from_the_right_start(eps):
    A, N, Q = gaussian(15, 1), gaussian(15, 2), rotation(15, 3)
    noisy = A + eps * N * np.linalg.norm(A) / np.linalg.norm(N)
    distance = operator_distance(A, Q.T @ noisy @ Q)
    refined = operator_distance(A, noisy, restarts=0)  # from the right start among others
    assert distance <= 1.05 * min(refined, angle(A, noisy))
    assert distance == pytest.approx(0.7 * eps, rel=0.15)


def test_eigenvalues_are_no_lower_bound():
    A, B = np.array([[0.0, 1.0], [0.01, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    assert np.linalg.norm(A - B) ** 2 == pytest.approx(1e-4)
    assert 2 * spectral_distance(A, B, squared=True) == pytest.approx(0.02)


def test_a_matrix_of_distances_is_that_of_its_pairs():
    operators = np.random.default_rng(0).normal(size=(4, 5, 5))
    whole = operator_distances(operators)
    for i, j in itertools.product(range(4), repeat=2):
        assert whole[i, j] == pytest.approx(operator_distance(operators[i], operators[j]), abs=1e-9)
    np.testing.assert_array_equal(whole, operator_distances(operators, n_jobs=2))
    np.testing.assert_array_equal(whole, operator_distances(operators, operators))
    np.testing.assert_array_equal(whole[:1, 2:], operator_distances(operators[:1], operators[2:]))
    assert (operator_bounds(operators) <= whole + 1e-12).all()


def test_a_spent_budget_leaves_what_is_known():
    operators = np.random.default_rng(0).normal(size=(4, 6, 6))
    whole = compare_operators(operators)
    with pytest.warns(RuntimeWarning, match="budget = 0 s is spent: 6 of 6 pairs are not refined"):
        early = compare_operators(operators, budget=0.0)
    assert not early.refined[0, 1]
    assert (early.bounds == whole.bounds).all()
    assert (early.distances >= whole.distances - 1e-9).all()
    assert (early.distances[~np.eye(4, dtype=bool)] < np.pi).all()
    enough = compare_operators(operators, budget=1e6)
    assert enough.refined.all()
    np.testing.assert_array_equal(enough.distances, whole.distances)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.eye(2), np.zeros((2, 2))), "B is zero"),
    ],
)
def test_bad_operators_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator_distance(*arguments)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="metric = 'cosine': expected one of 'angular'"):
        operator_distance(np.eye(2), np.eye(2), "cosine")
    with pytest.raises(ValueError, match="group = 'GL': expected one of 'O', 'SO'"):
        operator_distance(np.eye(2), np.eye(2), group="GL")
    with pytest.raises(ValueError, match="restarts = -1"):
        operator_distance(np.eye(2), np.eye(2), restarts=-1)
    with pytest.raises(TypeError, match="foo = 1: expected only settings of the search: group, restarts, seed"):
        operator_distance(np.eye(2), np.eye(2), foo=1)
    with pytest.raises(ValueError, match=r"operators\[1\].shape = \(3, 3\)"):
        operator_distances([np.eye(2), np.eye(3)])
    with pytest.raises(ValueError, match="budget = -1"):
        compare_operators([np.eye(2), np.eye(2)], budget=-1.0)
