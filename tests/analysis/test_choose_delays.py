import numpy as np
import pytest

from engram.analysis import HankelDMD, choose_delays
from engram.studies.experiments.dsa.order import rotations


@pytest.mark.parametrize("order", [2, 5])
def test_both_ways_find_the_order_of_a_linear_system_under_noise(order):
    x = rotations(order, np.random.default_rng(order), noise=0.5)
    choice = choose_delays(x, [1, 5], range(1, 9))
    assert choice.rank == order
    for p in (1, 5):
        assert abs(HankelDMD(p, rank="svht").fit(x).rank_ - order) <= 1
    best = (choice.table["n_delays"] == choice.n_delays) & (choice.table["rank"] == choice.rank)
    assert choice.table["aic"][best] == choice.table["aic"].min()
    assert choice.table["mase"][best] < 0.5


@pytest.mark.parametrize(("walks", "mase"), [(True, 1.0), (False, 0.5**0.5)])
def test_what_cannot_be_predicted_has_the_error_of_its_best_guess(walks, mase):
    # Of a random walk that is where it was; of white noise its mean, sqrt(2) nearer than where it was.
    x = np.random.default_rng(0).normal(size=(9, 500, 2))
    table = choose_delays(x.cumsum(1) if walks else x, [1], [2]).table
    np.testing.assert_allclose(table["mase"], mase, rtol=0.02)


def test_the_table_is_that_of_fits_to_the_other_trials():
    x = rotations(2, np.random.default_rng(0), noise=0.5, trials=2, time=60)
    row = {name: column[-1] for name, column in choose_delays(x, [3, 1], [2, 1]).table.items()}
    assert (row["n_delays"], row["rank"]) == (1, 1)
    fits = [HankelDMD(rank=1).fit(other) for other in x[::-1]]
    # Three delays need the first two samples, so that no setting is judged by what comes before the fourth.
    error = np.concatenate([dmd.predict(own)[2:-1] - own[3:] for dmd, own in zip(fits, x, strict=True)])
    change = x[:, 3:] - x[:, 2:-1]
    assert row["mse"] == pytest.approx((error**2).mean())
    assert row["mase"] == pytest.approx(np.abs(error).sum() / np.abs(change).sum())
    assert row["aic"] == pytest.approx(change.size * np.log((error**2).mean()) + 2)
    assert row["non_normality"] == pytest.approx(np.mean([dmd.non_normality_ for dmd in fits]))
    assert row["spectral_radius"] == max(dmd.spectral_radius_ for dmd in fits)


def test_other_parameters_are_those_of_the_dmd_and_a_single_trial_is_cut():
    x = np.sin(0.1 * np.arange(90))[:, None]
    dmd = HankelDMD(7, rank=3, delay_interval=2, steps_ahead=3)
    choice = choose_delays(x, [1, 2], [1, 2, 3], dmd=dmd)
    assert choice[:2] == (2, 2)
    assert choice.table["rank"].tolist() == [1, 1, 2], "no rank above the numerical one"
    assert choice.table["mase"][2] < 1e-6
    assert (dmd.n_delays, dmd.rank) == (7, 3), "it is cloned"
    parts = [x[:30], x[30:60], x[60:]]
    np.testing.assert_array_equal(choose_delays(parts, [1, 2], [1, 2], dmd=dmd).table["mse"], choice.table["mse"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 40],), r"X\[0\] has n_samples = 30: expected at least 41, to hold the most delays"),
        (([1], [2]), r"ranks = \[2\], n_delays = \[1\]: expected a rank that can be fitted to X"),
        (([],), r"n_delays = \[\]: expected a rank"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_delays(np.sin(np.arange(60.0)).reshape(2, 30, 1), *arguments)
    with pytest.raises(ValueError, match="folds = 1: expected at least 2"):
        choose_delays(np.ones((30, 1)), folds=1)
