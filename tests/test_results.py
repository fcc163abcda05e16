"""What README and docs show is what the run records say."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import engram
from engram.lab import Claim, Experiment, Preset, Run, Study, metric, setting, settings
from engram.lab.choice import at_ends
from engram.lab.experiment import SAID
from engram.lab.records import from_record, merged_environments, record_path
from engram.verdicts import BAD

ROOT = Path(__file__).parents[1]


def script(name):
    """Load a script of the documentation, so that scripts loaded later can import it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


results, _, extend = map(script, ("results", "older_code", "extend"))


# Changed since they were recorded: their runs take hours, and come one after another.
WAITING: set[str] = set()
UNRECORDED: set[str] = set()
CURRENT = [name for name in engram.experiments() if name not in WAITING | UNRECORDED]


def test_every_record_is_of_a_whole_run_of_the_preset_as_it_is():
    assert results.README_FIGURE in CURRENT
    for name in CURRENT:
        for size, run in results.recorded(name).items():
            preset = engram.registry.get("experiments", name).presets[size]
            assert (run.preset, run.changed) == (size, {})
            looks = run.looks or (preset.seeds,)
            assert run.seeds in looks
            for arm in run.configs:
                seeds = sorted(trial.seed for trial in run.trials if trial.arm == arm)
                assert len(seeds) in looks, f"{name}, {size}: {arm} has {len(seeds)} seeds, which is none of {looks}"
                assert seeds == list(range(len(seeds))), f"{name}, {size}: {arm} lacks seeds up to {seeds[-1]}"
            assert {trial.state for trial in run.trials} == {"finished"}


def test_only_what_waits_has_changed_since_it_was_recorded():
    changed = {
        name
        for name in engram.experiments()
        if not all(results.is_current(name, record) for record in results.records(name).values())
    }
    assert changed == WAITING, "run `make results`"


@pytest.mark.parametrize("name", engram.experiments())
def test_no_arm_of_a_record_chose_at_an_end_of_its_grid_that_is_no_bound(name):
    for run in results.recorded(name).values():
        assert not at_ends(run.choices)


@pytest.mark.parametrize("name", CURRENT)
def test_an_answer_says_what_the_record_says(name):
    experiment = engram.registry.get("experiments", name)
    said = experiment.answered
    tags = re.findall(r"\[([^\]]*?):\s", experiment.answer)
    assert (set(tags), len(tags)) == (set(said), experiment.answer.count("[")), "holds, fails and is open are verdicts"
    verdicts: dict[str, str] = {}  # of the smallest preset that tests a claim
    for run in results.recorded(name).values():
        tested = [judged for judged in run.claims() if judged.verdict != "not testable here"]
        verdicts = {judged.claim.id: judged.verdict for judged in tested} | verdicts
    words = {**dict.fromkeys(BAD, "fails"), "undecided": "is open"}
    assert set(said) <= set(verdicts)
    assert said == {claim: words.get(verdicts[claim], "holds") for claim in said}


@pytest.mark.parametrize("name", CURRENT)
def test_an_answer_is_three_to_five_sentences(name):
    text = " ".join(SAID.sub("", engram.registry.get("experiments", name).answer).split())
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    assert 3 <= len(sentences) <= 5, sentences
    assert all(sentence.endswith(".") for sentence in sentences)


def test_every_experiment_but_the_newest_has_a_record():
    assert {name for name in engram.experiments() if not results.record_path(name).exists()} == UNRECORDED


def test_what_ships_as_recorded_is_what_the_pages_show():
    for name in CURRENT:
        assert record_path(engram.registry.get("experiments", name), "laptop") == results.record_path(name)
    name = results.README_FIGURE
    assert engram.recorded(name).record() == results.recorded(name)["laptop"].record()


def test_a_record_that_does_not_fit_is_refused():
    experiment = engram.registry.get("experiments", "pattern-completion")
    smaller = replace(experiment.presets["laptop"], arms=tuple(experiment.arms("laptop"))[:1])
    presets = {**experiment.presets, "laptop": smaller}
    with pytest.raises(ValueError, match="pattern-completion has changed since its record of preset laptop"):
        engram.recorded(replace(experiment, presets=presets, claims=(), tasks=(), answer=""))
    with pytest.raises(ValueError, match="pattern-completion has no record of preset paper"):
        engram.recorded("pattern-completion", "paper")
    with pytest.raises(ValueError, match="preset = 'large'"):
        engram.recorded("pattern-completion", "large")


def test_expected_times_are_those_of_the_records():
    assert json.loads(results.SECONDS.read_text()) == results.seconds(), "run `make results`"


def test_the_readme_shows_the_records():
    readme = (ROOT / "README.md").read_text()
    assert readme == results.with_block(readme, results.readme_block()), "run `make results`"


def test_the_docs_tell_the_campaigns():
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert page == results.with_block(page, results.campaigns_block()), "run `python docs/results.py`"
    campaigns = json.loads(results.CAMPAIGNS.read_text())
    bad = [campaigns["kills"][what] for what in ("differences", "crashes")]
    assert [*bad, *(campaigns["calls"].get(what, 0) for what in ("crashes", "hangs"))] == [0, 0, 0, 0]


