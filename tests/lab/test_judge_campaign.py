"""Simulations of the judge: how often its verdicts are false, and whether its power and seeds needed are right.

``python tests/lab/test_judge_campaign.py`` runs the large campaign, writes ``results/judge.json`` and the table of
``docs/judge.md``, and takes some minutes; the tests run a small one, ``make soak`` one of the same size.
"""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from engram.lab.claims.measure import Criterion
from engram.lab.judging.assess import ONCE, Rule, assess, lacking, power_of_number
from engram.lab.judging.best_of import _claim, _rows
from engram.lab.judging.judgement import side_of, verdict_of
from engram.lab.judging.ledger import level_of
from engram.lab.judging.sample import Sample
from engram.studies.recording.tables import with_block

ROOT = Path(__file__).parents[2]
RECORD, PAGE = ROOT / "results" / "judge.json", ROOT / "docs" / "judge.md"
MOST = 0.05  # of false verdicts
RUNS, SEED = 2000, 95
SIZES = (3, 5, 10, 20, 40)
LOOKS = (5, 10, 20, 40)
DRAWS = {  # centred on their means
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1.0,
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "discrete": lambda rng, n: rng.binomial(10, 0.9, n) / 10 - 0.9,
    "bounded": lambda rng, n: rng.beta(18, 2, n) - 0.9,
    "0 or 1": lambda rng, n: rng.binomial(1, 0.9, n).astype(float),
}
DESIGNS = ("one arm", "paired", "two arms")
ZERO = Criterion(low=0.0)


def sample(design, *parts, unit="seed", binary=False):
    names = tuple(tuple(map(str, range(len(part)))) for part in parts)
    if binary and design == "one arm":
        return Sample(design, "share", parts, names, unit, np.ones(len(parts[0])))
    return Sample(design, "mean", parts, names, unit, is_binary=binary)


def drawn(rng, kind, design, n, other=1.0):
    """A sample whose effect is the truth, and the truth."""
    draw = DRAWS[kind]
    binary = kind == "0 or 1"
    a = draw(rng, n)
    if design == "one arm":
        return sample(design, a, binary=binary), 0.9 if binary else 0.0
    b = other * draw(rng, n)
    parts = (a, -b) if design == "two arms" else (a - b,)  # what runs of a seed have in common cancels
    return sample(design, *parts, binary=binary), 0.0


def rate(errors, runs):
    """The larger of the rates at which true claims fail and false claims hold, both at their worst, the threshold."""
    return float(
        max(np.mean([low > truth for low, _, truth in errors]), np.mean([high < truth for _, high, truth in errors]))
    )


def false_verdicts(kind, design, n, runs, *, seed=SEED, other=1.0):
    rng = np.random.default_rng([seed, n, list(DRAWS).index(kind), DESIGNS.index(design)])
    errors = []
    for _ in range(runs):
        of_run, truth = drawn(rng, kind, design, n, other)
        ours = assess(of_run, ZERO)
        errors.append((ours.low, ours.high, truth))
    return rate(errors, runs)


def false_at_looks(kind, runs, *, planned, seed=SEED):
    """The rate over all looks: planned ones, or one after every seed, from 3 to 40."""
    rng = np.random.default_rng([seed, 1, list(DRAWS).index(kind), int(planned)])
    false = [0, 0]
    for _ in range(runs):
        whole, _ = drawn(rng, kind, "paired", 40)
        if planned:
            verdict = verdict_of("", whole, ZERO, LOOKS).verdict
            false[0] += verdict == "holds" and not bool(np.all(whole.parts[0] == 0))
            false[1] += verdict == "fails"
            continue
        decided = (side_of(assess(whole.first(n), ZERO, Rule(at_any_time=True)), ZERO) for n in range(3, 41))
        verdict = next((side for side in decided if side != "undecided"), "undecided")
        false[0] += verdict == "holds"
        false[1] += verdict == "fails"
    return max(false) / runs


def false_among(methods, better, runs, seed=SEED):
    """Of many methods against one baseline: how often any verdict is false, and the false share of those found."""
    rng = np.random.default_rng([seed, 2, methods, better])
    any_false, shares = 0, []
    claims = {str(m): _claim("x", str(m), "old", 0.0, False) for m in range(methods)}
    for _ in range(runs):
        old = rng.normal(size=10)
        samples = {
            str(m): sample("two arms", rng.normal(3.0 if m < better else 0.0, 1.0, 10), -old) for m in range(methods)
        }
        rows = _rows(claims, samples, (), ONCE)
        wrong = sum(row.verdict == "holds" and int(row.arm) >= better for row in rows)
        found = sum(row.verdict == "holds" for row in rows)
        any_false += wrong > 0
        shares.append(wrong / max(found, 1))
    return any_false / runs, float(np.mean(shares))


