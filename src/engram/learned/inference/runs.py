"""Runs of a fitted rule over sessions."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

from engram.learned.inference.feed_forward import Path, Rows
from engram.learned.inference.model import Model
from engram.learned.inference.sessions import Sessions


def run_sessions(
    model: Model,
    theta: Float[np.ndarray, " part"],
    sessions: Sessions,
    initial: Float[np.ndarray, "session unit input"],
    outputs: int,
    *,
    keep_weights: bool = False,
) -> list[Path]:
    """A run of all units of each session; NaN where it diverges.

    Args:
        model: The rule and the network.
        theta: Coefficients.
        sessions: Inputs, signals and changes.
        initial: First weights, NaN of units that are not known.
        outputs: Number of predictions at each step: of all units, or 1 of choices.
        keep_weights: Whether the weights of every step are returned too.

    Warns:
        RuntimeWarning: A run diverges.
    """
    paths = []
    for k, start in enumerate(initial):
        parts = sessions.inputs[k : k + 1], sessions.signal[k : k + 1], sessions.changes[k : k + 1]
        rows = Rows(*parts, np.zeros(len(start), int), np.arange(len(start)), np.nan_to_num(start))
        path = model.run(theta, rows, keep_weights=keep_weights)
        steps = rows.inputs.shape[1]
        if path is None:
            warnings.warn(f"inputs[{k}]: the fitted rule diverges", RuntimeWarning, stacklevel=4)
            weights = np.full((keep_weights * (steps + 1), *start.shape), np.nan)
            path = Path(np.full((outputs, steps), np.nan), weights)
        unknown = np.isnan(start).any(axis=1)
        if unknown.any():
            path.activity[unknown], path.weights[:, unknown] = np.nan, np.nan
        paths.append(path)
    return paths
