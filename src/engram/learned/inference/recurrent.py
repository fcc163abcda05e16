"""A recurrent network whose weights follow a series, with the derivatives of its activity by forward mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram.learned.inference.feed_forward import CHUNK, DIVERGED, Nonlinearity, Path, Rows
from engram.learned.inference.series import Powers, Series
from engram.plasticity import TaylorRule


class RecurrentNetwork(NamedTuple):
    """A network whose recurrent weights follow a series.

    y(t) = f(W(t) y(t - 1) + U x(t)),   W(t + 1) = W(t) + eta g(y(t - 1), y(t), W(t), m(t)) where weights change

    Activity is zero before the first step, as in ``PlasticRNN``. Rows are units, all those of a session one after
    another; recorded or not, each drives the others.

    Attributes:
        series: g; its x is the activity before the step.
        nonlinearity: f.
        eta: Rate.
        input_weights: U.
    """

    series: Series
    nonlinearity: Nonlinearity
    eta: float
    input_weights: Float[np.ndarray, "unit input"]

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

    def part(self, kept: Sequence[int] | Int[np.ndarray, " kept"]) -> RecurrentNetwork:
        """The network with some of the parts alone."""
        return self._replace(series=self.series.part(kept))

    def samples(self, places: tuple[np.ndarray, np.ndarray], rows: Rows, rng: np.random.Generator) -> Powers:
        """The powers at some steps, with random weights and random activity before.

        Args:
            places: Session and step of each sample.
            rows: The units, of which only inputs and signals are used.
            rng: Source of weights and activity.
        """
        units = len(self.input_weights)
        before = self.nonlinearity.value(rng.normal(size=(len(places[0]), units)))
        w = rng.normal(size=before.shape) / np.sqrt(units)
        current = np.einsum("ri,ri->r", w, before)
        current += np.einsum("ri,ri->r", rows.inputs[places], self.input_weights[rng.integers(units, size=len(w))])
        return self.series.powers(before, self.nonlinearity.value(current), w, rows.signal[places])

    def visited(self, theta: Float[np.ndarray, " part"], rows: Rows) -> list[Powers]:
        """The powers at each step of a run at which weights change; none if it diverges.

        Args:
            theta: Coefficients of the parts.
            rows: The units; those of at most 16 sessions are run.
        """
        units = len(self.input_weights)
        rows = rows.of(slice(16 * units))
        path = self.run(theta, rows, keep_weights=True)
        if path is None:
            return []
        y = np.pad(path.activity, ((0, 0), (1, 0)))
        visited = []
        for t in range(rows.inputs.shape[1]):
            changed = np.flatnonzero(rows.changes[rows.session, t])
            if len(changed):
                before = np.repeat(y[:, t].reshape(-1, units), units, axis=0)[changed]
                m = rows.signal[rows.session[changed], t]
                visited.append(self.series.powers(before, y[changed, t + 1], path.weights[t, changed], m))
        return visited

    def run(self, theta: Float[np.ndarray, " part"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """The activity of every unit, or None if a weight exceeds 10^6.

        Args:
            theta: Coefficients of the parts.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        units, steps = len(self.input_weights), rows.inputs.shape[1]
        session, w = rows.session[::units], rows.initial.copy()
        currents = rows.inputs[session] @ self.input_weights.T
        y, activity = np.zeros((len(session), units)), np.zeros((len(w), steps))
        weights = np.zeros((steps + 1, *w.shape) if keep_weights else (0, *w.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(steps):
                before = np.repeat(y, units, axis=0)
                y = self.nonlinearity.value(np.einsum("ri,ri->r", w, before).reshape(y.shape) + currents[:, t])
                activity[:, t] = y.ravel()
                if keep_weights:
                    weights[t] = w
                rate = (self.eta * rows.changes[rows.session, t])[:, None]
                if rate.any():
                    powers = self.series.powers(before, activity[:, t], w, rows.signal[rows.session, t])
                    w = w + rate * self.series.change(theta, powers)
                if not max(np.abs(w).max(), np.abs(y).max()) <= DIVERGED:
                    return None
        if keep_weights:
            weights[steps] = w
        return Path(activity, weights)

    def linearise(
        self, theta: Float[np.ndarray, " part"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, Float[np.ndarray, "row step"], Float[np.ndarray, "row step parameter"]]]:
        """The activity and its derivatives, for some sessions at a time.

        With S = dW / dtheta and D = dy / dtheta before the step,

            D' = f' (S y + W D),   S' = S + eta (dg/dtheta + dg/dw S + dg/dx D + dg/dy D')

        Args:
            theta: Coefficients of the parts; the run must not diverge.
            rows: The units.
            by_initial: Whether the parameters include, after theta, all first weights of the session.
        """
        units = len(self.input_weights)
        numbers = units * units * (len(theta) + by_initial * units * units)
        size = units * max(1, CHUNK // max(1, numbers))
        for start in range(0, len(rows.initial), size):
            kept = slice(start, start + size)
            yield kept, *self._linearised(theta, rows.of(kept), by_initial)

    def _linearised(self, theta: np.ndarray, rows: Rows, by_initial: bool) -> tuple[np.ndarray, np.ndarray]:
        units, parts, steps = len(self.input_weights), len(theta), rows.inputs.shape[1]
        session, w = rows.session[::units], rows.initial.copy()
        currents = rows.inputs[session] @ self.input_weights.T
        S = np.zeros((len(session), units, parts + by_initial * units * units, units))
        if by_initial:
            for unit in range(units):
                S[:, unit, parts + unit * units : parts + (unit + 1) * units] = np.eye(units)
        y, D = np.zeros((len(session), units)), np.zeros((len(session), units, S.shape[2]))
        activity, slopes = np.zeros((len(w), steps)), np.zeros((len(w), steps, S.shape[2]))
        for t in range(steps):
            before, D_before, by_unit = np.repeat(y, units, axis=0), D, (len(session), units, -1, units)
            y = self.nonlinearity.value(np.einsum("ri,ri->r", w, before).reshape(y.shape) + currents[:, t])
            D = np.matmul(S, before.reshape(by_unit).transpose(0, 1, 3, 2))[..., 0]
            D += np.matmul(w.reshape(len(session), units, units), D_before)
            D *= self.nonlinearity.slope(y)[:, :, None]
            activity[:, t], slopes[:, t] = y.ravel(), D.reshape(len(w), -1)
            rate = (self.eta * rows.changes[rows.session, t])[:, None]
            if not rate.any():
                continue
            powers = self.series.powers(before, activity[:, t], w, rows.signal[rows.session, t])
            by_w, by_y = self.series.slopes(theta, powers)
            by_x = self.series.slope_of_input(theta, powers)
            S *= (1 + rate * by_w).reshape(by_unit)
            S += D[..., None] * (rate * by_y).reshape(by_unit)
            S += D_before.transpose(0, 2, 1)[:, None] * (rate * by_x).reshape(by_unit)
            S[:, :, :parts] += (rate[:, :, None] * self.series.terms_at(powers)).reshape(by_unit)
            w = w + rate * self.series.change(theta, powers)
        return activity, slopes
