"""What README and docs show is what the run records say."""

from __future__ import annotations

import importlib.util
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import engram
from engram.lab.output import record_files
from engram.lab.output.record_files import Record, answer_in_words, as_text, is_current, record_path, recorded_arms
from engram.lab.trial.choice import at_ends
from engram.storage.files import read_json
from engram.studies.papers import Headline, Paper
from engram.studies.recording import pictures, tables
from engram.studies.standings.record_comparisons import with_candidates
from engram.verdicts import BAD, FILE, Verdict, as_json, cited, index_in

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("campaigns", ROOT / "docs" / "campaigns.py")
campaigns = importlib.util.module_from_spec(spec)
spec.loader.exec_module(campaigns)


TYPED = re.compile(r"\[[\w./+=-]+:\s+(holds|fails|agrees|is open)\]")
# Changed since they were recorded: their runs take hours, and come one after another.
WAITING: set[str] = set()
UNRECORDED: set[str] = set()
# Arms of comparisons that run where somebody compares: to be recorded by `engram record --comparisons`.
UNCOMPARED = {"continual-learners"}
CURRENT = [name for name in engram.experiments() if name not in WAITING | UNRECORDED]


def test_every_record_is_of_a_whole_run_of_the_preset_as_it_is():
    assert tables.README_FIGURE in CURRENT
    for name in CURRENT:
        for size, run in tables.recorded(name).items():
            preset = engram.registry.get("experiments", name).presets[size]
            assert (run.preset, run.changed) == (size, {})
            looks = run.looks or (preset.seeds,)
            looks = (*range(1, looks[0]), *looks)  # before its first look a record is under way, and decides nothing
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
        if not all(is_current(name, record) for record in tables.records(name).values())
    }
    assert changed == WAITING, "run `engram record`"


def test_records_of_comparisons_have_the_arms_that_the_own_records_lack():
    waiting = set()
    for experiment in (engram.registry.get("experiments", name) for name in engram.experiments()):
        path = tables.path_of(experiment.name, "compare")
        extended, names = with_candidates(experiment)
        counts = {of: arms_with_seeds(extended, of) for of in ("laptop", "compare")}
        if path.exists():
            assert counts["compare"].keys() == read_json(path, Record)["arms"].keys(), "all of today's settings"
            assert set(counts["compare"].values()) == {5}
        assert [arm for arm in counts["compare"] if counts["laptop"].get(arm, 0) >= 5] == []
        if any(all(of.get(arm, 0) < 5 for of in counts.values()) for arm in names):
            waiting.add(experiment.name)
    assert waiting == UNCOMPARED, "run `engram record --comparisons`"
    assert not any("compare" in of[:2] for of in index_in(tables.RECORDS).judgements)


def arms_with_seeds(experiment, record):
    """The number of seeds of each arm in a record whose settings are today's."""
    results = recorded_arms(experiment, "laptop", record)
    return {} if results is None else {arm: len(results.values(arm)) for arm in results.arms}


def test_records_are_small():
    files = {path: path.read_bytes() for path in tables.RECORDS.iterdir()}
    assert sum(map(len, files.values())) < 12e6
    assert sum(len(zlib.compress(content, 6)) for content in files.values()) < 5e6, "which is their size in the wheel"


@pytest.mark.parametrize("name", engram.experiments())
def test_no_arm_of_a_record_chose_at_an_end_of_its_grid_that_is_no_bound(name):
    for run in tables.recorded(name).values():
        assert not at_ends(run.choices)


@pytest.mark.parametrize("name", CURRENT)
def test_an_answer_says_what_the_record_says(name):
    experiment = engram.registry.get("experiments", name)
    assert not TYPED.search(" ".join(experiment.answer.split())), "verdicts are set in from the index"
    verdicts: dict[str, str] = {}  # of the smallest preset that tests a claim
    for run in tables.recorded(name).values():
        tested = [judged for judged in run.claims() if judged.verdict != "not testable here"]
        verdicts = {judged.claim.id: judged.corrected for judged in tested} | verdicts
    words = {**dict.fromkeys(BAD, "fails"), "undecided": "is open"}
    said = re.findall(r"\[([^\]]*?): ([^\]]*)\]", answer_in_words(experiment))
    quantities = {quantity.id for quantity in experiment.quantities}
    assert {claim for claim, _ in said} <= set(cited(experiment.answer)) <= set(verdicts) | quantities
    assert said == [(claim, words.get(verdicts[claim], "holds")) for claim, _ in said]


def test_no_verdict_is_typed():
    files = [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".toml")]
    assert [path for path in files if TYPED.search(path.read_text(encoding="utf-8"))] == []
    assert TYPED.search(f"It learns [it-learns: {'holds'}]")


