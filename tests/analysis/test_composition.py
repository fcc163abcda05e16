import math

import numpy as np
import pytest
import torch

from engram.analysis import (
    bump_score,
    coupling,
    factorization,
    intrinsic_dimension,
    linear_cka,
    percolation_ratio,
    procrustes_angle,
    representation_order,
)
from engram.analysis.difficulty.environment import standardised
from engram.tasks import GaussianBumps

GRID = np.stack(np.meshgrid(np.linspace(1, 14, 10), np.linspace(1, 14, 10), indexing="ij"), -1).reshape(-1, 2)


def drawn(labels, size=16, sigma=1.0):
    images = GaussianBumps(size, sigma=sigma).render(torch.as_tensor(labels))
    return (images[:, 0].double().numpy() + 1) / 2


def test_clean_bumps_are_found_where_they_are():
    labels = np.random.default_rng(0).uniform(1, 14, (2000, 2))
    score = bump_score(drawn(labels), labels, tol=0.35)
    assert (score.one, score.accuracy, score.phase) == (1, 1, "C")
    assert bump_score(drawn(labels), labels, tol=0.302).accuracy > 0.99  # but where a pixel is just at the threshold
    assert bump_score(drawn(labels), labels, tol=0.2).accuracy < 1
    whole = np.array([[4.0, 7.0], [4.5, 7.5], [5.0, 9.5]])
    assert bump_score(drawn(whole), whole, tol=1e-9).accuracy == 1
    border = np.array([[0.0, 7.0]])
    assert bump_score(drawn(border), border).error == pytest.approx(0.215, abs=1e-3)


def test_failures_are_told_apart():
    place, other = np.array([[3.0, 4.0]]), np.array([[10.0, 4.0]])
    one, two, blank = drawn(place), drawn(place) + drawn(other), np.zeros((1, 16, 16))
    images = np.concatenate([one, one, two, blank, blank + 1])
    score = bump_score(images, np.concatenate([place, other, place, place, place]))
    assert (score.none, score.one, score.multi) == (0.2, 0.4, 0.4)  # a blot is no bump
    assert (score.accuracy, score.acc_x, score.acc_y) == (0.2, 0.2, 0.4)
    assert score.error == pytest.approx(3.5)
    assert score.phase == "A"
    assert bump_score(one, other).phase == "B"
    assert math.isnan(bump_score(blank, place).error)


def test_components_of_neighbouring_images_stay_apart():
    images = np.concatenate([drawn(np.array([[3.0, 4.0]]))] * 3)
    assert bump_score(images, np.tile([3.0, 4.0], (3, 1))).accuracy == 1


def test_narrow_bumps_between_pixels_are_seen():
    labels = np.array([[4.5, 7.5], [4.0, 7.0]])
    assert bump_score(drawn(labels, sigma=0.25), labels, sigma=0.25).accuracy == 1


def test_order_of_the_grid_itself_and_of_nothing():
    itself = representation_order(GRID, GRID)
    assert itself.order == pytest.approx(0.2148, abs=1e-4)
    assert min(itself.knn_r2) > 0.9
    shuffled = representation_order(GRID, np.random.default_rng(0).permutation(GRID))
    assert shuffled.order == pytest.approx(1.0, abs=0.1)
    assert max(shuffled.knn_r2) < 0.1
    with pytest.warns(UserWarning, match=r"labels\[:, 0\] is constant"):
        assert math.isnan(representation_order(GRID, np.ones((100, 1))).knn_r2[0])


def test_two_nearest_neighbours_see_a_square():
    points = np.random.default_rng(0).random((1000, 2))
    assert 1.8 <= intrinsic_dimension(points, method="twonn").value <= 2.2


def test_factorization_of_a_sum_and_of_a_product():
    codes = np.exp(-((np.arange(16) - GRID[:, :, None]) ** 2) / 2)
    added = factorization(codes.reshape(100, 32), GRID)
    assert added.additive_r2 == pytest.approx(1)
    assert added.between_cos < 1e-15
    assert added.within_cos == pytest.approx(0.283, abs=1e-3)
    bumps = drawn(GRID).reshape(100, -1)
    multiplied = factorization(bumps, GRID)
    assert multiplied.additive_r2 == pytest.approx(0.372, abs=1e-3)
    assert multiplied.between_cos == pytest.approx(0.003, abs=1e-3)
    assert multiplied.within_cos == pytest.approx(0.283, abs=1e-3)
    assert factorization(bumps, GRID, centred=False).within_cos == pytest.approx(0.0023, abs=2e-4)
    order = np.random.default_rng(0).permutation(100)
    assert factorization(bumps[order], GRID[order]).additive_r2 == pytest.approx(multiplied.additive_r2)


def test_coupling_is_the_ratio_of_first_times():
    steps, early, late = np.array([10.0, 20.0, 50.0]), np.array([0.0, 0.9, 0.1]), np.array([0.0, 0.0, 0.8])
    result = coupling(steps, late, early)
    assert (result.first_x, result.first_y, result.index) == (50, 20, 0.4)
    assert coupling(steps, early, early).correlation == pytest.approx(1)
    assert math.isnan(coupling(steps, early, late, level=0.95).index)
    assert math.isnan(coupling(steps, late, np.zeros(3)).correlation)


