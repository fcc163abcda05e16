"""What the estimator finds, against rules that are known."""

import warnings

import numpy as np
import pytest
import torch
from scipy.special import comb
from sklearn.base import clone

from engram.learned import PlasticityRuleInference, simulate_activity, simulate_choices
from engram.learned.inference.feed_forward import NONLINEARITIES, Layer, Rows
from engram.learned.inference.identifiability import dependent_terms
from engram.learned.inference.series import Series
from engram.plasticity import ClippedHebb, Competitive, MLPRule, Oja

OJA = {"x y": 1.0, "y^2 w": -1.0}


def oja(noise, sessions=6, steps=30):
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(sessions, steps, 4)), 0.1 * rng.normal(size=(4, 4))
    return x, W, simulate_activity(OJA, x, W, rng, eta=0.1, noise=noise)


def error(inference, truth=OJA):
    """The largest error of a coefficient."""
    names = {*truth, *inference.coefficients_}
    return max(abs(inference.coefficients_.get(name, 0.0) - truth.get(name, 0.0)) for name in names)


def test_ojas_rule_is_recovered_exactly_without_noise():
    x, W, data = oja(0.0)
    inference = PlasticityRuleInference(eta=0.1, initial_weights=W).fit(x, data.activity)
    assert len(inference.coefficients_) == 27
    assert error(inference) < 1e-4
    assert inference.status_ == "ok"
    for weights, true in zip(inference.weights_, data.weights, strict=True):
        np.testing.assert_allclose(weights, true, rtol=0, atol=1e-8)
    assert inference.score(x, data.activity) == pytest.approx(1)


@pytest.mark.parametrize("known", ["shared", "session"])
def test_unknown_first_weights_are_recovered_with_the_rule(known):
    x, W, data = oja(0.0, steps=40)
    inference = PlasticityRuleInference(eta=0.1, initial_weights=known, terms=["x y", "y^2 w", "w", "x"])
    inference.fit(x, data.activity)
    assert error(inference) < 1e-4
    expected = W if known == "shared" else np.broadcast_to(W, (6, 4, 4))
    np.testing.assert_allclose(inference.initial_weights_, expected, rtol=0, atol=1e-5)


def test_noise_unrecorded_units_and_sessions_of_several_lengths():
    x, W, data = oja(0.05, sessions=10)
    activity = [y[: 20 + k].copy() for k, y in enumerate(data.activity)]
    inputs = [session[: len(y)] for session, y in zip(x, activity, strict=True)]
    for y in activity:
        y[:, 0], y[3, 1] = np.nan, np.nan
    fitted = PlasticityRuleInference(eta=0.1, initial_weights=W, select="bic").fit(inputs, activity)
    assert set(fitted.coefficients_) == set(OJA)
    assert error(fitted) < 0.1
    assert all(low < OJA[name] < high for name, (low, high) in fitted.intervals_.items())
    assert np.isfinite(fitted.noise_).all()
    assert [w.shape for w in fitted.weights_] == [(len(y) + 1, 4, 4) for y in activity]
    assert fitted.path_[0].terms != fitted.path_[-1].terms == ()


def test_padding_and_trials_change_nothing_and_order_and_names_of_units_only_rounding():
    x, W, data = oja(0.05)
    activity = np.stack(data.activity)
    make = PlasticityRuleInference(terms=[*OJA, "w"], eta=0.1, initial_weights=W)
    theta = list(clone(make).fit(x, activity).coefficients_.values())
    padding = np.full((6, 20, 4), np.nan)
    padded = clone(make).fit(np.concatenate([x, padding], 1), np.concatenate([activity, padding], 1))
    assert list(padded.coefficients_.values()) == theta
    trials = [[s[:7], s[7:]] for s in x], [[s[:7], s[7:]] for s in activity]
    assert list(clone(make).fit(*trials).coefficients_.values()) == theta
    order, units = np.array([3, 1, 5, 0, 2, 4]), np.array([2, 0, 3, 1])
    moved = PlasticityRuleInference(terms=[*OJA, "w"], eta=0.1, initial_weights=W[units])
    moved.fit(x[order], activity[order][:, :, units])
    np.testing.assert_allclose(list(moved.coefficients_.values()), theta, rtol=1e-9)
    rotated = np.array([1, 2, 3, 0])
    turned = PlasticityRuleInference(terms=[*OJA, "w"], eta=0.1, initial_weights=W[:, rotated])
    turned.fit(x[:, :, rotated], activity)
    np.testing.assert_allclose(list(turned.coefficients_.values()), theta, rtol=1e-9)