def test_an_answer_turns_with_a_verdict_and_its_number(monkeypatch):
    experiment = engram.registry.get("experiments", tables.README_FIGURE)
    said = "with {} wrong bits [plastic-learns: {}],"
    assert said.format("1.5 %", "holds") in answer_in_words(experiment)
    index = index_in(tables.RECORDS)
    of = (experiment.name, "laptop", "plastic-learns")
    turned = index.judgements[of]._replace(verdict="disagrees", corrected="disagrees", ours=0.25)
    judgements = {**index.judgements, of: turned}
    monkeypatch.setattr(record_files, "index_in", lambda folder: index._replace(judgements=judgements))
    assert said.format("25.0 %", "fails") in answer_in_words(experiment)
    del judgements[of], judgements[experiment.name, "large", "plastic-learns"]
    assert said.format("(not judged)", "is not judged") in answer_in_words(experiment)


@pytest.mark.parametrize("name", CURRENT)
def test_an_answer_is_three_to_five_sentences(name):
    text = re.sub(r"\[[^\]]*\]", "", answer_in_words(engram.registry.get("experiments", name)))
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    assert 3 <= len(sentences) <= 5, sentences
    assert all(sentence.endswith(".") for sentence in sentences)


def test_claims_whose_criterion_was_changed_are_named():
    concepts = (ROOT / "docs" / "concepts.md").read_text()
    claims = [
        (name, claim) for name in engram.experiments() for claim in engram.registry.get("experiments", name).claims
    ]
    revised = [(name, claim.id) for name, claim in claims if claim.revised]
    assert len(revised) >= 9
    named = {
        name: tuple(re.findall(r"`([^`\n]+)`", text)) for name, text in re.findall(r"`([\w-]+)`:([^;]*)", concepts)
    }
    assert [(name, claim) for name, claim in revised if not claim.startswith(named[name])] == []


def test_every_experiment_but_the_newest_has_a_record():
    assert {name for name in engram.experiments() if not tables.path_of(name).exists()} == UNRECORDED


def test_what_ships_as_recorded_is_what_the_pages_show():
    for name in CURRENT:
        assert record_path(engram.registry.get("experiments", name), "laptop") == tables.path_of(name)
    name = tables.README_FIGURE
    shipped, shown = engram.recorded(name), tables.recorded(name)["laptop"]
    assert shipped.trials == shown.trials
    assert shipped.metrics.equals(shown.metrics)


def test_a_record_that_does_not_fit_is_refused():
    experiment = engram.registry.get("experiments", "pattern-completion")
    smaller = replace(experiment.presets["laptop"], arms=tuple(experiment.arms("laptop"))[:1])
    presets = {**experiment.presets, "laptop": smaller}
    with pytest.raises(ValueError, match="pattern-completion has changed since its record of preset laptop"):
        engram.recorded(replace(experiment, presets=presets, claims=(), tasks=(), answer=""))
    with pytest.raises(ValueError, match="pattern-completion has no record of preset published"):
        engram.recorded("pattern-completion", "published")
    with pytest.raises(ValueError, match="preset = 'huge'"):
        engram.recorded("pattern-completion", "huge")


def test_the_readme_shows_the_records():
    readme = (ROOT / "README.md").read_text()
    assert readme == tables.with_block(readme, tables.readme_block()), "run `engram record`"


def test_the_index_has_the_verdicts_of_the_records():
    stored, index = index_in(tables.RECORDS), tables.index()
    assert (tables.RECORDS / FILE).read_text() == as_text(as_json(stored))
    assert list(stored.judgements) == list(index.judgements), "run `engram record`"
    assert (stored.tests, stored.largest) == (index.tests, pytest.approx(index.largest, rel=1e-4))
    assert stored.rate == index.rate
    assert list(stored.quantities) == list(index.quantities), "run `engram record`"
    rows = {**index.judgements, **index.quantities}
    for of, row in rows.items():  # the last digits depend on the machine that judges
        numbers = {name: getattr(row, name) for name in ("ours", "low", "high")}
        near = {name: number if number is None else pytest.approx(number, rel=1e-4) for name, number in numbers.items()}
        assert {**stored.judgements, **stored.quantities}[of] == row._replace(**near), "run `engram record`"


def test_no_file_of_the_package_but_the_index_holds_a_verdict():
    files = [path for folder in (ROOT / "src", tables.RECORDS) for path in folder.rglob("*.json")]
    words = re.compile(f': "({"|".join(get_args(Verdict))})"')
    assert [path for path in files if words.search(path.read_text())] == [tables.RECORDS / FILE]


def test_the_readme_is_short_and_shows_a_program_first():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert lines.index("```python") < 30
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    of_site = [line for line in (ROOT / "docs" / "index.md").read_text().splitlines() if line.startswith("## ")]
    assert [line.removeprefix("## ") for line in of_site] == headings


def test_the_readme_lists_every_package_with_the_papers_and_a_guide():
    table = (ROOT / "README.md").read_text().partition("<!-- parts: begin -->")[2].partition("<!-- parts: end -->")[0]
    rows = [line.split("|") for line in table.strip().splitlines()[2:]]
    folders = {path.parent.name for path in (ROOT / "src" / "engram").glob("*/__init__.py")}
    assert {row[1].strip(" `") for row in rows} <= folders
    for row in rows:
        assert (guides := re.findall(r"\((docs/[\w-]+\.md)\)", row[4]))
        assert all((ROOT / guide).is_file() for guide in guides)
    listed = " ".join(row[3] for row in rows).lower()
    assert [paper.name for paper in tables.papers() if paper.name.lower() not in listed] == []


