"""A layer whose weights follow a series, forwards in time, with the derivatives of its activity by forward mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.learned.inference import kernels
from engram.learned.inference.series import Powers, Series
from engram.numeric.threads import available, in_ranges
from engram.plasticity import TaylorRule

DIVERGED = 1e6  # no recorded weight is as large
CHUNK = 1 << 16  # numbers of the derivatives that are advanced together, so that they stay in the cache
WORTH_COMPILING = 1 << 26  # weights and their derivatives over all steps: about a second without the kernel
SLOPES = 1 << 25  # numbers of the slopes that the kernel returns together, 256 MiB


class Nonlinearity(NamedTuple):
    """A function f of the current, and its derivative as a function of its value."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def _identity(current: np.ndarray) -> np.ndarray:
    return current


def _sigmoid(current: np.ndarray) -> np.ndarray:
    value: np.ndarray = 0.5 * (1 + np.tanh(0.5 * current))  # not with exp, which would overflow
    return value


def _relu(current: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.maximum(current, 0)
    return value


def _slope_of_sigmoid(value: np.ndarray) -> np.ndarray:
    slope: np.ndarray = value * (1 - value)
    return slope


def _slope_of_tanh(value: np.ndarray) -> np.ndarray:
    slope: np.ndarray = 1 - value * value
    return slope


def _slope_of_relu(value: np.ndarray) -> np.ndarray:
    slope: np.ndarray = (value > 0).astype(float)
    return slope


NONLINEARITIES = {
    "identity": Nonlinearity(_identity, np.ones_like),
    "sigmoid": Nonlinearity(_sigmoid, _slope_of_sigmoid),
    "tanh": Nonlinearity(np.tanh, _slope_of_tanh),
    "relu": Nonlinearity(_relu, _slope_of_relu),
}


class Rows(NamedTuple):
    """Units in sessions: given its inputs, no unit of a feed-forward layer depends on another.

    Attributes:
        inputs: x of each session, (session, step, input).
        signal: m, (session, step).
        changes: Whether the weights change after a step, (session, step).
        session: The session of each row.
        unit: Its unit.
        initial: Its first weights, (row, input).
    """

    inputs: Float[np.ndarray, "session step input"]
    signal: Float[np.ndarray, "session step"]
    changes: Bool[np.ndarray, "session step"]
    session: Int[np.ndarray, " row"]
    unit: Int[np.ndarray, " row"]
    initial: Float[np.ndarray, "row input"]

    def of(self, kept: slice | np.ndarray) -> Rows:
        """Some of the rows."""
        return self._replace(session=self.session[kept], unit=self.unit[kept], initial=self.initial[kept])


class Path(NamedTuple):
    """What a run gives.

    Attributes:
        activity: y of each row, (row, step).
        weights: W before every step and after the last, (step + 1, row, input); empty unless asked for.
    """

    activity: Float[np.ndarray, "row step"]
    weights: Float[np.ndarray, "step row input"]


class Layer(NamedTuple):
    """A feed-forward layer whose weights follow a series.

    y(t) = f(W(t) x(t)),   W(t + 1) = W(t) + eta g(x(t), y(t), W(t), m(t)) where weights change, else W(t)
    """

    series: Series
    nonlinearity: Nonlinearity
    eta: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return self.series.names

    @property
    def start(self) -> Float[np.ndarray, " part"]:
        """Where a search starts: weights that do not change."""
        return np.zeros(len(self.names))

    def rule(self, theta: Float[np.ndarray, " part"]) -> TaylorRule:
        """The rule with these coefficients; with none of them, one that changes nothing."""
        return self.series.rule(theta, self.eta)

    def part(self, kept: Sequence[int] | Int[np.ndarray, " kept"]) -> Layer:
        """The layer with some of the parts alone."""
        return self._replace(series=self.series.part(kept))

    def samples(self, places: tuple[np.ndarray, np.ndarray], rows: Rows, rng: np.random.Generator) -> Powers:
        """The powers at some steps, with random weights.

        Args:
            places: Session and step of each sample.
            rows: The units, of which only inputs and signals are used.
            rng: Source of the weights.
        """
        x, m = rows.inputs[places], rows.signal[places]
        w = rng.normal(size=x.shape)
        return self.series.powers(x, self.nonlinearity.value(np.einsum("ri,ri->r", w, x)), w, m)

    def visited(self, theta: Float[np.ndarray, " part"], rows: Rows) -> list[Powers]:
        """The powers at each step of a run at which weights change; none if it diverges.

        Args:
            theta: Coefficients of the parts.
            rows: The units; at most 256 of them are run.
        """
        rows = rows.of(slice(256))
        path = self.run(theta, rows, keep_weights=True)
        visited = []
        for t in range(0 if path is None else rows.inputs.shape[1]):
            assert path is not None
            changed = np.flatnonzero(rows.changes[rows.session, t])
            if len(changed):
                session = rows.session[changed]
                y, w = path.activity[changed, t], path.weights[t, changed]
                visited.append(self.series.powers(rows.inputs[session, t], y, w, rows.signal[session, t]))
        return visited

    def run(self, theta: Float[np.ndarray, " part"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """The activity of every row, or None if a weight exceeds 10^6.

        Args:
            theta: Coefficients of the parts.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        w = rows.initial.copy()
        steps = rows.inputs.shape[1]
        activity = np.zeros((len(w), steps))
        weights = np.zeros((steps + 1, *w.shape) if keep_weights else (0, *w.shape))
        if self._is_large(rows, len(theta)):
            path = Path(activity, weights)
            return path if self._advance(theta, rows, path, np.zeros((len(w), steps, 0)), False) else None
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(steps):
                x = rows.inputs[rows.session, t]
                y = activity[:, t] = self.nonlinearity.value(np.einsum("ri,ri->r", w, x))
                if keep_weights:
                    weights[t] = w
                change = rows.changes[rows.session, t]
                if change.any():
                    powers = self.series.powers(x, y, w, rows.signal[rows.session, t])
                    w = w + (self.eta * change)[:, None] * self.series.change(theta, powers)
                    if not np.abs(w).max() <= DIVERGED:
                        return None
        if keep_weights:
            weights[steps] = w
        return Path(activity, weights)

    def linearise(
        self, theta: Float[np.ndarray, " part"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, Float[np.ndarray, "row step"], Float[np.ndarray, "row step parameter"]]]:
        """The activity and its derivatives, for some rows at a time: the slice of the rows, y, and dy / dparameter.

        The derivatives S = dW / dtheta of the weights follow S' = S + eta (dg/dtheta + dg/dw S + dg/dy f' S x).

        Args:
            theta: Coefficients of the parts; the run must not diverge.
            rows: The units.
            by_initial: Whether the parameters include, after theta, the first weights of the row.
        """
        inputs, steps = rows.initial.shape[1], rows.inputs.shape[1]
        parameters = len(theta) + by_initial * inputs
        large = self._is_large(rows, parameters)
        size = max(1, SLOPES // max(1, steps * parameters) if large else CHUNK // max(1, parameters * inputs))
        for start in range(0, len(rows.initial), size):
            kept = slice(start, start + size)
            if not large:
                yield kept, *self._linearised(theta, rows.of(kept), by_initial)
                continue
            some = rows.of(kept)
            path = Path(np.zeros((len(some.initial), steps)), np.zeros((0, *some.initial.shape)))
            slopes = np.zeros((len(some.initial), steps, parameters))
            self._advance(theta, some, path, slopes, by_initial)
            yield kept, path.activity, slopes

    @staticmethod
    def _is_large(rows: Rows, parameters: int) -> bool:
        """Whether the kernel is worth its compilation; both ways to compute a run differ in rounding alone."""
        return bool(rows.initial.size * rows.inputs.shape[1] * (1 + parameters) >= WORTH_COMPILING)

    def _advance(self, theta: np.ndarray, rows: Rows, path: Path, slopes: np.ndarray, by_initial: bool) -> bool:
        """Fill a path and the slopes by the kernel, on all threads, unless a weight exceeds 10^6."""
        recorded = kernels.Recorded(rows.inputs, rows.signal, rows.changes, rows.session, rows.initial)
        diverged = np.zeros(len(rows.initial), dtype=bool)
        f = list(NONLINEARITIES.values()).index(self.nonlinearity)
        fixed = self.series.compiled(theta), recorded, f, self.eta, DIVERGED, by_initial
        filled = path.activity, slopes, path.weights, diverged
        in_ranges(lambda first, stop: kernels.advance(*fixed, first, stop, *filled), len(diverged), available())
        return not bool(diverged.any())

    def _linearised(self, theta: np.ndarray, rows: Rows, by_initial: bool) -> tuple[np.ndarray, np.ndarray]:
        w, parts = rows.initial.copy(), len(theta)
        count, inputs = w.shape
        steps = rows.inputs.shape[1]
        S = np.zeros((count, parts + by_initial * inputs, inputs))
        if by_initial:
            S[:, parts:] = np.eye(inputs)
        activity, slopes = np.zeros((count, steps)), np.zeros((count, steps, S.shape[1]))
        for t in range(steps):
            x = rows.inputs[rows.session, t]
            y = activity[:, t] = self.nonlinearity.value(np.einsum("ri,ri->r", w, x))
            dy = slopes[:, t] = self.nonlinearity.slope(y)[:, None] * np.matmul(S, x[:, :, None])[:, :, 0]
            rate = (self.eta * rows.changes[rows.session, t])[:, None]
            if not rate.any():
                continue
            powers = self.series.powers(x, y, w, rows.signal[rows.session, t])
            by_w, by_y = self.series.slopes(theta, powers)
            S *= (1 + rate * by_w)[:, None, :]
            if self.series.uses_activity:
                S += dy[:, :, None] * (rate * by_y)[:, None, :]
            S[:, :parts] += rate[:, :, None] * self.series.terms_at(powers)
            w = w + rate * self.series.change(theta, powers)
        return activity, slopes