def test_an_unrecorded_unit_is_as_one_that_is_not_there():
    x, W, data = oja(0.05)
    activity = np.stack(data.activity)
    hidden = activity.copy()
    hidden[:, :, 2:] = np.nan
    fits = [
        PlasticityRuleInference(terms=[*OJA, "w"], eta=0.1, initial_weights=weights).fit(x, y)
        for weights, y in ((W, hidden), (W[:2], activity[:, :, :2]))
    ]
    assert fits[0].coefficients_ == fits[1].coefficients_
    assert fits[0].log_likelihood_ == pytest.approx(fits[1].log_likelihood_)


def linear(noise, seed=0, steps=50):
    """A linear unit whose weight grows by eta theta x: a linear problem, with its estimate and interval known."""
    rng = np.random.default_rng(seed)
    x, w0, eta, theta = rng.normal(size=(steps, 1)), 0.3, 0.1, 0.7
    earlier = np.concatenate([[0], np.cumsum(x[:, 0])[:-1]])
    a = eta * x[:, 0] * earlier
    y = x[:, 0] * w0 + theta * a + noise * rng.normal(size=steps)
    return x, w0, eta, a, y


def test_a_linear_problem_takes_one_step_and_has_the_known_interval():
    x, w0, eta, a, y = linear(0.1)
    inference = PlasticityRuleInference(
        terms=["x"], nonlinearity="identity", eta=eta, initial_weights=[[w0]], max_iter=1
    ).fit(x, y)
    expected = (a @ (y - x[:, 0] * w0)) / (a @ a)
    assert inference.coefficients_["x"] == pytest.approx(expected, abs=1e-12)
    sigma = np.sqrt(((y - x[:, 0] * w0 - expected * a) ** 2).sum() / (len(y) - 1))
    assert np.sqrt(inference.covariance_[0, 0]) == pytest.approx(sigma / np.sqrt(a @ a), rel=1e-9)
    low, high = inference.intervals_["x"]
    assert (high - low) / 2 == pytest.approx(2.0096 * sigma / np.sqrt(a @ a), rel=1e-4)


def test_intervals_cover_the_truth_as_often_as_they_say():
    hits = 0
    for seed in range(60):
        x, w0, eta, _, y = linear(0.1, seed, steps=20)
        fit = PlasticityRuleInference(terms=["x"], nonlinearity="identity", eta=eta, initial_weights=[[w0]]).fit(x, y)
        low, high = fit.intervals_["x"]
        hits += low < 0.7 < high
    assert hits >= 51  # with 95 %, fewer once in 700 sets of 60


def shape(inputs, variables, nonlinearity, signal=None, order=2):
    inputs = np.asarray(inputs, float)[None]
    signal = np.zeros(inputs.shape[:2]) if signal is None else signal[None]
    layer = Layer(Series.taylor(variables, order), NONLINEARITIES[nonlinearity], 1.0)
    one = np.zeros(1, int)
    rows = Rows(inputs, signal, np.ones(inputs.shape[:2], bool), one, one, np.zeros((1, inputs.shape[2])))
    return dependent_terms(layer, rows)


