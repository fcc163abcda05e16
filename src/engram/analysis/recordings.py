"""Recorded activity as trials of (time, units): arrays whose axes are named, and files of NWB."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from engram import checks, extras
from engram.analysis.similarity.trials import Data, opened

AXES = ("trials", "time", "units")


@dataclass(frozen=True, eq=False)
class NWBSession:
    """A session of Neurodata Without Borders, cut into its trials.

    Attributes:
        trials: The activity of each trial, (time, units): rates in Hz, or the samples of a series; NaN where a unit was
            not observed.
        table: The columns of the table of trials, such as ``start_time`` and what the experimenter noted, by name.
        bin_size: The duration of a step, in seconds.
    """

    trials: list[Float[np.ndarray, "time units"]]
    table: Mapping[str, np.ndarray]
    bin_size: float


def split_trials(recording: Data, axes: str) -> list[Float[np.ndarray, "time units"]]:
    """The trials of a recording whose axes are in any order, as measures of activity take them.

    Args:
        recording: One array with three axes, one trial with two, or a list or cell array of trials.
        axes: The names of the axes in their order, ``"trials"``, ``"time"`` and ``"units"``, separated by spaces. One
            trial, and those of a list, have no axis ``"trials"``.

    Returns:
        A list of float64 arrays, (time, units).

    Raises:
        ValueError: An axis is named twice or is none of these, the array has another number of axes, or the trials of
            a list differ in their number of units.

    Examples:
        >>> matlab = np.zeros((10, 200, 8))  # units x time x trials
        >>> trials = split_trials(matlab, axes="units time trials")
        >>> len(trials), trials[0].shape
        (8, (200, 10))
    """
    names = checks.instance("axes", axes, str).split()
    if sorted(names) not in (sorted(AXES), sorted(AXES[1:])):
        raise ValueError(
            f"axes = {checks.shown(axes)}: expected 'trials', 'time' and 'units' in the order of the array"
        )
    cells = opened(recording)
    is_list = isinstance(cells, list)
    trials: list[Float[np.ndarray, "time units"]] = []
    for number, part in enumerate(cells if is_list else [cells]):
        name = f"recording[{number}]" if is_list else "recording"
        with checks.noted(recording=recording):
            values = np.asarray(checks.as_array(part), dtype=np.float64)
        if values.ndim != len(names) or (is_list and len(names) == len(AXES)):
            expected = "'time units' or 'units time' for the trials of a list" if is_list else "a name for each axis"
            raise ValueError(f"axes = {axes!r}: {name} has the shape {values.shape}; expected {expected}")
        ordered = values.transpose([names.index(axis) for axis in AXES if axis in names])
        trials += [*ordered] if ordered.ndim == len(AXES) else [ordered]
    for number, trial in enumerate(trials):
        if trial.shape[1] != trials[0].shape[1]:
            raise ValueError(
                f"recording[{number}] has {trial.shape[1]} units and recording[0] has {trials[0].shape[1]}: "
                f"expected equally many; is axes = {axes!r} the order of the axes?"
            )
    return trials


def read_nwb(
    path: str | os.PathLike[str], *, bin_size: float = 0.02, series: str | None = None, units: str | None = None
) -> NWBSession:
    """The trials of a file of Neurodata Without Borders, with the columns of its table of trials.

    Spikes are counted in bins from the start of each trial and divided by their duration; a last bin that is not whole
    is left out. A time series is cut at the starts and ends of trials. Without a table of trials the session is one.

    Args:
        path: The file, HDF5.
        bin_size: The duration of a bin of spikes, in seconds (default: 0.02).
        series: The name of a time series, (time, units), to be read in place of spikes.
        units: A column of the table of units and the value that it must have, as ``"region=CA1"`` (default: all units).

    Raises:
        ImportError: The extra ``nwb`` is not installed.
        ValueError: The file has no such series, no units, or a trial is shorter than a bin.

    Examples:
        >>> read_nwb("missing.nwb")
        Traceback (most recent call last):
        ...
        FileNotFoundError: missing.nwb: expected a file of NWB
    """
    checks.number("bin_size", bin_size, above=0)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of NWB")
    try:
        from pynwb import NWBHDF5IO
    except ModuleNotFoundError as error:
        raise extras.missing("nwb", "read_nwb", error) from None
    with NWBHDF5IO(path, mode="r") as file:
        session = file.read()
        table = _columns(session.trials) if session.trials is not None else {}
        if series is not None:
            times, values, step = _samples(session, path, series)
            spans = _spans(table, float(times[0]), float(times[-1]) + step)
            trials = [values[(times >= start) & (times < stop)] for start, stop in spans]
            return NWBSession([_whole(trial, n, path) for n, trial in enumerate(trials)], table, step)
        spikes, observed = _spikes(session, path, units)
        last = max((times[-1] for times in spikes if len(times)), default=0.0)
        trials = [
            _rates(spikes, observed, start, stop, bin_size)
            for start, stop in _spans(table, 0.0, float(last) + bin_size)
        ]
        return NWBSession([_whole(trial, n, path) for n, trial in enumerate(trials)], table, bin_size)


def _columns(trials: Any) -> dict[str, np.ndarray]:
    """The columns that have one value for each trial."""
    return {name: np.asarray(trials[name].data[:]) for name in trials.colnames if len(trials[name].data) == len(trials)}


def _spans(table: Mapping[str, np.ndarray], start: float, stop: float) -> list[tuple[float, float]]:
    if not table:
        return [(start, stop)]
    return [(float(a), float(b)) for a, b in zip(table["start_time"], table["stop_time"], strict=True)]


def _samples(session: Any, path: Path, name: str) -> tuple[np.ndarray, Float[np.ndarray, "time units"], float]:
    """The times and values of a series, and the time between two samples."""
    from pynwb import TimeSeries

    found = {item.name: item for item in session.objects.values() if isinstance(item, TimeSeries)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ValueError(f"series = {name!r}: expected one of the time series of {path}: {known}")
    item = found[name]
    values = np.asarray(item.data[:], dtype=np.float64) * item.conversion + item.offset
    values = values.reshape(len(values), -1)
    if item.rate:
        return item.starting_time + np.arange(len(values)) / item.rate, values, 1 / item.rate
    times = np.asarray(item.timestamps[:], dtype=np.float64)
    return times, values, float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _spikes(session: Any, path: Path, which: str | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The times of the spikes of each unit, and the intervals in which it was observed."""
    if session.units is None or "spike_times" not in session.units.colnames:
        raise ValueError(f"{path}: expected spike times of units, or series = the name of a time series")
    rows = range(len(session.units))
    if which is not None:
        column, _, value = which.partition("=")
        if column not in session.units.colnames:
            raise ValueError(
                f"units = {which!r}: expected 'column=value' with one of {', '.join(session.units.colnames)}"
            )
        rows = [row for row in rows if str(session.units[column][row]) == value]  # type: ignore[assignment]
        if not rows:
            values = sorted({str(session.units[column][row]) for row in range(len(session.units))})
            raise ValueError(f"units = {which!r}: no unit has this value; expected one of {', '.join(values)}")
    has_intervals = "obs_intervals" in session.units.colnames
    always = np.array([[-math.inf, math.inf]])
    return (
        [np.sort(np.asarray(session.units["spike_times"][row], dtype=np.float64)) for row in rows],
        [
            np.asarray(session.units["obs_intervals"][row], dtype=np.float64) if has_intervals else always
            for row in rows
        ],
    )


def _rates(
    spikes: list[np.ndarray], observed: list[np.ndarray], start: float, stop: float, bin_size: float
) -> Float[np.ndarray, "time units"]:
    n_bins = math.floor((stop - start) / bin_size + 1e-9)
    edges = start + bin_size * np.arange(n_bins + 1)
    rates = np.stack([np.diff(np.searchsorted(times, edges)) / bin_size for times in spikes], axis=1)
    slack = 1e-9 * max(1.0, abs(stop))
    for unit, intervals in enumerate(observed):
        begins, ends = intervals[:, 0] - slack, intervals[:, 1] + slack
        seen = ((edges[:-1, None] >= begins) & (edges[1:, None] <= ends)).any(axis=1)
        rates[~seen, unit] = np.nan
    return rates


def _whole(trial: Float[np.ndarray, "time units"], number: int, path: Path) -> Float[np.ndarray, "time units"]:
    if not len(trial):
        raise ValueError(f"{path}: trial {number} has no sample: expected trials of at least one bin or sample")
    return trial
