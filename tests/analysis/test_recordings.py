"""Recordings as trials of (time, units): arrays whose axes are named, and files of NWB that are written here."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

from engram.analysis import DSA, HankelDMD, read_nwb, split_trials


@pytest.mark.parametrize("axes", ["trials time units", "units time trials", "time units trials", "time trials units"])
def test_every_order_of_axes_gives_the_same_trials(axes):
    trials = np.random.default_rng(0).normal(size=(3, 7, 2))
    order = [("trials", "time", "units").index(name) for name in axes.split()]
    found = split_trials(trials.transpose(order), axes)
    assert all(np.array_equal(ours, trial) for ours, trial in zip(found, trials, strict=True))


def test_cells_have_the_axes_of_a_trial_and_may_differ_in_length():
    rng = np.random.default_rng(0)
    trials = [rng.normal(size=(length, 3)) for length in (5, 9)]
    cells = np.empty(2, dtype=object)
    cells[:] = [trial.T for trial in trials]
    for given in (cells, [trial.T for trial in trials]):
        assert [trial.shape for trial in split_trials(given, "units time")] == [(5, 3), (9, 3)]
    (one,) = split_trials(trials[0], "time units")
    assert np.array_equal(one, trials[0])


@pytest.mark.parametrize(
    ("recording", "axes", "message"),
    [
        (np.zeros((2, 3, 4)), "time units", r"recording has the shape \(2, 3, 4\); expected a name for each axis"),
        (np.zeros((2, 3)), "trials time units", r"recording has the shape \(2, 3\); expected a name"),
        (np.zeros((2, 3)), "time time", "axes = 'time time': expected 'trials', 'time' and 'units' in the order"),
        (np.zeros((2, 3)), "time neurons", "axes = 'time neurons': expected"),
        (
            [np.zeros((5, 3)), np.zeros((9, 3))],
            "units time",
            "recording.1. has 9 units and recording.0. has 5",
        ),
        ([np.zeros((5, 3))], "trials time units", "expected 'time units' or 'units time' for the trials of a list"),
    ],
)
def test_axes_that_do_not_fit_are_refused(recording, axes, message):
    with pytest.raises(ValueError, match=message):
        split_trials(recording, axes)


def session(path, *, trials=True, observed=True):
    """A session of two units, of which the second is observed until 2 s only, and a series of three channels."""
    file = NWBFile("a test", "test", datetime(2026, 1, 1, tzinfo=UTC))
    if trials:
        file.add_trial_column("choice", "left or right")
        for start, choice in ((0.0, 0), (1.5, 1)):
            file.add_trial(start_time=start, stop_time=start + 1, choice=choice)
    file.add_unit_column("region", "where it is")
    for times, region, until in (([0.05, 0.15, 0.16, 1.52], "CA1", 9.0), ([0.31, 1.71], "CA3", 2.0)):
        intervals = {"obs_intervals": [[0.0, until]]} if observed else {}
        file.add_unit(spike_times=times, region=region, **intervals)
    samples = np.arange(30.0).reshape(10, 3)
    file.add_acquisition(TimeSeries(name="lfp", data=samples, unit="V", rate=4.0, conversion=2.0))
    with NWBHDF5IO(path, mode="w") as io:
        io.write(file)
    return path, samples


def test_spikes_become_rates_of_each_trial_and_what_was_not_observed_is_missing(tmp_path):
    path, _ = session(tmp_path / "session.nwb")
    read = read_nwb(path, bin_size=0.1)
    assert [trial.shape for trial in read.trials] == [(10, 2), (10, 2)]
    assert read.trials[0][:4].tolist() == [[10.0, 0.0], [20.0, 0.0], [0.0, 0.0], [0.0, 10.0]]
    assert np.isnan(read.trials[1][5:, 1]).all()
    assert not np.isnan(read.trials[1][:5]).any()
    assert read.table["choice"].tolist() == [0, 1]
    only = read_nwb(path, bin_size=0.1, units="region=CA3").trials
    assert np.array_equal(only[0], read.trials[0][:, 1:])


def test_a_series_is_cut_at_the_trials_in_its_own_unit(tmp_path):
    path, samples = session(tmp_path / "session.nwb")
    read = read_nwb(path, series="lfp")
    assert np.array_equal(read.trials[0], 2 * samples[:4])
    assert np.array_equal(read.trials[1], 2 * samples[6:10])
    assert read.bin_size == 0.25


def test_a_session_without_trials_is_one_and_its_rates_go_into_a_measure(tmp_path):
    path, _ = session(tmp_path / "session.nwb", trials=False, observed=False)
    (trial,) = read_nwb(path, bin_size=0.1).trials
    assert trial.sum() * 0.1 == pytest.approx(6)
    assert DSA(HankelDMD(n_delays=2, rank=2)).fit_transform([[trial], [trial]])[0, 1] < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": "eeg"}, "series = 'eeg': expected one of the time series of .*: lfp"),
        ({"units": "area=CA1"}, "units = 'area=CA1': expected 'column=value' with one of"),
        ({"units": "region=V1"}, "units = 'region=V1': no unit has this value; expected one of CA1, CA3"),
        ({"bin_size": 0.0}, "bin_size = 0.0: expected"),
        ({"bin_size": 2.0}, "trial 0 has no sample: expected trials of at least one bin"),
    ],
)
def test_what_a_file_does_not_have_is_named(tmp_path, options, message):
    path, _ = session(tmp_path / "session.nwb")
    with pytest.raises(ValueError, match=message):
        read_nwb(path, **options)