def test_the_number_of_terms_that_inputs_tell_apart():
    rng = np.random.default_rng(0)
    one_hot, binary = np.eye(2)[rng.integers(2, size=300)], rng.integers(2, size=300).astype(float)
    assert len(shape(rng.normal(size=(300, 3)), "xyw", "sigmoid").kept) == 27
    assert len(shape(rng.integers(2, size=(300, 3)), "xyw", "sigmoid").kept) == 18
    assert len(shape(2 * rng.integers(2, size=(300, 3)) - 1, "xyw", "sigmoid").kept) == 18
    assert len(shape(np.ones((300, 1)), "xyw", "identity").kept) == 5
    assert len(shape(one_hot, "xywm", "identity", binary).kept) == 28
    assert len(shape(one_hot, "xywm", "identity", rng.normal(size=300)).kept) == 42
    assert len(shape(one_hot, "xwm", "identity", binary).kept) == 12
    assert len(shape(one_hot, "xwm", "identity", rng.normal(size=300)).kept) == 18
    assert len(shape(one_hot + 0.05 * rng.normal(size=(300, 2)), "xwm", "identity", binary).kept) == 18


def test_weights_that_no_input_reaches_never_show():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(2, 20, 3)), 0.1 * rng.normal(size=(4, 3))
    x[:, :, 2] = 0
    rule = {"1": 0.3, "x y": 1.0, "w": -0.2}
    plain, shifted = (simulate_activity(rule, x, start, 0, eta=0.1) for start in (W, W + np.eye(3)[2]))
    np.testing.assert_allclose(plain.activity, shifted.activity, rtol=0, atol=1e-14)
    assert (np.stack(shifted.weights) - np.stack(plain.weights))[..., 2].min() > 0.5


