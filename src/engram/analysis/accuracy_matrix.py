"""Metrics of continual learning, computed from the matrix of accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike

from engram import checks


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """The accuracy on each task after learning each task, and the metrics of continual learning computed from it.

    Libraries define the same names differently, so each method states its definition. NaN stands for an accuracy that
    was not measured, as does a masked number; a metric that needs it raises an error.

    Args:
        accuracies: R, (tasks, tasks): R[i, j] is the test accuracy on task j after learning task i.
        baseline: b, (tasks,): the accuracy of the untrained network; None: not measured.
        joint: (tasks,): the accuracy of a network that learned all tasks at once; None: not measured.

    Raises:
        ValueError: A shape does not fit, or R is not a matrix of numbers.

    Examples:
        >>> matrix = AccuracyMatrix([[0.9, 0.0], [0.5, 0.8]])
        >>> matrix.average_accuracy(), round(matrix.backward_transfer(), 3), matrix.forgetting()
        (0.65, -0.4, 0.4)
    """

    accuracies: Annotated[Any, ArrayLike]
    baseline: Annotated[Any, ArrayLike] = None
    joint: Annotated[Any, ArrayLike] = None

    def __post_init__(self) -> None:
        matrix = _numbers("accuracies", self.accuracies, ("tasks", "tasks"))
        if not matrix.size or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"accuracies.shape = {matrix.shape}: expected (tasks, tasks), one task at least")
        object.__setattr__(self, "accuracies", matrix)
        for name in ("baseline", "joint"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _numbers(name, getattr(self, name), (len(matrix),)))

    def average_accuracy(self, definition: str = "last") -> float:
        """The average accuracy.

        Args:
            definition: ``"last"``: (1/T) sum_j R[T, j], over all tasks after the last (Lopez-Paz & Ranzato 2017).
                ``"incremental"``: (1/T) sum_i (1/i) sum_{j <= i} R[i, j], over the tasks seen so far, averaged over
                time. ``"triangle"``: sum_{j <= i} R[i, j] / (T (T + 1) / 2) (Diaz-Rodriguez et al. 2018).

        Raises:
            ValueError: An accuracy was not measured, or the definition is unknown.
        """
        checks.choice("definition", definition, ("last", "incremental", "triangle"))
        if definition == "last":
            return self._mean(self._matrix[-1])
        rows_so_far = [row[: i + 1] for i, row in enumerate(self._matrix)]
        if definition == "triangle":
            return self._mean(np.concatenate(rows_so_far))
        return self._mean(np.array([self._mean(row) for row in rows_so_far]))

    def backward_transfer(self, definition: str = "gem") -> float:
        """The change in accuracy on earlier tasks caused by later ones; a value below 0 is forgetting.

        Args:
            definition: ``"gem"``: (1/(T-1)) sum_{j < T} (R[T, j] - R[j, j]) (Lopez-Paz & Ranzato 2017).
                ``"all"``: the mean of R[i, j] - R[j, j] over all i > j (Diaz-Rodriguez et al. 2018).

        Raises:
            ValueError: An accuracy was not measured, there is one task only, or the definition is unknown.
        """
        checks.choice("definition", definition, ("gem", "all"))
        change = self._matrix - self._several().diagonal()
        return self._mean(change[-1, :-1] if definition == "gem" else change[np.tril_indices(len(change), -1)])

    def forward_transfer(self) -> float:
        """The gain of later tasks from earlier ones: (1/(T-1)) sum_{j > 1} (R[j-1, j] - b[j]).

        Source: Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning" (2017).

        Raises:
            ValueError: An accuracy was not measured, ``baseline`` is None, or there is one task only.
        """
        if self.baseline is None:
            raise ValueError("baseline = None: expected the accuracies of the untrained network")
        return self._mean(self._several().diagonal(1) - np.asarray(self.baseline)[1:])

    def forgetting(self, definition: str = "best") -> float:
        """The fall of the accuracy from its best or first value to the last, averaged over all tasks but the last.

        Args:
            definition: ``"best"``: (1/(T-1)) sum_{j < T} (max_{j <= l < T} R[l, j] - R[T, j]) (Chaudhry et al. 2018).
                ``"first"``: R[j, j] in place of the maximum, which gives minus the backward transfer.

        Raises:
            ValueError: An accuracy was not measured, there is one task only, or the definition is unknown.
        """
        if checks.choice("definition", definition, ("best", "first")) == "first":
            return -self.backward_transfer()
        matrix = self._several()
        columns = [matrix[j:-1, j] for j in range(len(matrix) - 1)]
        self._mean(np.concatenate(columns))  # a maximum needs every value
        return self._mean(np.array([column.max() for column in columns]) - matrix[-1, :-1])

    def learning_accuracy(self) -> float:
        """The accuracy on each task just after it was learned: (1/T) sum_j R[j, j].

        Source: Riemer et al., "Learning to learn without forgetting by maximizing transfer" (2019).

        Raises:
            ValueError: An accuracy was not measured.
        """
        return self._mean(self._matrix.diagonal())

    def intransigence(self) -> float:
        """The accuracy lost by learning tasks in sequence instead of together: (1/T) sum_j (joint[j] - R[j, j]).

        Source: Chaudhry et al., "Riemannian walk for incremental learning" (2018), averaged over all tasks.

        Raises:
            ValueError: An accuracy was not measured, or ``joint`` is None.
        """
        if self.joint is None:
            raise ValueError("joint = None: expected the accuracies of a network that learned all tasks at once")
        return self._mean(np.asarray(self.joint) - self._matrix.diagonal())

    @property
    def _matrix(self) -> np.ndarray:
        return np.asarray(self.accuracies)

    def _several(self) -> np.ndarray:
        if len(self._matrix) < 2:
            raise ValueError("accuracies are of 1 task: expected at least 2, since this figure compares tasks")
        return self._matrix

    def _mean(self, values: np.ndarray) -> float:
        if np.isnan(values).any():
            raise ValueError("accuracies hold NaN, not measured, where this figure needs a number")
        return float(values.mean())


def _numbers(name: str, value: Any, shape: tuple[int | str, ...]) -> np.ndarray:
    """The value as an array of floats, where NaN is allowed; infinity raises an error."""
    with checks.noted(**{name: value}):
        array = np.array(checks.as_array(value), dtype=np.float64)
    checks.array(name, np.where(np.isnan(array), 0.0, array), shape)
    return array
