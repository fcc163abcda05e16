"""What is constant, equal or 0 up to rounding counts as constant, equal or 0 in every measure."""

import gymnasium
import numpy as np
import pytest
import torch

from engram.analysis import (
    HankelDMD,
    LinearProbe,
    alignment_by_layer,
    choose_delays,
    coupling,
    cross_temporal_decoding,
    factorization,
    gram_distance,
    linear_cka,
    normalized_return,
    procrustes_angle,
    representation_order,
    rsa,
    sampled_bias,
    standardised,
)
from engram.analysis.forgetting.representational import _cka
from engram.analysis.similarity import AlignmentLoss, RankCorrelationLoss, ShapeAngle
from engram.numeric.rounding import varies

rng = np.random.default_rng(0)
SAMPLES = 24
VARIES = rng.normal(size=(SAMPLES, 3))
NOISE = rng.choice([0.1 + 0.2, 0.3, np.nextafter(0.3, 0)], size=(SAMPLES, 3))  # 0.3, computed in several ways
FAR = 1e15 * NOISE  # as far from 0 as its errors are large


def with_noise(X):
    """X and units that are constant up to rounding, of any scale."""
    return np.hstack([X, NOISE[:, :2], FAR[:, :1]])


def test_what_varies():
    assert varies(np.hstack([VARIES, NOISE, FAR])).tolist() == [True] * 3 + [False] * 6
    assert varies(np.float32(NOISE) + np.float32([0, 0, 1e-6]) * (np.arange(SAMPLES) == 3)[:, None]).tolist() == [
        False,
        False,
        True,
    ]
    assert not varies(NOISE, None)
    assert varies(np.array([-1e308, 1e308]))
    assert varies(np.array([2**60, 2**60 + 2**10]))
    assert not varies(np.array([3, 3]))
    assert varies(np.array([[np.nan, np.inf, np.inf], [np.nan, 1, np.inf]])).all()


@pytest.mark.parametrize("measure", [linear_cka, procrustes_angle, _cka, lambda X, Y: linear_cka(X, Y, debiased=True)])
def test_shapes_ignore_units_that_are_constant(measure):
    other = VARIES @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(SAMPLES, 4))
    assert measure(with_noise(VARIES), other) == pytest.approx(measure(VARIES, other), rel=1e-9)
    assert measure(other, with_noise(VARIES)) == pytest.approx(measure(other, VARIES), rel=1e-9)


@pytest.mark.parametrize("constant", [NOISE, FAR, NOISE.astype(np.float32)])
@pytest.mark.parametrize("measure", [linear_cka, procrustes_angle, ShapeAngle(), AlignmentLoss()])
def test_shapes_refuse_activity_that_is_constant(measure, constant):
    with pytest.raises(ValueError, match="is the same in all samples, up to rounding"):
        measure(VARIES, constant)
    assert np.isnan(_cka(VARIES, constant))


def test_a_constant_unit_has_no_part_in_a_gram_distance():
    X, Y = torch.from_numpy(VARIES), torch.from_numpy(rng.normal(size=(SAMPLES, 5)))
    torch.testing.assert_close(gram_distance(torch.from_numpy(with_noise(VARIES)), Y), gram_distance(X, Y))
    expected = 2 * (1 - linear_cka(VARIES, Y.numpy()))
    assert gram_distance(X, Y).item() == pytest.approx(expected)
    assert gram_distance(torch.from_numpy(FAR), Y).item() == pytest.approx(1)  # nothing is compared with something


AFFINE = np.outer([1, 2, 3, 0.7], [1, 2, 4, 7])
AFFINE[1] += 0.3
AFFINE[3] -= 0.1