def bandit(rule, flies, trials=120, seed=0, modulator="rpe", **options):
    """Offers of one of two odours, of which one is rewarded more often; weights change where an offer is accepted."""
    rng = np.random.default_rng(seed)
    offers = [np.eye(2)[rng.integers(2, size=trials)] for _ in range(flies)]
    likely = [np.where(np.arange(trials)[:, None] < trials // 2, [0.2, 0.8], [0.9, 0.1]) for _ in offers]
    rewards = [(rng.random(trials) < (p * x).sum(1)).astype(float) for p, x in zip(likely, offers, strict=True)]
    data = simulate_choices(rule, offers, rewards, rng, eta=0.5, modulator=modulator, update_at="chosen", **options)
    return offers, data


CHOICES = {"eta": 0.5, "update_at": "chosen"}


def test_a_rule_with_reward_is_found_from_choices():
    offers, data = bandit({"x m": 1.0, "w": -0.1}, flies=30)
    fit = PlasticityRuleInference(order=1, modulator="rpe", select="bic", **CHOICES)
    fit.fit(offers, choices=data.choices, rewards=data.rewards)
    assert set(fit.coefficients_) == {"x m", "w"}
    assert fit.coefficients_["x m"] == pytest.approx(1, abs=0.25)
    assert fit.intervals_["w"][1] < 0
    assert fit.score(offers, choices=data.choices, rewards=data.rewards) > 0.03
    again = fit.simulate(offers, [np.ones(len(x)) for x in offers], random_state=0)
    assert np.mean([choices.mean() for choices in again.choices]) > 0.5


def test_twins_are_flagged_and_predict_the_same():
    offers, data = bandit({"x m": 1.0, "x w": -1.0}, flies=3, modulator="reward")
    options = CHOICES | {"modulator": "reward"}
    whole = PlasticityRuleInference(terms=["x m", "x y", "x w", "x^2 w"], **options)
    whole.fit(offers, choices=data.choices, rewards=data.rewards)
    assert whole.equivalent_ == (("x y", "x w", "x^2 w"),)
    assert whole.status_ == "weak"
    predicted = [
        np.concatenate(
            PlasticityRuleInference(terms=["x m", twin], **options)
            .fit(offers, choices=data.choices, rewards=data.rewards)
            .predict(offers, choices=data.choices, rewards=data.rewards)
        )
        for twin in ("x y", "x w", "x^2 w", "w")
    ]
    for other in predicted[1:3]:
        np.testing.assert_allclose(other, predicted[0], rtol=0, atol=1e-10)
    assert np.abs(predicted[3] - predicted[0]).max() > 1e-3  # all options decay, which is another rule


def test_small_inputs_predict_well_and_say_nothing_about_the_rule():
    rng = np.random.default_rng(0)
    x, W = 0.1 * rng.normal(size=(6, 30, 4)), 0.1 * rng.normal(size=(4, 4))
    data = simulate_activity(OJA, x, W, rng, eta=0.1, noise=0.05)
    fit = PlasticityRuleInference(eta=0.1, initial_weights=W).fit(x, data.activity)
    assert fit.score(x, data.activity) > 0.9
    assert error(fit) > 10
    assert not any(fit.identifiable_[name] for name in OJA)


def test_other_starts_tell_the_same_of_a_rule_that_is_known():
    x, W, data = oja(0.02)
    fit = PlasticityRuleInference(terms=[*OJA, "x"], eta=0.1, initial_weights=W, n_starts=4, random_state=0)
    fit.fit(x, data.activity)
    assert len(fit.starts_) == 3
    assert all(fit.identifiable_.values())
    ends = [start.coefficients for start in fit.starts_ if start.log_likelihood > fit.log_likelihood_ - 0.1]
    assert len(ends) >= 2
    for end in ends:
        np.testing.assert_allclose(end, list(fit.coefficients_.values()), rtol=0, atol=1e-3)


def test_terms_that_share_a_coefficient_and_a_rule_of_the_library_find_the_same():
    x, W, data = oja(0.0)
    terms = {"Oja": {"x y": 1.0, "y^2 w": -1.0}, "decay": "w"}
    shared = PlasticityRuleInference(terms=terms, eta=0.1, initial_weights=W).fit(x, data.activity)
    assert error(shared, {"Oja": 1.0}) < 1e-6
    rule = PlasticityRuleInference(Oja(0.02), initial_weights=W).fit(x, data.activity)
    assert rule.coefficients_["eta"] == pytest.approx(0.1, abs=1e-6)
    assert rule.rule_.eta.item() == pytest.approx(0.1, abs=1e-6)
    wrong = PlasticityRuleInference(ClippedHebb(0.02), initial_weights=W).fit(x, data.activity)
    assert wrong.log_likelihood(x, data.activity) < rule.log_likelihood(x, data.activity) - 100


@pytest.mark.soak  # nine seconds
def test_a_small_network_fits_activity_it_has_not_seen():
    x, W, data = oja(0.02, sessions=8)
    rule = MLPRule(3, eta=0.1, generator=torch.Generator().manual_seed(0))
    fit = PlasticityRuleInference(rule, initial_weights=W, max_iter=12).fit(x[:6], data.activity[:6])
    unchanged = PlasticityRuleInference(terms=["x"], eta=1e-9, initial_weights=W).fit(x[:6], data.activity[:6])
    errors = [1 - each.score(x[6:], data.activity[6:]) for each in (fit, unchanged)]
    assert errors[0] < 0.5 * errors[1]


def test_shuffled_steps_identify_nothing():
    rng = np.random.default_rng(0)
    x, W, data = oja(0.05)
    shuffled = [rng.permutation(y) for y in data.activity]
    fit = PlasticityRuleInference(order=1, eta=0.1, initial_weights=W).fit(x, shuffled)
    assert fit.status_ == "not identified"


def test_change_of_basis_from_sigmoid_to_tanh():
    x, W, data = oja(0.0)
    powers = [("", 0), ("y", 1), ("y^2", 2)]
    coefficients = {}
    for (a, b, c), theta in {(1, 1, 0): 1.0, (0, 2, 1): -1.0}.items():
        for name, k in powers[: b + 1]:
            factors = " ".join(filter(None, ["x" * a, name, "w" * c]))
            coefficients[factors] = 2.0 ** (c - 1 - b) * comb(b, k) * theta
    tanh = simulate_activity(coefficients, x, W / 2, 0, eta=0.1, nonlinearity="tanh")
    for y, expected in zip(tanh.activity, data.activity, strict=True):
        np.testing.assert_allclose((1 + y) / 2, expected, rtol=0, atol=1e-14)


def test_selection_on_noise_alone_mostly_finds_nothing():
    empty = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(4, 12, 2)), rng.normal(size=(4, 12, 2))
        make = PlasticityRuleInference(terms=["x", "x y", "w"], eta=0.1, nonlinearity="tanh", select="bic", tol=1e-6)
        fit = make.fit(x, y)
        empty += not fit.coefficients_
        criteria = [step.criterion for step in fit.path_]
        assert min(criteria) == criteria[[step.terms for step in fit.path_].index(tuple(fit.coefficients_))]
    assert empty >= 15  # of three terms each is let in by chance with 3 %


def test_fewer_numbers_than_coefficients_identify_nothing():
    rng = np.random.default_rng(0)
    with pytest.warns(RuntimeWarning, match="12 numbers were recorded, fewer than the 27 unknowns"):
        fit = PlasticityRuleInference().fit(rng.normal(size=(12, 3)), rng.normal(size=12))
    assert fit.status_ == "not identified"
    assert all(np.isinf(interval).all() for interval in fit.intervals_.values())


def test_activity_in_other_units_than_those_of_the_nonlinearity_is_noticed():
    rng = np.random.default_rng(0)
    x, rates = rng.normal(size=(20, 2)), 20 + rng.normal(size=(20, 2))
    with pytest.warns(RuntimeWarning, match="activity: 100 % is outside of 0 to 1, the range of 'sigmoid'"):
        PlasticityRuleInference(terms=["x"], eta=0.1).fit(x, rates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent = PlasticityRuleInference(terms=["x"], eta=0.1, nonlinearity="relu").fit(x, rates)
    assert (silent.condition_, silent.status_) == (np.inf, "not identified")  # from no weights a relu stays at zero


def test_a_session_without_records_is_left_out():
    x, W, data = oja(0.05)
    activity = [y.copy() for y in data.activity]
    activity[2][:] = np.nan
    make = PlasticityRuleInference(terms=[*OJA], eta=0.1, initial_weights=W)
    with pytest.warns(RuntimeWarning, match=r"activity\[2\] has no recorded entry"):
        fit = clone(make).fit(x, activity)
    kept = [0, 1, 3, 4, 5]
    assert fit.coefficients_ == clone(make).fit(x[kept], [activity[k] for k in kept]).coefficients_


X, Y = np.random.default_rng(0).normal(size=(2, 20, 2))
C = np.tile([0.0, 1.0], 10)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {"activity": Y, "choices": C}, "both given"),
        ({}, {"activity": Y[:19]}, r"activity\[0\] has 19 steps: expected 20"),
        ({}, {"activity": [Y, Y]}, "activity has 2 sessions: expected 1"),
        ({}, {"activity": Y * np.inf}, r"activity\[0\] has an infinite value"),
        ({}, {"activity": np.full((20, 2), np.nan)}, "no finite entry"),
        ({}, {"choices": 2 * C}, r"choices\[0\]\[1\] = 2: expected 0, 1 or NaN, where there was none$"),
        (
            {},
            {"choices": np.where(np.arange(20) == 6, -1, C)},
            r"choices\[0\]\[6\] = -1: .*; -1 often stands for a missed",
        ),
        ({}, {"choices": C, "rewards": C[:5]}, r"rewards\[0\] has 5 steps"),
        ({}, {"choices": C, "rewards": np.where(C > 0, C, np.nan)}, r"rewards\[0\]\[0\] is NaN"),
        ({"terms": ["x m"]}, {"choices": C}, "rewards = None"),
        ({"terms": ["x q"]}, {"activity": Y}, "term = 'x q'"),
        ({"terms": []}, {"activity": Y}, "at least one"),
        ({"update_at": "chosen"}, {"activity": Y}, "choices = None"),
        ({"initial_weights": np.ones((3, 2))}, {"activity": Y}, r"initial_weights.shape = \(3, 2\): expected \(2, 2\)"),
        ({"family": Competitive()}, {"activity": Y}, "treats each unit as if it were alone"),
        ({"family": Oja(), "select": "bic"}, {"activity": Y}, "expected None with a rule"),
        ({"order": 4}, {"activity": Y}, "'order' parameter"),
    ],
)
@pytest.mark.filterwarnings("ignore:activity.0. has no recorded entry")
def test_bad_input_is_refused_by_name(options, given, message):
    with pytest.raises(ValueError, match=message):
        PlasticityRuleInference(**options).fit(X, **given)