def test_a_headline_that_cites_no_claim_of_its_experiment_is_named(monkeypatch):
    row = Headline("It works", "reduced", ("pattern-completion/plastic-learn",), how="half")
    monkeypatch.setattr(tables, "papers", lambda: (Paper("A", "B", "C", (row,)),))
    with pytest.raises(ValueError, match=r"a headline cites pattern-completion/plastic-learn: .*plastic-learns"):
        tables.index()


def test_the_docs_tell_the_campaigns():
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert page == tables.with_block(page, campaigns.campaigns_block()), "run `python docs/campaigns.py`"
    counts = json.loads(campaigns.CAMPAIGNS.read_text())
    bad = [counts["kills"][what] for what in ("differences", "crashes")]
    assert [*bad, *(counts["calls"].get(what, 0) for what in ("crashes", "hangs"))] == [0, 0, 0, 0]


def test_every_released_version_has_its_verdicts():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    tagged = re.findall(r"^## \[([^\]]+)\] - \d{4}-\d\d-\d\d", changelog, re.MULTILINE)
    assert set(tables.released()) >= set(tagged), "run `engram record --release`"


def test_what_changed_is_told_by_the_verdicts_of_the_version_before(tmp_path, monkeypatch):
    now = tables.verdicts_by_claim()
    name, claim, new = tables.README_FIGURE, *list(now[tables.README_FIGURE])[:2]
    then = {**now, name: {of: verdict for of, verdict in now[name].items() if of != new} | {claim: "undecided"}}
    monkeypatch.setattr(tables, "VERSIONS", tmp_path / "versions.json")
    tables.VERSIONS.write_text(json.dumps({engram.__version__: {}}))
    assert tables.last_release() is None
    tables.VERSIONS.write_text(json.dumps({"0.0.1": {}, "0.0.2": then, engram.__version__: {}}))
    assert tables.last_release() == "0.0.2"
    assert tables.changed_since("0.0.2") == [
        (name, claim, "undecided", now[name][claim]),
        (name, new, "", now[name][new]),
    ]


def test_the_figure_was_drawn_from_the_record():
    assert pictures.figure_is_current(tables.README_FIGURE), "run `engram record`"


def test_the_pictures_of_the_gallery_were_drawn_from_the_records():
    drawn = {path.stem for path in (ROOT / "docs" / "images" / "gallery").iterdir()}
    assert drawn == set(CURRENT), "run `engram record`"
    assert all(map(pictures.thumbnail_is_current, CURRENT)), "run `engram record`"


def test_a_figure_typed_by_hand_is_noticed():
    block = tables.readme_block()
    readme = f"<!-- results: begin -->\n{block}\n<!-- results: end -->"
    assert tables.with_block(readme, block) == readme
    forged = readme.replace("Of 1", "Of 2", 1)
    assert forged != readme
    assert tables.with_block(forged, block) == readme


def test_a_record_of_another_preset_stands_beside_that_of_laptop_size(tmp_path, monkeypatch):
    name = tables.README_FIGURE
    laptop = tables.path_of(name)
    record, curves = json.loads(laptop.read_text()), laptop.with_suffix(".parquet").read_bytes()
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    monkeypatch.setattr(tables, "recorded", tables.recorded.__wrapped__)  # not what was read before
    monkeypatch.setattr(tables, "is_current", lambda name, record: True)  # its arms are those of laptop size
    for preset in ("laptop", "published"):
        path = tables.path_of(name, preset)
        path.write_text(as_text({**record, "preset": preset}))
        path.with_suffix(".parquet").write_bytes(curves)
    assert list(tables.recorded(name)) == ["laptop", "published"]
    monkeypatch.setattr(tables.registry, "experiments", lambda: [name])
    judged = tables.index().judgements
    assert [preset for _, preset, claim in judged if claim == "plastic-learns"] == ["laptop", "published"]


def test_the_gallery_counts_the_claims_of_each_preset():
    row = next(line for line in tables.summary_table().splitlines() if f"[{tables.README_FIGURE}]" in line)
    laptop_size, larger = row.split("; preset large: ")
    assert laptop_size.endswith("claims hold")
    assert "claims hold" in larger


def test_a_readme_without_its_block_is_refused():
    with pytest.raises(ValueError, match="found 0 results blocks"):
        tables.with_block("nothing", "block")


def test_the_guide_to_learning_rules_says_of_how_many_seeds_its_means_are(monkeypatch):
    results = tables.recorded(tables.RULES)[tables.PRESET]
    first, *others = results.trials
    extended = replace(results, trials=[first, *others, replace(first, seed=results.seeds)], seeds=results.seeds + 5)
    monkeypatch.setattr(tables, "recorded", lambda name: {tables.PRESET: extended})
    assert tables.rules_table().endswith(f"Means of {results.seeds} to {results.seeds + 1} seeds.")
