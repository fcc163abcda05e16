"""Trials: recordings of a system, as arrays of equal or of different length."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from engram import checks

Data = Annotated[Any, ArrayLike]  # anything else is refused by name
Recording = Float[np.ndarray, "_ features"]  # of one trial; trials differ in length


def dimensions(X: Data) -> int:
    """The depth of nesting of data, arrays and lists taken together; lists may be ragged."""
    if isinstance(X, (list, tuple)):
        return 1 + (dimensions(X[0]) if X else 0)
    return int(getattr(X, "ndim", 0))


def is_trials(X: Data) -> bool:
    """Whether X holds several trials: a list of two-dimensional arrays, or a three-dimensional array."""
    return dimensions(X) == 3


def as_trials(X: Data, name: str = "X") -> list[Recording]:
    """One trial, trials of equal length, or a list of trials as finite float64 arrays."""
    several = is_trials(X)
    trials: list[Recording] = []
    for number, trial in enumerate(X if several else [X]):
        called = f"{name}[{number}]" if several else name
        with checks.noted(**{name: X}):
            values = check_array(as_array(trial), dtype=np.float64, ensure_all_finite=False, input_name=called)
        checks.finite(called, values)
        if trials and values.shape[1] != trials[0].shape[1]:
            raise ValueError(f"{called}.shape = {values.shape}: expected {trials[0].shape[1]} features, as before")
        trials.append(values)
    return trials


def as_array(X: Data) -> Data:
    """A tensor as an array; anything else unchanged."""
    return X.detach().cpu().numpy() if hasattr(X, "detach") else X


def refuse_shorter(trials: list[Recording], minimum: int, why: str) -> None:
    """Raise a ValueError for the first trial that is too short.

    Args:
        trials: The trials.
        minimum: Minimum number of samples.
        why: Reason, for the message.
    """
    for number, trial in enumerate(trials):
        if len(trial) < minimum:
            called = f"X[{number}]" if len(trials) > 1 else "X"
            raise ValueError(f"{called} has n_samples = {len(trial)}: expected at least {minimum}, {why}")
