"""The words for verdicts stand for what they say, in records, README, documentation and reports."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import engram
from engram import registry
from engram.lab.output import report
from engram.studies.recording import tables
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
    said = {of for of, judged in recorded_verdicts().items() if WORD.search(judged.verdict)}
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


# Words that were ours alone, and those of the field that took their place; docs/glossary.md explains these.
RETIRED = {
    r"\b(?:first|next|last|each|earlier|further|all|four|preset's|at the) looks?\b|\blook \d": "interim analysis",
    r"\bstandings?\b": "leaderboard",
    r"\bcandidates?\b": "method",
    r"\btrivial (?:candidate|one|method)\b": "baseline",
    r"\bresolves \d|\bat a distance of\b": "smallest detectable difference",
    r"\blacks about\b": "additional seeds needed",
    r"\bcounts as undecided\b|\bcorrected verdict|\bcorrected for many tests": "adjusted",
    r"\btold apart\b": "test accuracy",
    r"\bshortcuts?\b": "skip connection",
    r"\bfurther ones\b": "held-out",
    r"\bbut: ": "caveat",
    r"\b[Tt]rains any network\b|\bnetworks do the same\b|\bdoes not forget\b|\ba better protein\b": "what is shown",
}
CODE = re.compile(r"```.*?```|`[^`\n]*`|\[\[.*?\]\]|\]\([^)]*\)|\{[%{].*?[%}]\}", re.DOTALL)
SHOWN = ["cli/commands.py", "run_options.py", "lab/output/report.html", "studies/standings/overview.html"]


@pytest.mark.parametrize("retired", RETIRED, ids=lambda retired: RETIRED[retired])
def test_pages_help_and_reports_use_the_words_of_the_field(retired):
    sources = [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "src" / "engram" / name for name in SHOWN)]
    found = {
        source.name: said
        for source in sources
        if source.name != "benchmarks.md"  # look-ups
        if (said := [match[0] for match in re.finditer(retired, CODE.sub(" ", source.read_text()))])
    }
    assert found == {}, f"say {RETIRED[retired]!r}"


def test_the_glossary_explains_each_word_once():
    terms = re.findall(r"^(.+)\n:   ", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    words = [word.strip() for term in terms for word in term.split(",")]
    assert len(terms) >= 40
    assert len(set(words)) == len(words)
