"""The search for terms, rules that fit as well, and fits whose errors say that the model is wrong."""

import itertools

import numpy as np
import pytest
from scipy import stats
from tests.learned.inference import simulated_rules as simulated

from engram.learned import PlasticityRuleInference, simulate_activity
from engram.learned.inference.advice_on_rivals import difference, sessions_needed
from engram.learned.inference.averaging import average
from engram.learned.inference.fitting import Data
from engram.learned.inference.profile_likelihood import designs
from engram.learned.inference.subsets import Expansion, best_subsets


@pytest.mark.parametrize("observations", [0, 400])
def test_leaps_and_bounds_find_the_sets_that_trying_all_finds(observations):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 9)) @ rng.normal(size=(9, 9))
    y = X[:, [2, 5]] @ [0.3, -0.2] + rng.normal(size=400)
    loss = Expansion(X.T @ X, X.T @ y, float(y @ y) / 2, observations)
    expected = {}
    for size in range(10):
        for support in itertools.combinations(range(9), size):
            theta = np.linalg.lstsq(X[:, support], y, rcond=None)[0]
            squares = ((y - X[:, support] @ theta) ** 2).sum()
            expected[support] = (400 * np.log(squares) if observations else squares) + 5.0 * size
    least = min(expected.values())
    near = {support: value for support, value in expected.items() if value <= least + 12}
    found = best_subsets(loss, 5.0, 12.0, 512)
    assert 10 < len(near) < 500
    assert {each.support for each in found} == set(near)
    np.testing.assert_allclose([each.criterion for each in found], sorted(near.values()), rtol=1e-9)
    np.testing.assert_allclose(loss.minimum((2, 5)), np.linalg.lstsq(X[:, [2, 5]], y, rcond=None)[0], rtol=1e-6)


def test_terms_that_are_equal_or_never_occur_are_no_trouble_and_few_sets_are_returned_if_few_are_asked_for():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    X = np.column_stack([x, x[:, 0], np.zeros(50)])
    y = x[:, 0] + 0.1 * rng.normal(size=50)
    found = best_subsets(Expansion(X.T @ X, X.T @ y, float(y @ y) / 2, 0), 4.0, 9.0, 3)
    assert {each.support for each in found[:2]} == {(0,), (3,)}
    assert len(found) == 3
    assert all(4 not in each.support for each in found)


WORST = [  # simulations in which elimination alone ends at a rule worse than the true one, or many rules are level
    ("layer", "two powers of x", 3),
    ("layer", "oja", 3),
    ("choices", "reward by weight", 2),
    ("recurrent", "instar", 2),
    ("hidden weights", "two powers of y", 0),
]


@pytest.mark.parametrize(("kind", "name", "seed"), WORST)
def test_the_selected_rule_is_no_worse_than_the_true_one_which_is_among_the_rivals(kind, name, seed):
    data = simulated.recorded(kind, name, seed)
    outcome = simulated.outcome(data)
    assert outcome.worse <= 0.5
    assert outcome.among
    assert outcome.right or outcome.worse < 0
    assert outcome.fits <= 3 * (1 + outcome.terms)  # elimination takes one for each number of terms


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["layer", "choices", "recurrent", "hidden weights"])
def test_the_data_allow_the_true_rule(kind):
    rules = simulated.CHOICES if kind == "choices" else simulated.ACTIVITY
    outcomes = [simulated.outcome(simulated.recorded(kind, name, seed)) for name in rules for seed in range(4)]
    assert max(outcome.worse for outcome in outcomes) <= 0.5
    assert np.mean([outcome.among for outcome in outcomes]) >= 0.95
    for covered in ("averaged", "selected"):
        assert np.mean([inside for outcome in outcomes for inside in getattr(outcome, covered)]) >= 0.9


@pytest.mark.soak
def test_heavy_tails_are_covered_and_noise_that_lasts_is_warned_of():
    names = [(name, seed) for name in simulated.ACTIVITY for seed in range(4)]
    heavy, lasting = (
        [simulated.outcome(simulated.recorded("layer", *each, noise)) for each in names]
        for noise in ("heavy-tailed", "in time")
    )
    assert np.mean([inside for outcome in heavy for inside in outcome.averaged]) >= 0.9
    assert all(outcome.status != "misfit" for outcome in heavy)
    assert all(outcome.status == "misfit" for outcome in lasting)


