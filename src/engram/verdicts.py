"""The verdicts on claims, and how they are counted everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

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


def counted(verdicts: Mapping[str, int]) -> str:
    """The number of claims that hold, in words.

    Identities, which test the code, and claims that cannot be tested here are not counted.

    Args:
        verdicts: Number of claims with each verdict.

    Examples:
        >>> counted({"agrees": 7, "disagrees": 1, "identity": 2, "not testable here": 1})
        '7 of 8 claims hold'
        >>> counted({"holds": 7, "undecided": 2})
        '7 of 9 claims hold, 2 undecided'
    """
    tested = [(verdict, count) for verdict, count in verdicts.items() if verdict in (*GOOD, *BAD, "undecided")]
    good = sum(count for verdict, count in tested if verdict in GOOD)
    if not tested:
        return "no claim can be tested here"
    undecided = f", {count} undecided" if (count := dict(tested).get("undecided", 0)) else ""
    return f"{good} of {sum(dict(tested).values())} claims hold{undecided}"
