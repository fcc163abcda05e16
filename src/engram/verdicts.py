"""The verdicts on claims, and how they are counted everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Verdict = Literal[
    "reproduced",
    "reproduced at laptop scale",
    "holds",
    "not reproduced",
    "fails",
    "undecided",
    "identity",
    "not testable here",
]
GOOD = ("reproduced", "reproduced at laptop scale", "holds")
BAD = ("not reproduced", "fails")


def counted(verdicts: Mapping[str, int]) -> str:
    """The number of claims that hold, in words.

    Identities, which test the code, and claims that cannot be tested here are not counted.

    Args:
        verdicts: Number of claims with each verdict.

    Examples:
        >>> counted({"reproduced": 7, "not reproduced": 1, "identity": 2, "not testable here": 1})
        '7 of 8 claims reproduced'
        >>> counted({"reproduced": 7, "undecided": 2})
        '7 of 9 claims reproduced, 2 undecided'
    """
    tested = [(verdict, count) for verdict, count in verdicts.items() if verdict in (*GOOD, *BAD, "undecided")]
    good = sum(count for verdict, count in tested if verdict in GOOD)
    word = "hold" if {"holds", "fails"} & verdicts.keys() else "reproduced"
    if not tested:
        return "no claim can be tested here"
    undecided = f", {count} undecided" if (count := dict(tested).get("undecided", 0)) else ""
    return f"{good} of {sum(dict(tested).values())} claims {word}{undecided}"
