"""The verdicts on claims: the index of those of all records, and how verdicts are counted everywhere.

``results/index.json`` holds one row for each claim and preset of the records beside it; ``engram record`` writes it.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

Verdict = Literal[
    "reproduced",
    "agrees",
    "holds",
    "not reproduced",
    "disagrees",
    "fails",
    "undecided",
    "identity",
    "not testable here",
]
GOOD = ("reproduced", "agrees", "holds")
BAD = ("not reproduced", "disagrees", "fails")
FILE = "index.json"


def counted(verdicts: Mapping[str, int], untried: int = 0) -> str:
    """The number of claims that hold, in words.

    Identities, which test the code, and claims that cannot be tested here are not counted.

    Args:
        verdicts: Number of claims with each verdict.
        untried: Number of further claims that wait for the trials of a run.

    Examples:
        >>> counted({"agrees": 7, "disagrees": 1, "identity": 2, "not testable here": 1})
        '7 of 8 claims hold'
        >>> counted({"holds": 7, "undecided": 2})
        '7 of 9 claims hold, 2 undecided'
        >>> counted({"holds": 1}, untried=7)
        '1 of 1 claims hold; 7 not tried yet'
    """
    tested = [(verdict, count) for verdict, count in verdicts.items() if verdict in (*GOOD, *BAD, "undecided")]
    good = sum(count for verdict, count in tested if verdict in GOOD)
    if not tested:
        return "no claim has been tried yet" if untried else "no claim can be tested here"
    undecided = f", {count} undecided" if (count := dict(tested).get("undecided", 0)) else ""
    waiting = f"; {untried} not tried yet" if untried else ""
    return f"{good} of {sum(dict(tested).values())} claims hold{undecided}{waiting}"


class Judgement(NamedTuple):
    """A claim as the record of a preset judges it: a row of the index.

    Attributes:
        experiment, preset, claim: Names of the experiment and of the preset, and the claim's id.
        statement: The claim in words.
        criterion: What its value has to meet.
        published: The published figure or words; empty if nothing was published.
        ours, low, high: Our value and its interval; None without values.
        seeds: The number of seeds.
        verdict: The verdict by its own interval.
        corrected: The verdict that counts, corrected over the claims of all records.
        lacks: Estimated number of further seeds that it needs to be counted as its interval decides it; 0 if it is.
    """

    experiment: str
    preset: str
    claim: str
    statement: str
    criterion: str
    published: str
    ours: float | None
    low: float | None
    high: float | None
    seeds: int
    verdict: Verdict
    corrected: Verdict
    lacks: int

    @property
    def value(self) -> str:
        """Our value and its interval in words; empty without values."""
        if self.ours is None:
            return ""
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.ours:.3g}{interval}"

    @property
    def said(self) -> str:
        """The verdict in words, and whether it counts."""
        return self.verdict + ", adjusted: undecided" * (self.corrected != self.verdict)


Judgements = Mapping[tuple[str, str, str], Judgement]
"""Judged claims by experiment, preset and claim."""


class Index(NamedTuple):
    """The index of the records in a folder.

    Attributes:
        tests: Number of tests over which their verdicts are corrected.
        largest: The largest p-value that decides; 0 if none does.
        judgements: The claims of all records.
    """

    tests: int
    largest: float
    judgements: Judgements


@functools.cache
def index_in(folder: Path) -> Index | None:
    """The index in a folder of records; None if it has none.

    Args:
        folder: The folder.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        Judgement(experiment, preset, claim, **row)
        for experiment, presets in content["claims"].items()
        for preset, claims in presets.items()
        for claim, row in claims.items()
    ]
    return Index(content["tests"], content["largest"], {row[:3]: row for row in rows})


def recorded_verdicts() -> Judgements:
    """The verdicts on all claims of all records that ship with engram, by experiment, preset and claim.

    Examples:
        >>> judged = recorded_verdicts()["pattern-completion", "laptop", "plastic-learns"]
        >>> judged.verdict, judged.corrected, judged.lacks, judged.value
        ('agrees', 'agrees', 0, '0.0154 [0.0126, 0.0182]')
    """
    experiments = Path(__file__).parent / "experiments"
    found = (index_in(above / "results") for above in (experiments, *experiments.parents))
    return next((index.judgements for index in found if index is not None), {})


def recorded_counts() -> dict[str, dict[str, Counter[str]]]:
    """How many claims of all records that ship with engram have each corrected verdict, by experiment and preset."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for (experiment, preset, _), judged in recorded_verdicts().items():
        counts.setdefault(experiment, {}).setdefault(preset, Counter())[judged.corrected] += 1
    return counts


def as_json(index: Index) -> dict[str, object]:
    """An index as it is stored: of each experiment and preset, the claims with the rest of their rows."""
    claims: dict[str, dict[str, dict[str, object]]] = {}
    for row in index.judgements.values():
        of_preset = claims.setdefault(row.experiment, {}).setdefault(row.preset, {})
        of_preset[row.claim] = dict(zip(row._fields[3:], row[3:], strict=True))
    return {"tests": index.tests, "largest": index.largest, "claims": claims}
