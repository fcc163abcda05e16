"""Measured quantities: what an experiment measures without a criterion, so without a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engram import checks
from engram.claim_rows import MEASURED, Row, as_html
from engram.lab.claims.claim import interval
from engram.lab.claims.measure import Measure, ResultsOfSeed


@dataclass(frozen=True)
class Quantity:
    """What an experiment measures without a criterion: it is shown with its interval, and gets no verdict.

    Attributes:
        id: Short name, unique among the claims and quantities of its experiment.
        statement: What is measured, in words, as in "Error of the small network over that of the large one".
        measure: Our measure of it, computed from the results of one seed, as ``error("small") / error("large")``.

    Raises:
        TypeError: ``measure`` is not a measure.
    """

    id: str
    statement: str
    measure: Measure

    def __post_init__(self) -> None:
        if not isinstance(self.measure, Measure):
            shown = checks.shown(self.measure)
            raise TypeError(f"measure of quantity {self.id!r} = {shown}: expected a measure without a criterion")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that the measure reads."""
        return self.measure.arms


class MeasuredQuantity(NamedTuple):
    """A quantity with its estimate in a run.

    Attributes:
        quantity: The quantity.
        values: Our measure of it, by seed; NaN for a seed that gives no number.
        ours: Its estimate over seeds, as of a claim; NaN if a seed gives no number.
        low, high: The ends of its 95 % interval; not finite if there is none, as for one seed.
    """

    quantity: Quantity
    values: Mapping[int, float]
    ours: float
    low: float
    high: float

    def row(self) -> Row:
        """The quantity as a row of a table."""
        bounds = f"[{self.low:.3g}, {self.high:.3g}]" if math.isfinite(self.high - self.low) else ""
        ours = f"{self.ours:.4g}" if self.values else ""
        return Row(self.quantity.statement, "", ours, bounds, len(self.values))


def measure_quantity(quantity: Quantity, results: Mapping[int, ResultsOfSeed]) -> MeasuredQuantity:
    """Measure a quantity in all seeds that have results of its arms.

    Args:
        quantity: The quantity.
        results: The finished trials: seed -> arm -> result.

    Examples:
        >>> from engram.lab import metric
        >>> loss = Quantity("loss", "Error of the fast network", metric("error")("fast"))
        >>> measure_quantity(loss, {seed: {"fast": {"error": 0.1 * seed}} for seed in (1, 2, 3)}).row().cell("value")
        '0.2 [-0.0484, 0.448]'
    """
    values: dict[int, float] = {}
    trials: dict[int, int] = {}
    for seed, arms in sorted(results.items()):
        if set(quantity.arms) <= set(arms):
            try:
                values[seed], trials[seed] = float(quantity.measure(arms)), quantity.measure.trials(arms)
            except Exception:  # no number, as a quotient of zeros
                values[seed], trials[seed] = math.nan, 1
    return MeasuredQuantity(quantity, values, *interval(quantity.measure, values, trials)[:3])


def quantities_table(measured: Sequence[MeasuredQuantity]) -> str:
    """Quantities as a table in HTML; empty if there are none.

    Args:
        measured: The quantities.
    """
    return as_html([each.row() for each in measured], MEASURED) if measured else ""
