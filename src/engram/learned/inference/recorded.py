"""Which units were recorded in which sessions, and from which weights they start."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram import checks
from engram.learned.inference.feed_forward import Rows
from engram.learned.inference.fitting import Data
from engram.learned.inference.sessions import Sessions


def recorded(sessions: Sessions, initial_weights: Any) -> Data:
    """The recorded units of all sessions, with their first weights, or zeros and a block if these are unknown.

    Args:
        sessions: The checked sessions.
        initial_weights: The parameter of the estimator.

    Raises:
        ValueError: Nothing was recorded, or the weights do not fit the data.
    """
    binary = sessions.activity is None
    targets = sessions.choices[:, :, None] if sessions.choices is not None else sessions.activity
    assert targets is not None
    session, unit = np.nonzero(~np.isnan(targets).all(axis=1))
    if not len(session):
        name = "choices" if binary else "activity"
        raise ValueError(f"{name} of {len(targets)} sessions have no finite entry: expected at least one")
    units, inputs = targets.shape[2], sessions.inputs.shape[2]
    initial, block = np.zeros((len(session), inputs)), None
    if not isinstance(initial_weights, str):
        initial = known(initial_weights, units, inputs)[unit]
    elif initial_weights == "shared":
        block = np.unique(unit, return_inverse=True)[1]
    elif initial_weights == "session":
        block = np.arange(len(session))
    rows = Rows(sessions.inputs, sessions.signal, sessions.changes, session, unit, initial)
    return Data(rows, targets[session, :, unit], binary, block)


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
