from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engram.lab import Claim, Criterion, Measure, claims_from, judge_claim, maximum, met, metric, minimum, share
from engram.lab.claims.claim import counted_claims
from engram.lab.claims.correction import correct
from engram.lab.claims.measure import Condition
from engram.lab.engine.laboratory import verdict_line
from engram.lab.output import report
from engram.verdicts import counted

finite = st.floats(-1e6, 1e6)


def at_most(threshold: float) -> Criterion:
    return Criterion(high=threshold)


def at_least(threshold: float) -> Criterion:
    return Criterion(low=threshold)


def within(target: float, tolerance: float = 0.0) -> Criterion:
    return Criterion(target - tolerance, target + tolerance)


X, ONE = metric("x")("a"), at_most(1.0)


def claim(measure: Measure = X, holds: Criterion = ONE, **changes: object) -> Claim:
    fields = {"id": "c", "statement": "s", "source": "p", "published": "1", "threshold": "paper"}
    return Claim(condition=Condition(measure, holds), **{**fields, **changes})


def results(*values: float) -> dict:
    return {seed: {"a": {"x": value}} for seed, value in enumerate(values)}


@pytest.mark.parametrize(
    ("values", "preset", "verdict"),
    [
        ((0.1, 0.2, 0.3), "laptop", "agrees"),
        ((0.1, 0.2, 0.3), "large", "agrees"),
        ((1.1, 1.11, 1.12), "laptop", "disagrees"),
        ((1.1, 1.2, 1.3), "laptop", "undecided"),
        ((0.5, 1.0, 1.6), "laptop", "undecided"),
        ((0.1, 0.2), "laptop", "undecided"),
        ((0.1,), "laptop", "undecided"),
        ((9.0,), "laptop", "undecided"),
        ((0.1, 0.2, 0.3), "smoke", "not testable here"),
        ((), "laptop", "not testable here"),
        ((0.1, math.nan, 0.3), "laptop", "disagrees"),
    ],
)
def test_verdict(values, preset, verdict):
    judged = judge_claim(claim(), results(*values), preset=preset)
    assert judged.verdict == verdict
    assert bool(judged.why) == (verdict in ("undecided", "not testable here") or any(map(math.isnan, values)))


@pytest.mark.parametrize(
    ("published", "threshold", "is_published", "words"),
    [
        ("0.9", "paper", True, ("reproduced", "not reproduced")),
        ("0.9", "paper", False, ("agrees", "disagrees")),
        ("0.9", "ours", True, ("agrees", "disagrees")),
        ("0.9", "ours", False, ("agrees", "disagrees")),
        ("", "paper", True, ("holds", "fails")),
        ("", "ours", False, ("holds", "fails")),
    ],
)
def test_only_the_papers_criterion_at_published_settings_reproduces(published, threshold, is_published, words):
    tested = claim(published=published, threshold=threshold)
    judged = [
        judge_claim(tested, results(*values), preset="hour", is_published=is_published).verdict
        for values in ((0.1, 0.2, 0.3), (1.1, 1.11, 1.12))
    ]
    assert tuple(judged) == tested.words(is_published) == words


def test_a_claim_without_presets_is_judged_at_all_but_smoke():
    assert [claim().is_judged_at(preset) for preset in ("smoke", "laptop", "hour")] == [False, True, True]
    assert [claim(presets=("smoke",)).is_judged_at(preset) for preset in ("smoke", "laptop")] == [True, False]


def test_one_seed_has_no_interval_and_resolves_nothing():
    judged = judge_claim(claim(), results(0.0127), preset="laptop")
    assert judged.ours == 0.0127
    assert all(map(math.isnan, (judged.low, judged.high, judged.resolution, judged.p)))
    assert "0.0127 (one seed)," in verdict_line(judged)
    assert "<td>(one seed)</td>" in judged._repr_html_()
    axis = report._axis(judged)
    assert axis["interval"] is None
    assert 0 < axis["ours"] < axis["criterion"][1] < 100
    assert judge_claim(claim(), results(0.1, 0.2), preset="laptop").bounds() == "[-0.485, 0.785]"
    exact = judge_claim(claim(sameness="numeric"), results(0.1), preset="laptop")
    assert exact.bounds() == "[0.1, 0.1]"


