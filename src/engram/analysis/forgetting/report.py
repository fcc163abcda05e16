"""Measures of how much a network that learned tasks one after another forgot, in its outputs and features."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from engram import checks

SMALLEST_WHOLE = 0.02  # the share of a smaller whole would be noise
Accuracies = Float[np.ndarray, "stages tasks"]
PerOldTask = Float[np.ndarray, " old"]


@dataclass(frozen=True, eq=False)
class RepresentationReport:
    """Accuracies of a network after each task: stage 0 is before the first, stage n after the last; column j is task j.

    All measures have one number for each old task, 1 to n - 1, which is NaN where the measure is not defined. ``shots``
    is the number of examples of each class that a probe is fitted to; None: all.

    Attributes:
        output: R, the accuracies of the network's own heads; NaN before a task was learned, and everywhere if no heads
            were given.
        representation: P for each number of shots: the accuracies of probes fitted at each stage; row 0 is for random
            features.
        teacher: The same, where row i is for a network that learned tasks 1 to i together, and row 0 is NaN; None if
            there were no such networks.
        drift: 1 - linear CKA between features of the task's test inputs when it was learned and at the end.

    Source: protocol after Xiong, Ren and Urtasun, "Learning to remember from a multi-task teacher" (2019), re-designed
        from its abstract; the relative measure after the idea of Hess et al. (2023), the formula is ours.
    """

    output: Accuracies
    representation: Mapping[int | None, Accuracies]
    drift: PerOldTask
    teacher: Mapping[int | None, Accuracies] | None = None

    def probed(self, shots: int | None = None) -> Accuracies:
        """The accuracies P of the probes for this number of shots.

        Raises:
            ValueError: No probe was fitted to this number of examples.
        """
        checks.choice("shots", shots, tuple(self.representation))
        accuracies: Accuracies = self.representation[shots]
        return accuracies

    def forgetting(
        self, level: Literal["output", "representation"] = "representation", shots: int | None = None
    ) -> PerOldTask:
        """The fall in accuracy since the task was learned: R[j,j] - R[n,j], or P[j,j] - P[n,j]."""
        checks.choice("level", level, ("output", "representation"))
        accuracies = self.output if level == "output" else self.probed(shots)
        return np.asarray(_accuracy_after_learning(accuracies) - accuracies[-1, :-1])

    def stale_share(self) -> PerOldTask:
        """The share of the outputs' forgetting that is due to the read-out alone: 1 - F_rep / F_out.

        NaN where the outputs forgot less than 0.02.
        """
        return 1 - _share(self.forgetting(), self.forgetting("output"))

    def relative(self) -> PerOldTask:
        """The share of the accuracy added to the features by learning the task that is lost at the end.

        (P[j,j] - P[n,j]) / (P[j,j] - P[j-1,j]); NaN where less than 0.02 was added. Features that all tasks share
        are never lost, which makes forgetting look small; this measure leaves them out.
        """
        probed = self.probed()
        accuracy_before = probed[np.arange(probed.shape[1] - 1), np.arange(probed.shape[1] - 1)]
        return _share(self.forgetting(), _accuracy_after_learning(probed) - accuracy_before)

    def recovered(self, shots: int | None = None) -> PerOldTask:
        """The gain in accuracy of a fresh read-out, fitted to ``shots`` examples, over the old: P_m[n,j] - R[n,j]."""
        return np.asarray(self.probed(shots)[-1, :-1] - self.output[-1, :-1])

    def teacher_gap(self) -> Accuracies:
        """The accuracy of probes of a network that learned all tasks so far together, minus P.

        Raises:
            ValueError: No teachers were given.
        """
        if self.teacher is None:
            raise ValueError("teacher = None: expected a measurement with teachers")
        return np.asarray(self.teacher[None] - self.probed())

    def table(self) -> str:
        """The measures as text: a row for each old task, their mean without NaN, and the number of NaN."""
        rows = self._rows()
        columns = list(rows[0])
        measures = np.array([[row[column] for column in columns[1:]] for row in rows], float)
        defined = np.isfinite(measures)
        mean = np.where(defined, measures, 0).sum(0) / np.where(defined.any(0), defined.sum(0), math.nan)
        lines = [
            columns,
            *([str(row["task"]), *map(_number, values)] for row, values in zip(rows, measures, strict=True)),
        ]
        lines += [["mean", *map(_number, mean)], ["NaN", *(str(count) for count in (~defined).sum(0))]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def to_csv(self, path: str | Path) -> None:
        """Write the measures to a CSV file, with a row for each old task."""
        checks.arguments()
        rows = self._rows()
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def _rows(self) -> list[dict[str, float | int]]:
        probed = self.probed()
        columns = {
            "random features": probed[0, :-1],
            "R learned": _accuracy_after_learning(self.output),
            "R now": self.output[-1, :-1],
            "P learned": _accuracy_after_learning(probed),
            "P now": probed[-1, :-1],
            "F_out": self.forgetting("output"),
            "F_rep": self.forgetting(),
            "F_rel": self.relative(),
            "stale": self.stale_share(),
            "drift": self.drift,
        }
        columns |= {
            f"recovered by {n_shots}": self.recovered(n_shots) for n_shots in self.representation if n_shots is not None
        }
        if self.teacher is not None:
            columns["teacher gap"] = self.teacher_gap()[-1, :-1]
        return [
            {"task": task + 1, **{name: float(values[task]) for name, values in columns.items()}}
            for task in range(len(self.drift))
        ]


def _accuracy_after_learning(accuracies: Accuracies) -> PerOldTask:
    """Each old task's accuracy just after it was learned."""
    old_tasks = np.arange(accuracies.shape[1] - 1)
    return np.asarray(accuracies[old_tasks + 1, old_tasks])


def _share(part: PerOldTask, whole: PerOldTask) -> PerOldTask:
    return np.asarray(np.divide(part, whole, out=np.full_like(part, math.nan), where=whole >= SMALLEST_WHOLE))


def _number(value: float) -> str:
    return f"{value:.3f}"
