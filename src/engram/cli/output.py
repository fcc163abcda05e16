"""The output of the command line, and its tables, which become lists in a narrow window."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDTH = 140  # used if the width of the window is unknown
LEAST = 100  # number of columns below which a table is unreadable


class Output(Console):
    """The standard output; if the reader closes it, as ``head`` does, that is not an error."""

    def on_broken_pipe(self) -> None:
        """Stop writing."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()


def open_streams() -> None:
    """Open the standard streams that are closed, as services and some schedulers start programs, on the null device.

    Otherwise the next file that is opened would take the number of such a stream, and what is printed would go there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def out() -> Output:
    """The standard output, as wide as its window."""
    console = Output(highlight=False)
    return console if console.is_terminal or "COLUMNS" in os.environ else Output(width=WIDTH, highlight=False)


def print_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    spaced: bool = False,
    whole: bool = False,
) -> None:
    """Print a table or, if it is too wide for a narrow window, each row as a paragraph headed by its first cell.

    Args:
        console: Where to print.
        title: Title of the table; none if empty.
        columns: Titles of the columns.
        rows: The cells of each row, which may contain rich's markup.
        spaced: Whether an empty line separates such paragraphs.
        whole: Whether no cell may be broken over lines, as names must not.
    """
    rows = list(rows)
    table = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    needed = Measurement.get(console, console.options.update(max_width=sys.maxsize), table).maximum
    if console.width >= (needed if whole else min(LEAST, needed)):
        console.print(table)
        return
    if title:
        console.print(f"[italic]{title}[/]\n")
    for number, (first, *cells) in enumerate(row for row in rows if any(row)):
        if spaced and number:
            console.print()
        console.print(f"[bold]{first}[/]")
        for column, cell in zip(columns[1:], cells, strict=True):
            if cell:
                label = Text.from_markup(f"{column}: " if column else "")
                grid = Table.grid()
                grid.add_row("  ", label.append_text(Text.from_markup(cell)))
                console.print(grid)