def test_a_share_of_the_trials_of_one_seed_keeps_its_exact_interval():
    by_seed = {0: {"a": {"x": 0.5, "tasks": 50}}}
    judged = judge_claim(claim(share("x", "tasks")("a")), by_seed, preset="laptop")
    assert (round(judged.low, 3), round(judged.high, 3)) == (0.355, 0.645)
    assert judged.resolution > 0
    assert report._axis(judged)["interval"][1] > 0
    assert judge_claim(claim(share("x")("a")), results(1.0), preset="laptop").bounds() == "(one seed)"


def test_a_known_reason_wins_but_our_value_is_still_shown():
    for known, why_not in ((claim(), "changed"), (claim(untestable="changed"), "")):
        judged = judge_claim(known, results(0.1, 0.2, 0.3), preset="laptop", why_not=why_not)
        assert (judged.verdict, judged.why) == ("not testable here", "changed")
        assert judged.ours == pytest.approx(0.2)


def test_a_claim_of_another_preset_shows_no_value_of_this_size():
    judged = judge_claim(claim(presets=("large",)), results(0.1, 0.2, 0.3), preset="laptop")
    assert (judged.verdict, judged.why) == ("not testable here", "needs preset large")
    assert (judged.values, math.isnan(judged.ours), math.isnan(judged.low)) == ({}, True, True)


def test_seeds_without_all_arms_do_not_count():
    both = claim(metric("x")("a") - metric("x")("b"), seeds=2)
    by_seed = {0: {"a": {"x": 1.0}, "b": {"x": 3.0}}, 1: {"a": {"x": 1.0}}, 2: {"a": {"x": 1.0}, "b": {"x": 4.0}}}
    assert judge_claim(both, by_seed, preset="laptop").values == {0: -2.0, 2: -3.0}


@given(st.lists(finite, min_size=2, max_size=8), finite)
@example([0.0, 1e-219], 0.0)
def test_the_verdict_follows_from_the_interval(values, threshold):
    tested = claim(holds=at_least(threshold), seeds=2)
    judged = judge_claim(tested, results(*values), preset="laptop")
    assert judged.low <= judged.ours <= judged.high
    expected = {
        (True, True): "agrees",
        (False, False): "disagrees",
        (False, True): "undecided",
    }[judged.low >= threshold, judged.high >= threshold]
    assert judged.verdict == expected


@pytest.mark.parametrize("preset", ["laptop", "published"])
def test_a_claim_of_which_nothing_was_published_holds_or_fails(preset):
    own = claim(published="")
    assert judge_claim(own, results(0.1, 0.2, 0.3), preset=preset).verdict == "holds"
    assert judge_claim(own, results(1.1, 1.11, 1.12), preset=preset).verdict == "fails"
    assert counted({"holds": 2, "fails": 1, "identity": 1}) == "2 of 3 claims hold"
    assert counted({"not testable here": 2}) == "no claim can be tested here"


def test_a_quotient_is_a_ratio_and_a_share_counts_trials():
    ratio = claims_from("s")("c", "s", metric("x")("a") / metric("y")("a") <= 1.0)
    by_seed = {seed: {"a": {"x": x, "y": 1.0}} for seed, x in enumerate((0.25, 0.5, 1.0))}
    assert judge_claim(ratio, by_seed, preset="laptop").ours == pytest.approx(0.5)
    solved = claims_from("s")("c", "s", share("solved", "tasks")("a") >= 0.9)
    few, many = (
        judge_claim(solved, {seed: {"a": {"solved": 1.0, "tasks": n}} for seed in range(3)}, preset="laptop")
        for n in (10, 20)
    )
    assert (few.verdict, few.low, many.verdict) == ("undecided", pytest.approx(0.884, abs=1e-3), many.verdict)
    assert many.verdict == "holds"


def test_the_share_of_seeds_that_meet_a_condition_is_judged_by_its_exact_interval():
    of_x = Claim("id", "statement", met(X <= 0.5) >= 0.5)
    judged = judge_claim(of_x, results(*[0.0, 0.5, *[0.1] * 8, 0.9, 1e9]), preset="laptop")
    assert (judged.ours, judged.verdict) == (pytest.approx(10 / 12), "holds")
    assert judged.low == pytest.approx(0.5159, abs=1e-3)


@pytest.mark.parametrize(("values", "verdict"), [((1.0, 1.0, 1.0), "identity"), ((1.0, 1.0, 1.1), "disagrees")])
def test_an_identity_holds_in_every_seed_or_is_broken(values, verdict):
    identity = claim(sameness="identity", holds=within(1.0, 1e-9))
    assert judge_claim(identity, results(*values), preset="laptop").verdict == verdict


