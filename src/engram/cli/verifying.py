"""The command that answers a query about a network, both given as files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from engram.cli.commands import Verify
from engram.storage.files import write_atomic

if TYPE_CHECKING:
    from engram.verify.answer import QueryResult, Question
    from engram.verify.branch_inputs import Progress

EXIT_INTERRUPTED = 130


def verify(command: Verify) -> int | None:
    """Answer the query, write what is asked for, and print the answer first."""
    from engram.verify.answer import counterexample_text, read_question, verify_query
    from engram.verify.verifier import Budget

    began = time.monotonic()
    seconds = Budget(seconds=command.timeout).seconds
    for path in (command.certificate, command.counterexample):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path}: expected a file in an existing folder")
    line = _Line()
    try:
        question = read_question(command.network, command.property)
        line.cases = len(question.query.cases)
        with threadpool_limits(1):
            budget = Budget(seconds=max(seconds - (time.monotonic() - began), 1e-3), megabytes=command.megabytes)
            result = verify_query(
                question.network, question.query, runtime=question.runtime, budget=budget, progress=line.show
            )
    except KeyboardInterrupt:
        line.end()
        print(f"interrupted: {line.said or 'nothing is proved yet'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    line.end()
    text: str = result.answer
    if result.x is not None and result.y is not None:
        text += "\n" + counterexample_text(result.x, result.y)
    if command.counterexample is not None:
        write_atomic(command.counterexample, (text + "\n").encode())
    if command.certificate is not None and result.answer == "unsat":
        write_atomic(command.certificate, _certificate(command, result).encode())
    print(_json(question, result) if command.json else text)
    details = [f"{result.seconds:.2f} s", f"{result.nodes} boxes or cases", result.reason, result.note]
    if result.answer in ("unknown", "timeout"):
        details.append(line.said)
    print("; ".join(detail for detail in details if detail), file=sys.stderr)
    return 0


class _Line:
    """A line on the standard error stream that says how far a search has got."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.cases, self._clock = 1, clock
        self._shown = self._began = clock()
        self._width = 0
        self.said = ""

    def show(self, case: int, progress: Progress) -> None:
        """Show the progress of a case, at most twice a second, if someone may be reading."""
        of = f"case {case + 1} of {self.cases}: " if self.cases > 1 else ""
        self.said = f"{of}{100 * progress.share:.2f} % of the inputs proved, {progress.nodes} boxes"
        if sys.stderr.isatty() and self._clock() - self._shown >= 0.5:
            self._shown = self._clock()
            text = (
                f"{self._shown - self._began:.0f} s, {self.said}, {progress.waiting} open, bound {progress.bound:.2g}"
            )
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)

    def end(self) -> None:
        """Clear the line."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)


def _certificate(command: Verify, result: QueryResult) -> str:
    files = {"network": Path(command.network).name, "property": Path(command.property).name}
    cases = [None if certificate is None else certificate.to_json() for certificate in result.certificates]
    return json.dumps({**files, "cases": cases})


def _json(question: Question, result: QueryResult) -> str:
    content = {
        "answer": result.answer,
        "x": None if result.x is None else result.x.tolist(),
        "y": None if result.y is None else result.y.tolist(),
        "reason": result.reason,
        "note": result.note,
        "cases": len(question.query.cases),
        "proved": result.proved,
        "nodes": result.nodes,
        "seconds": result.seconds,
    }
    return json.dumps(content)
