"""How the verdicts of several claims make one verdict on a headline."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from engram.claim_rows import Row, row_of
from engram.studies.papers.headlines import Headline
from engram.verdicts import BAD, GOOD, Judgement, Judgements, with_verdicts

Word = Literal[
    "reproduced", "agrees", "not reproduced", "disagrees", "mixed", "undecided", "by construction", "not tried"
]
WORDS: tuple[Word, ...] = get_args(Word)


class Outcome(NamedTuple):
    """The verdict on a headline.

    Attributes:
        word: The verdict.
        supporting, contradicting, undecided: How many of its claims support it, contradict it, or are undecided.
    """

    word: Word
    supporting: int = 0
    contradicting: int = 0
    undecided: int = 0

    @property
    def tested(self) -> int:
        """How many claims test it."""
        return self.supporting + self.contradicting + self.undecided

    def __str__(self) -> str:
        """The verdict, and of several claims how many support the headline."""
        if self.tested < 2:
            return self.word
        undecided = f", {self.undecided} undecided" if self.undecided else ""
        return f"{self.word} ({self.supporting} of {self.tested}{undecided})"


def outcome(headline: Headline, found: Judgements) -> Outcome:
    """The verdict on a headline, from those on its claims in the record of its preset.

    Every claim counts the same. A claim supports the headline if it holds, agrees or is reproduced, and contradicts it
    if it fails, disagrees or is not reproduced; the claims under ``against`` the other way round. Identities, which
    hold by construction, and claims that no record judges do not count.

    - Some support it and some contradict it: *mixed*.
    - More than half support it, and none contradicts it: *reproduced* if each that does is, which needs published
      settings and the published criterion, else *agrees*.
    - More than half contradict it, and none supports it: *not reproduced* if each that does is, else *disagrees*.
    - Else, as half or more are undecided: *undecided*.
    - There are only identities: *by construction*.
    - There is none: *not tried*.

    Args:
        headline: The headline.
        found: The judged claims of the records.

    Examples:
        >>> from engram.studies.papers import find
        >>> from engram.verdicts import recorded_verdicts
        >>> str(outcome(find("blur")[0].headlines[0], recorded_verdicts()))
        'by construction'
    """
    judged = {claim: judgement(headline, claim, found) for claim in (*headline.claims, *headline.against)}
    of_claims = {claim: row.corrected for claim, row in judged.items() if row is not None}
    counted = {claim: verdict for claim, verdict in of_claims.items() if verdict in (*GOOD, *BAD, "undecided")}
    decided = {claim: verdict for claim, verdict in counted.items() if verdict != "undecided"}
    supporting = sum((verdict in GOOD) == (claim in headline.claims) for claim, verdict in decided.items())
    contradicting, undecided = len(decided) - supporting, len(counted) - len(decided)
    word: Word
    if not counted:
        word = "by construction" if "identity" in of_claims.values() else "not tried"
    elif supporting and contradicting:
        word = "mixed"
    elif 2 * len(decided) <= len(counted):
        word = "undecided"
    elif supporting:
        word = "reproduced" if set(decided.values()) == {"reproduced"} else "agrees"
    else:
        word = "not reproduced" if set(decided.values()) == {"not reproduced"} else "disagrees"
    return Outcome(word, supporting, contradicting, undecided)


def caveat(headline: Headline, found: Judgements) -> str:
    """What the result does not show, with the verdicts on which this rests; empty if there is no such limit.

    Args:
        headline: The headline.
        found: The judged claims of the records.
    """
    judged = limits(headline, found)
    return with_verdicts(headline.but, judged, lambda claim, word: f"[{claim.partition('/')[2]}: {word}]")


def limits(headline: Headline, found: Judgements) -> dict[str, Judgement]:
    """The claims on which a caveat rests, as the record of the headline's preset, or else the first one, judges them.

    Args:
        headline: The headline.
        found: The judged claims of the records.
    """
    named = {tuple(claim.split("/")): claim for claim in headline.limits}
    rows = [
        row for row in found.values() if (row.experiment, row.claim) in named and row.verdict != "not testable here"
    ]
    ordered = [*reversed(rows), *(row for row in rows if row.preset == headline.preset)]
    by_claim = {named[row.experiment, row.claim]: row for row in ordered}
    return {claim: by_claim[claim] for claim in headline.limits if claim in by_claim}


def judgement(headline: Headline, claim: str, found: Judgements) -> Judgement | None:
    """A claim as the record of a headline's preset judges it; None if it does not.

    Args:
        headline: The headline.
        claim: The claim, as ``experiment/claim-id``.
        found: The judged claims of the records.
    """
    experiment, _, claim_id = claim.partition("/")
    row = found.get((experiment, headline.preset, claim_id))
    return None if row is None or row.verdict == "not testable here" else row


def rows_of(headline: Headline, found: Judgements) -> list[Row]:
    """The claims that a headline names, as rows of a table.

    Args:
        headline: The headline.
        found: The judged claims of the records.
    """
    rows = []
    for claim in headline.cited:
        about = {
            "note": f" ({claim})",
            "role": "against: " * (claim in headline.against) + "caveat: " * (claim in headline.limits),
        }
        if judged := judgement(headline, claim, found):
            rows.append(row_of(judged, **about))
        else:
            rows.append(Row(*statement_and_criterion(claim, found), "", "", 0, "not testable here", **about))
    return rows


def statement_and_criterion(claim: str, found: Judgements) -> tuple[str, str]:
    """A claim in words and its criterion, from any preset's record; its name and no criterion if no record has it.

    Args:
        claim: The claim, as ``experiment/claim-id``.
        found: The judged claims of the records.
    """
    experiment, _, claim_id = claim.partition("/")
    rows = (row for row in found.values() if row.claim == claim_id and row.experiment == experiment)
    return next(((row.statement, row.criterion) for row in rows), (claim, ""))