def test_a_simulation_of_a_fit_has_the_signal_of_the_fit():
    rng = np.random.default_rng(0)
    x, r, W = rng.normal(size=(6, 30, 3)), rng.integers(0, 2, (6, 30)).astype(float), 0.1 * rng.normal(size=(2, 3))
    before = np.array([[np.sum(each[max(0, t - 10) : t]) / 10 for t in range(30)] for each in r])
    activity = np.stack(simulate_activity({"x m": 1.0, "w": -0.1}, x, W, 0, eta=0.1, rewards=r - before).activity)
    fit = PlasticityRuleInference(terms=["x m", "w"], eta=0.1, modulator="rpe", initial_weights=W)
    fit.fit(x, activity + 1e-4 * rng.normal(size=activity.shape), rewards=r)
    simulated = np.stack(fit.simulate(x, r, random_state=0).activity)
    np.testing.assert_allclose(simulated, np.stack(fit.predict(x, rewards=r)), atol=1e-3)
    with pytest.raises(ValueError, match="rewards = None: expected rewards, because the fitted rule has a signal"):
        fit.simulate(x)


def test_padding_is_left_out_of_simulations_and_what_is_not_finite_is_named():
    x, W = np.ones((2, 5, 3)), 0.1 * np.ones((2, 3))
    padded = np.array(x, copy=True)
    padded[1, 3:] = np.nan
    whole = simulate_activity(OJA, x, W, 0, eta=0.1)
    some = simulate_activity(OJA, padded, W, 0, eta=0.1)
    assert [len(y) for y in some.activity] == [len(x[0]), 3, *map(len, x[2:])]
    np.testing.assert_array_equal(some.activity[1], whole.activity[1][:3])
    padded[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="inputs"):
        simulate_activity(OJA, padded, W, 0, eta=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update_at": "steps"}, "update_at"),
        ({"modulator": "RPE"}, "modulator"),
        ({"baseline_window": 0}, "baseline_window = 0: expected at least 1"),
        ({"rewards": np.ones(20)}, "rewards has 1 sessions: expected 4, as inputs have"),
        ({"rewards": np.ones((4, 10))}, r"rewards\[0\] has 10 steps: expected 20"),
        ({"rewards": np.ones((4, 25))}, r"rewards\[0\] has 25 steps: expected 20"),
    ],
)
def test_bad_arguments_of_simulated_choices_are_named(options, message):
    given = {"rewards": np.ones((4, 20))} | options
    with pytest.raises((ValueError, TypeError), match=message):
        simulate_choices({"x m": 1.0}, np.ones((4, 20, 2)), given.pop("rewards"), 0, **given)


