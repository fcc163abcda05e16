"""The words for verdicts stand for what they say, in records, README, documentation and reports."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import engram
from engram import registry
from engram.lab import report
from engram.recording import tables
from engram.verdicts import counted, recorded_verdicts

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORD = re.compile(r"\breproduced\b")
DEFINED = re.compile(r"\*(?:not )?reproduced\*")  # in italics: the word itself, where it is explained
BLOCK = re.compile(r"<!-- results: begin.*?<!-- results: end -->", re.DOTALL)


def experiments():
    return [registry.get("experiments", name) for name in engram.experiments()]


def may_be_reproduced(name: str, preset: str, claim_id: str) -> bool:
    experiment = registry.get("experiments", name)
    (claim,) = [claim for claim in experiment.claims if claim.id == claim_id]
    return bool(experiment.presets[preset].published and claim.published) and claim.threshold == "paper"


def test_a_record_says_reproduced_only_of_published_settings_and_criteria():
    said = {
        (record["experiment"], record["preset"], claim)
        for path in tables.RECORDS.glob("*-*.json")
        for record in [json.loads(path.read_text())]
        for claim, stored in record["claims"].items()
        if WORD.search(stored["verdict"])
    }
    assert said == {of for of, judged in recorded_verdicts().items() if WORD.search(judged.verdict)}
    assert said, "the evolved networks were run with their published settings"
    assert [of for of in said if not may_be_reproduced(*of)] == []


def test_a_criterion_of_the_paper_belongs_to_what_was_published_and_does_not_call_itself_ours():
    of_papers = [
        (experiment, claim) for experiment in experiments() for claim in experiment.claims if claim.threshold == "paper"
    ]
    assert [claim.id for _, claim in of_papers if not claim.published] == []
    ours = re.compile(r"criteri(on|a)( is| are)? ours")
    assert [claim.id for _, claim in of_papers if ours.search(claim.source)] == []


def test_a_preset_is_called_published_where_it_says_where_its_settings_stand_and_no_other_says_paper():
    for experiment in experiments():
        assert "paper" not in experiment.presets
        assert not getattr(experiment.presets.get("large"), "published", ""), "then it is called published"
        for preset in experiment.presets.values():
            data = [value for name, value in preset.changes.items() if name in ("images", "corpus", "characters")]
            assert not (preset.published and any("jpeg" in str(value) for value in data)), experiment.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_reproduced_only_where_it_explains_the_word_or_quotes_a_record(page):
    prose = DEFINED.sub("", BLOCK.sub("", page.read_text()))
    assert [line for line in prose.splitlines() if WORD.search(line)] == []
    assert "laptop scale" not in page.read_text()


@pytest.mark.parametrize(
    ("name", "preset", "words"),
    [("noodl", "laptop", "at published settings"), ("image-completion", "laptop", "at laptop size")],
)
def test_a_report_says_reproduced_only_at_published_settings(name, preset, words):
    results = tables.recorded(name)[preset]
    page = report.as_html(report.section(registry.get("experiments", name), results, curves=False))
    text = re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert words in text
    assert bool(WORD.search(text)) == results.is_published


def test_the_counts_of_the_gallery_are_corrected():
    table = tables.summary_table()
    counts: dict[str, Counter[str]] = {}
    for (name, preset, _), judged in recorded_verdicts().items():
        if preset == tables.PRESET:
            counts.setdefault(name, Counter())[judged.corrected] += 1
    for name, of_experiment in counts.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| [{name}](gallery/")]
        assert f"| {counted(of_experiment)}" in row
