"""Which units were recorded in which sessions, and from which weights they start."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram import checks
from engram.learned.inference.feed_forward import Rows
from engram.learned.inference.fitting import Data
from engram.learned.inference.sessions import Sessions


def recorded(sessions: Sessions, initial_weights: Any, *, hidden: int = 0, recurrent: bool = False) -> Data:
    """The recorded units of all sessions, with their first weights, or zeros and a block if these are unknown.

    Args:
        sessions: The checked sessions.
        initial_weights: The parameter of the estimator.
        hidden: Number of units of a hidden layer behind choices; 0: there is none.
        recurrent: Whether the units drive each other, so that those without records count too.

    Raises:
        ValueError: Nothing was recorded, or the weights do not fit the data.
    """
    binary = sessions.activity is None
    targets = sessions.choices[:, :, None] if sessions.choices is not None else sessions.activity
    assert targets is not None
    seen = ~np.isnan(targets).all(axis=1)
    session, unit = np.nonzero(np.broadcast_to(seen.any(axis=1)[:, None], seen.shape) if recurrent else seen)
    if not len(session):
        name = "choices" if binary else "activity"
        raise ValueError(f"{name} of {len(targets)} sessions have no finite entry: expected at least one")
    units, inputs = hidden or targets.shape[2], targets.shape[2] if recurrent else sessions.inputs.shape[2]
    run = (np.repeat(session, hidden), np.tile(np.arange(hidden), len(session))) if hidden else (session, unit)
    initial, block = np.zeros((len(run[0]), inputs)), None
    if not isinstance(initial_weights, str):
        initial = known(initial_weights, units, inputs)[run[1]]
    elif initial_weights == "shared":
        block = np.zeros(len(unit), int) if recurrent else np.unique(unit, return_inverse=True)[1]
    elif initial_weights == "session":
        block = np.unique(session, return_inverse=True)[1] if recurrent else np.arange(len(session))
    rows = Rows(sessions.inputs, sessions.signal, sessions.changes, *run, initial)
    size = inputs * units if recurrent else inputs
    return Data(rows, targets[session, :, unit], session, unit, binary, block, size)


def known(initial_weights: Any, units: int, inputs: int) -> np.ndarray:
    """The given first weights, (unit, input); of a single unit also (input,)."""
    weights = np.asarray(checks.as_array(initial_weights))
    if weights.ndim == 1 and units == 1:
        weights = weights[None]
    return checks.array("initial_weights", weights, (units, inputs))


def whole(data: Data, initial: np.ndarray, units: int, sessions: int, per_session: bool) -> np.ndarray:
    """The fitted first weights of all units, (unit, input) or (session, unit, input), NaN where nothing was recorded.

    Args:
        data: The recorded units.
        initial: Their first weights.
        units: Number of units.
        sessions: Number of sessions.
        per_session: Whether the weights differ between sessions.
    """
    weights = np.full((sessions, units, initial.shape[1]), np.nan)
    weights[data.rows.session, data.rows.unit] = initial
    if per_session:
        return weights
    shared = np.full((units, initial.shape[1]), np.nan)
    shared[data.rows.unit] = initial
    return shared
