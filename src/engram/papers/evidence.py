"""The verdicts of the claims that headlines cite, as ``engram record`` copied them from the records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from engram.papers.headlines import Headline
from engram.verdicts import Verdict


class Judgement(NamedTuple):
    """A claim as a record judges it.

    Attributes:
        verdict: The verdict by its own interval.
        corrected: The verdict that counts, corrected over the tests of all records.
        ours, low, high: Our value and its interval; None without values.
        seeds: The number of seeds.
    """

    verdict: Verdict
    corrected: Verdict
    ours: float | None
    low: float | None
    high: float | None
    seeds: int

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


class Evidence(NamedTuple):
    """A claim, and how the records of its experiment judge it.

    Attributes:
        statement: The claim in words.
        criterion: What its value has to meet.
        tests: The records that judge it, by preset.
    """

    statement: str
    criterion: str
    tests: Mapping[str, Judgement]


@cache
def evidence() -> Mapping[str, Evidence]:
    """All claims that headlines cite, by ``experiment/claim-id``; a claim that no record has judged has no tests."""
    return from_json(json.loads(resources.files("engram.papers").joinpath("evidence.json").read_text(encoding="utf-8")))


def from_json(content: Mapping[str, Any]) -> dict[str, Evidence]:
    """Evidence from the content of its file."""
    return {
        claim: Evidence(
            stored["statement"],
            stored["criterion"],
            {preset: Judgement(**test) for preset, test in stored["tests"].items()},
        )
        for claim, stored in content.items()
    }


def as_json(found: Mapping[str, Evidence]) -> dict[str, Any]:
    """Evidence as it is stored."""
    return {
        claim: {
            "statement": of_claim.statement,
            "criterion": of_claim.criterion,
            "tests": {preset: test._asdict() for preset, test in of_claim.tests.items()},
        }
        for claim, of_claim in found.items()
    }


def verdict_on(headline: Headline, claim: str, found: Mapping[str, Evidence]) -> Verdict:
    """The corrected verdict on a claim in the record that counts for a headline; without one, *not testable here*."""
    test = found[claim].tests.get(headline.preset) if claim in found else None
    return test.corrected if test else "not testable here"
