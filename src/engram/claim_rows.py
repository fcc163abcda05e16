"""Judged claims as rows of tables: in a terminal, in Markdown, and in HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal, NamedTuple

from rich.markup import escape as as_markup

from engram.verdicts import Judgement, Measurement, Verdict

COLORS: dict[str, str] = {
    "reproduced": "green",
    "agrees": "green",
    "holds": "green",
    "not reproduced": "red",
    "disagrees": "red",
    "fails": "red",
    "undecided": "yellow",
    "identity": "cyan",
    "not testable here": "dim",
}
Cell = Literal["claim", "criterion", "ours", "interval", "value", "value and seeds", "seeds", "verdict"]
Columns = Mapping[str, Cell]
"""What each column of a table shows, by its title."""
MEASURED: Columns = {"measured": "claim", "ours": "ours", "interval": "interval", "seeds": "seeds"}
"""The table of measured quantities."""


class Row(NamedTuple):
    """A judged claim, or a measured quantity, as a row of a table.

    Attributes:
        statement: The claim in words.
        criterion: What its value has to meet; empty for a quantity.
        ours, interval: Our value and its interval in words; empty without values.
        seeds: The number of seeds.
        verdict: The verdict; empty for a quantity.
        note: Further words on the claim, with the space or the line break before them.
        role: What is said before the verdict.
        why: What is said after the verdict.
        address: Where the claim is shown in full, for a link.
    """

    statement: str
    criterion: str
    ours: str
    interval: str
    seeds: int
    verdict: Verdict | Literal[""] = ""
    note: str = ""
    role: str = ""
    why: str = ""
    address: str = ""

    def cell(self, which: Cell) -> str:
        """The text of a cell.

        Args:
            which: What it shows.
        """
        value = f"{self.ours} {self.interval}".strip()
        return {
            "claim": self.statement,
            "criterion": self.criterion,
            "ours": self.ours,
            "interval": self.interval,
            "value": value,
            "value and seeds": f"{value}; {self.seeds} seeds" if value else "",
            "seeds": str(self.seeds),
            "verdict": f"{self.role}{self.verdict}{self.why}",
        }[which]


def row_of(judged: Judgement, **more: str) -> Row:
    """The row of a claim of the index.

    Args:
        judged: The claim.
        **more: Further fields of ``Row``.

    Examples:
        >>> from engram.verdicts import recorded_verdicts
        >>> row = row_of(recorded_verdicts()["pattern-completion", "laptop", "plastic-learns"])
        >>> row.cell("value and seeds"), row.cell("verdict")
        ('0.0154 [0.0126, 0.0182]; 5 seeds', 'agrees')
    """
    ours, _, interval = judged.value.partition(" ")
    why = ", adjusted: undecided" * (judged.corrected != judged.verdict)
    return Row(judged.statement, judged.criterion, ours, interval, judged.seeds, judged.verdict, **{"why": why, **more})


def row_of_quantity(measured: Measurement, note: str = "") -> Row:
    """The row of a quantity of the index.

    Args:
        measured: The quantity.
        note: Further words on it.
    """
    ours, _, interval = measured.value.partition(" ")
    return Row(measured.statement, "", ours, interval, measured.seeds, note=note)


def for_terminal(rows: Sequence[Row], columns: Columns) -> list[tuple[str, ...]]:
    """The cells of a table, with rich's markup.

    Args:
        rows: The claims.
        columns: The columns.
    """
    return [tuple(_with_markup(row, which) for which in columns.values()) for row in rows]


def _with_markup(row: Row, which: Cell) -> str:
    if which == "claim":
        return as_markup(row.statement) + f"[dim]{as_markup(row.note)}[/]" * bool(row.note)
    if which == "verdict":
        return f"{as_markup(row.role)}[{COLORS[row.verdict]}]{row.verdict}[/]{as_markup(row.why)}"
    return as_markup(row.cell(which))


def as_line(row: Row) -> str:
    """A judged claim as one line with rich's markup.

    Args:
        row: The claim.
    """
    value = f"ours {as_markup(row.cell('value'))}, criterion {row.criterion}, " if row.ours else ""
    return f"{value}{row.seeds} seeds{as_markup(row.note)}: {_with_markup(row, 'verdict')}"


def as_markdown(rows: Sequence[Row], columns: Columns) -> str:
    """A Markdown table, in which the claims that have an address are links.

    Args:
        rows: The claims.
        columns: The columns.

    Examples:
        >>> print(as_markdown([Row("It learns", "<= 1", "0.5", "", 5, "holds")], {"Claim": "claim", "Ours": "value"}))
        | Claim | Ours |
        |---|---|
        | It learns | 0.5 |
    """
    lines = [[*columns], *([_linked(row, which).replace("|", "\\|") for which in columns.values()] for row in rows)]
    head, *body = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def as_html(rows: Sequence[Row], columns: Columns) -> str:
    """An HTML table, in which the claims that have an address are links.

    Args:
        rows: The claims.
        columns: The columns.

    Examples:
        >>> as_html([Row("It learns", "<= 1", "0.5", "", 5, "holds")], {"claim": "claim", "criterion": "criterion"})
        '<table><tr><th>claim</th><th>criterion</th></tr><tr><td>It learns</td><td>&lt;= 1</td></tr></table>'
    """
    head = "".join(f"<th>{title}</th>" for title in columns)
    body = ["".join(f"<td>{_linked(row, which)}</td>" for which in columns.values()) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in (head, *body)) + "</table>"


def _linked(row: Row, which: Cell) -> str:
    """A cell as HTML."""
    text = escape(row.cell(which))
    return f'<a href="{row.address}">{text}</a>' if which == "claim" and row.address else text