def test_numeric_sameness_holds_every_seed_to_the_criterion():
    numeric = claim(sameness="numeric", holds=within(1.0, 0.25), seeds=2)
    assert judge_claim(numeric, results(0.75, 1.25), preset="published").verdict == "agrees"
    between = judge_claim(numeric, results(0.5, 1.0), preset="published")
    # Further seeds could only widen the range.
    assert (between.verdict, between.why) == ("undecided", "the seeds lie on both sides of the threshold")
    assert judge_claim(numeric, results(1.5, 1.75), preset="published").verdict == "disagrees"


def test_bitwise_sameness_needs_equal_seeds():
    bitwise = claim(sameness="bitwise", holds=within(24_198_893), seeds=2)
    assert judge_claim(bitwise, results(24_198_893, 24_198_893), preset="published").verdict == "agrees"
    assert judge_claim(bitwise, results(24_198_893, 24_198_894), preset="published").verdict == "disagrees"


@pytest.mark.parametrize("sameness", ["statistical", "numeric", "bitwise"])
@pytest.mark.parametrize("value", [0.5, 9.0, math.nan])
def test_one_seed_decides_nothing(sameness, value):
    assert judge_claim(claim(sameness=sameness), results(value), preset="laptop").verdict == "undecided"
    with pytest.raises(ValueError, match="seeds = 1: expected at least 2"):
        claim(sameness=sameness, seeds=1)


def test_seeds_that_did_not_finish_leave_a_claim_undecided():
    judged = judge_claim(claim(), results(0.1, 0.2, 0.3), preset="laptop", seeds=5)
    assert (judged.verdict, judged.why) == ("undecided", "3 of the 5 seeds that it needs")


@pytest.mark.parametrize("form", ["mean", "ratio"])
def test_an_undecided_claim_says_how_many_seeds_would_decide_it(form):
    offsets, ours = (-0.3, -0.1, 0.1, 0.3), 0.9  # half of the interval: 0.41
    values = [ours + offset if form == "mean" else ours * math.exp(offset) for offset in offsets]
    judged = judge_claim(claim(replace(X, form=form)), results(*values), preset="laptop")
    distance = 0.1 if form == "mean" else -math.log(ours)
    half = judged.high - judged.ours if form == "mean" else math.log(judged.high / judged.ours)
    expected = float(f"{4 * (half / distance) ** 2:.2g}")
    assert f"about {expected:,.0f} seeds would decide it" in judged.why
    assert 60 < expected < 70


def test_no_number_of_seeds_decides_what_lies_on_the_threshold_and_an_open_look_names_none():
    assert judge_claim(claim(), results(0.5, 1.0, 1.5), preset="laptop").why == "the interval straddles the threshold"
    at_look = judge_claim(claim(), results(0.5, 0.9, 1.2), preset="laptop", looks=[3, 6])
    assert (at_look.is_open, at_look.why) == (True, "the interval straddles the threshold")


def test_a_metric_that_raises_is_a_reason_and_no_crash():
    ratio = claim(1 / metric("x")("a"))
    judged = judge_claim(ratio, results(1.0, 0.0, 2.0), preset="laptop")
    assert (judged.verdict, judged.why) == (
        "undecided",
        "no value for seed 1: ZeroDivisionError: float division by zero",
    )
    assert judged.values == {0: 1.0, 2: 0.5}


def test_only_a_ratio_can_be_averaged_otherwise():
    with pytest.raises(ValueError, match=r"averaged: expected a ratio, and .* is a mean"):
        metric("x")("a").averaged()


def test_equal_values_of_too_few_seeds_say_how_many_decide():
    why = "the exact interval of a median is bounded from {} seeds on"
    assert judge_claim(claim(), results(*[0.5] * 5), preset="laptop").why == why.format(6)
    first_look = judge_claim(claim(), results(*[0.5] * 5), preset="laptop", looks=(5, 10))
    assert (first_look.why, first_look.is_open) == (why.format(11) + " at this analysis", True)
    assert judge_claim(claim(), results(*[0.5] * 6), preset="laptop").verdict == "agrees"


def test_equal_values_decide_once_enough_seeds_agree():
    verdicts = [judge_claim(claim(), results(*[0.5] * n), preset="laptop").verdict for n in (5, 6)]
    assert verdicts[0] == "undecided"
    assert verdicts[1] != "undecided"


