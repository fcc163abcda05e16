"""Subspace identification (N4SID) of a linear system with known inputs, without the Hankel matrices of its windows."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram.analysis.similarity.delay_embedding import CHUNK, delay_embedding, lagged_moments
from engram.analysis.similarity.hankel_dmd import explained
from engram.analysis.similarity.trials import Recording

POOR = 1e10  # the largest condition at which the past and the future inputs can be separated
Factor = Float[np.ndarray, "rows columns"]


class Identified(NamedTuple):
    """A system x(t + 1) = A x(t) + B u(t), y(t) = C x(t), in coordinates in which states have the second moment I."""

    state: Float[np.ndarray, "rank rank"]  # A
    inputs: Float[np.ndarray, "rank inputs"]  # B
    observation: Float[np.ndarray, "features rank"]  # C
    singular_values: Float[np.ndarray, " values"]  # of the projection O, divided by the root of the number of windows
    condition: float  # of the past together with the future inputs


class Precision(NamedTuple):
    """Relative singular values that are rounding errors, and those from which on they are exact enough."""

    zero: float
    clear: float


SQUARED, PLAIN = Precision(1e-6, 1e-4), Precision(1e-9, 0.0)  # computed from squares or not


class Window(NamedTuple):
    """The size of a window, past + future samples of [u, y] with the newest first, and the number of windows."""

    past: int
    future: int
    inputs: int
    outputs: int
    windows: int

    def columns(self, start: int, stop: int, features: slice) -> Int[np.ndarray, " columns"]:
        """The columns that hold these features of the samples ``start`` to ``stop`` - 1, the oldest first."""
        every = self.inputs + self.outputs
        places = self.past + self.future - 1 - np.arange(start, stop)
        return np.asarray(places[:, None] * every + np.arange(every)[features]).ravel()


def identify(
    outputs: list[Recording],
    inputs: list[Float[np.ndarray, "_ inputs"]],
    *,
    past: int,
    future: int,
    rank: Any = None,
    reg: float = 0.0,
) -> Identified:
    """Identify a linear system from its outputs y and its inputs u by N4SID.

        Y_f = Z_p Theta + U_f Psi + residuals,   Z_p = [U_p, Y_p],   O = Z_p Theta = L S V^T    a row for each window
        X = sqrt(windows) L_n,   C = first block of V_n S_n / sqrt(windows)
        min over A, B of sum_t |x(t + 1) - A x(t) - B u(t)|^2 + reg (|A|^2 + |B|^2)

    O projects the future outputs on the past along the future inputs. As x(t) depends on the samples from t - past to
    t - 1 alone, the second moments of windows hold all these sums, x(t + 1) included. Where these squares are too
    inexact, the triangular factor of the windows takes their place.

    Args:
        outputs: y of each trial.
        inputs: u of each trial, of the same length.
        past: Samples in the past of a window, p.
        future: Samples in its future, f.
        rank: Order n. An int; a float below 1: the smallest number of singular values that has this share of the
            energy of O; ``"full"``: all that are not zero; None or ``"svht"``: those above the hard threshold for the
            noise that the residuals show.
        reg: Ridge penalty, for columns of states and of inputs that have unit length.

    Source: Van Overschee and De Moor, "N4SID: subspace algorithms for the identification of combined
    deterministic-stochastic systems" (1994), algorithm 1; the moments are ours.
    """
    trials = [np.hstack(pair) for pair in zip(inputs, outputs, strict=True)]
    samples = past + future
    windows = sum(len(trial) - samples + 1 for trial in trials)
    window = Window(past, future, inputs[0].shape[1], outputs[0].shape[1], windows)
    squared = _root(lagged_moments(trials, samples, 1, 1).whole)
    found = _identify(squared, window, rank, reg, SQUARED)
    if found is None:
        found = _identify(_triangle(trials, samples), window, rank, reg, PLAIN)
    assert found is not None  # every value is clear
    return found


def _root(moments: Float[np.ndarray, "columns columns"]) -> Factor:
    """A matrix F with F^T F = ``moments``."""
    scale = np.sqrt(np.diag(moments))
    scale[scale == 0] = 1.0
    squares, basis = np.linalg.eigh(moments / scale / scale[:, None])
    return np.asarray((basis * np.sqrt(np.maximum(squares, 0.0))).T * scale)


def _triangle(trials: list[Recording], samples: int) -> Factor:
    """The triangular factor of all windows, one below the other."""
    factor = np.empty((0, samples * trials[0].shape[1]))
    for trial in trials:
        for start in range(0, len(trial) - samples + 1, CHUNK):
            windows = delay_embedding(trial[start : start + CHUNK + samples - 1], samples)
            factor = np.asarray(np.linalg.qr(np.concatenate([factor, windows]), mode="r"))
    return factor


def _identify(F: Factor, window: Window, rank: Any, reg: float, precision: Precision) -> Identified | None:
    """The system, from F with F^T F the second moments of windows; None if a value that it needs is not clear."""
    p, stop, driving, every = window.past, window.past + window.future, slice(window.inputs), slice(None)
    past, next_past = F[:, window.columns(0, p, every)], F[:, window.columns(1, p + 1, every)]
    future_inputs = unit(F[:, window.columns(p, stop, driving)])[0]
    future = F[:, window.columns(p, stop, slice(window.inputs, None))]
    basis = _range(past, precision.zero)  # outputs without noise have as few dimensions as the state
    regressors = np.hstack([past @ basis, future_inputs])
    left, values, right = np.linalg.svd(regressors, full_matrices=False)
    if values[-1] < precision.clear * values[0]:
        return None
    condition = _separable(values, p)
    coefficients = right.T @ ((left.T @ future) / values[:, None])
    weights = basis @ coefficients[: basis.shape[1]]  # Theta
    projected = past @ weights  # O
    S, V = np.linalg.svd(projected, full_matrices=False)[1:]
    nonzero = max(1, int((precision.zero * S[0] < S).sum()))
    if rank is None or rank == "svht":
        residuals = future - regressors @ coefficients
        own = projected - future_inputs @ np.linalg.lstsq(future_inputs, projected)[0]
        floor = precision.zero * np.linalg.norm(future) / np.sqrt(future.size)
        variances = residuals.T @ residuals / max(window.windows - regressors.shape[1], 1)
        n = max(1, min(_above_noise(own, variances, basis.shape[1], floor), nonzero))
    else:
        n = _chosen(rank, S, nonzero, window)
    if S[n - 1] < precision.clear * S[0]:
        return None
    to_state = weights @ (V[:n].T / S[:n]) * np.sqrt(window.windows)
    now, lengths = unit(np.hstack([past @ to_state, F[:, window.columns(p, p + 1, driving)]]))
    penalty = np.sqrt(reg) * np.eye(now.shape[1])
    target = np.concatenate([next_past @ to_state, np.zeros((len(penalty), n))])
    operators = np.linalg.lstsq(np.concatenate([now, penalty]), target)[0].T / lengths
    S = S / np.sqrt(window.windows)
    return Identified(
        operators[:, :n].copy(), operators[:, n:].copy(), (V[:n].T * S[:n])[: window.outputs], S, condition
    )


def unit(columns: Factor) -> tuple[Factor, Float[np.ndarray, " columns"]]:
    """The columns at unit length, except zeros, and their lengths."""
    lengths = np.linalg.norm(columns, axis=0)
    lengths[lengths == 0] = 1.0
    return columns / lengths, lengths


def _range(columns: Factor, zero: float) -> Float[np.ndarray, "columns directions"]:
    """Combinations of columns that span all of them, without those that are zero."""
    scaled, lengths = unit(columns)
    values, directions = np.linalg.svd(scaled, full_matrices=False)[1:]
    return np.asarray(directions[values > zero * values[0]].T / lengths[:, None])


def _separable(values: Float[np.ndarray, " values"], past: int) -> float:
    """The condition of the past and future inputs, from their singular values; a ValueError if it is too large."""
    condition = float(values[0] / values[-1]) if values[-1] > 0 else np.inf
    if condition > POOR:
        raise ValueError(
            f"inputs excite too few frequencies for n_delays = {past}: the past and the future inputs have condition "
            f"{condition:.0e}: expected at most {POOR:.0e}; take fewer delays, or inputs that vary more, and on their "
            "own"
        )
    return condition


def _chosen(rank: Any, S: Float[np.ndarray, " values"], nonzero: int, window: Window) -> int:
    """The order for a rank that is given; a ValueError if the windows or the singular values allow no such order."""
    if rank == "full":
        return nonzero
    if not isinstance(rank, Integral):
        return min(int(np.searchsorted(explained(S), rank)) + 1, nonzero)
    order, samples = int(rank), min(window.past, window.future)
    if order > samples * window.outputs:
        raise ValueError(
            f"rank = {order}: expected at most {samples * window.outputs}, for {samples} samples of {window.outputs} "
            "features; take more delays"
        )
    if order > nonzero:
        raise ValueError(f"rank = {order}: expected at most {nonzero}, the numerical rank")
    return order


def _above_noise(own: Factor, variances: Float[np.ndarray, "outputs outputs"], directions: int, floor: float) -> int:
    """The number of singular values of the projection that noise of the size of the residuals does not explain.

        sqrt(max(a, b)) lambda(min(a, b) / max(a, b)),   lambda(c)^2 = 2 (c + 1) + 8 c / (c + 1 + sqrt(c^2 + 14 c + 1))

    is the threshold for noise of unit variance in a x b coefficients, directions of the past by future outputs.

    Args:
        own: The part of the projection that is no function of the future inputs.
        variances: Covariance of the residuals of the future outputs.
        directions: Directions of the past.
        floor: Smallest standard deviation of residuals.

    Source: Gavish and Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)" (2014), equation 11.
    """
    squares, basis = np.linalg.eigh(variances)
    whitened = own @ (basis / np.sqrt(np.maximum(squares, floor**2)))
    smaller, larger = sorted((directions, own.shape[1]))
    ratio = smaller / larger
    square = 2 * (ratio + 1) + 8 * ratio / (ratio + 1 + np.sqrt(ratio**2 + 14 * ratio + 1))
    return int((np.linalg.svd(whitened, compute_uv=False) > np.sqrt(larger * square)).sum())
