"""The verdicts on claims: the index of those of all records, and how verdicts are counted everywhere.

``results/index.json`` holds one row for each claim and preset of the records beside it; ``engram record`` writes it.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
CITED = re.compile(r"\{([\w.+=/-]+)(?::([^{}]*))?\}")
NUMBER = re.compile(r"(-?)(0?)(?:\.(0+))?( %)?")


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
        return _value(self.ours, self.low, self.high)

    @property
    def word(self) -> str:
        """The verdict that counts, in a sentence: ``holds``, ``fails`` or ``is open``."""
        return "fails" if self.corrected in BAD else "is open" if self.corrected == "undecided" else "holds"


class Measurement(NamedTuple):
    """A quantity without a criterion as the record of a preset measures it: a row of the index.

    Attributes:
        experiment, preset, quantity: Names of the experiment and of the preset, and the quantity's id.
        statement: The quantity in words.
        ours, low, high: Our value and its interval; None without values.
        seeds: The number of seeds.
    """

    experiment: str
    preset: str
    quantity: str
    statement: str
    ours: float | None
    low: float | None
    high: float | None
    seeds: int

    @property
    def value(self) -> str:
        """Our value and its interval in words; empty without values."""
        return _value(self.ours, self.low, self.high)


def _value(ours: float | None, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return "" if ours is None else f"{ours:.3g}{interval}"


Judgements = Mapping[tuple[str, str, str], Judgement]
"""Judged claims by experiment, preset and claim."""


class Index(NamedTuple):
    """The index of the records in a folder.

    Attributes:
        tests: Number of tests over which their verdicts are corrected.
        largest: The largest p-value that decides; 0 if none does.
        rate: The largest expected share of false verdicts among those that are decided.
        judgements: The claims of all records.
        quantities: The quantities of all records, by experiment, preset and id.
    """

    tests: int
    largest: float
    rate: float
    judgements: Judgements
    quantities: Mapping[tuple[str, str, str], Measurement]


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
    judgements = {of: Judgement(*of, **row) for of, row in _rows(content["claims"]).items()}
    quantities = {of: Measurement(*of, **row) for of, row in _rows(content.get("quantities", {})).items()}
    return Index(content["tests"], content["largest"], content["rate"], judgements, quantities)


def _rows(nested: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[tuple[str, str, str], Any]:
    return {
        (experiment, preset, name): row
        for experiment, of in nested.items()
        for preset, rows in of.items()
        for name, row in rows.items()
    }


def recorded_index() -> Index | None:
    """The index of all records that ship with engram; None if there is none."""
    experiments = Path(__file__).parent / "studies" / "experiments"
    found = (index_in(above / "results") for above in (experiments, *experiments.parents))
    return next((index for index in found if index is not None), None)


def recorded_verdicts() -> Judgements:
    """The verdicts on all claims of all records that ship with engram, by experiment, preset and claim.

    Examples:
        >>> judged = recorded_verdicts()["pattern-completion", "laptop", "plastic-learns"]
        >>> judged.verdict, judged.corrected, judged.lacks, judged.value
        ('agrees', 'agrees', 0, '0.0154 [0.0126, 0.0182]')
    """
    index = recorded_index()
    return {} if index is None else index.judgements


def recorded_counts() -> dict[str, dict[str, Counter[str]]]:
    """How many claims of all records that ship with engram have each corrected verdict, by experiment and preset."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for (experiment, preset, _), judged in recorded_verdicts().items():
        counts.setdefault(experiment, {}).setdefault(preset, Counter())[judged.corrected] += 1
    return counts


def as_json(index: Index) -> dict[str, object]:
    """An index as it is stored: of each experiment and preset, claims and quantities with the rest of their rows."""
    kinds = {"claims": _nested(index.judgements), "quantities": _nested(index.quantities)}
    return {"tests": index.tests, "largest": index.largest, "rate": index.rate, **kinds}


def _nested(rows: Judgements | Mapping[tuple[str, str, str], Measurement]) -> dict[str, dict[str, dict[str, object]]]:
    nested: dict[str, dict[str, dict[str, object]]] = {}
    for (experiment, preset, name), row in rows.items():
        of_preset = nested.setdefault(experiment, {}).setdefault(preset, {})
        of_preset[name] = dict(list(row._asdict().items())[3:])
    return nested


def cited(text: str) -> tuple[str, ...]:
    """The claims that a text cites, each once.

    Args:
        text: Prose in which ``{claim}`` stands for the verdict on a claim, and ``{claim:0.00}`` for its value, as the
            pattern of digits shows it: ``.00`` without the zero before the point, ``0.0 %`` in percent, ``-0.00`` with
            the other sign.

    Raises:
        ValueError: A brace belongs to no citation, or a pattern is none of these.

    Examples:
        >>> cited("It learns {learns}, with an accuracy of {learns:0 %} {is-accurate}")
        ('learns', 'is-accurate')
    """
    if "{" in (rest := CITED.sub("", text)) or "}" in rest:
        raise ValueError(f"text = {text!r}: expected a claim in each pair of braces, as in {{claim}} or {{claim:0.00}}")
    for claim, pattern in CITED.findall(text):
        if not NUMBER.fullmatch(" ".join(pattern.split())):
            raise ValueError(f"{{{claim}:{pattern}}}: expected a pattern of digits, such as 0.00, .00, 0.0 % or -0.00")
    return tuple(dict.fromkeys(claim for claim, _ in CITED.findall(text)))


def with_verdicts(text: str, judged: Mapping[str, Judgement | Measurement], cite: Callable[[str, str], str]) -> str:
    """A text with verdicts and values in place of the claims and quantities that it cites.

    Args:
        text: As for ``cited``.
        judged: The judged claims and the quantities, by their names in the text; of another one it says that it is
            not judged.
        cite: What stands for a verdict, given the name of the claim and ``holds``, ``fails`` or ``is open``.

    Examples:
        >>> learns = recorded_verdicts()["pattern-completion", "laptop", "plastic-learns"]
        >>> text = "It is wrong in {learns:0.0 %} of the bits {learns}."
        >>> with_verdicts(text, {"learns": learns}, lambda claim, word: f"({word})")
        'It is wrong in 1.5 % of the bits (holds).'
    """

    def set_in(match: re.Match[str]) -> str:
        claim, pattern = match.groups()
        row = judged.get(claim)
        if pattern is None:
            return cite(claim, row.word if isinstance(row, Judgement) else "is not judged")
        return "(not judged)" if row is None or row.ours is None else in_digits(row.ours, " ".join(pattern.split()))

    return CITED.sub(set_in, text)


def in_percent(share: float) -> str:
    """A share in percent, with as few digits as two significant ones have.

    Examples:
        >>> in_percent(0.05), in_percent(0.0571)
        ('5 %', '5.7 %')
    """
    return f"{100 * share:.2g} %"


def in_digits(value: float, pattern: str) -> str:
    """A number as a pattern of digits shows it.

    Args:
        value: The number.
        pattern: As for ``cited``.

    Examples:
        >>> [in_digits(0.473, pattern) for pattern in ("0.00", ".00", "0 %", "-0.0")]
        ['0.47', '.47', '47 %', '-0.5']
    """
    match = NUMBER.fullmatch(pattern)
    assert match is not None, "`cited` has refused it"
    minus, zero, decimals, percent = match.groups()
    shown = f"{value * (-1 if minus else 1) * (100 if percent else 1):.{len(decimals or '')}f}"
    return (shown if zero else re.sub(r"^(-?)0\.", r"\1.", shown)) + (percent or "")
