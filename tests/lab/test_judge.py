"""The judge: its claims, its verdicts, its agreement with scipy, and its ledger."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engram.lab.claims import anytime
from engram.lab.claims.inference import errors_at, estimate
from engram.lab.claims.location import ends, location_of, statistic, student_critical
from engram.lab.claims.power import guarded_power, seeds_needed, t_power
from engram.lab.judging import ClaimError, best_of, judge
from engram.lab.judging.grammar import parse
from engram.lab.judging.ledger import found_at, level_of, open_ledger, read_ledger
from engram.storage.files import CorruptFileError

PAGE = Path(__file__).parents[2] / "docs" / "judge.md"
CLAIM = "accuracy(new) - accuracy(old) >= 0.01"


def table(*, seeds=8, gain=0.03, spread=0.01, seed=0, arms=("new", "old")):
    rng = np.random.default_rng(seed)
    values = [0.9 + gain * (arm == "new") + spread * rng.normal(size=seeds) for arm in arms]
    return pl.DataFrame(
        {
            "method": np.repeat(arms, seeds),
            "seed": np.tile(np.arange(seeds), len(arms)),
            "accuracy": np.concatenate(values),
        }
    )


def of(frame, arm, column="accuracy"):
    return frame.filter(pl.col("method") == arm)[column].to_numpy()


# The grammar.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("acc(a) - acc(b) >= 0", 3.0),
        ("loss(a)/loss(b) <= 1", 2.0),
        ("1 - loss(a) / loss(b) <= 1", -1.0),
        ("2 * acc(a) + 1 >= 0", 11.0),
        ("-acc(a) * 0.5 >= 0", -2.5),
        ("(acc(a) + acc(b)) / 2 >= 0", 3.5),
        ("min(acc(a), acc(b), loss(a)) >= 0", 2.0),
        ("max(acc(a) - acc(b), 4) >= 0", 4.0),
        ("abs(acc(b) - acc(a)) >= 0", 3.0),
        ("acc(a) - 3 - 1 >= 0", 1.0),
        ("3 - acc(a) >= 0", -2.0),
        ("'a c'(b) >= 0", 7.0),
        ('acc("a") + val/acc(b-1 (x)) >= -1e-3', 14.0),
        ("median(acc(a)) >= .5", 5.0),
        ("met(acc(a) >= 5) >= .5", 1.0),
    ],
)
def test_a_claim_is_the_laboratorys_expression(text, value):
    results = {"a": {"acc": 5.0, "loss": 4.0}, "b": {"acc": 2.0, "loss": 2.0, "a c": 7.0}, "b-1 (x)": {"val/acc": 9.0}}
    results["b"]["val/acc"] = 9.0
    claim = parse(text)
    assert claim.measure(results) == value
    arrays = {arm: {name: np.full(3, number) for name, number in of_arm.items()} for arm, of_arm in results.items()}
    assert np.broadcast_to(claim.measure(arrays), 3).tolist() == [value] * 3
    if claim.expression.sum_of and claim.measure.form == "mean":
        assert sum(part(results) for part in claim.expression.sum_of.values()) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("acc(a) > 1", 7, ">="),
        ("acc(a) >= acc(b)", 10, "a number after >="),
        ("acc >= 1", 0, "a metric with its arm"),
        ("acc(a >= 1", 4, "the name of an arm"),
        ("acc() >= 1", 4, "the name of an arm"),
        ("3 >= 2", 0, "a metric of an arm"),
        ("", 0, "a metric of an arm"),
        ("acc(a) >= 1 2", 12, "the end"),
        ("acc(a)/0 >= 1", 7, "other than 0"),
        ("acc(a) >= 5%", 11, "without %"),
        ("acc(a) * >= 1", 9, "or a number"),
        ("(acc(a) >= 1", 8, ")"),
        ("acc(a) within 1", 15, "+-"),
        ("share(acc, )(a) >= 1", 11, "the number of trials"),
    ],
)
def test_an_error_points_at_its_place(text, place, expected):
    with pytest.raises(ClaimError) as caught:
        parse(text)
    assert caught.value.place == place
    assert expected in str(caught.value)
    assert str(caught.value).splitlines()[-1] == " " * (4 + place) + "^"


# The numbers.


@given(st.integers(0, 10_000), st.integers(3, 9), st.sampled_from([0.0, 0.01, -0.5]))
def test_two_arms_are_judged_as_by_scipy(seed, n, threshold):
    frame = table(seeds=n, seed=seed)
    new, old = of(frame, "new"), of(frame, "old")
    claim = f"accuracy(new) - accuracy(old) >= {threshold}"
    paired, welch = judge(frame, claim, pair="seed"), judge(frame, claim)
    known = stats.ttest_1samp(new - old, threshold)
    assert paired.p == pytest.approx(known.pvalue, rel=1e-6)
    assert (paired.low, paired.high) == pytest.approx(tuple(known.confidence_interval()))
    known = stats.ttest_ind(new - threshold, old, equal_var=False)
    interval = stats.ttest_ind(new, old, equal_var=False).confidence_interval()
    assert welch.p == pytest.approx(known.pvalue, rel=1e-6)
    assert (welch.low, welch.high) == pytest.approx(tuple(interval))


@given(st.integers(0, 10_000), st.integers(3, 9))
def test_a_ratio_is_judged_in_its_logarithm(seed, n):
    frame = table(seeds=n, seed=seed)
    new, old = np.log(of(frame, "new")), np.log(of(frame, "old"))
    for pair, known in (
        ("seed", stats.ttest_1samp(new - old, 0.0)),
        (None, stats.ttest_ind(new, old, equal_var=False)),
    ):
        ours = judge(frame, "accuracy(new) / accuracy(old) >= 1", pair=pair)
        assert ours.p == pytest.approx(known.pvalue, rel=1e-6)
        assert (ours.low, ours.high) == pytest.approx(tuple(np.exp(known.confidence_interval())))


def test_medians_and_shares_are_exact():
    frame = table(seeds=12)
    values = of(frame, "new")
    known = estimate(values.tolist(), "median")
    ours = judge(frame, "median(accuracy(new)) >= 0.5")
    assert (ours.effect, ours.low, ours.high) == pytest.approx(known[:3])
    counts = pl.DataFrame({"arm": ["a"] * 4, "seed": range(4), "solved": [9, 9, 9, 9], "tries": [10] * 4})
    known = stats.binomtest(36, 40).proportion_ci()
    for claim in ("share(solved, tries)(a) >= 0.5", "share(solved, 10)(a) >= 0.5"):
        ours = judge(counts, claim)
        assert (ours.effect, ours.low, ours.high) == pytest.approx((0.9, known.low, known.high))
    rates = counts.with_columns(solved=pl.col("solved") / 10)
    assert judge(rates, "share(solved, tries)(a) >= 0.5").low == pytest.approx(known.low)
    hits = pl.DataFrame({"arm": ["a"] * 20, "hit": [1] * 18 + [0] * 2})
    ours, known = judge(hits, "hit(a) >= 0.5"), stats.binomtest(18, 20).proportion_ci()
    assert (ours.low, ours.high) == pytest.approx((known.low, known.high))
    assert any("0 or 1" in said for said in ours.assumed)


def test_skewed_values_widen_the_interval_to_their_side_only():
    values = np.array([0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 0.4, 0.1, 3.0])
    location = location_of(values)
    critical = student_critical(location.freedom, 0.05)
    low, high = ends(location, critical)
    wide_low, wide_high = ends(location, critical, 2.0)
    assert wide_low == low
    assert wide_high > high
    assert abs(statistic(location, wide_high, 2.0)) == pytest.approx(critical)
    symmetric = location_of(np.array([-1.0, 0.0, 1.0] * 4))
    assert ends(symmetric, critical, 2.0) == ends(symmetric, critical)


def test_clusters_count_once():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        [
            (arm, task, seed, 0.5 + 0.1 * task + 0.05 * (arm == "new") * (1 + task % 2) + 0.01 * rng.normal())
            for arm in ("new", "old")
            for task in range(5)
            for seed in range(task + 1)
        ],
        schema=["arm", "task", "seed", "accuracy"],
        orient="row",
    )
    means = frame.group_by("arm", "task").agg(pl.col("accuracy").mean()).sort("arm", "task")
    difference = means.filter(arm="new")["accuracy"].to_numpy() - means.filter(arm="old")["accuracy"].to_numpy()
    known = stats.ttest_1samp(difference, 0.0)
    for options in ({"pair": "seed", "cluster": "task"}, {"cluster": "task"}, {"pair": "task"}):
        ours = judge(frame, "accuracy(new) - accuracy(old) >= 0.0", **options)
        assert (ours.seeds, ours.unit) == (5, "task")
        assert (ours.effect, ours.p) == pytest.approx((difference.mean(), known.pvalue))
    with pytest.raises(ValueError, match="name the column that distinguishes them with cluster"):
        judge(frame, "accuracy(new) >= 0")


@given(st.integers(5, 200), st.floats(0.001, 0.2))
def test_the_p_value_at_any_time_is_the_error_at_its_critical_value(n, error):
    critical = anytime.critical(n, error)
    if math.isfinite(critical):
        assert anytime.p_of_t(critical, n) == pytest.approx(error)
    low, high = anytime.share_ends(n // 3, n, error)
    assert anytime.p_of_share(n // 3, n, high) == pytest.approx(error)
    assert low == 0 or anytime.p_of_share(n // 3, n, low) == pytest.approx(error)


def test_the_bayes_factor_at_any_time_has_mean_one():
    """E_n is a martingale under the threshold: its mean over t is 1, by quadrature."""
    for n in (5, 20):
        t = np.linspace(-60, 60, 2_000_001)
        square = t * t / (n - 1)
        factor = (1 + n) ** -0.5 * ((1 + square) / (1 + square / (1 + n))) ** (n / 2)
        assert np.trapezoid(factor * stats.t.pdf(t, n - 1), t) == pytest.approx(1.0, abs=2e-3)


def test_the_power_is_that_of_the_noncentral_t():
    for shift, n in ((1.0, 5), (2.5, 10), (3.0, 40)):
        critical = stats.t.ppf(0.975, n - 1)
        assert t_power(shift, n - 1, critical) == pytest.approx(stats.nct.sf(critical, n - 1, shift), rel=1e-6)
    assert guarded_power(3.0, 20, 2.0, 2.0) < guarded_power(3.0, 20, 2.0, 0.0)
    assert seeds_needed(lambda n: 0.5, 3) is None


# The verdicts.


@pytest.mark.parametrize(
    ("threshold", "verdict", "code"), [(0.01, "holds", 0), (0.06, "fails", 1), (0.04, "undecided", 3)]
)
def test_the_verdict_and_its_exit_code(threshold, verdict, code):
    judged = judge(table(), f"accuracy(new) - accuracy(old) >= {threshold}", pair="seed")
    assert (judged.verdict, judged.exit_code) == (verdict, code)
    assert judged.sentence().lower().startswith(verdict)
    assert json.loads(json.dumps(judged.to_json()))["verdict"] == verdict
    assert "| claim |" in judged.markdown()
    assert (judged.more == 0) == (verdict != "undecided")


def test_no_change_within_a_tolerance_can_be_shown():
    assert judge(table(gain=0.0, seeds=30), "accuracy(new) - accuracy(old) within 0 +- 0.02").verdict == "holds"
    assert judge(table(gain=0.1, seeds=30), "accuracy(new) - accuracy(old) within 0 +- 0.02").verdict == "fails"


def test_one_seed_shows_nothing():
    judged = judge(table(seeds=1), CLAIM)
    assert judged.verdict == "undecided"
    assert "nothing is shown" in judged.sentence()
    assert judge(table(seeds=2), CLAIM).verdict == "undecided"


def test_equal_values_decide_nothing_but_a_median():
    frame = pl.DataFrame({"arm": ["a"] * 8, "seed": range(8), "score": [0.73] * 8})
    judged = judge(frame, "score(a) >= 0.5")
    assert judged.verdict == "undecided"
    assert any("does the seed take effect?" in doubt for doubt in judged.doubts)
    assert judge(frame, "median(score(a)) >= 0.5").verdict == "holds"
    same = pl.concat([frame, frame.with_columns(arm=pl.lit("b"), score=pl.lit(0.73))])
    assert any(
        "does the change take effect" in d for d in judge(same, "score(a) - score(b) >= 0.1", pair="seed").doubts
    )


def test_looks_use_the_first_seeds_and_share_the_error():
    frame = table(seeds=12, gain=0.02)
    judged = judge(frame, CLAIM, pair="seed", looks=[5, 10, 20])
    difference = of(frame, "new") - of(frame, "old")
    assert (judged.look, judged.seeds) == (2, 10)
    assert judged.confidence == 1 - errors_at(3)[1]
    assert judged.effect == pytest.approx(difference[:10].mean())
    early = judge(table(seeds=4), CLAIM, pair="seed", looks=[5, 10])
    assert (early.verdict, early.more, early.look) == ("undecided", 1, 0)
    sure = judge(table(seeds=7, gain=0.5), CLAIM, pair="seed", looks=[5, 10])
    assert (sure.verdict, sure.look, sure.seeds) == ("holds", 1, 5)


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda f: f.with_columns(lr=pl.when(pl.col("method") == "new").then(0.1).otherwise(0.2)), "also in lr"),
        (lambda f: f.with_columns(accuracy=(4 * pl.col("accuracy") - 2.7).round(1)), "rounded to 0.1"),
        (lambda f: f.with_columns(accuracy=pl.when((pl.col("seed") == 7) & (pl.col("method") == "new")).then(2.0)
                                  .otherwise("accuracy")), "one pair (7) carries more than half"),
        (lambda f: f.filter((pl.col("seed") < 7) | (pl.col("method") == "new")), "without a partner are left out"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_said(change, doubt):
    frame = table(gain=0.0)
    claim = "accuracy(new) - accuracy(old) >= -0.01"
    assert not judge(frame, claim, pair="seed").doubts
    assert any(doubt in said for said in judge(change(frame), claim, pair="seed").doubts)


def test_a_criterion_at_zero_is_told_to_be_one():
    assert any("0 without a margin" in said for said in judge(table(), "accuracy(new) - accuracy(old) >= 0").doubts)
    assert not judge(table(), CLAIM).doubts


def test_many_methods_are_corrected_together():
    rng = np.random.default_rng(11)
    arms = ["old", "good", *(f"m{n}" for n in range(40))]
    frame = pl.DataFrame(
        {"arm": np.repeat(arms, 6), "seed": np.tile(np.arange(6), 42), "loss": rng.normal(size=252)}
    ).with_columns(loss=pl.col("loss") - 9 * (pl.col("arm") == "good"))
    found = best_of(frame, "loss", "old", is_lower_better=True)
    assert [row.arm for row in found.rows if row.verdict == "holds"] == ["good"]
    assert (found.verdict, found.exit_code) == ("holds", 0)
    alone = [judge(frame, f"loss(old) - loss({arm}) >= 0").verdict for arm in arms[2:]]
    assert {row.arm: row.effect for row in found.rows}["m3"] == pytest.approx(
        judge(frame, "loss(old) - loss(m3) >= 0").effect
    )
    assert alone.count("holds") + alone.count("fails") > 0, (
        "the seed of this test is to give false ones without correction"
    )
    assert "| m3 |" in found.markdown()
    assert json.loads(json.dumps(found.to_json()))["rows"][0]["arm"] == "good"
    assert best_of(frame, "loss", "old", is_lower_better=True, margin=20.0).rows[-1].verdict == "fails"
    with pytest.raises(ValueError, match="expected other methods too"):
        best_of(frame.filter(pl.col("arm") == "old"), "loss", "old", arm="arm")
    with pytest.raises(ValueError, match=r"arm = 'odl': .* did you mean 'old'"):
        best_of(frame, "loss", "odl", arm="arm")


# The ledger.


def test_looking_again_spends_from_one_budget(tmp_path):
    ledger, frame = tmp_path / "judged.jsonl", table(seeds=20, gain=0.02)
    fixed = judge(frame, CLAIM, pair="seed")
    verdicts = [judge(frame.filter(pl.col("seed") < n), CLAIM, pair="seed", ledger=ledger) for n in (3, 6, 12, 20)]
    lines = read_ledger(ledger)
    assert [line["seeds"] for line in lines] == [3, 6, 12, 20]
    assert {line["test"] for line in lines} == {1}
    assert {line["level"] for line in lines} == {level_of(1, [])}
    assert verdicts[-1].high - verdicts[-1].low > fixed.high - fixed.low
    assert any("no looks are planned" in said for said in verdicts[0].assumed)
    again = judge(frame, CLAIM, pair="seed", ledger=ledger)
    assert (again.line, len(read_ledger(ledger))) == (4, 4), "the same command again is no further look"
    assert (again.verdict, again.low) == (verdicts[-1].verdict, verdicts[-1].low)


def test_seeds_are_taken_in_the_order_in_which_they_were_judged(tmp_path):
    ledger, frame = tmp_path / "judged.jsonl", table(seeds=10, gain=0.02)
    judge(frame.filter(pl.col("seed") >= 5), CLAIM, pair="seed", looks=[5, 10], ledger=ledger)
    judged = judge(frame, CLAIM, pair="seed", looks=[5, 10], ledger=ledger)
    assert read_ledger(ledger)[-1]["units"] == [["5", "6", "7", "8", "9", "0", "1", "2", "3", "4"]]
    assert judged.look in (1, 2)


def test_changed_runs_are_a_new_claim(tmp_path):
    ledger, frame = tmp_path / "judged.jsonl", table()
    judge(frame, CLAIM, pair="seed", ledger=ledger)
    changed = frame.with_columns(
        accuracy=pl.col("accuracy") + 0.001 * (pl.col("seed") == 0) * (pl.col("method") == "new")
    )
    judged = judge(changed, CLAIM, pair="seed", ledger=ledger)
    assert any("changed or are gone" in doubt for doubt in judged.doubts)
    assert [line["test"] for line in read_ledger(ledger)] == [1, 2]


def test_once_decided_a_claim_stays_so(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    first, later = table(seeds=10, gain=0.1), table(seeds=60, gain=-0.2, seed=1)
    assert judge(first, CLAIM, pair="seed", ledger=ledger).verdict == "holds"
    more = pl.concat([first, later.filter(pl.col("seed") >= 10)])
    judged = judge(more, CLAIM, pair="seed", ledger=ledger)
    assert judged.verdict == "holds"
    assert "decided in line 1 with 10 pairs" in judged.why


def test_what_was_tried_costs_and_what_holds_pays_back(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    levels = []
    for number in range(4):
        judge(table(gain=0.0, seed=number), CLAIM, pair="seed", ledger=ledger)
        levels.append(read_ledger(ledger)[-1]["level"])
        judge(table(gain=0.0, seed=number), CLAIM.replace("0.01", f"0.01{number}"), pair="seed", ledger=ledger)
    assert levels == sorted(levels, reverse=True)
    before = level_of(9, found_at(read_ledger(ledger)))
    judge(table(gain=0.5, seeds=12), "accuracy(new) - accuracy(old) >= 0.2", pair="seed", ledger=ledger)
    assert level_of(10, found_at(read_ledger(ledger))) > before
    assert sum(level_of(test, []) for test in range(1, 2000)) <= 0.05


def test_methods_are_one_claim_of_the_ledger(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    frame = table(seeds=10, gain=0.1, arms=("new", "old", "other"))
    found = best_of(frame, "accuracy", "old", ledger=ledger)
    assert [row.arm for row in found.rows if row.verdict == "holds"] == ["new"]
    assert best_of(frame, "accuracy", "old", ledger=ledger).line == found.line == 1
    judge(frame, CLAIM, ledger=ledger)
    assert [line["test"] for line in read_ledger(ledger)] == [1, 2]


def cut_line(text, number):
    lines = text.splitlines(keepends=True)
    return "".join(lines[:number] + lines[number + 1 :])


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: cut_line(text, 0),
        lambda text: cut_line(text, 1),
        lambda text: cut_line(text, 2),
        lambda text: text.replace('"undecided"', '"holds"', 1),
        lambda text: "".join(reversed(text.splitlines(keepends=True))),
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: text + "{}\n",
        lambda text: text + "no json\n",
        lambda text: "",
    ],
)
def test_a_ledger_that_was_changed_is_seen(harm, tmp_path):
    ledger = tmp_path / "judged.jsonl"
    for number in range(3):
        judge(table(gain=0.0, seed=number), CLAIM, pair="seed", ledger=ledger)
    ledger.write_text(harm(ledger.read_text()))
    with pytest.raises(CorruptFileError, match=r"judged\.jsonl is corrupt"):
        judge(table(), CLAIM, ledger=ledger)


def test_a_ledger_that_is_gone_is_seen(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    judge(table(), CLAIM, ledger=ledger)
    ledger.unlink()
    with pytest.raises(CorruptFileError, match="it is gone, and had 1 lines"):
        judge(table(), CLAIM, ledger=ledger)
    with pytest.raises(ValueError, match=r"ledger = .*: expected a file in an existing folder"):
        judge(table(), CLAIM, ledger=tmp_path / "none" / "judged.jsonl")


def test_a_crash_between_ledger_and_seal_loses_nothing(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    judge(table(), CLAIM, ledger=ledger)
    seal = ledger.with_name("judged.jsonl.seal")
    before = seal.read_bytes()
    judge(table(seed=1), CLAIM, ledger=ledger)
    seal.write_bytes(before)
    judge(table(seed=2), CLAIM, ledger=ledger)
    assert [line["line"] for line in read_ledger(ledger)] == [1, 2, 3]


def test_processes_wait_for_the_ledger(tmp_path):
    ledger = tmp_path / "judged.jsonl"
    with open_ledger(ledger):
        other = threading.Thread(target=judge, args=(table(), CLAIM), kwargs={"ledger": ledger})
        other.start()
        time.sleep(0.2)
        assert not ledger.exists()
    other.join(10)
    assert len(read_ledger(ledger)) == 1


# Its speed.


@pytest.mark.parametrize("pair", ["seed", None])
def test_a_million_rows_are_judged_in_two_seconds(pair, effort):
    n = 500_000
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"arm": np.repeat(["new", "old"], n), "seed": np.tile(np.arange(n), 2), "accuracy": rng.normal(size=2 * n)}
    )
    began = time.process_time()
    judged = judge(frame, CLAIM, pair=pair)
    seconds = time.process_time() - began
    assert judged.seeds == n
    if effort > 1:  # no test of `make test` asserts a time
        assert seconds < 2.0


# The page.


def odds(methods, seeds):
    """The probability that any of several equal methods leads one baseline in every seed.

    A method leads with probability 1 - u where the baseline has the quantile u, so none of k does in n seeds with the
    mean of (1 - V)^k, where V is a product of n uniform numbers.
    """
    return float(sum(Fraction((-1) ** (j + 1) * comb(methods, j), (j + 1) ** seeds) for j in range(1, methods + 1)))


def test_the_page_gives_the_exact_odds():
    (shown,) = re.findall(r"<!-- odds: begin -->\n(.*?)<!-- odds: end -->", PAGE.read_text(), flags=re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    numbers = [int(cell.split()[0]) for cell in rows[0][1:]]
    for methods, *cells in rows[2:]:
        assert cells == [f"{100 * odds(int(methods), seeds):.3g} %" for seeds in numbers]
    rng = np.random.default_rng(0)
    leads = rng.normal(size=(20_000, 3, 2)) > rng.normal(size=(20_000, 1, 2))
    assert np.mean(leads.all(2).any(1)) == pytest.approx(odds(3, 2), abs=0.015)


# What others publish, where their packages cannot be installed.


def test_with_many_values_the_interval_at_any_time_is_robbins_mixture():
    """The bound of Robbins (1970) for normal sums, as in confseq's two-sided normal mixture with rho = 1."""
    n, error = 200_000, 0.05
    bound = math.sqrt((n + 1) * math.log((n + 1) / error**2))
    assert anytime.critical(n, error) * math.sqrt(n) == pytest.approx(bound, rel=1e-4)