def test_a_measure_knows_its_arms_and_how_seeds_are_put_together():
    x, of_seed = metric("x"), {"a": {"x": 4.0}, "b": {"x": 2.0}, "c": {"x": 1.0}}
    ratio = minimum(x("a"), x("b")) / x("c")
    assert (ratio(of_seed), ratio.arms, ratio.form) == (2.0, ("a", "b", "c"), "ratio")
    assert [(2 * ratio).form, (ratio / 2).form, (1 / x("a")).form, ratio.averaged().form] == ["ratio"] * 3 + ["mean"]
    lead = ratio - maximum(x("a"), x("c"), 5)
    assert (lead(of_seed), lead.form) == (2.0 - 5, "mean")
    assert [m(of_seed) for m in (1 + x("a"), 1 - x("a"), x("a") * x("b"), x("a") / 8, abs(1 - x("a")))] == [
        5,
        -3,
        8,
        0.5,
        3,
    ]
    assert (1 - share("x")("a")).form == "mean"
    assert metric("tasks", "maze", 1)("a")({"a": {"tasks": {"maze": [1, 2]}}}) == 2.0


def test_a_condition_is_a_measure_and_its_criterion():
    x = metric("x")("a")
    conditions = (x <= 0.5, x >= 0.5, x.within(0.5, 0.1))
    assert [condition.criterion for condition in conditions] == [at_most(0.5), at_least(0.5), within(0.5, 0.1)]
    assert all(condition.measure is x for condition in conditions)


def test_a_condition_is_neither_true_nor_false():
    x, y = metric("x")("a"), metric("x")("b")
    with pytest.raises(TypeError, match=r"write measure\.within\(target, tolerance\)"):
        0.1 <= x <= 0.3  # noqa: B015
    with pytest.raises(TypeError, match=r"threshold = x\(b\): expected a number; write a - b <= margin"):
        x <= y  # noqa: B015
    for threshold in (math.nan, math.inf):
        with pytest.raises(ValueError, match="threshold = "):
            x >= threshold  # noqa: B015
    with pytest.raises(ValueError, match="tolerance = -1"):
        x.within(0.0, -1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition": X}, "condition of claim 'c' = Measure"),
        ({"condition": False}, "condition of claim 'c' = False: expected a measure compared with a number"),
        ({"presets": "laptop"}, "presets = 'laptop': expected a tuple of names"),
        ({"threshold": "papers"}, "threshold = 'papers': expected one of 'paper', 'ours'"),
        ({"sameness": "statistcal"}, "sameness = 'statistcal': expected one of 'statistical'"),
        ({"seeds": 1}, "seeds = 1: expected at least 2"),
        ({"seeds": "3"}, "seeds = '3': expected an int"),
    ],
)
def test_a_claim_with_a_wrong_field_is_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        replace(claim(), **changes)


@pytest.mark.parametrize("extreme", [maximum, minimum])
def test_an_extreme_of_a_number_that_is_missing_is_missing(extreme):
    x, y = metric("x")("a"), metric("y")("a")
    by_seed = {seed: {"a": {"x": 0.5, "y": math.nan}} for seed in range(3)}
    for measure in (extreme(x, y), extreme(y, x)):
        assert judge_claim(claim(measure), by_seed, preset="laptop").verdict == "disagrees"


def test_a_median_stays_one_under_arithmetic():
    x = X.median()
    assert [m.form for m in (100 * x, x / 2, 1 - x, x - x, x / x, maximum(x, 0.1))] == ["median"] * 6
    assert [m.form for m in (x - X, X / x, X - 1)] == ["mean", "ratio", "mean"]


@pytest.mark.parametrize("count", [3.0, 0.0])
def test_a_share_that_is_none_leaves_only_its_claim_undecided(count):
    by_seed = {seed: {"a": {"x": 0.25, "tasks": count}} for seed in range(3)}
    judged = judge_claim(claim(share("x", "tasks")("a")), by_seed, preset="laptop")
    assert (judged.verdict, judged.values) == ("undecided", {})
    assert judged.why.startswith("no value for seed 2: ValueError: ")


def test_values_at_the_end_of_a_criterion_meet_it_also_when_corrected():
    (judged,) = correct([judge_claim(claim(X.median(), at_least(1.0)), results(*[1.0] * 10), preset="laptop")])
    assert judged.verdict == judged.corrected == "agrees"
    assert judged.p == pytest.approx(2 * 0.5**10)


@pytest.mark.parametrize("later", [{"x": math.nan}, {}], ids=["not finite", "missing"])
def test_a_decided_claim_stays_decided_whatever_later_seeds_give(later):
    by_seed = {**results(0.1, 0.11, 0.09, 0.1, 0.12, 0.1, 0.1, 0.1, 0.1, 0.1), 7: {"a": later}}
    judged = judge_claim(claim(), by_seed, preset="laptop", looks=(5, 10))
    assert (judged.verdict, judged.look) == ("agrees", 1)
    early = judge_claim(claim(), {**by_seed, 3: {"a": later}}, preset="laptop", looks=(5, 10))
    assert early.verdict == ("disagrees" if later else "undecided")


