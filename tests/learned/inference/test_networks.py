"""Hidden layers behind choices and recurrent networks: their runs and derivatives, and the rules found in them."""

import numpy as np
import pytest
import torch

from engram.learned import PlasticityRuleInference, simulate_activity, simulate_choices
from engram.learned.inference import search
from engram.learned.inference.feed_forward import NONLINEARITIES, Layer, Rows
from engram.learned.inference.hidden_layer import HiddenLayer
from engram.learned.inference.levenberg_marquardt import Problem
from engram.learned.inference.losses import Bernoulli, Gaussian
from engram.learned.inference.recurrent import RecurrentNetwork
from engram.learned.inference.rule_layer import RuleLayer
from engram.learned.inference.series import Series
from engram.plasticity import Oja, PlasticRNN, TaylorRule, TraceState
from engram.plasticity.state import PlasticState

SESSIONS, STEPS, UNITS, INPUTS = 3, 6, 4, 2
OJA = {"x y": 1.0, "y^2 w": -1.0}


def rows_of(rng, inputs, scale=0.3):
    session, unit = (part.ravel() for part in np.indices((SESSIONS, UNITS)))
    return Rows(
        rng.normal(size=(SESSIONS, STEPS, INPUTS)),
        rng.normal(size=(SESSIONS, STEPS)),
        rng.random((SESSIONS, STEPS)) < 0.8,
        session,
        unit,
        scale * rng.normal(size=(SESSIONS * UNITS, inputs)),
    )


def recurrent(nonlinearity="tanh"):
    rng = np.random.default_rng(0)
    series = Series.taylor("xywm", 2)
    network = RecurrentNetwork(series, NONLINEARITIES[nonlinearity], 0.1, rng.normal(size=(UNITS, INPUTS)))
    return network, rows_of(rng, UNITS), 0.1 * rng.normal(size=len(series.names)), rng


def hidden(series=None):
    rng = np.random.default_rng(0)
    series = Series.taylor("xywm", 2) if series is None else series
    layer = Layer(series, NONLINEARITIES["tanh"], 0.1)
    return (
        HiddenLayer(layer, rng.normal(size=UNITS)),
        rows_of(rng, INPUTS),
        0.3 * rng.normal(size=len(series.names)),
        rng,
    )


def jacobian(model, theta, rows, by_initial):
    parts = list(model.linearise(theta, rows, by_initial=by_initial))
    return np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])


def test_each_step_of_a_recurrent_network_is_one_of_its_rule():
    network, rows, theta, _ = recurrent()
    changed = rows._replace(changes=np.ones_like(rows.changes))
    rule = network.rule(theta)
    path = network.run(theta, changed, keep_weights=True)
    for session in range(SESSIONS):
        place = slice(session * UNITS, (session + 1) * UNITS)
        y = np.pad(path.activity[place], ((0, 0), (1, 0)))
        for t in range(STEPS):
            before, after = path.weights[t : t + 1, place], path.weights[t + 1, place]
            step = [torch.from_numpy(part[None]) for part in (y[:, t], y[:, t + 1], rows.signal[session, t : t + 1])]
            trace = rule.update(TraceState(torch.from_numpy(before)), *step).trace
            np.testing.assert_allclose(trace[0].detach().numpy(), after, rtol=0, atol=1e-14)


