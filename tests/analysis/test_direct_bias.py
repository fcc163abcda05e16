import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import chi2, ncx2
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from engram.analysis import (
    TestError,
    gaussian_process_test_error,
    noncentral_chi2_logcdf,
    sampled_bias,
    weighted_chi2_logcdf,
)
from engram.analysis.difficulty.chi_square import saddlepoint_logcdf


@given(st.floats(0.5, 500), st.floats(0, 500), st.floats(1e-3, 3))
def test_noncentral_chi_square_is_that_of_scipy(df, nc, share):
    x = share * (df + nc)
    expected = ncx2.cdf(x, df, nc) if nc else chi2.cdf(x, df)
    log_probability = noncentral_chi2_logcdf(x, df, nc)
    assert log_probability <= 0
    if expected > 1e-15:  # far below, scipy's is wrong from the fourth digit
        assert log_probability == pytest.approx(math.log(expected), rel=1e-6, abs=1e-9)


@given(st.floats(0, 500), st.floats(1e-3, 3))
def test_with_one_degree_of_freedom_it_is_the_distribution_of_a_square(nc, share):
    x = share * (1 + nc)
    upper, lower = log_ndtr(math.sqrt(x) - math.sqrt(nc)), log_ndtr(-math.sqrt(x) - math.sqrt(nc))
    expected = upper + math.log(-math.expm1(lower - upper))
    assert noncentral_chi2_logcdf(x, 1.0, nc) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_noncentral_chi_square_goes_on_where_scipy_ends():
    logs = [noncentral_chi2_logcdf(10.0**-e, 50, 7.0) for e in range(60)]
    assert all(b < a for a, b in itertools.pairwise(logs))
    assert logs[-1] - logs[-2] == pytest.approx(-25 * math.log(10), rel=1e-9)
    # The density near 0 is that of the central one times exp(-nc / 2).
    central = 25 * math.log(1e-59 / 2) - math.lgamma(26)
    assert logs[-1] == pytest.approx(central - 3.5, abs=1e-6)


@pytest.mark.parametrize(("df", "expected"), [(5, 2.5), (50, 25.0)])
def test_bits_grow_by_half_the_dimensions_for_each_decade_of_squared_error(df, expected):
    bits = [-noncentral_chi2_logcdf(x, df, 0.0) / math.log(2) for x in (1e-2, 1e-3, 1e-4)]
    assert np.diff(bits) / math.log2(10) == pytest.approx(expected, rel=0.004)
    saddlepoint = [-weighted_chi2_logcdf(x, np.ones(df)) / math.log(2) for x in (1e-2, 1e-3, 1e-4)]
    assert np.diff(saddlepoint) / math.log2(10) == pytest.approx(expected, rel=0.004)


@pytest.mark.parametrize("x", [0.5, 10.0, 40.0, 69.999, 70.0, 70.001, 90.0, 200.0])
def test_saddlepoint_of_equal_weights_is_the_chi_square(x):
    log_probability = weighted_chi2_logcdf(x / 3, np.full(50, 1 / 3), np.full(50, 0.4))
    assert log_probability == pytest.approx(noncentral_chi2_logcdf(x, 50, 20.0), abs=0.01)


def test_what_has_no_spread_only_shifts():
    weights, shifts = np.array([0.2, 0.5, 0.0]), np.array([0.1, 0.0, 3.0])
    without = saddlepoint_logcdf(0.4, weights[:2], shifts[:2], 2)
    assert saddlepoint_logcdf(3.4, weights, shifts, 2) == pytest.approx(without, rel=1e-6)
    assert saddlepoint_logcdf(3.0, weights, shifts, 2) == -math.inf


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=30), st.floats(1e-6, 1.0), st.floats(1.05, 3))
def test_saddlepoint_is_finite_monotone_and_scales(weights, share, factor):
    w = np.array(weights)
    x = share * w.sum()
    low, high = weighted_chi2_logcdf(x, w), weighted_chi2_logcdf(factor * x, w)
    assert -math.inf < low < high <= 0
    # Near the mean, 1 / r and 1 / u cancel in the first nine digits.
    assert weighted_chi2_logcdf(1e3 * x, 1e3 * w) == pytest.approx(low, rel=1e-7)


def digits(n, seed=0, noise=0, classes=10):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    X, y = X[order] / 16, y[order]
    X = np.hstack([X, rng.normal(scale=0.5, size=(len(X), noise))])
    keep = y < classes
    X, Y = X[keep], np.eye(10)[y[keep]][:, :classes]
    return X[:n], Y[:n], X[-200:], Y[-200:]


