"""The forward model, its derivatives and the equations that are solved, against independent computations."""

import numpy as np
import pytest
import torch

from engram.learned.inference import feed_forward
from engram.learned.inference.arrowhead import Arrow
from engram.learned.inference.feed_forward import NONLINEARITIES, Layer, Rows
from engram.learned.inference.levenberg_marquardt import Problem
from engram.learned.inference.losses import Bernoulli, Gaussian
from engram.learned.inference.rule_layer import RuleLayer
from engram.learned.inference.series import Series
from engram.plasticity import MLPRule, Oja, TaylorRule

SESSIONS, STEPS, UNITS, INPUTS = 3, 6, 2, 4


def case(variables="xywm", order=2, nonlinearity="tanh", seed=0):
    """A random rule of all terms, and rows in which some steps change nothing."""
    rng = np.random.default_rng(seed)
    series = Series.taylor(variables, order)
    session, unit = (part.ravel() for part in np.indices((SESSIONS, UNITS)))
    rows = Rows(
        rng.normal(size=(SESSIONS, STEPS, INPUTS)),
        rng.normal(size=(SESSIONS, STEPS)),
        rng.random((SESSIONS, STEPS)) < 0.8,
        session,
        unit,
        0.3 * rng.normal(size=(SESSIONS * UNITS, INPUTS)),
    )
    return Layer(series, NONLINEARITIES[nonlinearity], 0.1), rows, 0.3 * rng.normal(size=len(series.names)), rng


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_the_layer_runs_as_its_rule_does(nonlinearity):
    layer, rows, theta, _ = case(nonlinearity=nonlinearity)
    rule = layer.rule(theta)
    assert isinstance(rule, TaylorRule)
    path = layer.run(theta, rows, keep_weights=True)
    other = RuleLayer(rule, nonlinearity)
    expected = other.run(other.start, rows, keep_weights=True)
    np.testing.assert_allclose(path.activity, expected.activity, rtol=0, atol=1e-12)
    np.testing.assert_allclose(path.weights, expected.weights, rtol=0, atol=1e-12)


def jacobian(layer, theta, rows, by_initial):
    parts = list(layer.linearise(theta, rows, by_initial=by_initial))
    return np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])


@pytest.mark.parametrize("nonlinearity", ["identity", "sigmoid", "tanh"])
def test_derivatives_are_those_of_finite_differences(nonlinearity):
    layer, rows, theta, _ = case(nonlinearity=nonlinearity)
    activity, J = jacobian(layer, theta, rows, by_initial=True)
    np.testing.assert_array_equal(activity, layer.run(theta, rows).activity)
    step = 1e-6
    for number in range(0, len(theta), 7):
        shift = step * np.eye(len(theta))[number]
        difference = layer.run(theta + shift, rows).activity - layer.run(theta - shift, rows).activity
        np.testing.assert_allclose(J[:, :, number], difference / (2 * step), rtol=0, atol=1e-6)
    for number in range(INPUTS):
        shift = step * np.eye(INPUTS)[number]
        runs = [layer.run(theta, rows._replace(initial=rows.initial + sign * shift)).activity for sign in (1, -1)]
        np.testing.assert_allclose(J[:, :, len(theta) + number], (runs[0] - runs[1]) / (2 * step), rtol=0, atol=1e-6)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_the_kernel_computes_what_the_layer_does(monkeypatch, nonlinearity):
    layer, rows, theta, _ = case(nonlinearity=nonlinearity)
    parts = {"Oja": {"x y": 1.0, "y^2 w": -1.0}, "both": {"x m": 0.5, "w": -1.0}, "w^3": "w^3"}
    for series, coefficients in ((layer.series, theta), (Series(parts), np.array([0.5, -0.3, 0.2]))):
        layer = layer._replace(series=series)
        results = []
        for least in (np.inf, 0):
            monkeypatch.setattr(feed_forward, "WORTH_COMPILING", least)
            path = layer.run(coefficients, rows, keep_weights=True)
            results.append(
                [*path, *jacobian(layer, coefficients, rows, True), jacobian(layer, coefficients, rows, False)[1]]
            )
        for plain, compiled in zip(*results, strict=True):
            np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-13)
        assert layer.run(1e3 * np.abs(coefficients), rows._replace(initial=1e3 * rows.initial)) is None


