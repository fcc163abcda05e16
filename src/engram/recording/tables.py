"""The tables that are generated from the records of engram's own experiments, in a checkout of its repository.

These are the README's counts, the gallery's table of experiments, the verdicts that ``engram list`` counts, the claims
that test the headlines of papers, and the verdicts of each released version.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from engram import registry
from engram.lab import correction
from engram.lab.claim import Claim
from engram.lab.experiment import Experiment
from engram.lab.record_files import ClaimRecord, Record, from_record, is_current, read_curves
from engram.lab.results import Results
from engram.papers import Evidence, Judgement, overview, papers
from engram.papers.evidence import as_json
from engram.storage.files import read_json, write_atomic, write_json
from engram.verdicts import counted, stored
from engram.version import __version__

ROOT = Path(__file__).parents[3]
RECORDS = ROOT / "results"
VERSIONS = RECORDS / "versions.json"
README = ROOT / "README.md"
VERDICTS = Path(__file__).parents[1] / "experiments" / "verdicts.json"
EVIDENCE = Path(__file__).parents[1] / "papers" / "evidence.json"
PRESET = "laptop"
README_FIGURE = "pattern-completion"
GUIDE = ROOT / "docs" / "learning-rules.md"
RULES = "learning-rules-on-images"


def is_checkout() -> bool:
    """Whether this package lies in a checkout of its repository, where the tables are."""
    return RECORDS.is_dir() and README.is_file()


def path_of(name: str, preset: str = PRESET) -> Path:
    """The path of the record of an experiment's preset."""
    return RECORDS / f"{name}-{preset}.json"


def records(name: str) -> dict[str, Record]:
    """The records of an experiment as they are stored, by preset."""
    paths = {preset: path_of(name, preset) for preset in registry.get("experiments", name).presets}
    return {preset: read_json(path, Record) for preset, path in paths.items() if path.exists()}


def waits(name: str) -> str:
    """The reason why an experiment has no verdicts."""
    return "changed since its last record and not run again yet" if records(name) else "not recorded yet"


@cache
def recorded(name: str) -> dict[str, Results]:
    """The results of an experiment's current records, by preset; a record of an older revision is left out."""
    experiment: Experiment = registry.get("experiments", name)
    return {
        preset: from_record(experiment, record, read_curves(path_of(name, preset), record))
        for preset, record in records(name).items()
        if is_current(experiment, record)
    }


def summary_table(link: str = "gallery/{name}.md") -> str:
    """Every experiment of the registry with its verdicts, as a Markdown table.

    Args:
        link: The address of an experiment with its ``name``.
    """
    rows = ["| Experiment | What it tests | Verdicts on its claims at laptop size |", "|---|---|---|"]
    for name in registry.experiments():
        cells = []
        for preset, results in recorded(name).items():
            count = counted(Counter(judged.corrected for judged in results.claims()))
            cells.append(count if preset == PRESET else f"preset {preset}: {count}")
        summary = registry.get("experiments", name).summary
        rows.append(f"| [{name}]({link.format(name=name)}) | {summary} | {'; '.join(cells) or waits(name)} |")
    return "\n".join(rows)


def evidence() -> dict[str, Evidence]:
    """The claims that the headlines of papers cite, as the current records judge them.

    The verdicts are those of ``verdicts.json``.

    Raises:
        ValueError: A headline cites a claim that does not exist, or that a record has not judged as it is now.
    """
    cited: dict[str, Evidence] = {}
    stored = cache(records)
    short = json.loads(VERDICTS.read_text(encoding="utf-8"))["short"]
    for claim in dict.fromkeys(claim for paper in papers() for headline in paper.headlines for claim in headline.cited):
        name, _, claim_id = claim.partition("/")
        claims = {of.id: of for of in registry.get("experiments", name).claims}
        if claim_id not in claims:
            raise ValueError(f"a headline cites {claim}: {registry.suggestion(claim_id, claims)}")
        judged = {
            preset: Judgement(
                of["verdict"],
                "undecided" if claim_id in short.get(name, {}).get(preset, {}) else of["verdict"],
                *(of["ours"], of["low"], of["high"], of["seeds"]),
            )
            for preset, of in ((preset, judged_in(stored(name)[preset], claims[claim_id])) for preset in recorded(name))
            if of["verdict"] != "not testable here"
        }
        cited[claim] = Evidence(claims[claim_id].statement, str(claims[claim_id].criterion), judged)
    return cited


def judged_in(record: Record, claim: Claim) -> ClaimRecord:
    """A claim as a record judges it; ValueError if the record was judged before the claim was made or changed."""
    judged = record["claims"].get(claim.id)
    if judged is None or judged["criterion"] != str(claim.criterion):
        name, preset = record["experiment"], record["preset"]
        raise ValueError(
            f"the record of {name}, preset {preset}, was judged before its claim {claim.id} was made or changed, so "
            f"judge it again: engram record {name} --preset {preset}"
        )
    return judged


def readme_block() -> str:
    """The generated line of the README: how many headlines of papers there are, how they were tried, what came out."""
    return overview.sentence(papers(), evidence())