def test_the_error_of_planned_looks_is_at_most_five_percent():
    """The exact probability that correlated normal statistics ever exceed their bounds, as group-sequential designs."""
    looks = np.array([5, 10, 20])
    bounds = np.array([stats.norm.isf(error / 2) for error in errors_at(3)])
    covariance = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    normal = stats.multivariate_normal(np.zeros(3), covariance, seed=0)
    inside = normal.cdf(bounds, lower_limit=-bounds)
    assert 0.045 <= 1 - inside <= 0.05


def test_differences_of_shares_need_as_many_seeds_as_decide_them():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"arm": ["new"] * 10 + ["old"] * 10, "seed": [*range(10)] * 2, "hit": [1] * 9 + [0] * 5 + [1] * 6}
    )
    judged = judge(frame, "hit(new) - hit(old) >= 0.0")
    assert judged.verdict == "undecided"
    n = 10 + judged.more
    decided = [
        judge(
            pl.DataFrame(
                {"arm": ["new"] * n + ["old"] * n, "hit": np.r_[rng.binomial(1, 0.9, n), rng.binomial(1, 0.6, n)]}
            ),
            "hit(new) - hit(old) >= 0.0",
        ).verdict
        == "holds"
        for _ in range(150)
    ]
    assert np.mean(decided) == pytest.approx(0.8, abs=0.12)