def test_derivatives_are_those_of_forward_mode():
    layer, rows, theta, _ = case("xyw")
    other = RuleLayer(layer.rule(theta), "tanh")
    expected, actual = jacobian(other, theta, rows, True), jacobian(layer, theta, rows, True)
    np.testing.assert_allclose(actual[1], expected[1], rtol=0, atol=1e-10)


def test_the_slope_is_that_of_reverse_mode():
    layer, rows, theta, rng = case()
    observed = rng.normal(size=(len(rows.unit), STEPS))
    observed[rng.random(observed.shape) < 0.3] = np.nan
    problem = Problem(layer, rows, Gaussian(observed, np.full(len(observed), 0.5)), None, INPUTS)
    other = RuleLayer(layer.rule(theta), "tanh")
    point = torch.from_numpy(theta).requires_grad_()
    activity, _ = other._run(point, torch.from_numpy(rows.initial), rows, False)
    errors = torch.nan_to_num(torch.from_numpy(observed) - activity)
    loss = errors.square().sum()  # half of it, over a variance of a half
    assert problem.value(theta, rows.initial) == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    np.testing.assert_allclose(problem.equations(theta, rows.initial).slope, point.grad.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [Oja(0.05), MLPRule(3, eta=0.2, generator=torch.Generator().manual_seed(0))])
def test_derivatives_of_any_rule_are_those_of_finite_differences(rule):
    _, rows, _, _ = case()
    layer = RuleLayer(rule, "sigmoid")
    _, J = jacobian(layer, layer.start, rows, by_initial=True)
    for number in range(len(layer.start)):
        shift = 1e-6 * np.eye(len(layer.start))[number]
        difference = layer.run(layer.start + shift, rows).activity - layer.run(layer.start - shift, rows).activity
        np.testing.assert_allclose(J[:, :, number], difference / 2e-6, rtol=0, atol=1e-6)


def test_elimination_of_first_weights_solves_the_whole_system():
    layer, rows, theta, rng = case("xw")
    observed = rng.normal(size=(len(rows.unit), STEPS))
    for block in (np.arange(len(rows.unit)), rows.unit):
        problem = Problem(layer, rows, Gaussian(observed, np.ones(len(observed))), block, INPUTS)
        arrow = problem.equations(theta, rows.initial)
        blocks, parts = len(arrow.mixed), len(theta)
        whole = np.zeros((parts + blocks * INPUTS,) * 2)
        whole[:parts, :parts] = arrow.by_theta
        for k in range(blocks):
            place = slice(parts + k * INPUTS, parts + (k + 1) * INPUTS)
            whole[:parts, place], whole[place, :parts], whole[place, place] = (
                arrow.mixed[k],
                arrow.mixed[k].T,
                arrow.by_initial[k],
            )
        damped = whole + 0.1 * np.diag(np.diag(whole))
        expected = -np.linalg.solve(damped, np.concatenate([arrow.slope, arrow.slope_initial.ravel()]))
        by_theta, by_initial = arrow.step(0.1)
        np.testing.assert_allclose(np.concatenate([by_theta, by_initial.ravel()]), expected, rtol=1e-8, atol=1e-10)


def test_a_direction_without_curvature_is_left_as_it_is():
    arrow = Arrow(np.diag([2.0, 0.0]), np.zeros((0, 2, 1)), np.zeros((0, 1, 1)), np.array([1.0, 0.0]), np.zeros((0, 1)))
    assert arrow.step(0.0)[0].tolist() == [-0.5, 0.0]


def test_the_loss_of_choices_is_that_of_their_probability():
    choices = np.array([[0.0, 1.0, np.nan]])
    assert Bernoulli(choices).value(np.zeros((1, 3))) / 2 == pytest.approx(np.log(2), abs=1e-15)
    assert Bernoulli(choices).value(np.array([[-1000.0, 1000.0, 0.0]])) == 0
    assert Bernoulli(choices).value(np.array([[1000.0, -1000.0, 0.0]])) == pytest.approx(2000)
    by = Bernoulli(choices).quadratic(np.array([[0.5, -0.2, 3.0]]), slice(None))
    p = 1 / (1 + np.exp([-0.5, 0.2]))
    np.testing.assert_allclose(by.slope, [[p[0], p[1] - 1, 0]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(by.curvature, [[*(p * (1 - p)), 0]], rtol=0, atol=1e-15)


def test_a_run_that_diverges_is_none():
    layer, rows, theta, _ = case(nonlinearity="identity")
    assert layer.run(1e3 * np.abs(theta), rows) is None