def rules_table() -> str:
    """What each learning rule loses and costs, as a Markdown table for the guide to them."""
    results = recorded(RULES).get(PRESET)
    if results is None:
        return f"The experiment {RULES} is {waits(RULES)}."
    arms = registry.get("experiments", RULES).by_name["residual"].table
    means = {
        arm: {
            key: sum(values) / len(values)
            for key in ("accuracy", "mean_cosine", "seconds", "extra_kib")
            if (values := [trial.result[key] for trial in results.trials if trial.arm == arm and key in trial.result])
        }
        for arm in arms
    }
    rows = [
        "| rule | accuracy | lost to backpropagation | mean cosine to the gradient | time of a run | memory |",
        "|---|---|---|---|---|---|",
    ]
    backprop = means["backprop"]
    for arm in sorted(arms, key=lambda arm: -means[arm]["accuracy"]):
        of = means[arm]
        costs = [f"{of[key] / backprop[key]:.2f}x" if key in of else "" for key in ("seconds", "extra_kib")]
        cosine = f"{of['mean_cosine']:.2f}" if "mean_cosine" in of else ""
        cells = [f"`{arm}`", f"{of['accuracy']:.3f}", f"{backprop['accuracy'] - of['accuracy']:.3f}", cosine, *costs]
        rows.append(f"| {' | '.join(cells)} |")
    chain = ", ".join(
        f"`{arm.removesuffix('-chain')}` {sum(values) / len(values):.3f}"
        for arm in registry.get("experiments", RULES).by_name["chain"].table
        if (values := results.values(arm, "accuracy"))
    )
    counts = sorted({len(results.values(arm)) for arm in results.arms})  # an arm of an open claim gets more
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return "\n".join([*rows, "", f"On the chain of the same convolutions: {chain}. Means of {seeds} seeds."])


def with_block(text: str, block: str) -> str:
    """``text`` with the content between its results markers replaced."""
    replaced, count = re.subn(
        r"(<!-- results: begin[^>]*-->\n)(?:.*?\n)?(<!-- results: end -->)",
        lambda match: f"{match[1]}{block}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"found {count} results blocks, expected 1")
    return replaced


def verdicts() -> dict[str, Any]:
    """The verdict on each claim of each record, and the seeds that those lack which are undecided once corrected.

    The correction is over the tests of all records.
    """
    runs = {name: recorded(name) for name in registry.experiments()}
    claims = {name: {preset: run.claims() for preset, run in of_preset.items()} for name, of_preset in runs.items()}
    everything = [judged for of_preset in claims.values() for of_run in of_preset.values() for judged in of_run]
    family = correction.family_of([judged.p for judged in everything])
    short: dict[str, dict[str, dict[str, int]]] = {}
    for name, of_preset in claims.items():
        for preset, of_run in of_preset.items():
            for judged in correction.correct(of_run, runs[name][preset].looks, family):
                if judged.lacks:
                    short.setdefault(name, {}).setdefault(preset, {})[judged.claim.id] = judged.lacks
    return {
        **family._asdict(),
        "short": short,
        "verdicts": {
            name: {
                preset: {judged.claim.id: judged.verdict for judged in of_run} for preset, of_run in of_preset.items()
            }
            for name, of_preset in claims.items()
        },
    }


def verdicts_by_claim() -> dict[str, dict[str, str]]:
    """The verdict on each claim of each experiment at laptop size."""
    runs = {name: of_preset[PRESET] for name in registry.experiments() if PRESET in (of_preset := recorded(name))}
    return {name: {judged.claim.id: judged.verdict for judged in run.claims()} for name, run in runs.items()}


def released() -> dict[str, dict[str, dict[str, str]]]:
    """The verdicts on claims of each released version, the oldest first."""
    return dict(json.loads(VERSIONS.read_text()))


def last_release() -> str | None:
    """The last version that was released before this one; None if there is none."""
    return next((version for version in reversed(released()) if version != __version__), None)


def changed_since(version: str) -> list[tuple[str, str, str, str]]:
    """The claims whose verdicts differ: experiment, claim, verdict then and verdict now, empty where none is."""
    then, now = released()[version], verdicts_by_claim()
    verdicts = [
        (name, claim, then.get(name, {}).get(claim, ""), now.get(name, {}).get(claim, ""))
        for name in dict.fromkeys([*now, *then])
        for claim in dict.fromkeys([*now.get(name, {}), *then.get(name, {})])
    ]
    return [row for row in verdicts if row[2] != row[3]]


def write() -> None:
    """Write the tables."""
    recorded.cache_clear()
    write_json(VERDICTS, verdicts())
    stored.cache_clear()  # and what was corrected by it
    recorded.cache_clear()
    write_json(EVIDENCE, as_json(evidence()))
    write_atomic(README, with_block(README.read_text(encoding="utf-8"), readme_block()).encode())
    write_atomic(GUIDE, with_block(GUIDE.read_text(encoding="utf-8"), rules_table()).encode())


def write_release() -> None:
    """Add the current verdicts to those of the released versions, before this version is tagged."""
    write_json(VERSIONS, {**released(), __version__: verdicts_by_claim()})