def test_a_mixture_has_the_quantiles_of_draws_from_it():
    rng = np.random.default_rng(0)
    theta, errors, weights = np.array([1.0, 1.6, np.nan]), np.array([0.1, 0.3, np.nan]), np.array([0.6, 0.39, 0.01])
    drawn = rng.choice(3, size=200_000, p=weights)
    values = np.where(drawn == 2, 0.0, rng.normal(np.nan_to_num(theta)[drawn], np.nan_to_num(errors, nan=1.0)[drawn]))
    found = average(theta, errors, weights, 0.95)
    np.testing.assert_allclose([found.low, found.high], np.quantile(values, [0.025, 0.975]), atol=0.01)
    assert found.coefficient == pytest.approx(values.mean(), abs=0.01)
    assert found.weight == pytest.approx(0.99)
    rare = average(theta, errors, np.array([0.01, 0.0, 0.99]), 0.95)
    assert (rare.low, rare.high) == (0, 0)
    vague = average(theta, np.array([np.inf, 0.1, np.nan]), weights, 0.95)
    assert (vague.low, vague.high) == (-np.inf, np.inf)


def flies():
    """Flies whose choices allow forgetting of all odours and of the accepted one."""
    rng = np.random.default_rng(1)
    each = [simulated.fly({"x m": 1.0, "w": -0.1}, 120, rng) for _ in range(12)]
    odours, choices, rewards = map(list, zip(*each, strict=True))
    return odours, {"choices": choices, "rewards": rewards}


@pytest.fixture(scope="module")
def ambiguous():
    odours, named = flies()
    options = {"order": 1, "eta": 0.5, "modulator": "rpe", "update_at": "chosen", "select": "bic"}
    return PlasticityRuleInference(**options).fit(odours, **named)


def test_rivals_are_all_rules_within_six_units_with_their_weights(ambiguous):
    first, *others = ambiguous.rivals_
    assert first.coefficients == ambiguous.coefficients_
    assert first.intervals == ambiguous.intervals_
    assert first.criterion == pytest.approx(simulated.bic(ambiguous))
    behind = np.array([rival.criterion - first.criterion for rival in ambiguous.rivals_])
    assert (np.diff(behind) >= 0).all()
    assert 0 < behind[-1] <= 6
    shares = np.exp(-behind / 2)
    np.testing.assert_allclose([rival.weight for rival in ambiguous.rivals_], shares / shares.sum())
    near = {step.terms for step in ambiguous.path_ if step.criterion <= first.criterion + 6}
    assert near == {tuple(rival.coefficients) for rival in ambiguous.rivals_}
    of_reward = ambiguous.averaged_["x m"]
    assert of_reward.low <= ambiguous.coefficients_["x m"] <= of_reward.high
    alone = PlasticityRuleInference(terms=[*others[0].coefficients], eta=0.5, modulator="rpe", update_at="chosen")
    alone.fit(*flies()[:1], **flies()[1])
    assert simulated.bic(alone) == pytest.approx(others[0].criterion, abs=0.01)


def test_an_ambiguous_fit_says_what_is_certain_and_which_inputs_would_tell_the_rest(ambiguous):
    assert ambiguous.status_ == "ambiguous"
    report = ambiguous.report()
    equal = [rival for rival in ambiguous.rivals_ if rival.criterion <= ambiguous.rivals_[0].criterion + 2]
    assert f"{len(equal)} rules fit about as well, within 2 units of the BIC; the data do not decide" in report
    assert "in all of them: x m; in some only: " in report
    assert "probabilities of choice that differ by" in report
    assert "(20 to 1) in about" in report
    assert "given these terms" in report
    picture = ambiguous.plot_rivals()
    assert list(picture.data[0].y) == [" + ".join(rival.coefficients) for rival in ambiguous.rivals_[:30]]
    assert picture.data[0].x[0] == 0


