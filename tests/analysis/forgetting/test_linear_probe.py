import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from engram.analysis import LinearProbe, NearestMeanProbe
from engram.analysis.forgetting.linear_probe import _loss

X, Y = load_digits(return_X_y=True)


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1e-1])
def test_it_agrees_with_scikit_learn(l2):
    known, new = slice(0, 900), slice(900, None)
    probe = LinearProbe(l2, max_iter=1000).fit(X[known], Y[known])
    scaler = StandardScaler().fit(X[known])
    Z = scaler.transform(X[known])
    # scikit-learn has the sum over samples and weighs it, instead of the mean and a weighed penalty.
    other = LogisticRegression(C=1 / (l2 * len(Z)), tol=1e-6, max_iter=5000).fit(Z, Y[known])
    assert probe.score(X[new], Y[new]) == pytest.approx(other.score(scaler.transform(X[new]), Y[new]), abs=0.005)
    varied = scaler.scale_ != 1  # scikit-learn's scale of a constant feature, which has no weight here
    assert probe.coef_[:, varied] == pytest.approx(other.coef_[:, varied], abs=2e-3)
    assert probe.gradient_norm_ < 1e-6


def test_the_gradient_is_that_of_the_loss():
    generator = torch.Generator().manual_seed(0)
    Z = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    at = torch.randn(4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    loss, gradient = _loss(at, Z, torch.randint(4, (7,), generator=generator), 0.3)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, at)[0])


def test_order_and_names_of_classes_do_not_matter():
    probe = LinearProbe().fit(X[:300], Y[:300])
    order = np.random.default_rng(0).permutation(300)
    again = LinearProbe().fit(X[order], Y[order])
    assert again.coef_ == pytest.approx(probe.coef_, abs=1e-4)
    named = LinearProbe().fit(X[:300], np.array([f"digit {label}" for label in Y[:300]]))
    assert named.predict(X[300:320]).tolist() == [f"digit {label}" for label in probe.predict(X[300:320])]


def test_a_feature_that_is_always_the_same_is_not_used():
    constant = np.column_stack([X[:300], np.full(300, 3.0)])
    probe = LinearProbe().fit(constant, Y[:300])
    assert not probe.coef_[:, -1].any()
    surprise = np.column_stack([X[300:320], np.full(20, 99.0)])
    assert probe.predict(surprise).tolist() == LinearProbe().fit(X[:300], Y[:300]).predict(X[300:320]).tolist()


def test_constant_outputs_are_told():
    with pytest.warns(UserWarning, match="body outputs are constant"):
        LinearProbe().fit(np.ones((9, 3)), np.arange(9) % 3)


def test_what_is_left_of_the_gradient_is_told():
    with pytest.warns(ConvergenceWarning, match=r"max_iter = 3 steps: an entry of the gradient is \d"):
        LinearProbe(max_iter=3).fit(X[:300], Y[:300])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LinearProbe(tol=0.9, max_iter=3).fit(X[:300], Y[:300]).n_iter_ <= 3


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ({}, np.zeros(9, int), "y: expected at least two classes, found 1 class"),
        ({"l2": 0.0}, np.arange(9) % 2, r"l2 = 0.0: expected a number above 0"),
        ({"tol": -1.0}, np.arange(9) % 2, "tol = -1.0"),
        ({"max_iter": 0}, np.arange(9) % 2, "max_iter = 0"),
    ],
)
def test_bad_input(options, labels, message):
    with pytest.raises(ValueError, match=message):
        LinearProbe(**options).fit(X[:9], labels)


@pytest.mark.parametrize("probe", [LinearProbe(), NearestMeanProbe()])
@pytest.mark.parametrize("units", [(1e-5, 1e-13), (1e-200, 1e150), (1e9, 1e-9)])
def test_units_of_features_do_not_matter(probe, units):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=120)
    X = np.hstack([rng.normal(size=(120, 4)), rng.normal(size=(120, 2)) + 3 * np.eye(3)[y][:, :2]])
    expected = clone(probe).fit(X[:60], y[:60]).predict(X[60:])
    scaled = X * np.repeat(units, [4, 2])
    np.testing.assert_array_equal(clone(probe).fit(scaled[:60], y[:60]).predict(scaled[60:]), expected)
    assert (expected == y[60:]).mean() > 0.7


def test_the_rounding_of_single_precision_is_no_feature():
    y = np.arange(40) % 2
    leak = np.float32(0.3) * (1 + np.float32(1e-7) * y.astype(np.float32))
    assert len(np.unique(leak)) == 2
    with pytest.warns(UserWarning, match="constant"):
        assert not LinearProbe().fit(leak[:, None].astype(float), y).coef_.any()


def test_distances_in_the_units_of_features():
    X, y = np.array([[0.0, 0.0], [0.1, 4.0], [0.3, 1.0], [0.4, 5.0]]), [0, 0, 1, 1]
    assert NearestMeanProbe(standardize=False).fit(X, y).predict([[0.35, 2.4]]) == [0]
    assert NearestMeanProbe().fit(X, y).predict([[0.35, 2.4]]) == [1]
    with pytest.raises(TypeError, match="standardize"):
        NearestMeanProbe(standardize=1).fit(X, y)
