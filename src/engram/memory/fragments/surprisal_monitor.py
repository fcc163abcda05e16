"""A monitor that detects surprising numbers in a stream."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from engram import checks
from engram.memory.splitmix import seeds
from engram.state import check_state

CRITERIA = ("zscore", "ratio", "uniform", "random")  # in the order of the kernels' numbers
_STATE = ("counts", "means", "squares", "since", "draws", "previous")


class SurprisalMonitor:
    """A monitor that fires when a number in a stream is an outlier among those before it.

        zscore    (x - mean) / std > threshold, std with n - 1 and above ``std_floor``
        ratio     x >= threshold * mean, mean > 0
        uniform   every ``threshold`` samples, a control
        random    with probability ``threshold`` at each sample, a control

    Mean and standard deviation are those of the samples before x, of the last ``window`` or of all. A larger number is
    a greater surprise: for a confidence c, pass 1 - c.

    Args:
        criterion: ``"zscore"``, ``"ratio"``, ``"uniform"`` or ``"random"``.
        threshold: The threshold in the formulas above.
        min_samples: Number of earlier samples that are needed before one may fire.
        window: Number of most recent samples that count; None: all since the last ``reset``.
        std_floor: With ``"zscore"`` nothing fires unless the standard deviation is larger than this.
        append_on_trigger: Whether a sample that fires is included in later statistics.
        reset_on_trigger: Whether a sample that fires removes all earlier samples from the statistics.
        skip_repeats: Whether a sample that equals its predecessor is skipped.
        streams: Number of parallel streams, each with its own statistics; None: one stream, of floats.
        generator: Source of a seed for ``"random"``; torch's global one if None.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024): the defaults;
    Hwang et al., "Neuro-inspired fragmentation and recall to overcome catastrophic forgetting in curiosity" (2023):
    ``("ratio", 10, min_samples=25, append_on_trigger=False, reset_on_trigger=False, skip_repeats=True)``.

    Examples:
        >>> monitor = SurprisalMonitor(min_samples=3)
        >>> [monitor.observe(x) for x in (1.0, 2.0, 3.0, 2.5, 9.0)]
        [False, False, False, False, True]
    """

    __repr__ = checks.described

    def __init__(
        self,
        criterion: str = "zscore",
        threshold: float = 2.0,
        *,
        min_samples: int = 26,
        window: int | None = None,
        std_floor: float = 1e-6,
        append_on_trigger: bool = True,
        reset_on_trigger: bool = True,
        skip_repeats: bool = False,
        streams: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        self.criterion = checks.choice("criterion", criterion, CRITERIA)
        maximum = 1.0 if criterion == "random" else None
        self.threshold = checks.number("threshold", threshold, above=0, maximum=maximum)
        self.min_samples = checks.size("min_samples", min_samples, minimum=0)
        self.window = None if window is None else checks.size("window", window, 2, 10**6)
        if window is not None and window < min_samples:
            raise ValueError(f"window = {window}: expected at least min_samples = {min_samples}, else nothing fires")
        self.std_floor = checks.number("std_floor", std_floor, minimum=0)
        self.streams = None if streams is None else checks.size("streams", streams, maximum=10**6)
        self._options = (self.min_samples, append_on_trigger, reset_on_trigger, skip_repeats)
        count = streams or 1
        draws = generator is not None or self.criterion == "random"  # the others leave torch's global one alone
        self._seed = seeds(count, generator, torch.device("cpu")).numpy() if draws else np.zeros(count, np.int64)
        self._draws = np.zeros(count, dtype=np.int64)
        self._statistic = np.full(count, np.nan)
        self._x, self._armed, self._triggered = np.zeros(count), np.ones(count, bool), np.zeros(count, bool)
        self.reset()

    def reset(self) -> None:
        """Forget all samples; the sequence of random numbers goes on."""
        count = self.streams or 1
        self._counts, self._since = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self._means, self._squares, self._previous = np.zeros(count), np.zeros(count), np.full(count, np.nan)
        self._rings = np.zeros((count, self.window or 0))

    def observe(
        self, x: float | Float[np.ndarray, " streams"], *, armed: bool | Bool[np.ndarray, " streams"] = True
    ) -> Any:
        """Test whether a sample is a surprise given the earlier samples, then add it to them.

        Args:
            x: A sample, or one for each stream, (streams,).
            armed: Whether it may fire; if not, it still counts as a sample.

        Returns:
            A bool, or one for each stream, (streams,).

        Raises:
            ValueError: A sample is not finite, or there is not one for each stream.
        """
        if self.streams is None:
            self._x[0] = checks.number("x", x)
            self._armed[0] = armed if isinstance(armed, bool) else checks.choice("armed", armed, (True, False))
        else:
            self._x[:] = checks.array("x", x, (self.streams,))
            armed_array = np.asarray(checks.as_array(armed))
            self._armed[:] = checks.array("armed", armed_array, (self.streams,) * armed_array.ndim, bool)
        state = (self._counts, self._means, self._squares, self._since, self._draws, self._previous)
        criterion, numbers = CRITERIA.index(self.criterion), (self.threshold, self.std_floor)
        _kernels().observe(
            self._x, self._armed, criterion, numbers, self._options, self._seed, state, self._rings,
            self._triggered, self._statistic,
        )  # fmt: skip
        return bool(self._triggered[0]) if self.streams is None else self._triggered.copy()

    def scan(self, xs: Float[np.ndarray, " time"]) -> int | None:
        """The index of the first surprise among successive samples of one stream, or None.

        Equivalent to calling ``observe`` on each sample until the first surprise; later samples are not used.

        Raises:
            ValueError: A sample is not finite, or there are several streams.

        Examples:
            >>> monitor = SurprisalMonitor(min_samples=3)
            >>> monitor.scan(np.array([1.0, 2.0, 3.0, 2.5, 9.0, 9.0]))
            4
        """
        if self.streams is not None:
            raise ValueError(f"streams = {self.streams}: expected None, a monitor of one stream")
        samples = checks.array("xs", xs, ("time",))
        state = (self._counts, self._means, self._squares, self._since, self._draws, self._previous)
        criterion, numbers = CRITERIA.index(self.criterion), (self.threshold, self.std_floor)
        index = _kernels().scan(
            samples, criterion, numbers, self._options, self._seed, state, self._rings,
            self._triggered, self._statistic,
        )  # fmt: skip
        return None if index < 0 else int(index)

    @property
    def statistic(self) -> Float[np.ndarray, " streams"]:
        """The value that was compared with the threshold at the last sample of each stream, or NaN, (streams,)."""
        return self._statistic.copy()

    @property
    def previous(self) -> Any:
        """The last sample: a float, or one for each stream, (streams,); NaN before the first sample."""
        return float(self._previous[0]) if self.streams is None else self._previous.copy()

    def state_dict(self) -> dict[str, Any]:
        """The statistics of all streams, and the state of their random numbers."""
        names = (*_STATE, "seed", "rings", "statistic")
        return {name: getattr(self, f"_{name}").copy() for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of ``state_dict``; raises if its number of streams or its window differ."""
        check_state(state, self.state_dict())
        for name, value in state.items():
            setattr(self, f"_{name}", value.copy())


@functools.cache
def _kernels() -> ModuleType:
    from engram.memory.fragments import kernels  # numba takes a third of torch's time to import

    return kernels
