"""Queries: sets of inputs, and of outputs that should not occur for them, in exact decimals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from engram import checks
from engram.verify.network import Array
from engram.verify.specification import AllOf, AnyOf, Box, LinearProperty, Polytope, Property


class Row(NamedTuple):
    """The condition coefficients . v <= limit, or < if ``strict``, of some variables, without any rounding."""

    coefficients: tuple[tuple[int, Fraction], ...]  # by the index of the variable
    limit: Fraction
    strict: bool
    line: int  # in the file, for errors

    def holds(self, values: Sequence[Fraction]) -> bool:
        """Whether the condition holds for the values of all variables."""
        left = sum((factor * values[i] for i, factor in self.coefficients), Fraction(0))
        return left < self.limit or (left == self.limit and not self.strict)

    def is_possible(self, low: Sequence[Fraction], high: Sequence[Fraction]) -> bool:
        """Whether the condition holds for some values between these ends of all variables."""
        least = [low[i] if factor > 0 else high[i] for i, factor in self.coefficients]
        left = sum((factor * end for (_, factor), end in zip(self.coefficients, least, strict=True)), Fraction(0))
        return left < self.limit or (left == self.limit and not self.strict)

    def rounded(self, size: int) -> tuple[Array, float]:
        """Coefficients for all variables, and a limit that is rounded upwards.

        Args:
            size: The number of variables.
        """
        scale = Fraction(1)
        if not all(_is_double(factor) for _, factor in self.coefficients):
            scale = Fraction(math.lcm(*(factor.denominator for _, factor in self.coefficients)))
        row = np.zeros(size)
        for i, factor in self.coefficients:
            if not _is_double(factor * scale):
                raise ValueError(
                    f"line {self.line}: the factors have too many digits, or are too large: expected numbers of 64 bits"
                )
            row[i] = float(factor * scale)
        limit = rounded_up(self.limit * scale)
        if math.isinf(limit):
            raise ValueError(f"line {self.line}: the limit is too large: expected a number of 64 bits")
        return row, limit


@dataclass(frozen=True)
class QueryCase:
    """A box of inputs, cut by half-spaces, and polytopes of outputs, any of which violates the property."""

    low: tuple[Fraction, ...]
    high: tuple[Fraction, ...]
    rows: tuple[Row, ...]  # of inputs, those that are no end of the box, or one that is left out
    violations: tuple[tuple[Row, ...], ...]  # each of the rows of outputs that all have to hold

    @property
    def is_empty(self) -> bool:
        """Whether no input is in the box, or a row alone leaves none of it."""
        is_box = all(low <= high for low, high in zip(self.low, self.high, strict=True))
        return not is_box or not all(row.is_possible(self.low, self.high) for row in self.rows)

    @property
    def inputs(self) -> Box | Polytope:
        """The set of inputs, rounded outwards to 64 bits; one of several rows may be empty, which proofs find."""
        low, high = ([*map(rounded, ends)] for rounded, ends in ((rounded_down, self.low), (rounded_up, self.high)))
        cuts = [row for row in self.rows if len(row.coefficients) > 1]
        if not cuts:
            return Box(low, high)
        eye, size = np.eye(len(low)), len(low)
        A, b = zip(*(row.rounded(size) for row in cuts), strict=True)
        return Polytope.maybe_empty(np.vstack([eye, -eye, *A]), np.concatenate([high, np.negative(low), b]))

    def safe(self, outputs: int) -> Property:
        """The property that no violation occurs, rounded so that it implies the exact one.

        Args:
            outputs: The number of outputs.

        Raises:
            ValueError: ``outputs`` is below 1, or a factor or a limit does not fit into 64 bits; the message names the
                line.
        """
        checks.size("outputs", outputs)
        clauses: list[Property] = []
        for violation in self.violations:
            rows = [(*row.rounded(outputs), row.strict) for row in violation]
            clauses.append(AnyOf(tuple(LinearProperty([-A], [-b], strict=not strict) for A, b, strict in rows)))
        return AllOf(tuple(clauses))

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether an input is in the set."""
        checks.arguments()
        inside = all(low <= v <= high for low, v, high in zip(self.low, x, self.high, strict=True))
        return inside and all(row.holds(x) for row in self.rows)

    def violated(self, y: Sequence[Fraction]) -> bool:
        """Whether outputs are in one of the polytopes."""
        checks.arguments()
        return any(all(row.holds(y) for row in violation) for violation in self.violations)


@dataclass(frozen=True)
class Query:
    """The question whether some input in a set has outputs in another, as the union of cases."""

    inputs: int
    outputs: int
    cases: tuple[QueryCase, ...]

    def __repr__(self) -> str:
        return f"Query(inputs={self.inputs}, outputs={self.outputs}, cases={len(self.cases)})"

    def contains(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Whether an input with these outputs answers the question with yes."""
        checks.arguments()
        return any(case.contains(x) and case.violated(y) for case in self.cases)


def _is_double(value: Fraction) -> bool:
    """Whether a rational number is a number of 64 bits."""
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False


def rounded_down(value: Fraction) -> float:
    """The largest 64-bit number that is not above a rational number."""
    try:
        number = float(value)
    except OverflowError:
        return -math.inf if value < 0 else float(np.finfo(float).max)
    return float(np.nextafter(number, -math.inf)) if Fraction(number) > value else number


def rounded_up(value: Fraction) -> float:
    """The smallest 64-bit number that is not below a rational number."""
    return 0.0 - rounded_down(-value)  # never -0.0