def test_without_selection_there_are_no_rivals():
    data = simulated.recorded("layer", "oja", 0)
    fit = PlasticityRuleInference(terms=["x y"], eta=simulated.ETA, initial_weights=data.options["initial_weights"])
    fit.fit(data.inputs, **data.named)
    assert (fit.rivals_, fit.averaged_, fit.path_) == ((), {}, ())
    with pytest.raises(ValueError, match="select = None: expected 'bic' or 'aic' in fit"):
        fit.plot_rivals()


def test_parts_of_several_terms_are_selected_like_terms_through_a_hidden_layer_too():
    rng = np.random.default_rng(4)
    x, W = rng.normal(size=(8, 30, 3)), 0.3 * rng.normal(size=(3, 3))
    data = simulate_activity({"x y": 1.0, "y^2 w": -1.0}, x, W, rng, eta=0.1, noise=0.05)
    parts = {"Oja": {"x y": 1.0, "y^2 w": -1.0}, "decay": "w", "covariance": {"x y": 1.0, "x": -0.5}}
    for criterion in ("bic", "aic"):
        fit = PlasticityRuleInference(terms=parts, eta=0.1, initial_weights=W, select=criterion).fit(x, data.activity)
        assert "Oja" in fit.coefficients_
        assert "Oja" in fit.averaged_
    assert fit.averaged_["Oja"].low < 1 < fit.averaged_["Oja"].high
    odours, named = flies()
    options = {"order": 1, "eta": 0.5, "modulator": "rpe", "update_at": "chosen", "select": "bic"}
    hidden = PlasticityRuleInference(**options, readout=np.ones(2), initial_weights=0.1 * rng.normal(size=(2, 2)))
    hidden.set_params(terms=["x m", "w", "x w"]).fit(odours[:4], **{name: each[:4] for name, each in named.items()})
    assert "x m" in hidden.coefficients_
    assert hidden.rivals_[0].criterion == min(step.criterion for step in hidden.path_)
    assert "BIC" in hidden.report()


def test_draws_select_again():
    rng = np.random.default_rng(2)
    x, W = rng.normal(size=(6, 15, 2)), np.full((1, 2), 0.3)
    rule = {"x y": 0.8, "w": -0.15}
    data = simulate_activity(rule, x, W, rng, eta=0.1, noise=0.1)
    terms = ["x y", "w", "y w", "x"]
    options = {"terms": terms, "eta": 0.1, "initial_weights": W, "select": "bic"}
    fit = PlasticityRuleInference(**options, n_bootstrap=20, random_state=0).fit(x, data.activity)
    assert fit.bootstrap_.shape == (20, len(fit.coefficients_))
    assert set(fit.selected_in_draws_) <= set(terms)
    for column, name in zip(fit.bootstrap_.T, fit.coefficients_, strict=True):
        assert (column != 0).mean() == fit.selected_in_draws_[name]
    assert min(fit.selected_in_draws_.values()) < 1
    assert "terms selected in each" in fit.report()
    assert "% of the draws" in fit.report()


def test_predictions_are_compared_by_thirds_of_sessions_of_any_length_and_by_unit():
    observed = np.array([[1.0] * 6, [1.0] * 3 + [np.nan] * 3])
    data = Data(None, observed, np.array([0, 0]), np.array([0, 1]), False, None, 1)
    ours = np.zeros((2, 6))
    theirs = np.array([[0, 0, 0, 0, 2, 2], [0, 0, 1, 9, 9, 9.0]])
    found = difference(data, ours, theirs)
    assert found.whole == pytest.approx(1.0)  # (4 + 4 + 1) / 9
    assert found.thirds == pytest.approx((0, 0, np.sqrt(3)))
    assert found.unit == (0, pytest.approx(8 / 9))


