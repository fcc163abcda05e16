"""Choosing by validation: what is tried, what is chosen, what is said of it, and that interruptions change nothing."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram.lab import Experiment, Preset, Results, Study, load, setting, settings
from engram.lab.output.read_runs import COLUMNS
from engram.lab.output.record_files import as_record, from_record
from engram.lab.output.report import as_html, section
from engram.lab.output.results import TrialResult
from engram.lab.trial.choice import at_ends, ranking, table
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.verdicts import cited


@pytest.fixture
def run(tmp_path):
    return TrialRun(TrialFolder(tmp_path), 0, checkpoint_seconds=0.0)


def peak(at: float):
    """A score that is best at a rate, over its logarithm."""
    return lambda rate: -abs(math.log(rate / at))


@pytest.mark.parametrize(
    ("at", "tried", "end"),
    [
        (0.1, [0.01, 0.1, 1.0], ""),
        (1.0, [0.01, 0.1, 1.0, 10.0], ""),
        (30.0, [0.01, 0.1, 1.0, 10.0, 100.0], ""),
        (1e6, [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0], "largest"),
        (1e-3, [1e-4, 1e-3, 0.01, 0.1, 1.0], ""),
        (1e-9, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0], "smallest"),
    ],
)
def test_the_grid_goes_on_where_its_end_is_best(run, at, tried, end):
    chosen = run.choose("rate", np.array([0.1, 0.01, 1.0]), peak(at))
    choice = run.choices["rate"]
    assert choice["candidates"] == pytest.approx(tried)
    assert (chosen, choice["chosen"]) == (max(choice["candidates"], key=peak(at)),) * 2
    assert choice["scores"] == [peak(at)(rate) for rate in choice["candidates"]]
    assert choice["end"] == end


def test_a_bound_is_no_end(run):
    assert run.choose("strength", (0.0, 1.0, 2.0), lambda strength: -strength) == 0
    assert run.choose("momentum", (0.25, 0.5), lambda momentum: momentum, bounds=(0, 0.9)) == 0.9
    assert [run.choices[name]["end"] for name in ("strength", "momentum")] == ["", ""]
    assert run.choices["momentum"]["candidates"] == [0.25, 0.5, 0.9]
    assert run.choose("decay", (0.25, 0.5), lambda decay: decay, extend=False) == 0.5
    assert run.choices["decay"]["end"] == "largest"
    assert run.choose("only", (2.0,), lambda only: only) == 2
    assert run.choices["only"]["end"] == ""


def test_what_has_no_score_is_not_chosen(run):
    def score(rate: float) -> float:
        if rate > 1:
            raise FloatingPointError("diverged")
        return math.nan if rate > 0.7 else math.inf if rate > 0.5 else rate

    assert run.choose("rate", (0.1, 0.2, 0.4, 0.6, 0.8, 1.6), score) == 0.4
    assert run.choices["rate"]["scores"] == [0.1, 0.2, 0.4, None, None, None]
    with pytest.raises(FloatingPointError, match=r"none of \[2.0, 3.0\] as other has a score"):
        run.choose("other", (2.0, 3.0), score)


def test_what_collapses_in_the_end_is_not_chosen(run):
    trained = []

    def accept(rate: float) -> bool:
        trained.append(rate)
        return rate < 0.5

    assert run.choose("rate", (0.1, 0.3, 0.9, 2.7), peak(0.9), accept=accept) == 0.3
    assert trained == [0.9, 0.3]
    assert run.choose("stubborn", (0.1, 0.3, 0.9), peak(0.3), accept=lambda rate: False) == 0.3


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -math.inf]), min_size=1, max_size=7))
def test_of_equal_scores_that_in_their_middle_is_chosen(scores):
    ranked = ranking(np.arange(len(scores), dtype=float), np.array(scores))
    assert sorted(ranked) == [number for number, score in enumerate(scores) if score > -math.inf]
    assert [scores[number] for number in ranked] == sorted((s for s in scores if s > -math.inf), reverse=True)
    best = [number for number, score in enumerate(scores) if score == max(scores) > -math.inf]
    assert not best or ranked[0] in (best[(len(best) - 1) // 2], best[len(best) // 2])


@pytest.mark.parametrize("crash_at", range(6))
def test_an_interruption_changes_nothing(tmp_path, crash_at):
    class CrashError(Exception):
        pass

    def trial(run: TrialRun, *, crash_at: int = -1) -> tuple[float, list[float], object]:
        calls, seen = [], np.zeros(6)

        def score(rate: float) -> float:
            calls.append(rate)
            if len(calls) - 1 == crash_at:
                raise CrashError
            seen[len(calls) - 1] += float(run.rng.random())
            return peak(100.0)(rate)

        chosen = run.choose("rate", (0.1, 1.0, 10.0), score, accept=lambda rate: score(rate) > -1, seen=seen)
        return chosen, [float(run.rng.random())], run.choices

    for name in ("whole", "crashed"):
        (tmp_path / name).mkdir()
    whole = trial(TrialRun(TrialFolder(tmp_path / "whole"), 3, checkpoint_seconds=0.0))
    folder = TrialFolder(tmp_path / "crashed")
    with contextlib.suppress(CrashError):
        trial(TrialRun(folder, 3, checkpoint_seconds=0.0), crash_at=crash_at)
    assert trial(TrialRun(folder, 3, checkpoint_seconds=0.0)) == whole


@pytest.mark.parametrize(
    ("name", "candidates", "message"),
    [
        ("rate", (), r"candidates = \(\): expected one or more distinct numbers"),
        ("rate", (1.0, 1.0), r"candidates = \(1.0, 1.0\): expected one or more distinct numbers"),
        ("rate", (-1.0, 1.0), "candidates = -1.0: expected a number of at least 0.0"),
        ("rate", (math.nan, 1.0), "candidates = nan: expected a"),
        ("taken", (1.0, 2.0), "name = 'taken': expected a name that differs from earlier choices, taken"),
    ],
)
def test_bad_candidates_are_named(run, name, candidates, message):
    run.choose("taken", (1.0,), lambda rate: rate)
    with pytest.raises(ValueError, match=message):
        run.choose(name, candidates, lambda rate: rate)


@settings
class Config:
    best: float = setting(1.0, "the rate that scores best", gt=0)


def trial(config: Config, run: TrialRun) -> dict[str, float]:
    return {"rate": run.choose("rate", (0.5, 1.0, 2.0), peak(config.best), extend=False)}


def test_choices_are_kept_with_the_trial_and_said_beside_the_claims(tmp_path):
    from engram.lab import claims_from, metric

    claim, rate = claims_from("ours"), metric("rate")
    claims = (claim("inner", "It is", rate("inner") <= 1.5), claim("outer", "It is", rate("outer") >= 1))
    presets = {name: Preset(3) for name in ("smoke", "laptop")}
    study = Study(trial, {"inner": {}, "outer": {"best": 4.0}}, Config)
    experiment = Experiment("chooses", "It.", "None", study, presets, claims, lambda results: go.Figure())
    results = engram.run(experiment, preset="laptop", runs=tmp_path, progress=False, jobs=1)
    said = "outer chose the largest rate of those tried, 2, in 3 of 3 trials"
    assert at_ends(results.choices) == {"outer": [said]}
    assert [results.caveats(claim) for claim in claims] == [[], [said]]
    assert load(experiment, tmp_path).choices == results.choices
    recorded = from_record(experiment, *as_record(experiment, results))
    assert [recorded.caveats(claim) for claim in claims] == [[], [said]]
    assert table(results.choices)[1] == {"arm": "outer", "what": "rate", "tried": "0.5, 1, 2", "chosen": "2 (3)"}
    page = as_html(section(experiment, results))
    assert page.count(said) == 1


def test_an_answer_names_claims_with_their_verdicts():
    experiment = engram.registry.get("experiments", "pattern-completion")
    first = experiment.claims[0].id
    answered = replace(experiment, answer=f"It does <so> {{{first}}}, at\n    a cost.")
    assert cited(answered.answer) == (first,)
    link = f'<a class="said" href="#claim-pattern-completion-{first}" title="{first}">(holds)</a>'
    results = results_of(answered)
    assert link not in as_html(section(answered, results)), "the answer is that of our recorded run"
    page = as_html(section(answered, replace(results, is_recorded=True)))
    assert f"Our recorded run: It does &lt;so&gt; {link}, at a cost." in page
    assert f'id="claim-pattern-completion-{first}"' in page, "where claims of several experiments are on one page"
    with pytest.raises(ValueError, match=f"answer = 'nothing': expected one of '{first}'"):
        replace(experiment, answer="It does {nothing}.")


def results_of(experiment: Experiment) -> Results:
    """A run of which nothing is there yet."""
    configs = {name: arm.config for name, arm in experiment.arms("laptop").items()}
    trials = [TrialResult(name, 0, "waiting", {}) for name in configs]
    run = {"preset": "laptop", "changed": {}, "configs": configs, "seeds": 1, "trials": trials}
    claimed = {"claimed": experiment.claims, "headline": experiment.headline, "experiment": experiment.name}
    return Results(metrics=pl.DataFrame(schema=COLUMNS), environment={"versions": {}, "hardware": {}}, **run, **claimed)


def test_smaller_candidates_are_tried_if_none_has_a_score(tmp_path):
    def score(rate):
        if rate > 0.15:
            raise FloatingPointError("diverged")
        return rate

    run = TrialRun(TrialFolder(tmp_path), 0)
    assert run.choose("rate", (0.4, 0.8), score) == pytest.approx(0.1)
    assert run.choices["rate"]["candidates"] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])
    assert run.choices["rate"]["end"] == ""
    with pytest.raises(FloatingPointError, match=r"none of \[0.4, 0.8\] as other has a score"):
        run.choose("other", (0.4, 0.8), score, extend=False)


def test_scores_that_differ_by_rounding_are_equal(run):
    scores = {0.1: 0.3, 0.2: 0.3 - 2**-54, 0.3: 0.1 + 0.2, 0.4: 0.25, 0.5: 0.3}
    assert run.choose("rate", tuple(scores), scores.__getitem__, extend=False) == 0.2  # the middle of four, or below it
    single = dict(zip((1.0, 2.0, 4.0), np.float32([0.7, 0.7, 0.7000001]).tolist(), strict=True))
    assert run.choose("other", tuple(single), single.__getitem__, extend=False) == 2.0