def test_a_ratio_of_few_seeds_that_are_orders_of_magnitude_apart_stays_undecided():
    by_seed = {seed: {"a": {"x": value}, "b": {"x": 1 / value}} for seed, value in enumerate([1.0, 1e25])}
    ratio = claim(X / metric("x")("b"), at_least(2.0), seeds=2)
    judged = judge_claim(ratio, by_seed, preset="laptop")
    assert (judged.ours, judged.high, judged.verdict) == (pytest.approx(1e25), math.inf, "undecided")
    assert judged.why.startswith("the interval straddles the threshold")
    wide = replace(judged, low=1.0, high=1e300)
    assert report._axis(wide)["ends"][1] == math.inf


def test_claims_of_a_source_share_what_they_do_not_say():
    made = claims_from("table 2", published="0.9", seeds=4)
    first, second = (
        made("c", "A statement", metric("x")("a") <= 0.5),
        made("d", "Another", metric("x")("a") <= 1, seeds=5),
    )
    assert (first.id, first.criterion, first.arms, first.seeds) == ("c", at_most(0.5), ("a",), 4)
    assert (second.source, second.published, second.seeds) == ("table 2", "0.9", 5)


@pytest.mark.parametrize("n", [3, 6, 9])
@pytest.mark.parametrize(
    "criterion", [at_most(0.3), at_least(0.3), within(0.3), at_most(0.31), at_least(0.29), at_most(0.2)]
)
@pytest.mark.parametrize("form", ["mean", "ratio", "median"])
def test_the_last_digit_decides_nothing(n, criterion, form):
    equal, rounded = (
        judge_claim(claim(replace(X, form=form), criterion), results(*(values * 3)[:n]), preset="laptop", seeds=n)
        for values in ([0.3] * 3, [0.1 + 0.2, 0.3, 0.3 - 2**-54])
    )
    assert (rounded.verdict, rounded.p, rounded.why) == (equal.verdict, equal.p, equal.why)
    assert (rounded.ours, rounded.low, rounded.high) == pytest.approx((equal.ours, equal.low, equal.high))


def test_what_is_subtracted_up_to_rounding_is_nothing():
    b = metric("x")("b")
    arms = {"a": {"x": 0.1 + 0.2}, "b": {"x": 0.3}}
    assert (X - b)(arms) == (b - X)(arms) == (X + -0.3)(arms) == (-0.3 + X)(arms) == (0.3 - X)(arms) == 0
    assert (X - 0.25)(arms) == pytest.approx(0.05)
    assert met(X <= 0.3)(arms) == met(b >= 0.1 + 0.2)(arms) == 1
    assert met(X <= 0.2999)(arms) == 0
    bitwise = claim(sameness="bitwise", holds=at_most(1.0))
    assert judge_claim(bitwise, results(0.3, 0.1 + 0.2, 0.3), preset="laptop").why == "the seeds differ"


def test_a_claim_that_waits_for_its_trials_is_not_counted_as_undecided():
    claims = [
        Claim("tried", "It is small", metric("error")("main") <= 0.5),
        Claim("waits", "The other is small", metric("error")("other") <= 0.5),
    ]
    by_seed = {seed: {"main": {"error": 0.1 + seed / 1000}} for seed in range(3)}
    judged = [judge_claim(claim, by_seed, preset="laptop", asked=("main", "other")) for claim in claims]
    assert [each.is_tried for each in judged] == [True, False]
    assert counted_claims(judged) == "1 of 1 claims hold; 1 not tried yet"
    assert counted_claims(judged[1:]) == "no claim has been tried yet"


def test_bits_differ_where_rounding_does():
    of_seed = {"a": {"x": 0.1 + 0.2}, "b": {"x": 0.3}}
    lead = metric("x")("a") - metric("x")("b")
    assert lead(of_seed) == 0.0 < lead.exactly(of_seed)
    seeds = dict.fromkeys(range(3), of_seed)
    same = {"preset": "laptop"}
    assert judge_claim(claim(lead, within(0), sameness="bitwise"), seeds, **same).verdict == "disagrees"
    assert judge_claim(claim(abs(lead) * 2, within(0), sameness="numeric"), seeds, **same).verdict == "agrees"
