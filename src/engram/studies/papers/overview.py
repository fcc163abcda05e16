"""What became of the headlines of all papers, counted by how they were tried, for pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from engram.studies.papers.headlines import REASONS, Headline, Paper, Tried
from engram.studies.papers.outcome import WORDS, outcome
from engram.verdicts import BAD, GOOD, Index, Judgements, in_percent

TRIED = {
    "published settings": "were tried with the published settings",
    "reduced": "at a reduced size",
    "another task": "on another task",
    "not tried": "were not tried",
}
PLACE = re.compile(r"(arXiv|bioRxiv) ([\d./]+)")
IDENTIFIED = re.compile(r" \((?:arXiv|bioRxiv) [\d./]+\)")
ADDRESSES = {"arXiv": "https://arxiv.org/abs/", "bioRxiv": "https://doi.org/"}
PLURAL = {"agrees": "agree", "disagrees": "disagree"}


def results(headlines: Iterable[Headline], found: Judgements) -> Counter[str]:
    """How many headlines have each verdict; of those that were not tried, how many have which reason.

    Args:
        headlines: The headlines.
        found: The judged claims of the records.
    """
    counts: Counter[str] = Counter()
    for headline in headlines:
        word = outcome(headline, found).word
        # What was tried and has no record yet counts as "not tried"; its reason is why it was not tried as published.
        counts[headline.why_not.partition(":")[0] if headline.tried == word == "not tried" else word] += 1
    return counts


def in_words(counts: Mapping[str, int]) -> str:
    """Counted verdicts and reasons, such as ``2 reproduced, 1 mixed``."""
    order = [word for word in (*WORDS, *REASONS) if counts.get(word)]
    return ", ".join(f"{counts[word]} {PLURAL.get(word, word) if counts[word] > 1 else word}" for word in order)


def sentence(papers: Sequence[Paper], found: Judgements) -> str:
    """How many headlines there are, how they were tried, and what came out.

    Args:
        papers: The papers.
        found: The judged claims of the records.
    """
    headlines = [headline for paper in papers for headline in paper.headlines]
    parts = []
    for tried in get_args(Tried):
        here = [headline for headline in headlines if headline.tried == tried]
        parts += [f"{len(here)} {TRIED[tried]} ({in_words(results(here, found))})"] * bool(here)
    limited = sum(bool(headline.but) for headline in headlines)
    return (
        f"Of {len(headlines)} headline statements of {len(papers)} papers, {', '.join(parts[:-1])}, and {parts[-1]}. "
        f"{limited} of them have a caveat: a control or a limit that says what the result does not show."
    )


def expected_errors(index: Index | None) -> str:
    """How many of the verdicts that are decided in the records may be wrong; empty without records.

    Args:
        index: The index of the records.
    """
    if index is None:
        return ""
    decided = sum(row.corrected in (*GOOD, *BAD) for row in index.judgements.values())
    return (
        f"Of the {decided} verdicts that our records decide, at most {in_percent(index.rate)} are expected to be wrong."
    )


def table(papers: Sequence[Paper], found: Judgements, link: str = "{name}") -> str:
    """A Markdown table of papers: where they are, what could be read, and the verdicts on their headlines.

    Args:
        papers: The papers.
        found: The judged claims of the records.
        link: How a paper is named, with its ``name`` and ``slug``.
    """
    kinds = get_args(Tried)
    titles = ["Paper", "Where", "Read in full", *(kind.capitalize() for kind in kinds)]
    rows = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for paper in papers:
        cells = []
        for kind in kinds:
            here = [headline for headline in paper.headlines if headline.tried == kind]
            limited = sum(bool(headline.but) for headline in here)
            caveats = f"; {limited} caveat{'s' if limited > 1 else ''}" if limited else ""
            cells.append(in_words(results(here, found)) + caveats)
        authors = IDENTIFIED.sub("", paper.source)
        places = [f"[{kind} {number}]({ADDRESSES[kind]}{number})" for kind, number in PLACE.findall(paper.source)]
        cells = [", ".join(places), f"no: {paper.read}" if paper.read else "yes", *cells]
        rows.append(f"| {link.format(name=paper.name, slug=paper.slug)}, {authors} | {' | '.join(cells)} |")
    return "\n".join(rows)