@pytest.mark.parametrize(
    ("X", "metric"),
    [
        (AFFINE, "correlation"),  # distances of 0 and 2e-16
        (1e6 * AFFINE + 1e9, "correlation"),
        (np.outer([1, 2, 3, 0.7], [1, 2, 4, 7]), "cosine"),
        (NOISE[:4], "euclidean"),
        (FAR[:4], "cityblock"),
        (NOISE[:4], "sqeuclidean"),
        (NOISE[:4], "seuclidean"),
        (np.eye(3) @ np.linalg.qr(rng.normal(size=(3, 3)))[0], "euclidean"),  # a turned simplex
        (np.eye(3) @ np.linalg.qr(rng.normal(size=(3, 3)))[0], "sqeuclidean"),
    ],
)
def test_distances_that_differ_by_rounding_are_equal(X, metric):
    Y = rng.normal(size=(len(X), 5))
    for pair in ((X, Y), (Y, X)):
        with pytest.raises(ValueError, match="are all equal, or not finite"):
            rsa(*pair, metric)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_a_pattern_without_direction_is_refused(metric):
    X = rng.normal(size=(4, 3))
    X[2] = [0.1 + 0.2, 0.3, 0.3] if metric == "correlation" else 0
    with pytest.raises(ValueError, match="sample 2 of X is the same in all units, up to rounding, or zero"):
        rsa(X, rng.normal(size=(4, 3)), metric)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_equal_distances_stay_tied_far_from_0(dtype, metric):
    X = rng.integers(0, 3, size=(12, 5)).astype(float)
    X[:, -1] += np.arange(12) % 2
    Y = rng.normal(size=(12, 4))
    turn = np.linalg.qr(np.hstack([np.ones((5, 1)), rng.normal(size=(5, 4))]))[0]
    turn = turn @ np.diag([1, 1, 1, 1, -1.0]) @ turn.T  # keeps the mean over units
    turned = X @ turn + (8.0 if metric == "euclidean" else 0.0)
    assert rsa(turned.astype(dtype), Y, metric) == pytest.approx(rsa(X, Y, metric), abs=1e-12)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_not_finite_is_not_taken_for_a_constant(number):
    X = VARIES.copy()
    X[2, 1] = number
    for metric in ("euclidean", "correlation"):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="of X are all equal, or not finite"):
            rsa(X, VARIES, metric)
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(standardised([X])[0][2, 1])
    assert gram_distance(torch.from_numpy(X), torch.from_numpy(VARIES)).isnan()


def test_distances_that_are_small_but_real_are_compared():
    X = rng.normal(size=(8, 5))
    Y = X + 0.5 * rng.normal(size=(8, 5))
    assert rsa(1e-20 * X, Y, "euclidean") == rsa(X, Y, "euclidean")
    assert RankCorrelationLoss()(X, Y) == 1 - rsa(X, Y, "euclidean")


def test_a_constant_unit_is_not_decoded():
    labels = np.resize([0, 1], SAMPLES)
    activity = rng.normal(size=(SAMPLES, 2, 3)) + 3 * labels[:, None, None] * np.array([1, -1, 0.5])
    with_constant, with_noise = (
        np.concatenate([activity, unit + 0 * activity[..., :1]], 2) for unit in (0.3, NOISE[:, None, :1])
    )
    np.testing.assert_array_equal(
        cross_temporal_decoding(with_noise, labels, 0.5), cross_temporal_decoding(with_constant, labels, 0.5)
    )


def test_a_constant_is_not_standardised():
    scaled = standardised([with_noise(VARIES)])[0]
    np.testing.assert_array_equal(scaled[:, 3:], np.broadcast_to(with_noise(VARIES)[0, 3:], (SAMPLES, 3)))
    np.testing.assert_allclose(scaled[:, :3].std(0), 1)


def test_a_probe_does_not_use_rounding_errors():
    labels = np.resize([0, 1], SAMPLES)
    leak = 1e15 * (0.3 + labels * 2**-54.0)[:, None]  # one unit in the last place tells the class
    assert len(np.unique(leak)) == 2
    with pytest.warns(UserWarning, match="constant"):
        probe = LinearProbe().fit(leak, labels)
    assert not probe.coef_.any()
    X = np.hstack([VARIES + labels[:, None], leak])
    np.testing.assert_allclose(LinearProbe().fit(X, labels).coef_[:, :3], LinearProbe().fit(X[:, :3], labels).coef_)


def test_a_curve_that_is_constant_has_no_correlation():
    steps = np.arange(1, SAMPLES + 1)
    assert np.isnan(coupling(steps, VARIES[:, 0], NOISE[:, 0]).correlation)
    assert np.isfinite(coupling(steps, VARIES[:, 0], VARIES[:, 1]).correlation)


def test_a_label_that_is_constant_is_not_predicted():
    with pytest.warns(UserWarning, match=r"labels\[:, 1\] is constant"):
        r2 = representation_order(VARIES, np.stack([VARIES[:, 0], NOISE[:, 0]], 1)).knn_r2
    assert np.isfinite(r2).tolist() == [True, False]


def test_a_constant_representation_is_no_sum():
    grid = np.stack(np.meshgrid(range(6), range(4)), -1).reshape(-1, 2).astype(float)
    assert np.isnan(factorization(NOISE, grid, 1.0).additive_r2)


def test_equal_errors_have_no_distribution():
    with pytest.raises(ValueError, match=r"test_errors are all 0\.3.*, up to rounding"):
        sampled_bias(NOISE[:, 0], 0.1)


def test_a_span_that_is_a_rounding_error_normalises_nothing():
    assert np.isnan(normalized_return(0.5, 0.3, 0.1 + 0.2))
    assert normalized_return(0.5, 0.25, 0.75) == 0.5