def test_units_that_were_never_recorded_have_the_mean_noise_of_the_others():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(4, 20, 3)), 0.1 * rng.normal(size=(3, 3))
    activity = np.stack(simulate_activity(OJA, x, W, rng, eta=0.1, noise=0.05).activity)
    known = activity.copy()
    known[:, :, 2] = np.nan
    fit = PlasticityRuleInference(terms=[*OJA], eta=0.1, initial_weights=W).fit(x, known)
    assert fit.noise_.shape == (3,)
    assert np.isfinite(fit.log_likelihood(x, activity))
    assert fit.simulate(x, random_state=0).activity[0].shape == (20, 3)


def test_of_choices_that_are_all_alike_the_score_is_that_of_a_constant():
    x, r = np.random.default_rng(0).normal(size=(4, 20, 2)), np.ones((4, 20))
    data = simulate_choices({"x m": 1.0}, x, r, 0)
    fit = PlasticityRuleInference(terms=["x m"], initial_weights="zeros")
    fit.fit(x, choices=data.choices, rewards=data.rewards)
    assert fit.score(x, choices=np.ones((4, 20)), rewards=r) == 0.0


def test_activity_of_a_rule_with_a_signal_needs_rewards():
    with pytest.raises(ValueError, match="rewards = None: expected rewards, because the rule has a signal"):
        simulate_activity({"x m": 1.0}, np.ones((3, 2)), np.zeros((1, 2)), 0)
