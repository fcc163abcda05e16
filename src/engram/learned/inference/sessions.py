"""Recorded sessions of any lengths as padded arrays: inputs, activity or choices, and the signal of each step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from engram import checks


class Sessions(NamedTuple):
    """Sessions padded to the longest; what is beyond the end of a session is zero, or NaN where it is a target.

    Attributes:
        inputs: x, (session, step, input).
        lengths: Number of steps of each session.
        activity: y as recorded, NaN where it was not, (session, step, unit); None for choices.
        choices: 0, 1 or NaN, (session, step); None for activity.
        signal: m, (session, step); zero without rewards.
        changes: Steps after which the weights change, (session, step).
    """

    inputs: Float[np.ndarray, "session step input"]
    lengths: tuple[int, ...]
    activity: Float[np.ndarray, "session step unit"] | None
    choices: Float[np.ndarray, "session step"] | None
    signal: Float[np.ndarray, "session step"]
    changes: Bool[np.ndarray, "session step"]

    def each(self, values: Float[np.ndarray, "session step ..."]) -> list[np.ndarray]:
        """Values of each session without what is beyond its end."""
        return [of_session[:length] for of_session, length in zip(values, self.lengths, strict=True)]

    def of(self, kept: np.ndarray) -> Sessions:
        """Some of the sessions, in the order of ``kept``."""
        return Sessions(
            self.inputs[kept],
            tuple(self.lengths[k] for k in kept),
            None if self.activity is None else self.activity[kept],
            None if self.choices is None else self.choices[kept],
            self.signal[kept],
            self.changes[kept],
        )


def as_sessions(name: str, data: Any, axes: int) -> list[np.ndarray]:
    """A list of sessions from one session, a list of sessions, or an array with sessions along its first axis.

    Args:
        name: The argument's name, for errors.
        data: An array (step, feature) is one session, (session, step, feature) are several, and so are lists of arrays.
            A session may itself be a list of trials, which follow each other. Rows of NaN at the end are padding.
        axes: Axes of one session: 2, or 1 for choices and rewards.

    Raises:
        ValueError: There are no sessions or no steps, the axes are wrong, or there are no numbers.

    Examples:
        >>> sessions = as_sessions("inputs", [np.ones((3, 2)), [np.ones((1, 2)), np.ones((4, 2))]], 2)
        >>> [session.shape for session in sessions]
        [(3, 2), (5, 2)]
    """
    sessions = _parts(checks.as_array(data), axes)
    arrays = [_joined(name, k, session, axes) for k, session in enumerate(sessions)]
    if not arrays:
        raise ValueError(f"{name} = {checks.shown(data)}: expected at least one session")
    return arrays


def _parts(data: Any, axes: int) -> Sequence[Any]:
    """The sessions; a single one is a list of one."""
    if isinstance(data, list | tuple):
        return data if data and _axes(data[0]) >= axes else [data]
    return list(data) if np.ndim(data) == axes + 1 else [data]


def _axes(item: Any) -> int:
    """Number of axes of an array, or of nested lists; a list of trials has at least one more than a trial."""
    if isinstance(item, list | tuple):
        return 1 + (_axes(item[0]) if item else 0)
    return int(np.ndim(checks.as_array(item)))


def _joined(name: str, number: int, session: Any, axes: int) -> np.ndarray:
    """One session as an array, its trials joined."""
    if isinstance(session, list | tuple) and session and _axes(session[0]) == axes:
        trials = [np.asarray(checks.as_array(trial), float) for trial in session]
        widths = {trial.shape[1:] for trial in trials}
        if len(widths) > 1:
            raise ValueError(f"{name}[{number}] has trials of shapes {[t.shape for t in trials]}: expected one width")
        session = np.concatenate(trials)
    try:
        array = np.asarray(checks.as_array(session), dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}[{number}] = {checks.shown(session)}: expected numbers") from error
    if array.ndim != axes:
        raise ValueError(f"{name}[{number}].shape = {array.shape}: expected {axes} axes")
    return array


def padded(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Arrays of several lengths as one, filled up at the end.

    Args:
        arrays: Each (step, ...).
        fill: The number to fill up with.
    """
    whole = np.full((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), fill)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole


def prepare(
    inputs: Any,
    activity: Any = None,
    *,
    choices: Any = None,
    rewards: Any = None,
    chosen_only: bool = False,
    baseline: int | None = None,
) -> Sessions:
    """Sessions as the fit needs them, after all checks.

    Args:
        inputs: x, see ``as_sessions``.
        activity: y, of the same lengths; NaN where it was not recorded.
        choices: 0, 1, or NaN for none, one per step.
        rewards: r, one per step; NaN where the weights do not change.
        chosen_only: Whether the weights change only at steps whose choice is 1.
        baseline: Number of the last rewards whose mean is subtracted, with zeros before the first; None: m = r.

    Raises:
        ValueError: Lengths or widths differ, or values are not as above; the session is named.
    """
    x = inputs_of(inputs)
    lengths = tuple(map(len, x))
    y, c, r = (
        None if given is None else match(name, given, axes, lengths)
        for name, given, axes in (("activity", activity, 2), ("choices", choices, 1), ("rewards", rewards, 1))
    )
    if y is not None:
        _check_recorded(y)
    if c is not None:
        _check_choices(c)
    changes = np.arange(max(lengths)) < np.array(lengths)[:, None]
    if chosen_only:
        if c is None:
            raise ValueError("choices = None: expected choices, because the weights change where the choice is 1")
        changes &= padded(c, np.nan) == 1
    signal = np.zeros(changes.shape)
    if r is not None:
        signal = _signal(padded(r, np.nan), changes, baseline)
    targets = [None if part is None else padded(part, np.nan) for part in (y, c)]
    return Sessions(padded(x, 0.0), lengths, targets[0], targets[1], signal, changes)


def inputs_of(inputs: Any) -> list[np.ndarray]:
    """The sessions of inputs without padding, after all checks.

    Raises:
        ValueError: A session is empty, has another number of inputs than the first, or numbers that are not finite.
    """
    sessions = [_without_padding(session) for session in as_sessions("inputs", inputs, 2)]
    width = sessions[0].shape[1]
    for k, session in enumerate(sessions):
        if not session.size:
            raise ValueError(f"inputs[{k}].shape = {session.shape}: expected at least one step and one input")
        if session.shape[1] != width:
            raise ValueError(f"inputs[{k}].shape = {session.shape}: expected {width} inputs, as in inputs[0]")
        with checks.noted(session=k):
            checks.finite("inputs", session, ("step", "input"))
    return sessions


def _without_padding(session: np.ndarray) -> np.ndarray:
    """A session without the rows at its end that are NaN throughout."""
    present = np.flatnonzero(~np.isnan(session).all(axis=1)) if session.size else np.zeros(0, int)
    return session[: present[-1] + 1] if len(present) else session


def match(name: str, given: Any, axes: int, lengths: Sequence[int]) -> list[np.ndarray]:
    """Sessions of another argument, of the lengths of the inputs; longer ones must be NaN beyond."""
    sessions = as_sessions(name, given, axes)
    if len(sessions) != len(lengths):
        raise ValueError(f"{name} has {len(sessions)} sessions: expected {len(lengths)}, as inputs have")
    for k, (session, length) in enumerate(zip(sessions, lengths, strict=True)):
        if len(session) < length or not np.isnan(session[length:]).all():
            raise ValueError(f"{name}[{k}] has {len(session)} steps: expected {length}, as inputs[{k}] has")
        if np.isinf(session).any():
            raise ValueError(f"{name}[{k}] has an infinite value: expected finite numbers or NaN")
    return [session[:length] for session, length in zip(sessions, lengths, strict=True)]


def _check_choices(choices: Sequence[np.ndarray]) -> None:
    for k, session in enumerate(choices):
        for step in np.flatnonzero(~(np.isnan(session) | np.isin(session, (0, 1))))[:1].tolist():
            code = float(session[step])
            missed = "; -1 often stands for a missed trial, which is NaN here" if code == -1 else ""
            raise ValueError(f"choices[{k}][{step}] = {code:g}: expected 0, 1 or NaN, where there was none{missed}")


def _check_recorded(y: Sequence[np.ndarray]) -> None:
    for k, session in enumerate(y):
        if session.shape[1] != y[0].shape[1] or not session.shape[1]:
            raise ValueError(f"activity[{k}].shape = {session.shape}: expected {max(y[0].shape[1], 1)} units")
        if np.isnan(session).all():
            warnings.warn(f"activity[{k}] has no recorded entry, so it is left out", RuntimeWarning, stacklevel=5)


def _signal(
    rewards: Float[np.ndarray, "session step"], changes: Bool[np.ndarray, "session step"], baseline: int | None
) -> Float[np.ndarray, "session step"]:
    """The signal m at the steps where weights change: the reward, or its difference from the last rewards' mean."""
    missing = np.argwhere(changes & np.isnan(rewards))
    if len(missing):
        session, step = missing[0].tolist()
        raise ValueError(f"rewards[{session}][{step}] is NaN: expected a reward at every step where the weights change")
    signal = np.where(changes, np.nan_to_num(rewards), 0.0)
    if baseline is None:
        return signal
    for m, change in zip(signal, changes, strict=True):
        received = m[change]
        total = np.concatenate([np.zeros(baseline + 1), np.cumsum(received)])
        expected = (total[baseline:-1] - total[: -baseline - 1]) / baseline
        m[change] = received - expected
    return signal


def is_list(data: Any) -> bool:
    """Whether data are a list of sessions, rather than an array or one session as nested lists of numbers."""
    if not isinstance(data, list | tuple) or not data:
        return False
    first = data[0]
    return (
        np.ndim(checks.as_array(first)) >= 2
        if not isinstance(first, list | tuple)
        else bool(first) and np.ndim(first[0]) >= 1
    )