def test_a_layer_that_changed_by_rounding_did_not_change():
    initial = torch.from_numpy(rng.normal(size=(4, 3)))
    trained = {"w": torch.nextafter(initial, initial + 1)}
    with pytest.raises(ValueError, match="up to rounding: expected weights that changed"):
        alignment_by_layer(trained, {"w": initial}, {"w": initial})


@pytest.mark.parametrize("center", ["global", "trial"])
def test_a_constant_has_no_dynamics_once_it_is_centred(center):
    with pytest.raises(ValueError, match="X is zero everywhere after its mean is subtracted"):
        HankelDMD(2, center=center).fit(FAR)
    wave = np.sin(0.3 * np.arange(SAMPLES))[:, None]
    plain = HankelDMD(2, rank=2, center=center).fit(np.hstack([wave, 0 * wave]))
    noisy = HankelDMD(2, rank=2, center=center).fit(np.hstack([wave, FAR[:, :1]]))
    np.testing.assert_allclose(noisy.operator_, plain.operator_, atol=1e-9)


def test_a_constant_is_predicted_as_well_as_by_no_change():
    assert HankelDMD().fit(np.ones((SAMPLES, 1))).score(NOISE[:, :1]) in (1.0, -np.inf)
    assert choose_delays(np.tile(NOISE[:, :1], (4, 1)), [1], [1]).table["mase"][0] == np.inf


def test_the_observations_of_a_world_are_measured_without_its_constants():
    class Constant(gymnasium.ObservationWrapper):
        def observation(self, observation):
            return np.append(observation, 1e15 * NOISE[int(1e6 * abs(observation[0])) % SAMPLES, 0])

    from engram.analysis import environment_difficulty

    world = gymnasium.make("CartPole-v1")
    plain = environment_difficulty(world, steps=600).dimension.value
    env = Constant(gymnasium.make("CartPole-v1"))
    env.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5,))
    assert environment_difficulty(env, steps=600).dimension.value == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@pytest.mark.parametrize(("dtype", "offset", "n"), [(np.float16, 0, 100), (np.float32, 1000, 300)])
def test_many_distances_without_gaps_among_them_are_not_tied(dtype, offset, n, metric):
    own = np.random.default_rng(0)
    hidden = own.normal(size=(n, 5))
    X, Y = hidden @ own.normal(size=(5, 50)), hidden @ own.normal(size=(5, 40)) + own.normal(size=(n, 40))
    assert rsa((X + offset).astype(dtype), Y, metric) == pytest.approx(rsa(X, Y, metric), abs=0.01)


def test_a_factor_without_effect_in_single_precision_has_no_direction():
    labels = np.stack(np.meshgrid(np.arange(4.0), np.arange(5.0)), -1).reshape(-1, 2)
    own = np.random.default_rng(0)
    codes = own.normal(size=(4, 6)).astype(np.float32)[labels[:, 0].astype(int)]
    computed_in_several_ways = np.nextafter(codes, own.choice(np.float32([-9, 9]), codes.shape))
    measured = factorization(computed_in_several_ways, labels, 1.0)
    assert measured.between_cos == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e9, 1e30])
def test_the_scale_of_activity_does_not_matter_in_a_gram_distance(scale):
    X, Y = torch.from_numpy(VARIES).float(), torch.from_numpy(VARIES[::-1].copy()).float()
    expected, scaled = gram_distance(X, Y), (X * scale).requires_grad_()
    distance = gram_distance(scaled, Y * scale)
    torch.testing.assert_close(distance, expected, rtol=1e-5, atol=0)
    distance.backward()
    assert (scaled.grad * scale).abs().max() > 1e-3


@pytest.mark.parametrize("constant", [NOISE, FAR, NOISE.astype(np.float32), np.ones((SAMPLES, 2))])
def test_constant_activity_has_no_order(constant):
    with pytest.warns(UserWarning, match="H is constant, up to rounding, so its order is NaN"):
        measured = representation_order(constant, VARIES)
    assert np.isnan([measured.order, *measured.knn_r2]).all()
    if constant.dtype == float:
        beside = representation_order(np.hstack([VARIES, constant]), VARIES)
        assert beside == representation_order(VARIES, VARIES)


def test_factors_that_differ_by_rounding_are_one_value():
    grid = np.stack(np.meshgrid(0.1 * np.arange(1, 7), range(1, 5)), -1).reshape(-1, 2).astype(float)
    several = grid + (np.arange(len(grid)) % 2)[:, None] * np.spacing(grid)
    codes = rng.normal(size=(len(grid), 3))
    assert factorization(codes, several, 0.15) == factorization(codes, grid, 0.15)
