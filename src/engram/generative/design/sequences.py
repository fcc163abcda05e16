"""Sequences as rows of tokens, with their measurements."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike

from engram import checks
from engram.numeric.rounding import relative_rounding

ROUNDING = 2e-15  # relative to the numbers: a few units in the last place
AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"
"""The twenty amino acids in the order of the published code."""


Duplicates = Literal["keep", "warn", "mean", "error"]


class Measurements(NamedTuple):
    """Sequences and their measurements.

    Attributes:
        tokens: A row for each sequence, with the indices of its letters in the alphabet.
        scores: Their fitness, to be maximised.
    """

    tokens: UInt8[np.ndarray, "sequences length"]
    scores: Float[np.ndarray, "sequences"]


def encode(sequences: Iterable[str], alphabet: str = AMINO_ACIDS) -> UInt8[np.ndarray, "sequences length"]:
    """The indices of letters in an alphabet, a row for each sequence; trailing whitespace is ignored.

    Args:
        sequences: Strings of equal length.
        alphabet: The letters; a lower-case letter that is not among them is read as upper case, with a warning.

    Raises:
        TypeError: The sequences are a single string.
        ValueError: There are no sequences, their lengths differ, or a letter is not in the alphabet; the message names
            the row and the letter.

    Examples:
        >>> encode(["AR", "NA"]).tolist()
        [[0, 1], [2, 0]]
        >>> encode(["AR", "AX"])
        Traceback (most recent call last):
        ValueError: sequences[1] has 'X' at position 1: expected letters of 'ARNDCQEGHILKMFPSTWYV'
    """
    checks.arguments()
    if isinstance(sequences, str):  # a string is also a sequence of strings, of one letter each
        raise TypeError(f"sequences = {checks.shown(sequences)}: expected a list of strings, not a single string")
    _check_alphabet(alphabet)
    rows = [checks.instance(f"sequences[{n}]", sequence, str).rstrip() for n, sequence in enumerate(sequences)]
    if not rows or not rows[0]:
        raise ValueError(f"sequences = {checks.shown(sequences)}: expected at least one, of at least one letter")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"sequences[{number}] has length {len(row)}: expected {len(rows[0])}, as the first has")
    letters = np.array([row.encode("utf-32-le") for row in rows], dtype=f"S{4 * len(rows[0])}")
    codes = np.frombuffer(letters.tobytes(), dtype="<u4").reshape(len(rows), -1)
    token_of = {ord(letter): token for token, letter in enumerate(alphabet)}
    distinct, inverse = np.unique(codes, return_inverse=True)
    tokens = np.full(len(distinct), 255, dtype=np.uint8)
    has_lower = False
    for index, code in enumerate(distinct.tolist()):
        upper = ord(chr(code).upper()) if len(chr(code).upper()) == 1 else code
        has_lower = has_lower or (code not in token_of and upper in token_of)
        tokens[index] = token_of.get(code, token_of.get(upper, 255))
    coded = tokens[inverse.reshape(codes.shape)]
    if (coded == 255).any():
        row, position = np.argwhere(coded == 255)[0].tolist()
        raise ValueError(f"sequences[{row}] has {rows[row][position]!r} at position {position}: expected letters of "
                         f"{alphabet!r}")  # fmt: skip
    if has_lower:
        warnings.warn("sequences: lower-case letters were read as upper case", UserWarning, stacklevel=2)
    return coded


def decode(tokens: UInt8[np.ndarray, "sequences length"], alphabet: str = AMINO_ACIDS) -> list[str]:
    """The strings that rows of tokens represent.

    Examples:
        >>> decode(np.array([[0, 1], [2, 0]], dtype=np.uint8))
        ['AR', 'NA']
    """
    checks.arguments()
    _check_alphabet(alphabet)
    check_tokens("tokens", tokens, len(alphabet))
    return ["".join(row) for row in np.array(list(alphabet))[tokens].tolist()]


def measurements(
    sequences: Iterable[str],
    scores: ArrayLike,
    alphabet: str = AMINO_ACIDS,
    duplicates: Duplicates = "keep",
) -> Measurements:
    """Sequences and their scores, without sequences that have no score.

    Args:
        sequences: Strings of equal length.
        scores: A number for each sequence, to be maximised; rows whose score is NaN or masked are dropped, with a
            warning.
        alphabet: The letters.
        duplicates: For a sequence that occurs more than once, keep all rows (``"keep"``; ``"warn"`` also warns if their
            scores differ), merge them and take the mean score (``"mean"``), or merge them and raise an error if their
            scores differ (``"error"``).

    Raises:
        ValueError: As in ``encode``; or there is not one number for each sequence, one is infinite, all are NaN, or
            with ``"error"`` a sequence has several scores.

    Examples:
        >>> measurements(["AR", "AR", "NA"], [1.0, 3.0, 5.0], duplicates="mean").scores.tolist()
        [2.0, 5.0]
    """
    return measurements_of("scores", sequences, scores, alphabet, duplicates)


def measurements_of(
    name: str, sequences: Iterable[str], scores: ArrayLike, alphabet: str, duplicates: Duplicates
) -> Measurements:
    """``measurements`` for a caller whose argument of scores has another name.

    Args:
        name: The name of the scores in errors and warnings.
        sequences: Strings of equal length.
        scores: A number for each sequence.
        alphabet: The letters.
        duplicates: Treatment of a sequence that occurs more than once.
    """
    tokens = encode(sequences, alphabet)
    checks.choice("duplicates", duplicates, get_args(Duplicates))
    with checks.noted(**{name: scores}):
        values = np.asarray(checks.as_array(scores), dtype=np.float64)
    checks.has_shape(name, values.shape, (len(tokens),))
    is_valid = ~np.isnan(values)
    if not is_valid.all():
        warnings.warn(f"{name}: {int((~is_valid).sum())} of {len(values)} are NaN, and their rows dropped", UserWarning,
                      stacklevel=3)  # fmt: skip
        tokens, values = tokens[is_valid], values[is_valid]
    if not len(values):
        raise ValueError(f"{name}: expected at least one that is not NaN")
    checks.finite(name, values)
    if duplicates == "keep":
        return Measurements(tokens, values)
    distinct, first_rows, inverse, counts = np.unique(tokens, axis=0, return_index=True, return_inverse=True,
                                                  return_counts=True)  # fmt: skip
    groups = inverse.ravel()
    means = np.bincount(groups, values) / counts
    differ = ~np.isclose(values, values[first_rows][groups], rtol=max(ROUNDING, relative_rounding(values)), atol=0)
    if duplicates != "mean" and differ.any():
        equal = np.flatnonzero(groups == groups[differ.argmax()])
        rows = " and ".join(f"[{row}]" for row in np.flatnonzero(is_valid)[equal].tolist())
        conflict = f"sequences{rows} are equal, with scores {', '.join(f'{score:g}' for score in values[equal])}"
        if duplicates == "error":
            raise ValueError(f"{conflict}: expected one score of a sequence, or duplicates='keep' or 'mean'")
        n_others = len(np.unique(groups[differ])) - 1
        text = f"{conflict}, and {n_others} other sequences have several scores" if n_others else conflict
        warnings.warn(f"{text}: all rows are kept; duplicates='mean' would take means", UserWarning, stacklevel=3)
    if duplicates == "warn":
        return Measurements(tokens, values)
    order = np.argsort(first_rows)
    return Measurements(distinct[order], means[order])


def check_tokens(name: str, tokens: UInt8[np.ndarray, "sequences length"], vocab: int) -> None:
    """Raise ValueError if there is no sequence, or a token is outside the alphabet.

    Args:
        name: The name of the argument, for the error.
        tokens: The sequences.
        vocab: Number of letters in the alphabet.
    """
    if not tokens.size:
        raise ValueError(f"{name}.shape = {tokens.shape}: expected at least one sequence of at least one letter")
    if (is_outside := tokens >= vocab).any():
        row, position = np.argwhere(is_outside)[0].tolist()
        raise ValueError(f"{name}[{row}, {position}] = {tokens[row, position]}: expected below {vocab}, the alphabet's")


def _check_alphabet(alphabet: str) -> None:
    if not 2 <= len(set(alphabet)) == len(alphabet) <= 255:
        raise ValueError(f"alphabet = {alphabet!r}: expected 2 to 255 letters, all different")