def test_sessions_that_tell_two_linear_rules_apart_are_those_of_a_projection():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 12, 1))
    options = {"nonlinearity": "identity", "initial_weights": [[0.3]], "eta": 0.1}
    data = simulate_activity({"x": 0.7}, x, np.array([[0.3]]), rng, eta=0.1, nonlinearity="identity", noise=0.2)
    true, other = (PlasticityRuleInference(terms=[term], **options).fit(x, data.activity) for term in ("x", "1"))
    needed = sessions_needed(true._data, (true._model, true._fitted), (other._model, other._fitted))
    for name, inputs in {"as recorded": x, "twice as large": 2 * x}.items():
        # y = x w with w = 0.3 + 0.1 theta s, where s sums the inputs before, or counts the steps.
        before = np.cumsum(inputs, axis=1) - inputs
        ours = (inputs * before)[..., 0].ravel() * 0.1 * true.coefficients_["x"]
        steps = (inputs * np.arange(12)[:, None])[..., 0].ravel() * 0.1
        left = ours - steps * (steps @ ours) / (steps @ steps)
        lacking = (left @ left) / 2 / true.noise_[0] ** 2 / 5
        assert needed[name] == pytest.approx(np.log(20) / lacking, rel=1e-3)


def test_designs_are_made_of_the_recorded_inputs():
    x = np.array([[[1.0, -3.0], [2.0, 1.0], [0.0, 0.0]]])
    made = designs(x)
    np.testing.assert_array_equal(made["one input at a time"], [[[0, -3], [2, 0], [0, 0]]])
    np.testing.assert_array_equal(made["mixtures"][0, 2], 0)  # padding stays
    assert "one input at a time" not in designs(np.eye(2)[None])


def relu(seed):
    """Rectified units whose weights change by an Oja rule, simulated in NumPy alone."""
    rng = np.random.default_rng(9000 + seed)
    first, inputs, recorded = 0.4 * rng.normal(size=(3, 3)), [], []
    for _ in range(8):
        session, w, activity = rng.normal(size=(40, 3)), first, []
        for x in session:
            y = np.maximum(w @ x, 0)
            activity.append(y)
            w = w + 0.1 * simulated.change({"x y": 0.9, "y^2 w": -1.1}, x, y[:, None], w)
        inputs.append(session)
        recorded.append(np.array(activity) + 0.05 * rng.normal(size=(40, 3)))
    return inputs, recorded, first


def test_a_wrong_nonlinearity_and_noise_that_lasts_are_a_misfit_and_the_right_one_is_none():
    x, activity, first = relu(0)
    options = {"terms": ["x y", "y^2 w"], "eta": 0.1, "initial_weights": first}
    wrong = PlasticityRuleInference(nonlinearity="identity", **options).fit(x, activity)
    right = PlasticityRuleInference(nonlinearity="relu", **options).fit(x, activity)
    assert (wrong.status_, right.status_) == ("misfit", "ok")
    assert "nonlinearity or terms are not right" in wrong.report()
    assert right.nonlinearity_test_.deviations < 4
    data = simulated.recorded("layer", "oja", 0, "in time")
    lasting = PlasticityRuleInference(**data.options).fit(data.inputs, **data.named)
    assert lasting.residual_correlation_.deviations > 5
    assert lasting.status_ == "misfit"


def test_the_test_of_the_nonlinearity_is_that_of_an_auxiliary_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 20, 1))
    data = simulate_activity({"x": 0.7}, x, np.array([[0.3]]), rng, eta=0.1, nonlinearity="identity", noise=0.1)
    fit = PlasticityRuleInference(terms=["x"], eta=0.1, nonlinearity="identity", initial_weights=[[0.3]])
    fit.fit(x, data.activity)
    predicted, observed = np.concatenate(fit.predict(x)).ravel(), np.concatenate(data.activity).ravel()
    slope = (x * (np.cumsum(x, axis=1) - x)).ravel()
    standard = (predicted - predicted.mean()) / predicted.std()
    columns = np.column_stack([slope, standard**2, standard**3])
    errors = observed - predicted
    explained = columns @ np.linalg.lstsq(columns, errors, rcond=None)[0]
    statistic = (explained @ explained) / fit.noise_[0] ** 2
    assert fit.nonlinearity_test_.statistic == pytest.approx(statistic, rel=1e-6)
    expected = stats.norm.isf(stats.chi2.sf(statistic, 2) / 2)
    assert fit.nonlinearity_test_.deviations == pytest.approx(expected, rel=1e-6)
