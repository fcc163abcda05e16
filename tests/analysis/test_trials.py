"""The forms in which recordings come: each is understood, or refused with what to do."""

import numpy as np
import pandas
import polars
import pytest
import torch
from scipy.io import loadmat, savemat

from engram.analysis import DSA, HankelDMD, choose_delays, fit_driven, split_half_floor
from engram.analysis.similarity import ShapeAngle
from engram.analysis.similarity.trials import as_trials, is_trials


def recording(time, seed, features=2):
    rng = np.random.default_rng(seed)
    phases = 0.3 * np.arange(time)[:, None] + rng.uniform(0, 6, features)
    return np.sin(phases) + 0.01 * rng.normal(size=(time, features))


TRIALS = [recording(40 + 10 * seed, seed) for seed in range(3)]
EXPECTED = HankelDMD(2, rank=2).fit(TRIALS)


def cell(parts, shape=(-1,)):
    cells = np.empty(len(parts), dtype=object)
    for i, part in enumerate(parts):
        cells[i] = part
    return cells.reshape(shape)


@pytest.mark.parametrize(
    "X",
    [
        cell(TRIALS),
        cell(TRIALS, (1, -1)),
        cell(TRIALS, (-1, 1)),
        cell([trial.tolist() for trial in TRIALS]),
        [pandas.DataFrame(trial, columns=["a", "b"]) for trial in TRIALS],
        [polars.DataFrame(trial) for trial in TRIALS],
        [torch.from_numpy(trial) for trial in TRIALS],
        [np.ma.masked_invalid(trial) for trial in TRIALS],
        tuple(TRIALS),
    ],
)
def test_a_cell_and_frames_are_lists_of_trials(X):
    dmd = HankelDMD(2, rank=2).fit(X)
    np.testing.assert_allclose(dmd.operator_, EXPECTED.operator_)
    assert is_trials(X)
    for coordinates, expected in zip(dmd.transform(X), EXPECTED.transform(TRIALS), strict=True):
        np.testing.assert_allclose(coordinates, expected, atol=1e-12)
    assert len(dmd.predict(X)) == 3
    assert dmd.score(X) == pytest.approx(EXPECTED.score(TRIALS))
    for trial, expected in zip(as_trials(X), TRIALS, strict=True):
        np.testing.assert_array_equal(trial, expected)


def test_a_cell_from_a_file_of_matlab(tmp_path):
    savemat(tmp_path / "x.mat", {"trials": cell(TRIALS), "systems": cell([cell(TRIALS), cell(TRIALS[:2])])})
    content = loadmat(tmp_path / "x.mat")
    assert content["trials"].dtype == object
    np.testing.assert_allclose(HankelDMD(2, rank=2).fit(content["trials"]).operator_, EXPECTED.operator_)
    dsa = DSA(HankelDMD(2, rank=2)).fit(content["systems"])
    np.testing.assert_allclose(dsa.operators_[0], EXPECTED.operator_)
    np.testing.assert_allclose(dsa.operators_[1], HankelDMD(2, rank=2).fit(TRIALS[:2]).operator_)
    np.testing.assert_allclose(dsa.transform(content["systems"])[0, 0], 0, atol=1e-6)
    by_cell = choose_delays(content["trials"], [1, 2], [2])
    assert by_cell[:2] == choose_delays(TRIALS, [1, 2], [2])[:2]
    floors = [split_half_floor([X], np.random.default_rng(0), n_splits=1) for X in (content["trials"], TRIALS)]
    np.testing.assert_allclose(*floors, atol=1e-6)
    inputs = cell([trial[:, :1] for trial in TRIALS])
    by_list = fit_driven(TRIALS, [trial[:, :1] for trial in TRIALS], coordinates="whitened")
    np.testing.assert_allclose(fit_driven(content["trials"], inputs, coordinates="whitened").state, by_list.state)
    assert ShapeAngle()(content["trials"], TRIALS) < 1e-7


def test_arrays_of_one_dimension_are_systems_of_dsa_and_refused_elsewhere():
    trials = [trial[:, 0] for trial in TRIALS]
    advice = (
        r"X is a list of arrays of one dimension.*np.stack\(X\) for the samples.*\[x\[:, None\] for x in X\] for trials"
    )
    for parts in (
        trials,
        [trial[:40] for trial in trials],
        list(TRIALS[0]),
        cell(trials),
        [*map(torch.tensor, trials)],
    ):
        for call in (HankelDMD().fit, as_trials, lambda X: choose_delays(X, [1], [1])):
            with pytest.raises(ValueError, match=advice):
                call(parts)
    dsa = DSA(HankelDMD(4, rank=2)).fit(trials)
    np.testing.assert_array_equal(dsa.operators_[1], HankelDMD(4, rank=2).fit(trials[1][:, None]).operator_)
    equal = np.stack([trial[:40] for trial in trials])
    for form in (list(equal), cell(list(equal))):
        np.testing.assert_array_equal(
            DSA(HankelDMD(4, rank=2)).fit_transform(form), DSA(HankelDMD(4, rank=2)).fit_transform(equal)
        )
    with pytest.raises(ValueError, match=f"X, system 0: {advice}"):
        DSA().fit([trials, trials])


@pytest.mark.parametrize(
    ("gap", "parts"),
    [
        (slice(5, 8), r"pass X\[:5\] and X\[8:\] in a list of trials"),
        (slice(0, 3), r"pass X\[3:\] in a list"),
        (slice(38, None), r"pass X\[:38\] in a list"),
    ],
)
def test_a_gap_is_refused_with_how_to_split(gap, parts):
    X = TRIALS[0].copy()
    X[gap, 1] = np.nan
    masked = np.ma.masked_invalid(X)
    for call in (HankelDMD().fit, EXPECTED.transform, as_trials):
        for form in (X, masked, torch.from_numpy(X)):
            with pytest.raises(ValueError, match=rf"is NaN: expected finite numbers; a gap splits a trial: {parts}"):
                call(form)
    within = parts.replace("X", r"X\[1\]")
    for trials in ([TRIALS[1], X], cell([TRIALS[1], X]), [TRIALS[1], masked]):
        with pytest.raises(ValueError, match=within):
            HankelDMD().fit(trials)
        with pytest.raises(ValueError, match=f"X, system 0: .*{within}"):
            DSA().fit([trials, TRIALS])
    X[:] = np.nan
    with pytest.raises(ValueError, match="expected finite"):
        HankelDMD().fit(X)


def test_a_row_vector_is_told_from_a_trial():
    with pytest.raises(ValueError, match=r"n_samples = 1: expected at least 2.*; rows are time"):
        HankelDMD().fit(cell([trial[:40, :1].T for trial in TRIALS]))
