"""The tables that are generated from the records of engram's own experiments, in a checkout of its repository.

These are the index of all verdicts, from which everything that shows or counts verdicts takes them, the README's
counts, the gallery's table of experiments, and the verdicts of each released version.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from engram import registry
from engram.lab.output.record_files import Record, from_record, is_current, read_curves
from engram.lab.output.results import Results
from engram.lab.trial.experiment import Experiment
from engram.storage.files import read_json, write_atomic, write_json
from engram.studies.papers import overview, papers
from engram.studies.recording.index import index_of, write_index
from engram.verdicts import Index, counted, recorded_counts, recorded_index, recorded_verdicts
from engram.version import __version__

ROOT = Path(__file__).parents[4]
RECORDS = ROOT / "results"
VERSIONS = RECORDS / "versions.json"
README = ROOT / "README.md"
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
    counts = recorded_counts()
    rows = ["| Experiment | What it tests | Verdicts on its claims at laptop size |", "|---|---|---|"]
    for name in registry.experiments():
        of_presets = {preset: counted(count) for preset, count in counts.get(name, {}).items()}
        cells = [count if preset == PRESET else f"preset {preset}: {count}" for preset, count in of_presets.items()]
        summary = registry.get("experiments", name).summary
        rows.append(f"| [{name}]({link.format(name=name)}) | {summary} | {'; '.join(cells) or waits(name)} |")
    return "\n".join(rows)


def index() -> Index:
    """The verdicts on all claims of the current records, corrected over the tests of all of them.

    Raises:
        ValueError: A headline cites a claim that does not exist.
    """
    check_headlines()
    return index_of(runs())


def runs() -> list[Results]:
    """The results of all current records."""
    return [run for name in registry.experiments() for run in recorded(name).values()]


def check_headlines() -> None:
    """Raise ValueError if the headline of a paper cites a claim that does not exist."""
    for claim in dict.fromkeys(claim for paper in papers() for headline in paper.headlines for claim in headline.cited):
        name, _, claim_id = claim.partition("/")
        ids = [of.id for of in registry.get("experiments", name).claims]
        if claim_id not in ids:
            raise ValueError(f"a headline cites {claim}: {registry.suggestion(claim_id, ids)}")


def readme_block() -> str:
    """The generated line of the README: how many headlines of papers there are, how they were tried, what came out."""
    return f"{overview.sentence(papers(), recorded_verdicts())} {overview.expected_errors(recorded_index())}".rstrip()


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


def verdicts_by_claim() -> dict[str, dict[str, str]]:
    """The verdict on each claim of each experiment at laptop size."""
    found: dict[str, dict[str, str]] = {}
    for (name, preset, claim), judged in recorded_verdicts().items():
        if preset == PRESET:
            found.setdefault(name, {})[claim] = judged.verdict
    return found


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
    check_headlines()
    write_index(RECORDS, runs())
    recorded.cache_clear()  # which was corrected by the index before
    write_atomic(README, with_block(README.read_text(encoding="utf-8"), readme_block()).encode())
    write_atomic(GUIDE, with_block(GUIDE.read_text(encoding="utf-8"), rules_table()).encode())


def write_release() -> None:
    """Add the current verdicts to those of the released versions, before this version is tagged."""
    write_json(VERSIONS, {**released(), __version__: verdicts_by_claim()})
