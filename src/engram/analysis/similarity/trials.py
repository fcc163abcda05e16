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


def opened(X: Data) -> Any:
    """Data with lists in place of cells, as MATLAB has them, which are arrays of arrays; masked numbers become NaN."""
    if isinstance(X, np.ma.MaskedArray):
        return np.ma.getdata(checks.as_array(X))
    if isinstance(X, np.ndarray) and X.dtype == object and X.size and all(map(_axes, X.flat)):
        return [opened(cell) for cell in (X.ravel() if X.size == max(X.shape, default=1) else X)]
    if isinstance(X, list | tuple) and any(isinstance(part, list | tuple | np.ndarray) for part in X):
        return [opened(part) for part in X]
    return X


def _axes(X: Data) -> int:
    """The number of axes; 1 for a list, 0 for a number. Frames of any library have a shape."""
    return 1 if isinstance(X, list | tuple) else len(getattr(X, "shape", ()))


def dimensions(X: Data) -> int:
    """The number of dimensions of data, where each level of lists counts as one; lists may be ragged."""
    if isinstance(X, (list, tuple)):
        return 1 + (dimensions(X[0]) if X else 0)
    return _axes(X)


def is_trials(X: Data) -> bool:
    """Whether X holds several trials: a list of two-dimensional arrays, or a three-dimensional array."""
    return dimensions(opened(X)) == 3


def are_arrays_of_one_dimension(X: Data) -> bool:
    """Whether X is a list of arrays of one dimension, which may be samples or trials; lists of numbers are not."""
    return isinstance(X, list | tuple) and bool(X) and all(not isinstance(x, list | tuple) and _axes(x) == 1 for x in X)


def as_trials(X: Data, name: str = "X") -> list[Recording]:
    """A list of finite float64 arrays, from one trial, trials of equal length, or a list or cell array of trials."""
    X = opened(X)
    refuse_ambiguous(X, name)
    has_trials = is_trials(X)
    trials: list[Recording] = []
    for i, trial in enumerate(X if has_trials else [X]):
        trial_name = f"{name}[{i}]" if has_trials else name
        with checks.noted(**{name: X}):
            values = check_array(
                checks.as_array(trial), dtype=np.float64, ensure_all_finite=False, input_name=trial_name
            )
        refuse_gaps(trial_name, values)
        if trials and values.shape[1] != trials[0].shape[1]:
            raise ValueError(f"{trial_name}.shape = {values.shape}: expected {trials[0].shape[1]} features, as before")
        trials.append(values)
    return trials


def refuse_ambiguous(X: Data, name: str) -> None:
    """Raise a ValueError for a list of arrays of one dimension."""
    if are_arrays_of_one_dimension(X):
        options = (
            f"np.stack({name}) for the samples of one trial, [x[:, None] for x in {name}] for trials of one feature"
        )
        raise ValueError(f"{name} is a list of arrays of one dimension: expected (time, features); take {options}")


def refuse_gaps(name: str, values: Float[np.ndarray, "time features"]) -> None:
    """Raise a ValueError for a number that is not finite, which says how to split a trial at a gap."""
    try:
        checks.finite(name, values)
    except ValueError as error:
        missing = np.isnan(values).any(1)
        if not missing.any() or missing.all():
            raise
        start = int(missing.argmax())
        stop = start + int(np.append(~missing[start:], True).argmax())
        parts = [f"{name}[:{start}]"] * (start > 0) + [f"{name}[{stop}:]"] * (stop < len(values))
        raise ValueError(f"{error}; a gap splits a trial: pass {' and '.join(parts)} in a list of trials") from None


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
            raise ValueError(
                f"{trial_name} has n_samples = {len(trial)}: expected at least {minimum}, {why}; rows are time"
            )
