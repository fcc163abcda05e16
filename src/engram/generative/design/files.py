"""Sequences as their field keeps them: FASTA, tables of variants, and mutations such as ``A24G:T30K``."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram import checks

GAPS = "-.~"
MUTATION = re.compile(r"([A-Za-z*])(\d+)(\S)")
MISSING = {"", "na", "n/a", "nan", "null", "none"}


class Fasta(NamedTuple):
    """The records of a FASTA file.

    Attributes:
        names: What follows ``>``, for each record.
        sequences: Their sequences, of equal length.
    """

    names: list[str]
    sequences: list[str]


class Variants(NamedTuple):
    """Sequences and their scores, as ``GGS.fit`` and ``measurements`` take them.

    Attributes:
        sequences: Strings of equal length.
        scores: A number for each; NaN where the table has none.
    """

    sequences: list[str]
    scores: Float[np.ndarray, "sequences"]


def read_fasta(path: str | os.PathLike[str]) -> Fasta:
    """The records of a FASTA file, whose sequences may go over several lines.

    Raises:
        ValueError: There is no record, one is empty or has a gap, or their lengths differ; the message names the record
            and its line.
    """
    names: list[str] = []
    parts: list[list[str]] = []
    places: list[str] = []
    for number, line in enumerate(_text(path).split("\n"), 1):  # names may have other characters that end lines
        if line.startswith(">"):
            names.append(line[1:].strip())
            parts.append([])
            places.append(f"{path}: record {len(names)} ({checks.shown(names[-1])}, line {number})")
        elif line.strip() and not line.startswith(";"):  # a comment of old
            if not parts:
                raise ValueError(f"{path}: line {number} = {checks.shown(line)}: expected '>' and a name first")
            parts[-1].append("".join(line.split()))
    if not names:
        raise ValueError(f"{path}: expected at least one record, which begins with '>'")
    sequences = ["".join(lines) for lines in parts]
    _check_equal(sequences, places, len(sequences[0]), "the first has")
    return Fasta(names, sequences)


def read_variants(
    path: str | os.PathLike[str], wild_type: str | None = None, *, variant: str = "sequence", score: str = "score"
) -> Variants:
    """The variants of a table and their scores, from text with a header, separated by commas, tabs or semicolons.

    Args:
        path: The table.
        wild_type: The sequence that mutations such as ``A24G:T30K`` refer to; None: the table has whole sequences.
        variant: The column of variants; each is a whole sequence or mutations, as in ``mutated``.
        score: The column of scores; an empty one, NA and NaN count as not measured.

    Returns:
        The sequences and scores, in the order of rows.

    Raises:
        ValueError: A column is absent or there are two of its name; a row has more or fewer cells than the header, as
            with a decimal comma; a quote is not closed; a score is no number; or a variant has a gap, another length,
            or a mutation that does not fit the wild type. The message names the row and its line.
    """
    for name, value in (("variant", variant), ("score", score)):
        checks.instance(name, value, str)
    if wild_type is not None:
        checks.instance("wild_type", wild_type, str)
    columns, rows = _table(path)
    for name, column in (("variant", variant), ("score", score)):
        if (count := columns.count(column)) != 1:
            found = f"{count} of this name" if count else ", ".join(columns) or "none"
            raise ValueError(f"{name} = {column!r}: expected a column of {path}, which has {found}")
    at_variant, at_score = columns.index(variant), columns.index(score)
    sequences, scores, places = [], [], []
    for number, line, row in rows:
        place = f"{path}: row {number} (line {line})"
        sequences.append(_sequence(row[at_variant], wild_type, f"{place}: {variant}"))
        scores.append(_score(row[at_score], f"{place}: {score}"))
        places.append(place)
    if not sequences:
        raise ValueError(f"{path}: expected at least one row after the header")
    length, whose = (len(sequences[0]), "the first has") if wild_type is None else (len(wild_type), "wild_type has")
    if wild_type is None and length != len("WT") and "wt" in (lower := [sequence.lower() for sequence in sequences]):
        raise ValueError(f"{places[lower.index('wt')]}: {variant} = 'WT': expected a whole sequence, or give wild_type")
    _check_equal(sequences, places, length, whose)
    return Variants(sequences, np.array(scores))


def mutated(wild_type: str, mutations: Iterable[str], *, first: int = 1) -> list[str]:
    """The sequences that mutations of a wild type make, such as ``A24G:T30K``, from A to G at 24 and T to K at 30.

    Args:
        wild_type: The sequence.
        mutations: For each variant its mutations, separated by colons, commas, semicolons, slashes or blanks; an empty
            text or ``WT``: none.
        first: The number of the wild type's first letter.

    Raises:
        ValueError: A mutation has another form, another letter than the wild type, or a number outside it, or two are
            at one position; the message names the row.

    Examples:
        >>> mutated("MKVLA", ["K2R:L4I", "WT"])
        ['MRVIA', 'MKVLA']
        >>> mutated("MKVLA", ["A2R"])
        Traceback (most recent call last):
        ValueError: mutations[0] = 'A2R': expected 'K' at 2, as the wild type has
    """
    checks.arguments()
    if isinstance(mutations, str):
        raise TypeError(f"mutations = {checks.shown(mutations)}: expected a list of strings, not a single string")
    rows = [checks.instance(f"mutations[{row}]", text, str) for row, text in enumerate(mutations)]
    return [_mutated(wild_type, text, first, f"mutations[{row}]") for row, text in enumerate(rows)]


def _mutated(wild_type: str, text: str, first: int, place: str) -> str:
    """The wild type with mutations; ``place`` names them in errors."""
    letters = list(wild_type)
    seen: set[int] = set()
    for mutation in [] if text.strip().lower() == "wt" else re.split(r"[\s:,;/]+", text.strip()):
        if not mutation:
            continue
        match = MUTATION.fullmatch(mutation)
        if match is None or match[3] in GAPS or match[3].isdigit():
            raise ValueError(f"{place} = {text!r}: expected mutations such as A24G:T30K, not {mutation!r}")
        before, at, after = match[1], int(match[2]), match[3]
        if not first <= at < first + len(letters):
            raise ValueError(f"{place} = {text!r}: expected positions {first} to {first + len(letters) - 1}, not {at}")
        if wild_type[at - first].upper() != before.upper():
            raise ValueError(f"{place} = {text!r}: expected {wild_type[at - first]!r} at {at}, as the wild type has")
        if at in seen:
            raise ValueError(f"{place} = {text!r}: expected one mutation at {at}, not two")
        seen.add(at)
        letters[at - first] = after
    return "".join(letters)


def _table(path: str | os.PathLike[str]) -> tuple[list[str], list[tuple[int, int, list[str]]]]:
    """The header of a table, and of each row that is not blank its number, its line, and as many cells."""
    text = _text(path)
    first = text.partition("\n")[0]
    delimiter = "\t" if "\t" in first else ";" if ";" in first else ","
    # Strict, since a quote that is not closed would take in all rows that follow.
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[tuple[int, int, list[str]]] = []
    try:
        columns += [cell.strip() for cell in next(reader, [])]
        for cells in reader:
            row, place = [cell.strip() for cell in cells], f"{path}: row {len(rows) + 1} (line {reader.line_num})"
            if not any(row):
                continue
            if len(row) < len(columns) or any(row[len(columns) :]):
                values = checks.shown(delimiter.join(cells))
                raise ValueError(f"{place} has {len(row)} cells: expected {len(columns)}, as the header has: {values}")
            rows.append((len(rows) + 1, reader.line_num, row))
    except csv.Error as error:
        raise ValueError(f"{path}: row {len(rows) + 1} (line {reader.line_num}): {error}") from error
    return columns, rows


def _sequence(text: str, wild_type: str | None, place: str) -> str:
    """The sequence of a variant, which is whole or has mutations; ``WT`` may also be two letters."""
    has_mutations = any(character.isdigit() for character in text)
    if wild_type is None:
        if has_mutations or not text:
            raise ValueError(f"{place} = {text!r}: expected a whole sequence, or give wild_type")
        return text
    if text.lower() == "wt" and len(wild_type) == len(text) and text.lower() != wild_type.lower():
        raise ValueError(f"{place} = {text!r} may be the wild type or two letters: expected mutations, such as W1T")
    return _mutated(wild_type, text, 1, place) if has_mutations or text.lower() in ("", "wt") else text


def _score(text: str, place: str) -> float:
    """A number, NaN if it is missing."""
    if text.lower() in MISSING:
        return float("nan")
    try:
        score = float("" if "_" in text else text)
    except ValueError:
        score = math.inf
    if not math.isfinite(score):
        raise ValueError(f"{place} = {text!r}: expected a finite number, or nothing")
    return score


def _check_equal(sequences: list[str], places: list[str], length: int, whose: str) -> None:
    """Raise ValueError, which names the place, if a sequence is empty, has a gap or another length."""
    for sequence, place in zip(sequences, places, strict=True):
        if not sequence:
            raise ValueError(f"{place} is empty: expected a sequence")
        if gap := re.search(f"[{re.escape(GAPS)}]", sequence):
            raise ValueError(f"{place} has a gap, {gap[0]!r}, at letter {gap.start() + 1}: expected letters alone")
        if len(sequence) != length:
            raise ValueError(f"{place} has {len(sequence)} letters: expected {length}, as {whose}")


def _text(path: str | os.PathLike[str]) -> str:
    """The text of a file, with or without a byte order mark."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, but {error}") from error
