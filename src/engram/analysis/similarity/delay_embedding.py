"""Delay embedding of trials, and its second moments computed without the embedding itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.analysis.similarity.trials import Recording

CHUNK = 4096  # steps whose lagged copies fit in the processor's cache, or nearly


def delay_embedding(
    trial: Float[np.ndarray, "time features"], n_delays: int, delay_interval: int = 1
) -> Float[np.ndarray, "rows delayed"]:
    """The delay embedding of a trial, p = ``n_delays`` samples a row, the most recent first.

        H[t] = [x(t + (p - 1) tau), ..., x(t + tau), x(t)],   (time - (p - 1) tau, p features)

    Args:
        trial: The samples x.
        n_delays: p.
        delay_interval: Steps tau from one sample of a row to the next.

    Raises:
        ValueError: ``n_delays`` or ``delay_interval`` is below 1, or the trial is shorter than (n_delays - 1)
            delay_interval + 1.

    Source: Ostrow et al. (2023), section 3.

    Examples:
        >>> delay_embedding(np.arange(6.0)[:, None], 3, 2)
        array([[4., 2., 0.],
               [5., 3., 1.]])
    """
    checks.arguments()
    checks.size("n_delays", n_delays)
    checks.size("delay_interval", delay_interval)
    rows = len(trial) - (n_delays - 1) * delay_interval
    if rows < 1:
        raise ValueError(f"trial has {len(trial)} samples: expected at least {(n_delays - 1) * delay_interval + 1}")
    lags = delay_interval * np.arange(n_delays - 1, -1, -1)
    return np.concatenate([trial[lag : lag + rows] for lag in lags], axis=1)


class Moments(NamedTuple):
    """Second moments of the delay embedding H of all trials."""

    whole: Float[np.ndarray, "delayed delayed"]  # H^T H over all rows
    before: Float[np.ndarray, "delayed delayed"]  # H_-^T H_-, H_-: rows with a row ``steps_ahead`` later in their trial
    cross: Float[np.ndarray, "delayed delayed"]  # H_-^T H_+, H_+: these later rows
    rows: int


def lagged_moments(trials: list[Recording], n_delays: int, delay_interval: int, steps_ahead: int) -> Moments:
    """The second moments of the delay embedding, computed from lagged covariances of the samples alone.

    With G(u, v) the sum over t of x(t + u tau) x(t + v tau)^T, only the blocks G(0, v) and G(u, 0) need all samples;
    along a diagonal, G(u, v) is G(u - 1, v - 1) without its first tau terms and with tau more terms at the end.

    Args:
        trials: The samples of each trial.
        n_delays: Samples in a row of the embedding, p.
        delay_interval: Steps tau from one sample of a row to the next.
        steps_ahead: Steps from a row of H_- to its row of H_+.
    """
    p, tau, horizon, features = n_delays, delay_interval, steps_ahead, trials[0].shape[1]
    lags = np.unique(np.concatenate([tau * np.arange(p), horizon + tau * np.arange(p)]))
    sums = np.zeros((2 * features, len(lags) * features))
    for trial in trials:
        length = len(trial) - (p - 1) * tau - horizon
        for start in range(0, length, CHUNK):
            stop = min(start + CHUNK, length)
            lagged = np.concatenate([trial[start + lag : stop + lag] for lag in lags], axis=1)
            sums += np.concatenate([trial[start:stop], trial[start + horizon : stop + horizon]], axis=1).T @ lagged
    # (now or ``steps_ahead`` later, features, lag, features)
    blocks = sums.reshape(2, features, len(lags), features)
    lag_index, later_lag_index = (
        np.searchsorted(lags, tau * np.arange(p)),
        np.searchsorted(lags, horizon + tau * np.arange(p)),
    )

    def terms(shift: int, last_rows: bool) -> np.ndarray:
        """The first tau rows of all trials, oldest sample first; or those after the last row of H_-."""
        starts = [shift + (len(trial) - (p - 1) * tau - horizon if last_rows else 0) for trial in trials]
        # A row is p - 1 samples that are tau apart.
        return np.concatenate(
            [
                np.concatenate([trial[start + u * tau : start + (u + 1) * tau] for u in range(p - 1)], axis=1)
                for trial, start in zip(trials, starts, strict=True)
            ]
        )

    def assembled(row: np.ndarray, column: np.ndarray, shift: int) -> np.ndarray:
        all_blocks = np.empty((p, p, features, features))
        all_blocks[0], all_blocks[:, 0] = row, column
        if p > 1:
            border_moments = [terms(0, last_rows).T @ terms(shift, last_rows) for last_rows in (False, True)]
            change = (
                (border_moments[1] - border_moments[0]).reshape(p - 1, features, p - 1, features).transpose(0, 2, 1, 3)
            )
            for u in range(1, p):
                all_blocks[u, 1:] = all_blocks[u - 1, :-1] + change[u - 1]
        return np.ascontiguousarray(all_blocks[::-1, ::-1].transpose(0, 2, 1, 3)).reshape(p * features, p * features)

    row = blocks[0][:, lag_index].transpose(1, 0, 2)
    before = assembled(row, row.transpose(0, 2, 1), 0)
    cross = assembled(
        blocks[0][:, later_lag_index].transpose(1, 0, 2), blocks[1][:, lag_index].transpose(1, 2, 0), horizon
    )
    last_rows = np.concatenate([delay_embedding(trial[-(horizon + (p - 1) * tau) :], p, tau) for trial in trials])
    rows = sum(len(trial) - (p - 1) * tau for trial in trials)
    return Moments(before + last_rows.T @ last_rows, before, cross, rows)
