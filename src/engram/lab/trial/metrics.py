"""Metrics of one trial: an append-only table ``step,metric,value`` that can be cut back to any earlier mark."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import TypedDict  # pydantic does not accept the one of Python 3.11

from engram.storage.files import CorruptFileError, read_bytes, write_atomic

SCHEMA = {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}
_HEADER = "step,metric,value\n"
_NAME = re.compile(r"[A-Za-z0-9_./-]+")


class Mark(TypedDict):
    """The length and checksum of a metrics file."""

    bytes: int
    sha256: str


class MetricsFile:
    """The metrics of a running trial: the verified start of the file, and the rows since then, which ``mark`` writes.

    Floats are written by ``repr``, so they are restored bit for bit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = b""
        self._pending: list[str] = []

    def append(self, step: int, name: str, value: float) -> None:
        """Add one row.

        Args:
            step: The step.
            name: Name of the metric: letters, digits and ``_ . / -``.
            value: Its value.

        Raises:
            ValueError: The name is invalid.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"metric = {name!r}: expected letters, digits and _ . / - only")
        self._pending.append(f"{step},{name},{value!r}\n")

    def mark(self) -> Mark:
        """Write all rows to disk, and return the mark to which ``cut`` can go back; a failed write loses no row."""
        content = ("" if self._written else _HEADER) + "".join(self._pending)
        content_written = self._written + content.encode()
        # Replaces the file, since it may be a link. The checkpoint or result that follows makes it durable.
        write_atomic(self.path, content_written, named=False)
        self._written = content_written
        self._pending.clear()
        return {"bytes": len(self._written), "sha256": hashlib.sha256(self._written).hexdigest()}

    def cut(self, mark: Mark) -> None:
        """Go back to a mark, after checking the rows before it; the next ``mark`` removes the later rows."""
        self._written = check(self.path, mark, whole=False)
        self._pending.clear()

    def frame(self) -> pl.DataFrame:
        """All rows so far as a frame with the columns step, metric and value."""
        return pl.read_csv(
            (self._written.decode() or _HEADER).encode() + "".join(self._pending).encode(), schema=SCHEMA
        )


def mark(path: Path) -> Mark:
    """The mark of a complete file; the mark of an empty file if there is none."""
    content = read_bytes(path) if path.exists() else b""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def check(path: Path, mark: Mark, *, whole: bool = True) -> bytes:
    """The content of a file up to a mark.

    Args:
        path: The file; a missing file counts as empty.
        mark: Its length and checksum when it was written.
        whole: Whether the file must end at the mark.

    Raises:
        CorruptFileError: The content differs, or is longer although ``whole`` is set.
    """
    size = mark["bytes"]
    content = read_bytes(path) if path.exists() else b""
    if len(content) < size or (whole and len(content) > size):
        raise CorruptFileError(path, f"{len(content)} bytes where {size} were written")
    if hashlib.sha256(content[:size]).hexdigest() != mark["sha256"]:
        raise CorruptFileError(path, "its checksum differs")
    return content[:size]


def read(*paths: Path) -> list[pl.DataFrame]:
    """Metrics files as frames with columns step, metric and value; raise CorruptFileError if one is malformed.

    All are parsed at once, since polars needs a millisecond for each call, even for a short file.
    """
    rows = [_rows(path) for path in paths]
    ends = [0, *itertools.accumulate(text.count(b"\n") for text in rows)]
    try:
        table = pl.read_csv(_HEADER.encode() + b"".join(rows), schema=SCHEMA)
        if len(table) != ends[-1]:
            raise pl.exceptions.ComputeError(f"{len(table)} rows in {ends[-1]} lines")
    except pl.exceptions.PolarsError as error:
        if len(paths) > 1:
            return [frame for path in paths for frame in read(path)]  # which names the malformed file
        raise CorruptFileError(paths[0], str(error).splitlines()[0]) from None
    return [table[start:end] for start, end in itertools.pairwise(ends)]


def _rows(path: Path) -> bytes:
    try:
        content = read_bytes(path)
    except FileNotFoundError as error:
        raise CorruptFileError(path, str(error)) from None
    if not content.startswith(_HEADER.encode()) or not content.endswith(b"\n"):
        raise CorruptFileError(path, f"it does not begin with {_HEADER!r}, or breaks off")
    return content[len(_HEADER) :]


def ends(rows: pl.DataFrame, metric: str, parts: int) -> tuple[float, float]:
    """The means of a metric over the first and the last of ``parts`` parts of its rows, each at least a row."""
    curve = rows.filter(pl.col("metric") == metric)["value"].to_numpy()
    length = max(1, len(curve) // parts)
    return float(curve[:length].mean()), float(curve[-length:].mean())


def over_seeds(curves: pl.DataFrame, points: int | None = None) -> pl.DataFrame:
    """Learning curves summarised over seeds, by step: columns step, mean, median, low, high and seeds.

    Seeds need not have logged at the same steps. Between two of its steps a seed counts with the value on the line
    between them; before its first and after its last one it does not count. ``seeds`` is the number of those that do.

    Args:
        curves: Columns seed, step and value.
        points: The largest number of steps (default: all at which any seed has logged).

    Examples:
        >>> curves = pl.DataFrame({"seed": [0, 0, 1, 1], "step": [0, 4, 2, 6], "value": [0.0, 4.0, 2.0, 6.0]})
        >>> over_seeds(curves).select("step", "mean", "seeds").rows()
        [(0, 0.0, 1), (2, 2.0, 2), (4, 4.0, 2), (6, 6.0, 1)]
    """
    steps = curves["step"].unique().sort().to_numpy()
    if points is not None and len(steps) > points:
        steps = steps[np.linspace(0, len(steps) - 1, points).round().astype(int)]
    logged = curves.group_by("seed", "step").agg(pl.col("value").mean()).sort("seed", "step")
    seeds, x, y = (logged[column].to_numpy() for column in ("seed", "step", "value"))
    ends = np.flatnonzero(np.diff(seeds)) + 1
    counted, values = [], []  # of each seed, the steps at which it counts, and its values there
    for own_steps, own_values in zip(np.split(x, ends), np.split(y, ends), strict=True):
        within = steps[(steps >= own_steps[0]) & (steps <= own_steps[-1])]
        counted.append(within)
        values.append(np.interp(within, own_steps, own_values))
    on_steps = pl.DataFrame({"step": np.concatenate(counted), "value": np.concatenate(values)})
    # Of lists, since polars adds the numbers of a group in an order that depends on its threads.
    of_step = on_steps.group_by("step", maintain_order=True).agg(values="value").sort("step")
    value = pl.col("values").list
    summaries = {"mean": value.mean(), "median": value.median(), "low": value.min(), "high": value.max()}
    return of_step.select("step", **summaries, seeds=value.len())


def windows(rows: pl.DataFrame, points: int) -> pl.DataFrame:
    """Average learning curves of one metric over windows, so that each seed has at most ``points`` points.

    Columns seed, window, step (the last of the window) and value (the mean).

    Examples:
        >>> rows = pl.DataFrame({"seed": [0] * 4, "step": [1, 2, 3, 4], "value": [1.0, 3.0, 5.0, 7.0]})
        >>> windows(rows, 2).rows()
        [(0, 0, 2, 2.0), (0, 1, 4, 6.0)]
    """
    index = pl.int_range(pl.len()).over("seed")
    length = pl.max_horizontal(1, (pl.len().over("seed") / points).ceil()).cast(pl.Int64)
    return (
        rows.with_columns(window=index // length)
        .group_by("seed", "window", maintain_order=True)
        .agg(pl.col("step").max(), pl.col("value").mean())
    )
