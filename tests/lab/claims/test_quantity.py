"""Quantities: measured as claims are, and shown without a verdict in a run, a report, tables, records and answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import plotly.graph_objects as go
import polars as pl
import pytest

import engram
from engram.cli.values import of_shown
from engram.lab import Claim, Experiment, Preset, Quantity, Run, Study, judge_claim, metric, setting, settings, share
from engram.lab.claims.quantity import measure_quantity
from engram.lab.output import record_files
from engram.lab.output.export import export
from engram.lab.output.record_files import answer_in_words
from engram.lab.output.report import as_html, section
from engram.studies.recording.index import index_of, write_index
from engram.verdicts import index_in

VALUE = metric("value")
FORMS = {
    "mean": (VALUE("a") - VALUE("b"), {0: (1.0, 0.5), 1: (2.0, 0.5), 2: (4.0, 3.0)}),
    "ratio": (VALUE("a") / VALUE("b"), {0: (1.0, 0.5), 1: (2.0, 0.5), 2: (4.0, 3.0)}),
    "median": (VALUE("a").median(), {seed: (float(seed), 0.0) for seed in range(9)}),
    "share": (share("value")("a"), {0: (1.0, 0.0), 1: (0.0, 0.0), 2: (1.0, 0.0)}),
    "equal values": (VALUE("a"), {0: (0.3, 0.0), 1: (0.1 + 0.2, 0.0)}),
    "one seed": (VALUE("a"), {0: (0.3, 0.0)}),
}


def results_of(pairs):
    return {seed: {"a": {"value": a}, "b": {"value": b}} for seed, (a, b) in pairs.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_quantity_has_the_value_and_the_interval_of_a_claim_about_it(form):
    measure, pairs = FORMS[form]
    measured = measure_quantity(Quantity("q", "What it is", measure), results_of(pairs))
    judged = judge_claim(Claim("c", "It is large", measure >= 1000.0), results_of(pairs), preset="laptop")
    for ours, of_claim in zip(measured[2:], (judged.ours, judged.low, judged.high), strict=True):
        assert ours == of_claim or (math.isnan(ours) and math.isnan(of_claim))
    assert measured.values.keys() == judged.values.keys()


def test_a_seed_without_the_arms_is_left_out_and_one_without_a_number_leaves_no_value():
    quotient = Quantity("q", "What it is", VALUE("a") / VALUE("b"))
    results = results_of({0: (1.0, 2.0), 1: (3.0, 2.0)}) | {2: {"a": {"value": 9.0}}}
    assert [*measure_quantity(quotient, results).values] == [0, 1]
    without = measure_quantity(quotient, results | results_of({3: (1.0, 0.0)}))
    assert [math.isnan(number) for number in without[2:]] == [True] * 3
    assert [*without.values] == [0, 1, 3]


@settings
class Toss:
    mean: float = setting(0.0, "of the value that a trial draws")


def toss(config: Toss, run: Run) -> dict[str, float]:
    return {"value": float(run.rng.normal(config.mean, 1.0))}


def tosses(**changes):
    fields = {
        "name": "tosses",
        "about": "Values are drawn.",
        "paper": "None",
        "studies": Study(toss, {"far": {"mean": 50.0}, "near": {"mean": 0.1}}),
        "presets": {"smoke": Preset(1), "laptop": Preset(5)},
        "claims": [Claim("far-above", "The far one lies above", VALUE("far") >= 0.0)],
        "quantities": [Quantity("lead", "Distance of the far one from the <near> one", VALUE("far") - VALUE("near"))],
        "figure": lambda results: go.Figure(),
        "headline": "",
        "answer": "The far one is above {far-above}, by {lead:0}.",
    }
    return Experiment(**fields | changes)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"answer": "It leads {lead}."}, r"answer = \{lead\} in experiment 'tosses': expected its value, as in"),
        ({"answer": "It leads by {led:0}."}, "answer = 'led'.*lead"),
        ({"quantities": [Quantity("far-above", "It", VALUE("far"))]}, "two claims or quantities with the same name"),
        ({"quantities": [Quantity("lead", "It", VALUE("farther"))]}, "unknown arm 'farther'"),
        ({"quantities": [Quantity("a/b", "It", VALUE("far"))]}, "name = 'a/b'"),
    ],
)
def test_what_an_experiment_cannot_measure_is_refused(change, error):
    with pytest.raises(ValueError, match=error):
        tosses(**change)


def test_a_condition_is_no_measure():
    with pytest.raises(TypeError, match=r"measure of quantity 'q' = .*: expected a measure without a criterion"):
        Quantity("q", "It", VALUE("far") >= 0.0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return engram.run(tosses(), runs=tmp_path_factory.mktemp("runs"), jobs=1, progress=False)


def test_a_run_shows_its_quantities_without_a_verdict(results, tmp_path):
    (measured,) = results.quantities()
    lead = [
        far - near for far, near in zip(results.values("far", "value"), results.values("near", "value"), strict=True)
    ]
    assert measured.ours == pytest.approx(sum(lead) / 5)
    assert measured.low < measured.ours < measured.high
    row = json.loads(json.dumps(results.to_json()))["quantities"][0]
    assert (row["id"], row["ours"], row["seeds"]) == ("lead", measured.ours, 5)
    cell = f"<td>Distance of the far one from the &lt;near&gt; one</td><td>{measured.ours:.4g}</td>"
    for page in (as_html(section(tosses(), results)), results._repr_html_()):
        assert cell in page
    assert results.ended == "laptop: 1 of 1 claims hold"
    paths = export(tosses(), results, tmp_path)
    (path,) = [path for path in paths if path.name == "quantities.csv"]
    assert pl.read_csv(path)["ours"].to_list() == [pytest.approx(measured.ours)]


def test_only_arms_that_were_run_are_measured(results):
    far = replace(results, trials=[trial for trial in results.trials if trial.arm == "far"])
    assert far.quantities() == []


def test_the_index_keeps_a_quantity_without_a_verdict_and_an_answer_tells_its_value(results, tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "record_folders", lambda experiment: [tmp_path])
    path, _ = record_files.write_record(tosses(), results, tmp_path), write_index(tmp_path, [results])
    assert path.is_file()
    (row,) = json.loads((tmp_path / "index.json").read_text())["quantities"]["tosses"]["laptop"].values()
    assert row.keys() == {"statement", "ours", "low", "high", "seeds"}
    index = index_in(tmp_path)
    assert index == index_of([results])
    measured = index.quantities["tosses", "laptop", "lead"]
    assert measured.ours == pytest.approx(results.quantities()[0].ours)
    assert index.tests == 1, "a quantity is no test"
    said = f"The far one is above [far-above: holds], by {measured.ours:.0f}."
    assert answer_in_words(tosses()) == said
    (shown,) = of_shown(tosses())["quantities"]
    assert shown["recorded"]["laptop"] == {name: row[name] for name in ("ours", "low", "high", "seeds")}