def false_in_ledger(claims, better, runs, seed=SEED):
    """Claims that come one after another: the share of runs in which any is falsely found to hold."""
    rng = np.random.default_rng([seed, 3, claims, better])
    any_false = 0
    for _ in range(runs):
        found, wrong = [], False
        for test in range(1, claims + 1):
            is_better = test <= better
            of_run = sample("paired", rng.normal(3.0 if is_better else 0.0, 1.0, 10))
            level = level_of(test, found)
            if side_of(assess(of_run, ZERO, Rule(level, at_any_time=True)), ZERO) == "holds":
                found.append(test)
                wrong = wrong or not is_better
        any_false += wrong
    return any_false / runs


def false_of_clusters(clusters, size, runs, seed=SEED):
    """Runs in clusters that share half of their variance, judged by the means of the clusters."""
    rng = np.random.default_rng([seed, 4, clusters, size])
    errors = []
    for _ in range(runs):
        means = rng.normal(size=clusters) + rng.normal(size=(clusters, size)).mean(1)
        ours = assess(sample("paired", means, unit="task"), ZERO)
        errors.append((ours.low, ours.high, 0.0))
    return rate(errors, runs)


def expected_sample(design, effect, n):
    """A sample with exactly this mean, a spread of 1 in every arm, and no skewness."""
    base = np.tile([-1.0, 1.0], n // 2)
    base = base / base.std(ddof=1)
    if design == "two arms":
        return sample(design, base + effect, -base)
    return sample(design, base + effect)


def power_at_needed(design, effect, runs, seed=SEED):
    """The seeds that the judge says are needed at an effect in standard deviations, their power, and what it is."""
    expected = expected_sample(design, effect, 4)
    n = lacking(expected, ZERO)
    said = power_of_number(expected, ZERO)(n)
    rng = np.random.default_rng([seed, 5, DESIGNS.index(design), round(10 * effect)])
    decided = 0
    for _ in range(runs):
        parts = [rng.normal(effect, 1.0, n)] + ([-rng.normal(0.0, 1.0, n)] if design == "two arms" else [])
        decided += side_of(assess(sample(design, *parts), ZERO), ZERO) == "holds"
    return n, said, decided / runs


def campaign(runs):
    """All simulations; the record."""
    cells = {
        f"{kind}, {design}, {n}": false_verdicts(kind, design, n, runs)
        for kind, design, n in product(DRAWS, DESIGNS, SIZES)
    }
    stress = {
        f"{design}, {n}": false_verdicts("skewed", design, n, runs, other=0.3)
        for design, n in product(DESIGNS[1:], SIZES)
    }
    looks = {kind: [false_at_looks(kind, runs // 4, planned=planned) for planned in (True, False)] for kind in DRAWS}
    many = {
        f"{methods}, {better}": false_among(methods, better, runs // 8)
        for methods, better in ((1, 0), (100, 0), (100, 10))
    }
    ledger = {
        f"{claims}, {better}": false_in_ledger(claims, better, runs // 8)
        for claims, better in ((1, 0), (100, 0), (100, 10))
    }
    clusters = {f"{k}, {size}": false_of_clusters(k, size, runs) for k, size in product((3, 5, 10, 20), (1, 5, 20))}
    powers = {
        f"{design}, {effect}": power_at_needed(design, effect, runs)
        for design, effect in product(DESIGNS, (0.5, 1.0, 2.0))
    }
    parts = {"cells": cells, "stress": stress, "looks": looks, "many": many, "ledger": ledger}
    return {"runs": runs, "seed": SEED, **parts, "clusters": clusters, "powers": powers}


def block(record):
    """The tables of the page."""
    lines = ["| Values | Runs | " + " | ".join(f"{n} seeds" for n in SIZES) + " |", "|---|---|" + "---|" * len(SIZES)]
    for kind, design in product(DRAWS, DESIGNS):
        rates = [record["cells"][f"{kind}, {design}, {n}"] for n in SIZES]
        lines.append(f"| {kind} | {design} | " + " | ".join(f"{100 * value:.1f} %" for value in rates) + " |")
    for design in DESIGNS[1:]:
        rates = [record["stress"][f"{design}, {n}"] for n in SIZES]
        lines.append(
            f"| skewed, one arm 0.3 times as wide | {design} | " + " | ".join(f"{100 * v:.1f} %" for v in rates) + " |"
        )
    looks = record["looks"]
    worst = [max(of_kind[place] for of_kind in looks.values()) for place in (0, 1)]
    many, ledger = record["many"], record["ledger"]
    clusters = max(record["clusters"].values())
    powers = [100 * abs(true / said - 1) for _, said, true in record["powers"].values()]
    lines += [
        "",
        f"- Interim analyses planned at {', '.join(map(str, LOOKS))} seeds: at most {100 * worst[0]:.1f} % over all of "
        f"them; one after every seed from 3 to 40, with a ledger: at most {100 * worst[1]:.1f} %.",
        f"- 100 methods, none of them better than the baseline: {100 * many['100, 0'][0]:.1f} % of the tables have any "
        f"that is found better; with ten that are better, {100 * many['100, 10'][1]:.1f} % of those found are false.",
        f"- 100 claims one after another in a ledger, none true: {100 * ledger['100, 0']:.1f} % of the ledgers find "
        "any to hold.",
        f"- 3 to 20 clusters of 1 to 20 runs: at most {100 * clusters:.1f} %.",
        f"- With as many seeds as the judge says are needed, the share of tables that are decided differs from the "
        f"power that it gives by at most {max(powers):.1f} % (effects of 0.5, 1 and 2 standard deviations).",
        "",
        f"{record['runs']:,} tables for each number of the first table (`python tests/lab/test_judge_campaign.py`).",
    ]
    return "\n".join(lines)


def write():
    record = campaign(RUNS)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    if PAGE.exists():
        PAGE.write_text(with_block(PAGE.read_text(), block(record)))


# The sizes of the tests.


def three_errors(runs):
    return 3 * math.sqrt(MOST * (1 - MOST) / runs)


@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize(("kind", "design"), list(product(DRAWS, DESIGNS)))
def test_false_verdicts_are_rare(kind, design, n, effort):
    runs = 150 * effort
    assert false_verdicts(kind, design, n, runs, seed=7) <= MOST + three_errors(runs)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "design", "n"), list(product(DRAWS, DESIGNS, SIZES)))
def test_false_verdicts_are_rare_at_all_sizes(kind, design, n):
    assert false_verdicts(kind, design, n, RUNS, seed=8) <= MOST + three_errors(RUNS)


@pytest.mark.parametrize("planned", [True, False])
def test_false_verdicts_are_rare_over_all_looks(planned, effort):
    runs = 60 * effort
    assert false_at_looks("normal", runs, planned=planned) <= MOST + three_errors(runs)


def test_false_verdicts_are_rare_among_many_methods_and_claims(effort):
    runs = 12 * effort
    assert false_among(100, 0, runs)[0] <= MOST + three_errors(runs)
    assert false_in_ledger(100, 0, runs) <= MOST + three_errors(runs)
    assert false_in_ledger(20, 20, 3) == 0.0


def test_a_fixed_interval_would_deceive_many_claims():
    """What the judge is for: at 5 % each, nearly every ledger of 100 would hold a false one."""
    rng = np.random.default_rng(0)
    holds = [side_of(assess(sample("paired", rng.normal(size=10)), ZERO), ZERO) == "holds" for _ in range(400)]
    assert 1 - (1 - np.mean(holds)) ** 100 > 0.6


@pytest.mark.parametrize(("clusters", "size"), [(3, 20), (10, 5)])
def test_false_verdicts_are_rare_with_clusters(clusters, size, effort):
    runs = 200 * effort
    assert false_of_clusters(clusters, size, runs) <= MOST + three_errors(runs)


@pytest.mark.parametrize(("design", "effect"), [("paired", 1.0), ("two arms", 1.0), ("one arm", 2.0)])
def test_as_many_seeds_as_needed_decide_four_times_in_five(design, effect, effort):
    runs = 400 * effort
    _, said, power = power_at_needed(design, effect, runs)
    assert said >= 0.8
    assert power == pytest.approx(said, rel=0.1)


def test_one_seed_fewer_would_not_do():
    expected = expected_sample("paired", 0.5, 4)
    power, n = power_of_number(expected, ZERO), lacking(expected, ZERO)
    assert power(n - 1) < 0.8 <= power(n)
    assert lacking(expected_sample("paired", 1e-9, 4), ZERO) is None


@pytest.mark.skipif(not RECORD.exists(), reason="the large campaign has not been recorded")
def test_the_page_says_what_the_campaign_gave():
    record = json.loads(RECORD.read_text())
    assert with_block(PAGE.read_text(), block(record)) == PAGE.read_text(), "python tests/lab/test_judge_campaign.py"


if __name__ == "__main__":
    write()