def test_the_package_has_the_verdicts_of_the_records():
    assert json.loads(results.VERDICTS.read_text()) == results.verdicts(), "run `make results`"


def test_every_released_version_has_its_verdicts():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    tagged = re.findall(r"^## \[([^\]]+)\] - \d{4}-\d\d-\d\d", changelog, re.MULTILINE)
    assert set(results.released()) >= set(tagged), "run `python docs/results.py --release`"


def test_what_changed_is_told_by_the_verdicts_of_the_version_before(tmp_path, monkeypatch):
    now = results.verdicts_by_claim()
    name, claim, new = results.README_FIGURE, *list(now[results.README_FIGURE])[:2]
    then = {**now, name: {of: verdict for of, verdict in now[name].items() if of != new} | {claim: "undecided"}}
    monkeypatch.setattr(results, "VERSIONS", tmp_path / "versions.json")
    results.VERSIONS.write_text(json.dumps({engram.__version__: {}}))
    assert results.last_release() is None
    results.VERSIONS.write_text(json.dumps({"0.0.1": {}, "0.0.2": then, engram.__version__: {}}))
    assert results.last_release() == "0.0.2"
    assert results.changed_since("0.0.2") == [
        (name, claim, "undecided", now[name][claim]),
        (name, new, "", now[name][new]),
    ]


def test_the_figure_was_drawn_from_the_record():
    name = results.README_FIGURE
    assert results.figure_path(name).read_text().rstrip().endswith(results.figure_mark(name)), "run `make results`"


def test_the_pictures_of_the_gallery_were_drawn_from_the_records():
    drawn = {path.stem for path in (ROOT / "docs" / "images" / "gallery").iterdir()}
    assert drawn == set(CURRENT), "run `make results`"
    assert all(map(results.thumbnail_is_current, CURRENT)), "run `make results`"


def test_a_figure_typed_by_hand_is_noticed():
    block = results.readme_block()
    readme = f"<!-- results: begin -->\n{block}\n<!-- results: end -->"
    assert results.with_block(readme, block) == readme
    forged = readme.replace("| 0.", "| 1.", 1)
    assert forged != readme
    assert results.with_block(forged, block) == readme


def test_a_record_of_another_preset_stands_beside_that_of_laptop_size(tmp_path, monkeypatch):
    name = results.README_FIGURE
    laptop = json.loads(results.record_path(name).read_text())
    monkeypatch.setattr(results, "RECORDS", tmp_path)
    monkeypatch.setattr(results, "recorded", results.recorded.__wrapped__)  # not what was read before
    monkeypatch.setattr(results, "is_current", lambda name, record: True)  # its arms are those of laptop size
    for preset in ("laptop", "paper"):
        results.record_path(name, preset).write_text(results.as_text({**laptop, "preset": preset}))
    assert list(results.recorded(name)) == ["laptop", "paper"]
    row = next(line for line in results.summary_table().splitlines() if f"[{name}]" in line)
    laptop_size, as_published = row.split("; preset paper: ")
    assert laptop_size.endswith("claims hold")
    assert "claims hold" in as_published
    assert "laptop scale" not in as_published
    assert f"`engram run {name} --preset paper --until-decided`" in results.claims_table(
        results.recorded(name)["paper"]
    )


def test_a_readme_without_its_block_is_refused():
    with pytest.raises(ValueError, match="found 0 results blocks"):
        results.with_block("nothing", "block")


@settings
class Toss:
    """What a trial draws."""

    mean: float = setting(0.0, "of the value that a trial draws")


def toss(config: Toss, run: Run) -> dict[str, float]:
    value = float(run.rng.normal(config.mean, 1.0))
    run.log(1, value=value)
    return {"value": value, "microseconds_10": time.perf_counter()}


def tosses():
    """An experiment of two claims: one is decided at the first look, the other one open at all."""
    return Experiment(
        name="tosses",
        about="Values are drawn.",
        paper="None",
        studies=Study(toss, {"far": {"mean": 50.0}, "near": {"mean": 0.1}}),
        presets={"smoke": Preset(1), "laptop": Preset(5, looks=(5, 8)), "paper": Preset(5)},
        claims=[Claim(f"{arm}-above", f"{arm} lies above", metric("value")(arm) >= 0.0) for arm in ("far", "near")],
        figure=lambda results: None,
        headline="value",
    )


def test_a_record_goes_on_where_its_claims_are_open(tmp_path):
    whole = engram.run(tosses(), seeds=8, runs=tmp_path / "whole", jobs=1, progress=False)
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = from_record(tosses(), replace(five, looks=(5, 8)).record())
    more = extend.extended(tosses(), record, runs=tmp_path / "more")
    assert (record.seeds, more.seeds) == (5, 8)
    assert [(trial.arm, trial.seed) for trial in more.trials] == [
        *(("far", seed) for seed in range(5)),
        *(("near", seed) for seed in range(8)),
    ]
    np.testing.assert_allclose(more.values("near", "value"), whole.values("near", "value"), rtol=1e-5)
    assert len(more.metrics) == 13
    assert [judged.look for judged in more.claims()] == [1, 2]