def test_ojas_rule_in_a_recurrent_network_is_that_of_the_plastic_rnn():
    rng = np.random.default_rng(1)
    U, W = rng.normal(size=(UNITS, INPUTS)), 0.3 * rng.normal(size=(UNITS, UNITS))
    x = rng.normal(size=(SESSIONS, STEPS, INPUTS))
    rnn = PlasticRNN(INPUTS, UNITS, rule=Oja(0.1, dtype=torch.float64), backend="eager", dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_ih.copy_(torch.from_numpy(U))
        rnn.weight_hh.zero_()
        rnn.bias.zero_()
        rnn.alpha.fill_(1.0)
    start = rnn.init(SESSIONS)
    trace = torch.from_numpy(W).expand(1, SESSIONS, UNITS, UNITS).clone()
    output, state = rnn(torch.from_numpy(x).transpose(0, 1), PlasticState(start.hidden, TraceState(trace)))
    data = simulate_activity(OJA, x, W, 0, nonlinearity="tanh", input_weights=U, eta=0.1)
    np.testing.assert_allclose(np.stack(data.activity, 1), output.detach().numpy(), rtol=0, atol=1e-12)
    last = np.stack([weights[-1] for weights in data.weights])
    np.testing.assert_allclose(last, state.trace[0].detach().numpy(), rtol=0, atol=1e-12)
    network = RecurrentNetwork(Series({name: name for name in OJA}), NONLINEARITIES["tanh"], 0.1, U)
    session, unit = (part.ravel() for part in np.indices((SESSIONS, UNITS)))
    flat = np.zeros((SESSIONS, STEPS)), np.ones((SESSIONS, STEPS), bool)
    path = network.run(np.array([1.0, -1.0]), Rows(x, *flat, session, unit, np.tile(W, (SESSIONS, 1))))
    np.testing.assert_allclose(path.activity, np.concatenate([y.T for y in data.activity]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_derivatives_of_a_recurrent_network_are_those_of_finite_differences(nonlinearity):
    network, rows, theta, _ = recurrent(nonlinearity)
    activity, J = jacobian(network, theta, rows, by_initial=True)
    np.testing.assert_array_equal(activity, network.run(theta, rows).activity)
    assert J.shape == (SESSIONS * UNITS, STEPS, len(theta) + UNITS**2)
    step = 1e-6
    for number in range(0, len(theta), 7):
        shift = step * np.eye(len(theta))[number]
        difference = network.run(theta + shift, rows).activity - network.run(theta - shift, rows).activity
        np.testing.assert_allclose(J[:, :, number], difference / (2 * step), rtol=1e-6, atol=1e-6)
    for number in range(UNITS**2):
        shift = np.tile(step * np.eye(UNITS**2)[number].reshape(UNITS, UNITS), (SESSIONS, 1))
        runs = [network.run(theta, rows._replace(initial=rows.initial + sign * shift)).activity for sign in (1, -1)]
        np.testing.assert_allclose(J[:, :, len(theta) + number], (runs[0] - runs[1]) / (2 * step), rtol=1e-6, atol=1e-6)


def test_first_weights_of_a_recurrent_network_are_eliminated_as_the_whole_system_is_solved():
    network, rows, theta, rng = recurrent()
    observed = rng.normal(size=(len(rows.unit), STEPS))
    loss = Gaussian(observed, np.ones(len(observed)))
    size = UNITS**2
    for block in (np.zeros(len(rows.unit), int), rows.session):
        problem = Problem(network, rows, loss, block, size)
        arrow = problem.equations(theta, rows.initial)
        _, J = jacobian(network, theta, rows, True)
        blocks, parts = int(block.max()) + 1, len(theta)
        dense = np.zeros((*J.shape[:2], parts + blocks * size))
        dense[:, :, :parts] = J[:, :, :parts]
        for row, k in enumerate(block):
            dense[row, :, parts + k * size : parts + (k + 1) * size] = J[row, :, parts:]
        flat = dense.reshape(-1, dense.shape[2])
        errors = (network.run(theta, rows).activity - observed).ravel()
        H = flat.T @ flat
        expected = -np.linalg.solve(H + 0.1 * np.diag(np.diag(H)), flat.T @ errors)
        by_theta, by_initial = arrow.step(0.1)
        np.testing.assert_allclose(np.concatenate([by_theta, by_initial.ravel()]), expected, rtol=1e-6, atol=1e-9)
        moved = problem.moved(rows.initial, by_initial)
        steps = by_initial.reshape(blocks, UNITS, UNITS)
        np.testing.assert_array_equal(moved - rows.initial != 0, True)
        np.testing.assert_allclose(moved[UNITS + 1], rows.initial[UNITS + 1] + steps[block[UNITS + 1], 1])


def test_a_hidden_layer_runs_as_its_formula_and_so_do_its_derivatives():
    model, rows, theta, _ = hidden()
    logits, J = jacobian(model, theta, rows, by_initial=False)
    of_units = model.layer.run(theta, rows).activity.reshape(SESSIONS, UNITS, STEPS)
    np.testing.assert_allclose(logits, (model.readout[:, None] * of_units).sum(1), rtol=0, atol=1e-14)
    np.testing.assert_allclose(model.run(theta, rows).activity, logits, rtol=0, atol=1e-14)
    for number in range(0, len(theta), 7):
        shift = 1e-6 * np.eye(len(theta))[number]
        difference = model.run(theta + shift, rows).activity - model.run(theta - shift, rows).activity
        np.testing.assert_allclose(J[:, :, number], difference / 2e-6, rtol=0, atol=1e-6)


def test_the_slope_of_choices_by_a_hidden_layer_is_that_of_reverse_mode():
    model, rows, theta, rng = hidden()
    choices = rng.integers(2, size=(SESSIONS, STEPS)).astype(float)
    choices[0, 2] = np.nan
    problem = Problem(model, rows, Bernoulli(choices), None, INPUTS)
    rule = RuleLayer(model.rule(theta), "tanh")
    point = torch.from_numpy(rule.start).requires_grad_()
    h, _ = rule._run(point, torch.from_numpy(rows.initial), rows, False)
    logit = torch.einsum("u,kut->kt", torch.from_numpy(model.readout), h.reshape(SESSIONS, UNITS, STEPS))
    seen = ~np.isnan(choices)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logit[torch.from_numpy(seen)], torch.from_numpy(choices[seen]), reduction="sum"
    )
    assert problem.value(theta, rows.initial) == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    np.testing.assert_allclose(problem.equations(theta, rows.initial).slope, point.grad.numpy(), rtol=1e-9, atol=1e-9)


def test_a_readout_of_one_linear_unit_changes_nothing():
    rng = np.random.default_rng(0)
    x = [np.eye(2)[rng.integers(2, size=60)] for _ in range(4)]
    offers = [np.ones(60) for _ in x]
    options = {"eta": 0.5, "update_at": "chosen"}
    data = simulate_choices({"x m": 1.0, "w": -0.2}, x, offers, rng, **options)
    named = {"choices": data.choices, "rewards": data.rewards}
    plain = PlasticityRuleInference(terms=["x m", "w"], **options).fit(x, **named)
    through = PlasticityRuleInference(terms=["x m", "w"], readout=[1.0], nonlinearity="identity", **options)
    assert through.fit(x, **named).coefficients_ == plain.coefficients_
    np.testing.assert_array_equal(through.predict(x, **named), plain.predict(x, **named))
    assert through.score(x, **named) == plain.score(x, **named)


def test_weights_on_another_scale_choose_alike_by_a_readout_and_a_rule_on_that_scale():
    """W -> s W and v -> v / s change no choice if the coefficient of x^a y^b w^c m^d is multiplied by s^(1 - b - c)."""
    rng, s = np.random.default_rng(0), 2.0
    x, offers = [rng.normal(size=(40, 2)) for _ in range(3)], [np.ones(40)] * 3
    W, v, options = rng.normal(size=(4, 2)), rng.normal(size=4), {"nonlinearity": "identity"}
    rule = {"x m": 0.5, "x y": -0.1, "w": -0.05, "y^2 w": -0.02}
    scaled = {"x m": 0.5 * s, "x y": -0.1, "w": -0.05, "y^2 w": -0.02 / s**2}
    plain = simulate_choices(rule, x, offers, 0, initial_weights=W, readout=v, **options)
    other = simulate_choices(scaled, x, offers, 0, initial_weights=s * W, readout=v / s, **options)
    np.testing.assert_array_equal(plain.choices, other.choices)
    np.testing.assert_allclose(s * np.stack(plain.weights), np.stack(other.weights), rtol=1e-12, atol=0)


def bandit(flies=12, trials=160, seed=0):
    """The published task: a network of 2, 10 and 1 units, baited odours, a reward prediction error."""
    rng = np.random.default_rng(seed)
    odours = [rng.integers(2, size=trials) for _ in range(flies)]
    x = [0.75 * np.eye(2)[odour] + 0.05 * rng.normal(size=(trials, 2)) for odour in odours]
    arrives = [rng.random((trials, 2)) < [0.2, 0.8] for _ in x]
    W, v = 0.01 * rng.normal(size=(10, 2)), np.full(10, 0.5)
    options = {"eta": 0.5, "modulator": "rpe", "update_at": "chosen", "readout": v, "initial_weights": W}
    return x, odours, arrives, options, rng


def test_a_rule_is_found_from_choices_through_a_hidden_layer():
    x, odours, arrives, options, rng = bandit()
    data = simulate_choices({"x m": 1.0}, x, arrives, rng, options=odours, **options)
    named = {"choices": data.choices, "rewards": data.rewards}
    fit = PlasticityRuleInference(order=1, select="bic", **options).fit(x, **named)
    assert set(fit.coefficients_) == {"x m"}
    assert fit.coefficients_["x m"] == pytest.approx(1, abs=0.3)
    assert fit.weights_[0].shape == (161, 10, 2)
    np.testing.assert_allclose(fit.weights_[0][0], options["initial_weights"])
    assert fit.score(x, **named) > 0.02
    again = fit.simulate(x, [np.ones(len(each)) for each in x], random_state=0)
    assert np.mean([choices.mean() for choices in again.choices]) > 0.6


def test_any_rule_of_the_library_is_fitted_through_a_hidden_layer():
    x, odours, arrives, options, rng = bandit(flies=3, trials=30)
    rule = TaylorRule({"x m": 1.0, "w": -0.1}, 0.5, dtype=torch.float64)
    del options["eta"]
    data = simulate_choices(rule, x, arrives, rng, options=odours, **options)
    named = {"choices": data.choices, "rewards": data.rewards}
    by_torch = PlasticityRuleInference(rule, **options).fit(x, **named)
    by_terms = PlasticityRuleInference(terms=["x m", "w"], eta=0.5, **options).fit(x, **named)
    np.testing.assert_allclose([*by_torch.coefficients_.values()], [*by_terms.coefficients_.values()], rtol=1e-4)


def network(observed, noise=0.0, sessions=10, steps=30, units=6):
    rng = np.random.default_rng(3)
    x, W = rng.normal(size=(sessions, steps, units)), rng.normal(size=(units, units)) / np.sqrt(units)
    data = simulate_activity(OJA, x, W, rng, eta=0.05, nonlinearity="tanh", input_weights=np.eye(units), noise=noise)
    for y in data.activity:
        y[:, observed:] = np.nan
    return x, W, data


@pytest.mark.parametrize("observed", [6, 2])
def test_ojas_rule_is_found_in_a_recurrent_network_even_from_some_of_its_units(observed):
    x, W, data = network(observed)
    terms = ["x y", "y^2 w", "x", "w", "y"]
    fit = PlasticityRuleInference(terms=terms, network="recurrent", eta=0.05, initial_weights=W).fit(x, data.activity)
    for name, theta in fit.coefficients_.items():
        assert theta == pytest.approx(OJA.get(name, 0.0), abs=1e-5)
    np.testing.assert_allclose(fit.weights_[0], data.weights[0], rtol=0, atol=1e-6)
    predicted = np.stack(fit.predict(x))
    assert np.isfinite(predicted).all()  # of units without records too
    assert fit.score(x, data.activity) == pytest.approx(1)


@pytest.mark.parametrize("known", ["shared", "session"])
def test_unknown_first_weights_of_a_recurrent_network_are_found_with_the_rule(known):
    x, W, data = network(4, sessions=3, steps=30, units=4)
    fit = PlasticityRuleInference(terms=[*OJA], network="recurrent", eta=0.05, initial_weights=known)
    fit.fit(x, data.activity)
    for name, theta in fit.coefficients_.items():
        assert theta == pytest.approx(OJA[name], abs=1e-4)
    expected = W if known == "shared" else np.broadcast_to(W, (3, 4, 4))
    np.testing.assert_allclose(fit.initial_weights_, expected, rtol=0, atol=1e-4)


def test_selection_finds_ojas_rule_in_a_noisy_recurrent_network():
    x, W, data = network(4, noise=0.05, units=4)
    fit = PlasticityRuleInference(order=2, network="recurrent", eta=0.05, initial_weights=W, select="bic", tol=1e-6)
    fit.fit(x, data.activity)
    assert set(OJA) <= set(fit.coefficients_)
    assert len(fit.coefficients_) <= 3


def test_baited_rewards_wait_until_their_option_is_chosen():
    options, arrives = [0, 0, 1, 1, 0, 0], np.array([[1, 1], [0, 0], [0, 0], [0, 0], [1, 0], [0, 0]])
    always = simulate_choices(
        {"x m": 0.0}, np.ones((6, 1)), arrives, 0, options=options, initial_weights=np.array([50.0])
    )
    assert always.choices[0].tolist() == [1] * 6
    # Both wait at first; the first is taken at once, the second at its first offer; one more arrives at trial 4.
    assert always.rewards[0].tolist() == [1, 0, 1, 0, 1, 0]
    # Where nothing is chosen no trial of "chosen" ends, so that no reward arrives, and nothing is received.
    never = simulate_choices(
        {"x m": 0.0},
        np.ones((6, 1)),
        arrives,
        0,
        options=options,
        initial_weights=np.array([-50.0]),
        update_at="chosen",
    )
    assert np.isnan(never.rewards[0]).all()


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"readout": [1.0]}, {"activity": np.ones((5, 1))}, "readout"),
        ({"network": "recurrent"}, {"choices": np.ones(5)}, "expected activity, not choices"),
        ({"input_weights": np.eye(2)}, {"activity": np.ones((5, 1))}, "expected None unless network"),
        ({"network": "recurrent", "input_weights": np.eye(3)}, {"activity": np.ones((5, 3))}, r"input_weights.shape"),
        ({"network": "recurrent", "family": Oja()}, {"activity": np.ones((5, 2))}, "expected 'taylor'"),
        ({"readout": [1.0], "initial_weights": "shared"}, {"choices": np.ones(5)}, "does not tell the first weights"),
    ],
)
def test_what_does_not_go_together_is_refused(options, given, message):
    with pytest.raises(ValueError, match=message):
        PlasticityRuleInference(**options).fit(np.random.default_rng(0).normal(size=(5, 2)), **given)


