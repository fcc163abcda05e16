"""The delays and the rank of an operator, chosen by how well it predicts held-out trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from sklearn.base import clone
from sklearn.model_selection import KFold

from engram import checks
from engram.analysis.similarity.hankel_dmd import HankelDMD, rounding
from engram.analysis.similarity.trials import Data, Recording, as_trials, refuse_shorter


class DelayChoice(NamedTuple):
    """The delays and the rank of smallest AIC, and the table of all settings, with one array for each column."""

    n_delays: int
    rank: int
    table: dict[str, Shaped[np.ndarray, " settings"]]


def choose_delays(
    X: Data,
    n_delays: Sequence[int] = (1, 2, 5, 10, 20, 50),
    ranks: Sequence[int] = range(5, 51, 5),
    *,
    dmd: HankelDMD | None = None,
    folds: int = 3,
) -> DelayChoice:
    """The delays and the rank with which ``HankelDMD`` best predicts held-out trials, and a table of all settings.

        AIC  = n log(MSE) + 2 r                         n: predicted numbers, r: rank
        MASE = sum |error| / sum |x(t) - x(t + h)|

    MASE is 1 if predictions are no better than that of no change, which is the best for a random walk, and 1 / sqrt(2)
    for white noise, where the mean is the best prediction. All settings are compared on the same samples.

    Args:
        X: One trial, (time, features), which is cut into ``folds``; (trials, time, features); or a list of trials.
        n_delays: Numbers of delays to try.
        ranks: Ranks to try; one above the numerical rank, or above a quarter of the rows, is left out.
        dmd: Estimator that has all other parameters and is cloned; None: ``HankelDMD()``.
        folds: Number of parts of the trials; each is predicted by operators fitted to the others.

    Returns:
        The choice; its table has the columns ``n_delays``, ``rank``, ``aic``, ``mase``, ``mse``, and, over the
        fitted operators, the mean ``non_normality`` and the largest ``spectral_radius``.

    Raises:
        TypeError, ValueError: A size is not a positive int, X is not finite or all zero, a trial is too short for the
            largest number of delays, or none of the ranks can be fitted.

    Source: Ostrow et al., "Beyond Geometry" (2023), tutorial of its code; Akaike, "A new look at the statistical model
    identification" (1974); Hyndman and Koehler, "Another look at measures of forecast accuracy" (2006).

    Examples:
        >>> t, rng = np.arange(400), np.random.default_rng(0)
        >>> wave = np.sin(0.3 * t + np.arange(4)[:, None])[..., None] + 0.1 * rng.normal(size=(4, 400, 5))
        >>> choose_delays(wave, [1, 4], [1, 2, 3]).rank
        2
    """
    checks.arguments()
    dmd = HankelDMD() if dmd is None else dmd
    delays = [checks.size(f"n_delays[{k}]", p) for k, p in enumerate(n_delays)]
    candidate_ranks = [checks.size(f"ranks[{k}]", r) for k, r in enumerate(ranks)]
    trials = as_trials(X)
    if len(trials) == 1:
        trials = np.array_split(trials[0], checks.size("folds", folds, 2))
    first_sample = (max(delays, default=1) - 1) * dmd.delay_interval
    refuse_shorter(trials, first_sample + dmd.steps_ahead + 1, "to hold the most delays and their target")
    splits = list(KFold(min(checks.size("folds", folds, 2), len(trials))).split(trials))
    train_test_pairs = [([trials[k] for k in train], [trials[k] for k in test]) for train, test in splits]
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # unstable fits are in the table
        for p in delays:
            candidate = clone(dmd).set_params(n_delays=p, rank=None)
            maximum_rank = min(clone(candidate).fit(train).rank_ for train, _ in train_test_pairs)
            rows += [
                _judge(candidate.set_params(rank=r), train_test_pairs, first_sample)
                for r in candidate_ranks
                if r <= maximum_rank
            ]
    if not rows:
        raise ValueError(f"ranks = {candidate_ranks}, n_delays = {delays}: expected a rank that can be fitted to X")
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    best = rows[int(table["aic"].argmin())]
    return DelayChoice(int(best["n_delays"]), int(best["rank"]), table)


def _judge(
    dmd: HankelDMD, train_test_pairs: list[tuple[list[Recording], list[Recording]]], first_sample: int
) -> dict[str, int | float]:
    """A row of the table, for predictions from sample ``start`` and later ones."""
    steps_ahead, first_row = dmd.steps_ahead, first_sample - (dmd.n_delays - 1) * dmd.delay_interval
    errors, changes, non_normality, radii, noise = [], [], [], [], 0.0
    for train, test in train_test_pairs:
        fitted = clone(dmd).fit(train)
        for trial, predicted in zip(test, fitted.predict(test), strict=True):
            errors.append(predicted[first_row:-steps_ahead] - trial[first_sample + steps_ahead :])
            changes.append(trial[first_sample:-steps_ahead] - trial[first_sample + steps_ahead :])
            noise += float(rounding(trial[first_sample + steps_ahead :]).sum())
        non_normality.append(fitted.non_normality_)
        radii.append(fitted.spectral_radius_)
    error, change = np.concatenate(errors), np.concatenate(changes)
    mse, total_change = float((error**2).mean()), float(np.abs(change).sum())
    return {
        "n_delays": dmd.n_delays,
        "rank": dmd.rank,
        "aic": error.size * float(np.log(max(mse, np.finfo(float).tiny))) + 2 * dmd.rank,
        "mase": float(np.abs(error).sum()) / total_change if total_change > noise else np.inf,
        "mse": mse,
        "non_normality": float(np.mean(non_normality)),
        "spectral_radius": max(radii),
    }
