"""The interface of a measure of similarity: a distance between systems, computed from recorded trials."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Shaped

from engram import checks
from engram.analysis.similarity.trials import Data, Recording, as_trials

Change = Literal["shift", "scale", "rotation"]


class SimilarityMeasure(ABC):
    """A distance between systems: symmetric, deterministic, and 0 from a system to itself.

    To write your own measure, define ``distance`` between the trials of two systems, each a list of arrays (time,
    features); and ``describe`` for computations that depend on one system alone, which are done once. Invalid input is
    refused before these are called. A plain function of two systems can be used as a measure as well.

    Attributes:
        paired: Whether it compares systems sample by sample, so that both must have the same number of samples.
        invariant: The changes that do not affect it: a ``"shift"`` of all activity, its ``"scale"``, a ``"rotation"``.

    Examples:
        >>> class Spread(SimilarityMeasure):  # how far activity goes from its mean
        ...     invariant = ("shift", "rotation")
        ...     def describe(self, trials):
        ...         return np.concatenate(trials).std(0)
        ...     def distance(self, first, second):
        ...         return abs(np.linalg.norm(first) - np.linalg.norm(second))
        >>> Spread()([[0.0], [2.0]], [[5.0], [1.0]])
        1.0
    """

    paired: ClassVar[bool] = False
    invariant: ClassVar[tuple[Change, ...]] = ()

    __repr__ = checks.described

    def describe(self, trials: list[Recording]) -> Any:
        """The description of a system that ``distance`` takes; by default its trials.

        Args:
            trials: Finite, float64, (time, features) each.
        """
        return trials

    @abstractmethod
    def distance(self, first: Any, second: Any) -> float:
        """The distance between two systems.

        Args:
            first: Description of one system, as ``describe`` returns it.
            second: Description of the other system.
        """

    def __call__(self, X: Data, Y: Data) -> float:
        """The distance between two systems, each one trial (time, features), or several of them."""
        return float(self.distances([X, Y], ("X", "Y"))[0, 1])

    def distances(self, systems: Sequence[Data], names: Sequence[str] = ()) -> Float[np.ndarray, "systems systems"]:
        """The distances between all systems, 0 on the diagonal.

        Args:
            systems: Each one trial (time, features), (trials, time, features), or a list of trials.
            names: Names of the systems in error messages (default: ``systems[i]``).

        Raises:
            ValueError: A system does not have this form or is not finite; numbers of samples differ although the
                measure is ``paired``; or a distance is not finite.
        """
        names = names or [f"systems[{number}]" for number in range(len(systems))]
        trials = [as_trials(system, name) for system, name in zip(systems, names, strict=True)]
        lengths = [[len(trial) for trial in system] for system in trials]
        for name, system_lengths in zip(names, lengths, strict=True):
            if self.paired and system_lengths != lengths[0]:
                raise ValueError(f"{name} has trials of {system_lengths} samples: expected {lengths[0]}, as {names[0]}")
        described = [self.describe(system) for system in trials]

        def finite(first: Any, second: Any) -> float:
            value = float(self.distance(first, second))
            if not math.isfinite(value):
                raise ValueError(f"{self!r}: a distance is {value}: expected a finite number")
            return value

        return pairwise(described, finite)


class FunctionMeasure(SimilarityMeasure):
    """A function of the trials of two systems as a measure.

    Args:
        function: The function; its attributes ``paired`` and ``invariant``, if any, become those of the measure.
    """

    def __init__(self, function: Callable[[list[Recording], list[Recording]], float]) -> None:
        self.function = function
        self.paired = bool(getattr(function, "paired", False))  # type: ignore[misc]
        self.invariant = tuple(getattr(function, "invariant", ()))  # type: ignore[misc]

    def distance(self, first: list[Recording], second: list[Recording]) -> float:
        """The value of the function.

        Args:
            first: Trials of one system, (time, features) each.
            second: Trials of the other system.
        """
        return self.function(first, second)


def as_measure(part: Any) -> SimilarityMeasure:
    """The measure that is given by an instance, by its class, or by a function of two systems.

    Args:
        part: A ``SimilarityMeasure``, a subclass of it, or a function of the trials of two systems.

    Raises:
        TypeError: ``part`` is none of these.

    Examples:
        >>> as_measure(lambda X, Y: abs(X[0].mean() - Y[0].mean()))([[1.0]], [[3.0]])
        2.0
    """
    measure = part() if isinstance(part, type) and issubclass(part, SimilarityMeasure) else part
    if isinstance(measure, SimilarityMeasure):
        return measure
    if isinstance(measure, type) or not callable(measure):
        raise TypeError(f"part = {part!r}: expected a SimilarityMeasure, or a function of the trials of two systems")
    return FunctionMeasure(measure)


def pairwise(
    systems: Sequence[Any] | Shaped[np.ndarray, "systems ..."], distance: Callable[[Any, Any], float]
) -> Float[np.ndarray, "systems systems"]:
    """The matrix of a symmetric distance, such as ``procrustes_angle``, between all systems, 0 on its diagonal.

    Examples:
        >>> pairwise([1.0, 4.0, 6.0], lambda a, b: abs(a - b))[0]
        array([0., 3., 5.])
    """
    checks.arguments()
    distances = np.zeros((len(systems), len(systems)))
    for i, j in combinations(range(len(systems)), 2):
        distances[i, j] = distances[j, i] = distance(systems[i], systems[j])
    return distances
