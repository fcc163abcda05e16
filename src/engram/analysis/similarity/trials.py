"""Trials: recordings of a system, as arrays of equal or of different length."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.utils import check_array

from engram import checks

Data = Annotated[Any, ArrayLike]  # anything else gives an error that names the argument
Recording = Float[np.ndarray, "_ features"]  # one trial; trials may differ in length


def dimensions(X: Data) -> int:
    """The number of dimensions of data, where each level of lists counts as one; lists may be ragged."""
    if isinstance(X, (list, tuple)):
        return 1 + (dimensions(X[0]) if X else 0)
    return int(getattr(X, "ndim", 0))


def is_trials(X: Data) -> bool:
    """Whether X holds several trials: a list of two-dimensional arrays, or a three-dimensional array."""
    return dimensions(X) == 3


def as_trials(X: Data, name: str = "X") -> list[Recording]:
    """A list of finite float64 arrays, from one trial, trials of equal length, or a list of trials."""
    has_trials = is_trials(X)
    trials: list[Recording] = []
    for i, trial in enumerate(X if has_trials else [X]):
        trial_name = f"{name}[{i}]" if has_trials else name
        with checks.noted(**{name: X}):
            values = check_array(
                checks.as_array(trial), dtype=np.float64, ensure_all_finite=False, input_name=trial_name
            )
        checks.finite(trial_name, values)
        if trials and values.shape[1] != trials[0].shape[1]:
            raise ValueError(f"{trial_name}.shape = {values.shape}: expected {trials[0].shape[1]} features, as before")
        trials.append(values)
    return trials


def refuse_shorter(trials: list[Recording], minimum: int, why: str) -> None:
    """Raise a ValueError for the first trial that is too short.

    Args:
        trials: The trials.
        minimum: Minimum number of samples of a trial.
        why: Reason, for the error message.
    """
    for i, trial in enumerate(trials):
        if len(trial) < minimum:
            trial_name = f"X[{i}]" if len(trials) > 1 else "X"
            raise ValueError(f"{trial_name} has n_samples = {len(trial)}: expected at least {minimum}, {why}")
