"""Intervals over sessions, comparisons of rules, rules that explain data as well, and advice."""

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

from engram.learned import PlasticityRuleInference, simulate_activity, simulate_choices
from engram.learned.inference.bootstrap import bootstrap, expanded_intervals, groups_of_sessions
from engram.learned.inference.diagnostics import advice, alike
from engram.learned.inference.likelihood_ratio import lead
from engram.learned.inference.search import scale_of

OJA = {"x y": 1.0, "y^2 w": -1.0}


def linear(sessions, spread, seed, steps=12):
    """Linear units that grow by 0.1 theta x, with another theta in each session."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sessions, steps, 1))
    theta = 0.7 + spread * rng.normal(size=sessions)
    y = [0.3 * s + simulate_activity({"x": t}, s, np.zeros((1, 1)), 0, eta=0.1, nonlinearity="identity").activity[0]
         for s, t in zip(x, theta, strict=True)]  # fmt: skip
    return x, [each + 0.02 * rng.normal(size=each.shape) for each in y]


LINEAR = {"terms": ["x"], "eta": 0.1, "nonlinearity": "identity", "initial_weights": [[0.3]]}


def test_intervals_over_sessions_are_wide_where_sessions_differ_and_those_of_curvature_are_not():
    x, y = linear(8, 0.3, 1)
    widths = []
    for draws in (0, 40):
        fit = PlasticityRuleInference(**LINEAR, n_bootstrap=draws, random_state=0).fit(x, y)
        low, high = fit.intervals_["x"]
        widths.append(high - low)
        assert draws == 0 or low < 0.7 < high
    # Those over sessions are about 2 t(7) 0.3 / sqrt(8) wide, up to the weight that each session has in the fit.
    assert widths[1] > 3 * widths[0]
    assert 0.2 < widths[1] < 1.2


def test_expanded_intervals_cover_as_often_as_they_say_with_few_groups():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        values = rng.normal(size=5)
        drawn = bootstrap(lambda kept, values=values: values[kept].mean(keepdims=True), np.arange(5), 100, rng)
        low, high = expanded_intervals(values.mean(keepdims=True), drawn, 5, 0.95)[0]
        hits += low < 0 < high
    assert 178 <= hits <= 198  # plain percentile intervals cover 164 of them on average; of 95 %, 178 once in 1000


def test_expanded_intervals_are_those_of_the_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=8)
    drawn = bootstrap(lambda kept: np.array([values[kept].mean()]), np.arange(8), 4000, rng)
    low, high = expanded_intervals(np.array([values.mean()]), drawn, 8, 0.95)[0]
    reach = stats.t.ppf(0.975, 7) * values.std(ddof=1) / np.sqrt(8)
    assert (high - low) / 2 == pytest.approx(reach, rel=0.05)


def test_all_sessions_of_a_group_are_drawn_together():
    seen = []
    groups = groups_of_sessions(["b", "a", "b", "c"], 4)
    assert groups.tolist() == [0, 1, 0, 2]
    bootstrap(lambda kept: seen.append(sorted(kept.tolist())) or np.zeros(1), groups, 50, np.random.default_rng(0))
    assert all(kept.count(0) == kept.count(2) for kept in seen)
    assert any(1 in kept and 0 not in kept for kept in seen)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, "a"],
        ["a", float("nan"), "b"],
        np.array([1.0, np.nan, 2.0]),
        np.array(["a", np.nan, "b"]),
        np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="datetime64[D]"),
        np.ma.array([1, 2, 3], mask=[False, True, False]),
        torch.tensor([1.0, torch.nan, 1.0]),
        pl.Series(["a", None, "b"]),
        [("mouse", 1), ("mouse", float("nan")), ("rat", 1)],
        ["a", "", "b"],
    ],
    ids=["none", "nan", "array", "text", "day", "masked", "tensor", "column", "pairs", "empty"],
)
def test_a_missing_label_of_a_group_is_refused(labels):
    with pytest.raises(
        ValueError, match=r"groups\[1\] = .*: expected a label for each session, but this one is missing"
    ):
        groups_of_sessions(labels, 3)


def test_labels_of_any_kind_that_are_there_are_taken():
    for labels in (
        np.ma.array([3, 1, 3]),
        torch.tensor([3, 1, 3]),
        pl.Series(["x", "y", "x"]),
        [(1, "a"), (1, "b"), (1, "a")],
    ):
        assert groups_of_sessions(labels, 3).tolist() == [0, 1, 0]


def test_draws_are_the_same_for_a_seed_and_first_weights_are_fitted_in_each():
    x, y = linear(5, 0.1, 0)
    options = LINEAR | {"initial_weights": "session", "n_bootstrap": 10, "random_state": 3}
    fits = [PlasticityRuleInference(**options).fit(x, y) for _ in range(2)]
    assert fits[0].intervals_ == fits[1].intervals_
    assert fits[0].bootstrap_.shape == (10, 1)
    assert fits[0].bootstrap_.std() > 0
    with pytest.raises(ValueError, match="n_bootstrap = 10: expected 0 with one session"):
        PlasticityRuleInference(**options).fit(x, y, groups=["one"] * 5)
    with pytest.raises(ValueError, match="groups has 2 labels: expected 5"):
        PlasticityRuleInference(**options).fit(x, y, groups=["one", "two"])


def test_a_lead_is_the_sum_of_differences_and_its_interval_that_of_student():
    rng = np.random.default_rng(0)
    differences = rng.normal(1, 1, size=9)
    found = lead(differences, np.arange(9))
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.log_likelihood == pytest.approx(differences.sum())
    assert (found.low, found.high) == pytest.approx((9 * interval.low, 9 * interval.high))
    assert lead(differences, np.zeros(9, int)).low == -np.inf


def flies(seed=0, count=12, trials=120, rule=None):
    rng = np.random.default_rng(seed)
    x = [np.eye(2)[rng.integers(2, size=trials)] for _ in range(count)]
    likely = np.where(np.arange(trials)[:, None] < trials // 2, [0.2, 0.8], [0.9, 0.1])
    offers = [(rng.random(trials) < (likely * each).sum(1)).astype(float) for each in x]
    rule = {"x m": 1.0, "w": -0.1} if rule is None else rule
    data = simulate_choices(rule, x, offers, rng, eta=0.5, modulator="rpe", update_at="chosen")
    return x, {"choices": data.choices, "rewards": data.rewards}


CHOICES = {"eta": 0.5, "modulator": "rpe", "update_at": "chosen"}


def test_the_true_rule_leads_others_on_new_animals():
    x, named = flies()
    new, of_new = flies(1)
    true, other, same = (
        PlasticityRuleInference(terms=terms, **CHOICES).fit(x, **named)
        for terms in (["x m", "w"], ["x m"], ["x m", "w"])
    )
    found = true.compare(other, new, **of_new)
    expected = true.log_likelihood(new, **of_new) - other.log_likelihood(new, **of_new)
    assert found.log_likelihood == pytest.approx(expected)
    assert found.low > 0
    assert found.groups == 12
    assert true.compare(same, new, **of_new)[:3] == (0, 0, 0)
    in_pairs = true.compare(other, new, groups=[k // 2 for k in range(12)], **of_new)
    assert in_pairs.groups == 6
    assert in_pairs.log_likelihood == pytest.approx(found.log_likelihood)
    with pytest.raises(TypeError, match="other is a int"):
        true.compare(3, new, **of_new)


def test_the_farthest_equal_rule_of_a_linear_problem_loses_just_delta():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 20, 1))
    data = simulate_activity({"x": 0.5, "1": 0.2}, x, np.zeros((1, 1)), rng, nonlinearity="identity", noise=0.1)
    make = PlasticityRuleInference(terms=["x", "1"], nonlinearity="identity")
    fit = make.fit(x, data.activity)
    found = fit.farthest_equal_rule(delta=2.0)
    assert found.loss == pytest.approx(2.0, abs=0.02)
    scale = scale_of(fit._model, fit._data, fit._fitted)
    moved = (np.array([*found.coefficients.values()]) - [*fit.coefficients_.values()]) / scale
    # The loss is quadratic: at its distance the profile is reached along the direction itself.
    values, vectors = np.linalg.eigh(np.outer(scale, scale) * fit._fitted.information)
    np.testing.assert_allclose(np.abs(moved), np.abs(2 / np.sqrt(values[0]) * vectors[:, 0]), rtol=0.02, atol=1e-6)
    np.testing.assert_allclose(found.separation["as recorded"] * 4, 2.0, rtol=0.02)
    assert found.rule.terms == fit.rule_.terms


def test_small_inputs_leave_room_for_far_rules_that_larger_ones_would_tell_apart():
    rng = np.random.default_rng(0)
    x, W = 0.3 * rng.normal(size=(5, 25, 3)), 0.1 * rng.normal(size=(3, 3))
    data = simulate_activity(OJA, x, W, rng, eta=0.1, noise=0.05)
    terms = [*OJA, "x", "w", "y w"]
    fit = PlasticityRuleInference(terms=terms, eta=0.1, initial_weights=W).fit(x, data.activity)
    found = fit.farthest_equal_rule()
    assert 0 < found.loss <= stats.chi2.ppf(0.95, 1) / 2 + 1e-9
    assert max(abs(found.coefficients[name] - fit.coefficients_[name]) for name in terms) > 1
    assert found.separation["twice as large"] > 2 * found.separation["as recorded"]


def test_errors_of_a_right_model_are_independent_and_those_of_a_wrong_one_resemble_each_other():
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(6, 40, 4)) + 0.5, 0.1 * rng.normal(size=(4, 4))
    data = simulate_activity(OJA, x, W, rng, eta=0.1, noise=0.05)
    make = PlasticityRuleInference(terms=[*OJA], eta=0.1, initial_weights=W)
    right = make.fit(x, data.activity)
    assert abs(right.residual_correlation_.deviations) < 4
    assert "correlate" not in right.report()
    wrong = PlasticityRuleInference(terms=["x y"], eta=0.1, initial_weights=W).fit(x, data.activity)
    assert wrong.residual_correlation_.deviations > 4
    assert "errors of successive steps correlate by" in wrong.report()
    assert alike(np.ones((1, 1)), np.ones((1, 1), bool)) == (0.0, 0.0)


def test_a_coefficient_that_may_be_zero_needs_as_many_sessions_as_its_interval_is_wide():
    options = {
        "equivalent": (),
        "sessions": np.arange(2),
        "drawn": True,
        "errors": alike(np.ones((1, 2)), np.ones((1, 2), bool)),
    }
    lines = advice({"x": 0.5, "w": 0.001}, {"x": (-0.5, 1.5), "w": (-1, 1)}, {"x": True, "w": True}, **options)
    assert lines == ["x: zero is inside its interval; 4 times as many sessions might leave it outside"]
    (line,) = advice({"x": 0.5}, {"x": (-0.5, 1.5)}, {"x": False}, **options)
    assert line.startswith("not determined: x; inputs of larger variance")


def test_the_report_says_what_would_make_the_answer_firmer():
    x, named = flies(count=2, trials=60)
    fit = PlasticityRuleInference(terms=["x m", "w", "x y", "x w"], **CHOICES).fit(x, **named)
    report = fit.report()
    assert "n_bootstrap=200" in report
    assert "x y, x w: one of them can be fitted; mixtures of the inputs" in report
    one = PlasticityRuleInference(terms=["x m"], **CHOICES)
    assert "one session tells nothing" in one.fit(x[:1], **{name: each[:1] for name, each in named.items()}).report()
    assert "n_bootstrap" not in one.set_params(n_bootstrap=5).fit(x, **named).report()
