"""The ledger: every claim that was judged, in a file that only grows, and what each may still err by.

A line of JSON for each judgement holds the digest of the line before it, so that a line that is altered or deleted is
seen; a file beside it, ``NAME.seal``, holds the number of lines and the last digest, so that lines missing at the end
are seen too.

Claims come one after another, and each is decided when it comes, so their errors are shared out online: test t may err
by LORD's level (Javanmard and Montanari, 2018; Ramdas et al., 2017),

    a_t = g_t w + (a - w) g_(t - t_1) + a sum_(j > 1) g_(t - t_j),    g_j = j^-1.6 / zeta(1.6),  w = a / 2,

where t_j are the tests at which a claim was found to hold. What was tried and did not hold costs, and what holds pays
back. If no claim is true, the probability that any is ever found to hold is at most a = 5 %; in general at most 5 % of
those found to hold are expected to be false. More seeds for the same claim are the same test, at its level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special
from typing_extensions import TypedDict

from engram.lab.judging.assess import ALPHA
from engram.lab.judging.sample import Sample
from engram.storage import locks
from engram.storage.files import (
    CorruptFileError,
    in_shape,
    read_bytes,
    read_sealed,
    write_atomic,
    write_sealed,
    writing,
)

EXPONENT = 1.6
START = ALPHA / 2
MOST_UNITS = 10_000  # whose names a line lists; of more, only the digest


class Line(TypedDict):
    """One judgement."""

    line: int
    time: str
    test: int
    level: float
    claim: str
    key: str
    table: str
    units: list[list[str]] | None
    seeds: int
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    previous: str
    digest: str


class Seal(TypedDict):
    """What the ledger must at least hold."""

    lines: int
    digest: str


class Ledger:
    """A ledger that this process holds the lock of.

    Attributes:
        path: The file.
        lines: Its lines.
    """

    def __init__(self, path: Path, lines: list[Line]) -> None:
        self.path, self.lines = path, lines

    def of(self, key: str) -> list[Line]:
        """The judgements of a claim, as far as they are of its last test."""
        own = [line for line in self.lines if line["key"] == key]
        return [line for line in own if line["test"] == own[-1]["test"]]

    def next_level(self) -> tuple[int, float]:
        """The number of a new test, and the probability by which it may err."""
        test = 1 + max((line["test"] for line in self.lines), default=0)
        return test, level_of(test, found_at(self.lines))

    def append(self, judged: Mapping[str, Any]) -> Line:
        """Add a judgement; the file has it or not, even after a crash."""
        previous = self.lines[-1]["digest"] if self.lines else ""
        content = {
            "line": len(self.lines) + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **judged,
            "previous": previous,
        }
        line = in_shape(self.path, Line, {**content, "digest": _digest(content)})
        text = "".join(json.dumps(each) + "\n" for each in [*self.lines, line])
        write_atomic(self.path, text.encode())
        write_sealed(_seal_of(self.path), {"lines": line["line"], "digest": line["digest"]})
        self.lines.append(line)
        return line


@contextmanager
def open_ledger(path: str | Path) -> Iterator[Ledger]:
    """Read and check a ledger, and hold its lock; other processes wait.

    Args:
        path: The file, which need not exist yet.

    Raises:
        CorruptFileError: A line was altered, deleted or moved.
        CannotWriteError: The file cannot be written.
    """
    path = Path(path).expanduser().absolute()
    if not path.parent.is_dir():
        raise ValueError(f"ledger = {str(path)!r}: expected a file in an existing folder")
    with writing(path):
        lock = locks.acquire(path.with_name(f".{path.name}.lock"), timeout=-1)
    try:
        yield Ledger(path, read_ledger(path))
    finally:
        lock.release()


def read_ledger(path: Path) -> list[Line]:
    """The lines of a ledger; raise CorruptFileError where one was altered, deleted or moved."""
    try:
        seal = read_sealed(_seal_of(path), Seal)
    except FileNotFoundError:
        seal = None
    if not path.exists():
        if seal is not None:
            raise CorruptFileError(path, f"it is gone, and had {seal['lines']} lines")
        return []
    lines: list[Line] = []
    previous = ""
    for number, text in enumerate(read_bytes(path).decode(errors="replace").splitlines(), 1):
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            raise CorruptFileError(path, f"line {number} is no JSON") from None
        line = in_shape(path, Line, content)
        if line["digest"] != _digest({name: value for name, value in content.items() if name != "digest"}):
            raise CorruptFileError(path, f"line {number} was altered")
        if line["previous"] != previous or line["line"] != number:
            raise CorruptFileError(path, f"a line before line {number} was deleted, added or moved")
        previous = line["digest"]
        lines.append(line)
    if lines and seal is None:
        raise CorruptFileError(path, f"{_seal_of(path).name}, the file with its last digest, is gone")
    if seal is not None and (len(lines) < seal["lines"] or lines[seal["lines"] - 1]["digest"] != seal["digest"]):
        raise CorruptFileError(path, f"lines are missing: it had {seal['lines']}, and has {len(lines)}")
    return lines


def found_at(lines: Sequence[Line]) -> list[int]:
    """For each claim that was found to hold, the number of the last test that had begun by then."""
    found: dict[int, int] = {}
    begun = 0
    for line in lines:
        begun = max(begun, line["test"])
        if line["verdict"] == "holds":
            found.setdefault(line["test"], begun)
    return sorted(found.values())


def level_of(test: int, found: Sequence[int]) -> float:
    """The probability by which a test may err: LORD's level.

    Args:
        test: Its number, from 1.
        found: The numbers of the tests by which a claim was found to hold.

    Examples:
        >>> round(level_of(1, []), 4), round(level_of(10, []), 5), round(level_of(10, [9]), 4)
        (0.0109, 0.00027, 0.0112)
    """
    level = _weight(test) * START
    for number, before in enumerate(sorted(found)):
        level += (ALPHA if number else ALPHA - START) * _weight(test - before)
    return float(level)


def said_of(lines: Sequence[Line], test: int, level: float, looks: Sequence[int]) -> tuple[str, ...]:
    """What a ledger means for a judgement, in sentences."""
    tests = max((line["test"] for line in lines), default=test)
    plan = (
        "the looks are planned, so the error is shared out over them"
        if looks
        else "no looks are planned, so the interval holds over all numbers of seeds, however often one looks"
    )
    return (
        f"claim {test} of {tests} in the ledger, which may err with {level:.2g}: 5 % are shared out over all of them",
        plan,
    )


def digest_of(sample: Sample) -> str:
    """The SHA-256 of the units and numbers of a sample."""
    content = hashlib.sha256()
    for names, values in zip(sample.names, sample.parts, strict=True):
        content.update(json.dumps(list(names)).encode())
        content.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    if sample.trials is not None:
        content.update(np.ascontiguousarray(sample.trials, dtype="<f8").tobytes())
    return content.hexdigest()


def units_of(sample: Sample) -> list[list[str]] | None:
    """The units of a sample in their order; None of very many."""
    return None if sum(map(len, sample.names)) > MOST_UNITS else [list(names) for names in sample.names]


def continued(sample: Sample, earlier: Line) -> Sample | None:
    """The sample in the order in which its units were judged; None if what was judged before is not in it unchanged."""
    if earlier["units"] is None:
        return sample if digest_of(sample) == earlier["table"] else None
    ordered = sample.beginning_with(earlier["units"])
    if ordered is None:
        return None
    counts = [len(names) for names in earlier["units"]]
    before = Sample(
        sample.kind,
        sample.form,
        tuple(part[:count] for part, count in zip(ordered.parts, counts, strict=True)),
        tuple(names[:count] for names, count in zip(ordered.names, counts, strict=True)),
        sample.unit,
        None if ordered.trials is None else ordered.trials[: counts[0]],
    )
    return ordered if digest_of(before) == earlier["table"] else None


def _weight(place: int) -> float:
    return float(place**-EXPONENT / special.zeta(EXPONENT)) if place > 0 else 0.0


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")