@pytest.mark.parametrize(
    ("n", "sigma", "options", "bits"),
    [
        (50, 2.0, {}, 1021),
        (200, 2.0, {}, 542),
        (800, 2.0, {}, 47.5),
        (50, 1.0, {}, 2581),
        (200, 1.0, {}, 2345),
        (800, 1.0, {}, 1913),
        (50, 2.0, {"classes": 2}, 59.5),
        (150, 2.0, {"classes": 2}, 11.1),
    ],
)
def test_bits_on_digits(n, sigma, options, bits):
    error = gaussian_process_test_error(*digits(n, **options), RBF(sigma), jitter=1e-8)
    assert error.bits(0.05) == pytest.approx(bits, rel=0.005)


def inverted(x, weights, shifts, df):
    """Imhof's inversion of the characteristic function: P(sum <= x) by an integral, for all weights above 0."""

    def integrand(u):
        a = weights * u
        b = 1 + a**2
        angle = (df * np.arctan(a) + shifts * u / b).sum() / 2 - x * u / 2
        return math.sin(angle) / u * math.exp(-(df / 4 * np.log(b) + shifts * u * a / b / 2).sum())

    return 0.5 - quad(integrand, 1e-12, 400, limit=2000, epsabs=1e-12)[0] / math.pi


@pytest.mark.parametrize("n", [50, 800])
@pytest.mark.parametrize("deviations", [-3, -1, 0.5, 3])
def test_bits_agree_with_an_exact_integral(n, deviations):
    error = gaussian_process_test_error(*digits(n), RBF(2.0), jitter=1e-8)
    weights, shifts, df = error.weights, error.shifts, error.outputs
    mean = float((df * weights + shifts).sum())
    target = mean + deviations * float((2 * df * weights**2 + 4 * weights * shifts).sum()) ** 0.5
    exact = inverted(target / mean, weights / mean, shifts / mean, df)
    assert error.bits(target) == pytest.approx(-math.log2(exact), abs=1e-3)


