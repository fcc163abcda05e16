"""The verdicts on claims, and how they are counted everywhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
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
FILE = "verdicts.json"


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


class Recorded(NamedTuple):
    """The verdict on a claim in a record.

    Attributes:
        verdict: By its own interval.
        corrected: The verdict that counts, corrected over the claims of all records.
        lacks: Estimated number of further seeds that it needs to be counted as its interval decides it; 0 if it is.
    """

    verdict: Verdict
    corrected: Verdict
    lacks: int


@functools.cache
def stored(package: str) -> dict[str, Any]:
    """The content of ``verdicts.json`` in a package, or in the nearest package above that has one; empty if none has.

    Args:
        package: The package that an experiment lies in.
    """
    while package:
        if (table := resources.files(package).joinpath(FILE)).is_file():
            return dict(json.loads(table.read_text(encoding="utf-8")))
        package = package.rpartition(".")[0]
    return {}


def recorded_verdicts() -> dict[tuple[str, str, str], Recorded]:
    """The verdicts on all claims of all records that ship with engram, by experiment, preset and claim.

    Examples:
        >>> recorded_verdicts()["pattern-completion", "laptop", "plastic-learns"]
        Recorded(verdict='agrees', corrected='agrees', lacks=0)
    """
    content = stored("engram.experiments")
    return {
        (experiment, preset, claim): Recorded(verdict, "undecided" if claim in short else verdict, short.get(claim, 0))
        for experiment, presets in content.get("verdicts", {}).items()
        for preset, claims in presets.items()
        for short in [content["short"].get(experiment, {}).get(preset, {})]
        for claim, verdict in claims.items()
    }