LATTICE = np.stack(np.meshgrid(np.arange(256.0), np.arange(256.0)), -1).reshape(-1, 2)
SMALL = np.stack(np.meshgrid(np.arange(32.0), np.arange(32.0)), -1).reshape(-1, 2)


@pytest.mark.parametrize(
    ("reach", "share", "ratio", "tolerance"),
    [(1.2, 0.58, 0.17, 0.1), (1.2, 0.62, 0.86, 0.05), (1.5, 0.38, 0.10, 0.06), (1.5, 0.45, 0.92, 0.03)],
)
def test_percolation_on_a_large_lattice_has_its_known_thresholds(reach, share, ratio, tolerance):
    sigma = reach / (2 * math.sqrt(math.log(200)))
    ratios = [
        percolation_ratio(LATTICE[np.random.default_rng(seed).random(len(LATTICE)) < share], sigma) for seed in range(3)
    ]
    assert np.mean(ratios) == pytest.approx(ratio, abs=tolerance)


@pytest.mark.parametrize(
    ("sigma", "ratios"),
    [
        (0.25, {0.4: 0.07, 0.6: 0.66, 0.8: 0.99}),
        (0.5, {0.1: 0.18, 0.2: 0.50, 0.4: 1.0}),
        (1.0, {0.03: 0.27, 0.06: 0.50, 0.1: 0.87}),
    ],
)
def test_percolation_on_a_canvas(sigma, ratios):
    for share, ratio in ratios.items():
        rng = np.random.default_rng(0)
        measured = [percolation_ratio(SMALL[rng.random(1024) < share], sigma) for _ in range(40)]
        assert min(measured) <= ratio <= max(measured)  # which was of one draw
        assert np.mean(measured) == pytest.approx(ratio, abs=0.2)


def test_bumps_hang_together_up_to_their_reach():
    pair = np.array([[0.0, 0.0], [0.0, 1.0]])
    assert percolation_ratio(pair * 4.60, sigma=1.0) == 1
    assert percolation_ratio(pair * 4.61, sigma=1.0) == 0.5
    assert percolation_ratio(SMALL, sigma=0.1) == 1 / 1024


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda: bump_score(np.zeros((2, 4, 4)), np.zeros((2, 2)), sigma=0.0), "sigma = 0.0"),
        (lambda: bump_score(np.full((2, 4, 4), np.nan), np.zeros((2, 2))), "images"),
        (lambda: bump_score(np.zeros((0, 4, 4)), np.zeros((0, 2))), "at least one image"),
        (lambda: representation_order(GRID, GRID, k=100), "k = 100: expected fewer neighbours than the 100 rows"),
        (lambda: factorization(GRID, np.repeat(GRID[:50], 2, 0)), "labels: expected each pair"),
        (lambda: factorization(GRID, GRID, separation=99.0), "separation = 99"),
        (lambda: coupling(np.array([2.0, 1.0]), np.ones(2), np.ones(2)), "steps.*ascending"),
        (lambda: percolation_ratio(np.zeros((0, 2)), 1.0), "expected at least one"),
        (lambda: percolation_ratio(GRID, 1.0, 1.0), "threshold = 1.0"),
    ],
)
def test_bad_input_is_named(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call()


@pytest.mark.parametrize("n", [3, 7, 10, 13, 100])
def test_what_is_constant_is_so_in_spite_of_rounding(n):
    constant, steps = np.full((n, 2), 0.1), np.arange(1, n + 1)
    for measure in (linear_cka, procrustes_angle):
        with pytest.raises(ValueError, match="X is the same in all samples"):
            measure(constant, constant + 0.6)
    assert np.isnan(coupling(steps, constant[:, 0], constant[:, 1]).correlation)
    noise = np.random.default_rng(0).normal(size=(n, 3))
    with pytest.warns(UserWarning, match="constant"):
        order = representation_order(noise, np.stack([np.arange(n) / n, constant[:, 0]], 1), k=1)
    assert np.isnan(order.knn_r2[1])
    (same,) = standardised([constant])
    assert (same == constant).all()


def test_a_constant_representation_has_no_additive_part():
    labels = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), -1).reshape(-1, 2)
    assert np.isnan(factorization(np.full((9, 2), 0.1), labels, 1.0).additive_r2)


def test_similarities_do_not_depend_on_the_scale():
    X, Y = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    for measure in (linear_cka, procrustes_angle):
        assert measure(X * np.float32(1e30), Y) == pytest.approx(measure(X, Y), abs=1e-6)


def test_a_factor_without_effect_has_no_directions():
    codes, labels = np.random.default_rng(0).normal(size=(5, 7)), np.stack(np.meshgrid(range(5), range(5)), -1)
    labels = labels.reshape(-1, 2).astype(float)
    measured = factorization(codes[labels[:, 0].astype(int)], labels, 1.0)
    assert measured.between_cos == 0
    assert measured.additive_r2 == pytest.approx(1)


def test_steps_that_do_not_ascend_are_refused_whatever_their_type():
    for steps in (np.array([3, 2], np.uint8), np.array([3.0, 2.0])):
        with pytest.raises(ValueError, match=r"steps = .* ascending"):
            coupling(steps, np.zeros(2), np.zeros(2))