def test_draws_have_the_distribution_and_the_fit_is_near_it():
    error = gaussian_process_test_error(*digits(200), RBF(2.0), jitter=1e-8)
    drawn = error.sample(20_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(float((10 * error.weights + error.shifts).sum()), rel=1e-3)
    for share in (0.01, 0.2):
        target = float(np.quantile(drawn, share))
        deviation = math.sqrt((1 - share) / (share * len(drawn)))
        assert 2 ** -error.bits(target) == pytest.approx(share, rel=4 * deviation)
    # No scaled chi-square is as skewed as these errors, so that the fit has too many small ones.
    rare = float(np.quantile(drawn, 1e-3))
    assert 0.8 * error.bits(rare) < sampled_bias(drawn[:3000], rare).bits < error.bits(rare)


def test_the_process_is_that_of_scikit_learn():
    X, y, X_test, y_test = digits(60)
    error = gaussian_process_test_error(X, y, X_test, y_test, RBF(1.5), jitter=1e-6)
    process = GaussianProcessRegressor(RBF(1.5), alpha=1e-6, optimizer=None).fit(X, y[:, 0])
    mean, cov = process.predict(X_test, return_cov=True)
    assert error.weights.sum() == pytest.approx(np.trace(cov) / y_test.size, rel=1e-6)
    single = gaussian_process_test_error(X, y[:, :1], X_test, y_test[:, :1], RBF(1.5), jitter=1e-6)
    assert single.shifts.sum() == pytest.approx(((mean - y_test[:, 0]) ** 2).mean(), rel=1e-6)


def test_fitted_bias_recovers_the_distribution():
    errors = 0.3 * np.random.default_rng(0).noncentral_chisquare(6, 10, size=4000)
    bias = sampled_bias(errors, 0.1)
    for target in (1.0, 0.1, 0.01):
        exact = -noncentral_chi2_logcdf(target / 0.3, 6, 10) / math.log(2)
        bits = -noncentral_chi2_logcdf(target / bias.scale, bias.df, bias.nc) / math.log(2)
        assert bits == pytest.approx(exact, rel=0.15)
        if target == 0.1:
            assert bias.bits == pytest.approx(bits)


@pytest.mark.parametrize(
    ("errors", "target", "message"),
    [
        (np.ones(20), 0.1, "test_errors are all 1.0"),
    ],
)
def test_bad_errors_are_named(errors, target, message):
    with pytest.raises(ValueError, match=message):
        sampled_bias(errors, target)


def test_bad_data_of_a_process_are_named():
    X, y, X_test, y_test = digits(20)
    with pytest.raises(ValueError, match="expected one row of y for each row of X"):
        gaussian_process_test_error(X, y[:19], X_test, y_test)
    broken = y_test.copy()
    broken[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"y_test at \(sample=2, feature=1\) is nan"):
        gaussian_process_test_error(X, y, X_test, broken)
    twice = np.vstack([X, X[:1]])
    with pytest.raises(ValueError, match="samples 0 and 20 are equal, up to rounding, and have different"):
        gaussian_process_test_error(twice, np.vstack([y, y[:1] + 1]), X_test, y_test)
    same = gaussian_process_test_error(twice, np.vstack([y, y[:1]]), X_test, y_test)
    assert same.bits(0.05) == gaussian_process_test_error(X, y, X_test, y_test).bits(0.05)
    with pytest.raises(ValueError, match=r"jitter = 0.0: the kernel's matrix is singular \(condition"):
        gaussian_process_test_error(
            X, y, X_test, y_test, lambda a, b=None: np.ones((len(a), len(a if b is None else b))), jitter=0.0
        )
    with pytest.raises(ValueError, match=r"jitter = -0\.001: expected"):
        gaussian_process_test_error(X, y, X_test, y_test, jitter=-1e-3)


@pytest.mark.parametrize(
    ("weights", "nc", "df", "message"),
    [
        (np.array([1.0, 0.0]), None, 1.0, "weights = .* above 0"),
        (np.array([1.0]), np.array([-1.0]), 1.0, "nc = .* at least 0"),
    ],
)
def test_bad_terms_are_named(weights, nc, df, message):
    with pytest.raises(ValueError, match=message):
        weighted_chi2_logcdf(1.0, weights, nc, df)
    with pytest.raises(ValueError, match=r"df = 0\.0"):
        noncentral_chi2_logcdf(1.0, 0.0, 1.0)


@pytest.mark.parametrize("outputs", [1, 3])
def test_samples_with_huge_shifts_have_the_right_moments(outputs):
    weights, shifts = np.array([1e-20, 0.0, 1.0]), np.array([4.0, 2.0, 1.0])
    samples = TestError(weights, shifts, outputs).sample(4000, np.random.default_rng(0))
    assert samples.mean() == pytest.approx((outputs * weights + shifts).sum(), rel=0.02)
    assert samples.var() == pytest.approx((2 * outputs * weights**2 + 4 * weights * shifts).sum(), rel=0.2)


def test_the_ends_of_the_distribution():
    assert TestError(np.zeros(2), np.array([0.1, 0.1]), 1).bits(1.0) == 0.0
    assert weighted_chi2_logcdf(1e17, np.ones(3)) == 0.0


@pytest.mark.parametrize("nc", [0.0, 1.0])
def test_the_saddlepoint_goes_on_where_its_second_derivative_vanishes(nc):
    logs = [weighted_chi2_logcdf(10.0**-e, np.ones(4), np.full(4, nc)) for e in (100, 150, 160, 200, 300)]
    slopes = np.diff(logs) / np.diff([100, 150, 160, 200, 300])
    np.testing.assert_allclose(slopes, -2 * math.log(10), rtol=1e-6)  # P is proportional to x^2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_that_are_equal_up_to_rounding_must_have_equal_targets(dtype):
    X = np.array([[0.3, 5.0], [1.0, 2.0], [2.0, 4.0], [0.3, 5.0]], dtype)
    X[3, 0] = np.nextafter(X[0, 0], dtype(1))
    y, X_test, y_test = np.array([[0.0], [1.0], [0.5], [5.0]]), np.array([[0.5, 3.0]]), np.array([[0.2]])
    with pytest.raises(ValueError, match="samples 0 and 3 are equal, up to rounding, and have different targets"):
        gaussian_process_test_error(X, y, X_test.astype(dtype), y_test)
    y[[0, 3]] = [[0.3], [0.1 + 0.2]]
    bits = gaussian_process_test_error(X, y, X_test.astype(dtype), y_test).bits(0.1)
    assert bits == pytest.approx(gaussian_process_test_error(X[:3], y[:3], X_test.astype(dtype), y_test).bits(0.1))