@pytest.mark.parametrize(
    ("rewards", "options", "message"),
    [
        (np.ones((3, 2)), [0, 1], r"options\[0\] has 2 steps: expected 3"),
        (np.ones((2, 2)), [0, 1, 0], r"rewards\[0\] has 2 trials: expected at least 3"),
        (np.ones((3, 2)), [0, 1, 2], r"options\[0\] = .*: expected 0 to 1"),
        (np.ones((3, 2)), [0, 0.5, 1], r"options\[0\] = .*: expected 0 to 1"),
        (np.ones((3, 2)), [[0, 1, 0]] * 2, r"options has 2 sessions: expected 1, as inputs have"),
        (np.ones((2, 3, 2)), [0, 1, 0], r"rewards has 2 sessions: expected 1, as inputs have"),
        ([[1, 0], [0, np.nan], [0, 0]], [0, 1, 0], r"rewards\[0\]\[1, 1\] = nan: expected 1 if a reward arrives"),
    ],
)
def test_baits_that_do_not_fit_are_refused(rewards, options, message):
    with pytest.raises(ValueError, match=message):
        simulate_choices({"x m": 1.0}, np.ones((3, 2)), rewards, 0, options=options)


def test_a_search_that_begins_with_the_first_steps_finds_the_rule_where_one_over_all_steps_does_not(monkeypatch):
    rng = np.random.default_rng(1)
    x, W = rng.normal(size=(3, 50, 6)), 1.5 * rng.normal(size=(6, 6)) / np.sqrt(6)
    data = simulate_activity(OJA, x, W, rng, eta=0.1, nonlinearity="tanh", input_weights=np.eye(6))
    make = PlasticityRuleInference(
        terms=[*OJA, "x", "w", "y"], network="recurrent", eta=0.1, initial_weights=W, max_iter=40
    )
    found = make.fit(x, data.activity).coefficients_
    assert all(theta == pytest.approx(OJA.get(name, 0.0), abs=1e-5) for name, theta in found.items())
    monkeypatch.setattr(search, "start_of_search", lambda model, data, theta, max_iter: (theta, data.rows.initial))
    stuck = make.fit(x, data.activity)
    assert max(abs(stuck.coefficients_[name] - theta) for name, theta in OJA.items()) > 0.5
