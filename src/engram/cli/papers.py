"""The command that tells what papers say, and what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table

from engram.claim_rows import Columns, for_terminal
from engram.cli.commands import Papers
from engram.cli.output import LEAST, Output, out, print_table
from engram.studies.papers import (
    Headline,
    Outcome,
    Paper,
    caveat,
    find,
    judgement,
    limits,
    outcome,
    overview,
    papers,
    rows_of,
    statement_and_criterion,
)
from engram.verdicts import Judgements, recorded_verdicts

NOT_JUDGED = "not testable here"
WIDE = 140  # columns from which on the list says of each headline what is smaller
COLUMNS: Columns = {
    "claim": "claim",
    "verdict": "verdict",
    "criterion": "criterion",
    "ours, interval": "value and seeds",
}
COLORS = {
    "reproduced": "green",
    "agrees": "green",
    "not reproduced": "red",
    "disagrees": "red",
    "mixed": "yellow",
    "undecided": "yellow",
    "by construction": "cyan",
    "not tried": "dim",
}


def show_papers(command: Papers) -> None:
    """List the headlines of all papers, or tell all about those of some."""
    found = recorded_verdicts()
    named = list(dict.fromkeys(paper for name in command.names for paper in find(name)))
    if command.json:
        for paper in named or papers():
            print(json.dumps(as_values(paper, found)))
    elif named:
        for number, paper in enumerate(named):
            _print_paper(out(), paper, found, first=not number)
    else:
        _print_all(out(), papers(), found)


def as_values(paper: Paper, found: Judgements) -> dict[str, Any]:
    """A paper with its headlines, their verdicts and their claims, as JSON values.

    Args:
        paper: The paper.
        found: The judged claims of the records.
    """
    return {
        "name": paper.name,
        "title": paper.title,
        "source": paper.source,
        "read": paper.read,
        "note": paper.note,
        "headlines": [_headline_values(headline, found) for headline in paper.headlines],
    }


def _headline_values(headline: Headline, found: Judgements) -> dict[str, Any]:
    result = outcome(headline, found)
    return {
        "says": headline.says,
        "verdict": result.word,
        "supporting": result.supporting,
        "contradicting": result.contradicting,
        "undecided": result.undecided,
        "tried": headline.tried,
        "how": headline.how,
        "why_not": headline.why_not,
        "caveat": caveat(headline, found),
        "but_claims": {claim: row.word for claim, row in limits(headline, found).items()},
        "preset": headline.preset,
        "claims": [_claim_values(headline, claim, found) for claim in (*headline.claims, *headline.against)],
    }


def _claim_values(headline: Headline, claim: str, found: Judgements) -> dict[str, Any]:
    statement, criterion = statement_and_criterion(claim, found)
    judged = judgement(headline, claim, found)
    verdicts = {"verdict": NOT_JUDGED, "corrected": NOT_JUDGED}
    if judged is not None:
        verdicts = {name: getattr(judged, name) for name in ("verdict", "corrected", "ours", "low", "high", "seeds")}
    about = {"claim": claim, "against": claim in headline.against, "statement": statement, "criterion": criterion}
    return about | verdicts


def _colored(result: Outcome) -> str:
    return "" if result.word == "not tried" else f"[{COLORS[result.word]}]{result}[/]"


def _print_all(console: Output, of: Sequence[Paper], found: Judgements) -> None:
    """Print all headlines, by paper, with verdict and size; in a narrow window the verdict stands below each."""
    titles = ("headline", "verdict", "tried as") if console.width >= LEAST else ("headline, verdict, tried as",)
    ratios = (6, 2, 5 if console.width >= WIDE else 2)
    for number, paper in enumerate(of):
        read = f"; read of it: {paper.read}" * bool(paper.read)
        console.print(f"[bold]{escape(paper.name)}[/] [dim]{escape(paper.source + read)}[/]")
        columns = [Column(title, ratio=ratio) for title, ratio in zip(titles, ratios, strict=False)]
        grid = Table(*columns, box=None, expand=True, pad_edge=False, show_header=not number)
        for headline in paper.headlines:
            says = escape(headline.says) + f"\n[dim]caveat: {escape(caveat(headline, found))}[/]" * bool(headline.but)
            tried, verdict = _tried(headline, full=console.width >= WIDE), _colored(outcome(headline, found))
            if console.width >= LEAST:
                grid.add_row(says, verdict, escape(tried))
            else:
                grid.add_row(f"{says}\n" + f"{verdict}; " * bool(verdict) + escape(tried))
        console.print(Padding(grid, (0, 0, 1, 2)))
    console.print(escape(overview.sentence(of, found)))


def _tried(headline: Headline, *, full: bool) -> str:
    """How a headline was tried, and what is smaller, or why it was not; not in full, only the kind of the reason."""
    explained = headline.how if full else ""
    if headline.tried == "not tried":
        explained = headline.why_not if full else headline.why_not.partition(":")[0]
    return headline.tried + f": {explained}" * bool(explained)


def _print_paper(console: Output, paper: Paper, found: Judgements, *, first: bool) -> None:
    """Print the headlines of a paper in full, each with its claims."""
    if not first:
        console.print()
    console.print(f"[bold]{escape(paper.name)}[/]: {escape(paper.title)}\n[dim]{escape(paper.source)}[/]")
    if paper.remarks:
        console.print(f"[dim]{escape(paper.remarks)}[/]")
    for headline in paper.headlines:
        console.print(f"\n[bold]{escape(headline.says)}[/]")
        result = outcome(headline, found)
        if result.word != "not tried":
            console.print(_colored(result))
        lines = {
            "tried as": headline.tried + f": {headline.how}" * bool(headline.how),
            "why not" if headline.tried == "not tried" else "why not as published": headline.why_not,
            "caveat": caveat(headline, found),
        }
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, text in lines.items():
            if text:
                grid.add_row(f"{name}:", escape(text))
        console.print(grid)
        if rows := rows_of(headline, found):
            print_table(console, "", [*COLUMNS], for_terminal(rows, COLUMNS))
