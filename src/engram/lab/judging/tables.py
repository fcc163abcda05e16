"""Tables of results as files: CSV, TSV, JSON lines, Parquet, standard input, a folder of these, and what trackers keep.

Every reader returns one frame with a row for each run, or for each of its steps. What a file's name tells comes as the
column ``file``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from engram.lab.judging import trackers
from engram.storage.files import CorruptFileError

FILE = "file"
PATTERNS = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson", "*.parquet")
ROWS_TO_GUESS = 10_000  # of a text file, the rows that decide the types of its columns
FOR_ALL = 1_000_000_000


def read_table(source: str | Path) -> pl.DataFrame:
    """A table of results.

    Args:
        source: A file (.csv, .tsv, .jsonl, .parquet, or a tracker's database), ``-`` for the standard input, or a
            folder: of such files, of MLflow, of TensorBoard's event files, or of engram's own runs.

    Raises:
        FileNotFoundError: There is nothing there.
        ValueError: It has no rows, or is no table.
    """
    if str(source) == "-":
        frame = _of_bytes(sys.stdin.buffer.read(), "the standard input")
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        frame = _of_folder(path) if path.is_dir() else _of_file(path)
    if frame.is_empty():
        raise ValueError(f"{'the standard input' if str(source) == '-' else source}: expected a table, and it is empty")
    return frame


def as_frame(table: Any) -> pl.DataFrame:
    """A polars or pandas frame, a mapping of columns, or the path of a file, as a polars frame.

    Args:
        table: The table.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, str | Path):
        return read_table(table)
    if hasattr(table, "columns") and hasattr(table, "to_dict") and hasattr(table, "iloc"):
        columns = {str(name): table[name] for name in table.columns}
        return pl.DataFrame(
            {name: col.to_numpy() if col.dtype.kind in "iufb" else col.to_list() for name, col in columns.items()},
            strict=False,
        )
    if isinstance(table, dict):
        return pl.DataFrame(table, strict=False)
    raise TypeError(
        f"frame = a {type(table).__name__}: expected a polars or pandas frame, a dict of columns, or a path"
    )


def _of_folder(folder: Path) -> pl.DataFrame:
    known: tuple[Callable[[Path], pl.DataFrame | None], ...] = (
        trackers.engram_runs,
        trackers.mlflow_folder,
        trackers.event_files,
    )
    for reader in known:
        if (frame := reader(folder)) is not None:
            return frame
    paths = sorted(path for pattern in PATTERNS for path in folder.rglob(pattern) if path.is_file())
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise ValueError(
            f"{folder}: expected files {', '.join(PATTERNS)}, runs of MLflow, TensorBoard or engram, and it has none"
        )
    frames = [
        _of_file(path).with_columns(pl.lit(str(path.relative_to(folder).with_suffix(""))).alias(FILE)) for path in paths
    ]
    return pl.concat([frame for frame in frames if len(frame)] or frames[:1], how="diagonal_relaxed")


def _of_file(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        first = file.read(16)
    if first.startswith(b"SQLite format 3"):
        return trackers.database(path)
    if "tfevents" in path.name:
        frame = trackers.event_files(path.parent)
        return pl.DataFrame() if frame is None else frame
    if first.startswith(b"PAR1"):
        return _parsed(path, lambda: pl.read_parquet(path))
    return _of_bytes(path.read_bytes(), str(path), path.suffix.lower())


def _of_bytes(content: bytes, name: str, suffix: str = "") -> pl.DataFrame:
    if content.startswith(b"PAR1"):
        return _parsed(Path(name), lambda: pl.read_parquet(io.BytesIO(content)))
    start = content.lstrip()
    if not start:
        raise ValueError(f"{name}: expected a table, and it is empty")
    if suffix in (".jsonl", ".ndjson") or start[:1] == b"{":
        frame = _parsed(Path(name), lambda: pl.read_ndjson(content, infer_schema_length=ROWS_TO_GUESS))
        return _flat(frame)
    if start[:1] == b"[":
        return _flat(_parsed(Path(name), lambda: pl.read_json(content)))
    separator = "\t" if suffix == ".tsv" or b"\t" in content.split(b"\n", 1)[0] else ","

    def read_text(rows: int) -> pl.DataFrame:
        return pl.read_csv(content, separator=separator, infer_schema_length=rows, truncate_ragged_lines=False)

    try:
        frame = read_text(ROWS_TO_GUESS)
    except pl.exceptions.PolarsError:  # a column that begins with whole numbers, perhaps
        frame = _parsed(Path(name), lambda: read_text(FOR_ALL))
    if frame.width < 2 and len(frame.columns[0]) > 200:
        raise ValueError(f"{name}: expected a table with a row of column names")
    return trackers.wandb_chart(frame)


def _parsed(path: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return read()
    except pl.exceptions.PolarsError as error:
        raise CorruptFileError(path, str(error).splitlines()[0]) from None


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame whose nested objects are columns of their own, as ``config.seed``."""
    while nested := [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]:
        for name in nested:
            fields = frame[name].struct.fields
            frame = frame.with_columns(
                pl.col(name).struct.field(field).alias(f"{name}.{field}") for field in fields
            ).drop(name)
    return frame