def test_an_arm_with_fewer_seeds_than_others_gets_those_that_it_lacks(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = from_record(tosses(), replace(five, looks=(5, 8)).record())
    eight = extend.extended(tosses(), record, runs=tmp_path / "more")
    claims = [replace(claim, condition=metric("value")(claim.arms[0]).within(50, 0.1)) for claim in tosses().claims]
    reopened = replace(tosses(), claims=claims)
    more = extend.extended(reopened, from_record(reopened, eight.record()), runs=tmp_path / "more")
    assert [(trial.arm, trial.seed) for trial in more.trials] == [
        *(("far", seed) for seed in range(8)),
        *(("near", seed) for seed in range(8)),
    ]


def test_only_a_complete_run_becomes_a_record():
    complete = replace(results.recorded("pattern-completion")["laptop"], looks=(), seeds=10)
    assert results.is_complete(complete)
    assert not results.is_complete(replace(complete, preset="smoke"))
    assert not results.is_complete(replace(complete, seeds=1))
    assert not results.is_complete(replace(complete, changed={"steps": 5}))
    first_arm = [trial for trial in complete.trials if trial.arm == complete.arms[0]]
    assert not results.is_complete(replace(complete, trials=first_arm))
    assert results.is_complete(replace(complete, seeds=5, looks=(5, 10)))


def test_a_record_of_a_fixed_number_of_seeds_goes_on_by_the_looks_of_its_preset(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    more = extend.extended(tosses(), from_record(tosses(), five.record()), runs=tmp_path / "more")
    assert (len(five.looks), more.looks, more.seeds) == (0, (5, 8), 8)
    assert [judged.look for judged in more.claims()] == [1, 2]


@pytest.mark.parametrize(("looks", "seeds"), [((5,), 8), ((5, 6), 6)])
def test_a_record_goes_on_by_further_looks_that_its_preset_has(tmp_path, looks, seeds):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    more = extend.extended(tosses(), from_record(tosses(), replace(five, looks=looks).record()), runs=tmp_path / "more")
    assert (tuple(more.looks), more.seeds) == ((5, 8) if seeds == 8 else looks, seeds)


@pytest.fixture
def altered(tmp_path):
    """A record whose first number of an arm that goes on is another one, and the true result of that trial."""
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    result = {trial.arm: trial.result for trial in five.trials if trial.seed == 0}["near"]
    record = replace(five, looks=(5, 8)).record()
    for trial in record["trials"]:
        if (trial["arm"], trial["seed"]) == ("near", 0):
            trial["result"] = {**trial["result"], "value": result["value"] * (1 + 1e-3)}
    return from_record(tosses(), record), result


def test_a_record_of_other_code_does_not_go_on(altered, tmp_path):
    record, result = altered
    for by_the_record in ({}, {"near": {**result, "value": record.trials[5].result["value"]}}):
        with pytest.raises(
            ValueError, match=r"tosses: the record was made by other code; different numbers: near: value"
        ):
            extend.extended(tosses(), record, runs=tmp_path / "more", recompute=lambda *_, of=by_the_record: of)


def test_a_record_without_a_number_that_trials_have_since_goes_on(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = replace(five, looks=(5, 8)).record()
    for trial in record["trials"]:
        del trial["result"]["microseconds_10"]
    assert extend.extended(tosses(), from_record(tosses(), record), runs=tmp_path / "more").seeds == 8


def test_a_record_is_current_if_settings_that_it_lacks_have_their_default(tmp_path):
    record = engram.run(tosses(), seeds=1, runs=tmp_path, jobs=1, progress=False).record()
    arms = record["arms"]
    assert results.is_current(tosses(), record)
    maze = results.records("maze")["laptop"]
    without = {arm: {name: own[name] for name in own if name != "alpha"} for arm, own in maze["arms"].items()}
    assert results.is_current("maze", {**maze, "arms": without})
    for other in ({}, {"mean": 49.0}, {"mean": 50.0, "spread": 1.0}):
        assert not results.is_current(tosses(), {**record, "arms": {**arms, "far": other}})
    assert not results.is_current(tosses(), {**record, "arms": {"far": arms["far"]}})


def test_a_record_of_another_machine_goes_on(altered, tmp_path, capsys):
    record, result = altered
    more = extend.extended(tosses(), record, runs=tmp_path / "more", recompute=lambda name, arms: {"near": result})
    assert more.seeds == 8
    assert "tosses: another machine gives other last digits in near" in capsys.readouterr().out


def test_machines_of_a_record_that_goes_on_are_all_named(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    elsewhere = {**five.environment, "hardware": {**five.environment["hardware"], "processor": "Abacus"}}
    record = from_record(tosses(), replace(five, looks=(5, 8), environment=elsewhere).record())
    more = extend.extended(tosses(), record, runs=tmp_path / "more")
    assert more.environment["hardware"]["processor"] == f"Abacus and {five.environment['hardware']['processor']}"
    assert merged_environments([more.environment, elsewhere]) == more.environment, "a machine is named once"
    assert more.environment["versions"] == five.environment["versions"]
