"""One fit: the coefficients, the noise of each unit, and how well the coefficients are known."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from engram import checks
from engram.learned.inference.arrowhead import NEGLIGIBLE, inverse
from engram.learned.inference.feed_forward import Rows
from engram.learned.inference.levenberg_marquardt import Fitted, Problem, levenberg_marquardt
from engram.learned.inference.losses import Bernoulli, Gaussian, Loss
from engram.learned.inference.model import Model
from engram.learned.inference.sessions import Sessions

QUIETEST = 1e-6  # the least variance of a unit, as a share of the mean over units


class Data(NamedTuple):
    """What is fitted: recorded units, what was recorded of them, and the blocks of first weights that are not known.

    Attributes:
        rows: The units that are run.
        observed: Activity or choices, NaN where there are none: of each of these units, or by a readout, of each
            session.
        session: The session of each row of ``observed``.
        unit: Its unit.
        binary: Whether they are choices.
        block, size: See ``Problem``.
    """

    rows: Rows
    observed: Float[np.ndarray, "row step"]
    session: Int[np.ndarray, " row"]
    unit: Int[np.ndarray, " row"]
    binary: bool
    block: Int[np.ndarray, " row"] | None
    size: int

    @property
    def nuisances(self) -> int:
        """Number of first weights that are fitted."""
        return 0 if self.block is None else (int(self.block.max()) + 1) * self.size

    def spare(self, parts: int) -> int:
        """How many more numbers were recorded than there are coefficients and first weights to fit."""
        return int((~np.isnan(self.observed)).sum()) - parts - self.nuisances

    def until(self, steps: int) -> Data:
        """The first steps of each session."""
        rows = self.rows
        kept = {"inputs": rows.inputs[:, :steps], "signal": rows.signal[:, :steps], "changes": rows.changes[:, :steps]}
        return self._replace(rows=rows._replace(**kept), observed=self.observed[:, :steps])


class Fit(NamedTuple):
    """A fitted rule.

    Attributes:
        theta: Coefficients.
        initial: First weights of each row.
        variance: Of the noise of each unit that was recorded, by its number; empty for choices.
        information: The Fisher information of the coefficients, first weights being fitted too.
        log_likelihood: Of the data.
        iterations: Steps of the search.
        converged: Whether the search ended by itself.
    """

    theta: Float[np.ndarray, " part"]
    initial: Float[np.ndarray, "row input"]
    variance: Float[np.ndarray, " unit"]
    information: Float[np.ndarray, "part part"]
    log_likelihood: float
    iterations: int
    converged: bool

    @property
    def covariance(self) -> Float[np.ndarray, "part part"]:
        """The inverse of the information, zero along directions without any."""
        return inverse(self.information, np.sqrt(np.diag(self.information)))

    @property
    def standard_errors(self) -> Float[np.ndarray, " part"]:
        """Of each coefficient; infinite if it is part of a direction without information."""
        scale = np.sqrt(np.diag(self.information))
        divisor = np.where(scale > 0, scale, 1.0)
        values, vectors = np.linalg.eigh(self.information / np.outer(divisor, divisor))
        unknown = (vectors[:, values <= NEGLIGIBLE * values.max(initial=np.finfo(float).tiny)] ** 2).sum(axis=1)
        return np.where(unknown > NEGLIGIBLE, np.inf, np.sqrt(np.maximum(np.diag(self.covariance), 0)))


def fit_rule(
    model: Model,
    data: Data,
    theta: Float[np.ndarray, " part"],
    initial: Float[np.ndarray, "row input"],
    *,
    max_iter: int,
    tol: float,
    variance: Float[np.ndarray, " unit"] | None = None,
) -> Fit:
    """The coefficients of largest likelihood near a start, and the noise of each unit.

    The noise is found in turn with the coefficients: all units count alike in a first search, and by their variances in
    a second one.

    Args:
        model: The layer.
        data: What is fitted.
        theta: Start of the coefficients.
        initial: Start of the first weights.
        max_iter: Largest number of steps of a search.
        tol: See ``levenberg_marquardt``.
        variance: Of the noise of each unit, from an earlier fit; with it, one search is enough.
    """
    units = 0 if data.binary else int(data.unit.max()) + 1
    noise = np.ones(units) if variance is None else variance
    iterations, converged = 0, True
    for _ in range(1 if data.binary or variance is not None or units == 1 else 2):
        problem = Problem(model, data.rows, loss_of(data, noise), data.block, data.size)
        end: Fitted = levenberg_marquardt(problem, theta, initial, max_iter, tol)
        theta, initial, iterations, converged = end.theta, end.initial, iterations + end.iterations, end.converged
        if not data.binary:
            noise = _variances(model, data, theta, initial, units)
    problem = Problem(model, data.rows, loss_of(data, noise), data.block, data.size)
    information = problem.equations(theta, initial).reduced()[0]
    log_likelihood = -end.loss if data.binary else _gaussian(model, data, theta, initial, units)
    return Fit(theta, initial, noise, information, log_likelihood, iterations, converged)


def intervals(data: Data, fit: Fit, confidence: float) -> Float[np.ndarray, "part 2"]:
    """The interval of each coefficient from its standard error, infinite with as many unknowns as numbers.

    Args:
        data: What was fitted.
        fit: The fit.
        confidence: How often the interval should contain the coefficient, if the model is right.
    """
    spare, level = data.spare(len(fit.theta)), (1 + confidence) / 2
    quantile = stats.norm.ppf(level) if data.binary else stats.t.ppf(level, max(spare, 1))
    reach = quantile * fit.standard_errors if spare > 0 else np.full(len(fit.theta), np.inf)
    return np.stack([fit.theta - reach, fit.theta + reach], axis=1)


def start_of_search(
    model: Model, data: Data, theta: Float[np.ndarray, " part"], max_iter: int
) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, "row input"]]:
    """Coefficients and first weights near which the whole sessions of a recurrent network are fitted.

    Over many steps a small change of a coefficient becomes a large one of activity, so that the loss has many minima;
    in the first steps it has few. So an eighth of the steps is fitted, and from where that ends a quarter and a half,
    as far as there are twice as many numbers as unknowns.

    Args:
        model: The network.
        data: What is fitted.
        theta: Start of the coefficients.
        max_iter: Largest number of steps of a search.
    """
    initial, whole = data.rows.initial, data.observed.shape[1]
    for steps in (whole // 8, whole // 4, whole // 2):
        some = data.until(steps)
        if (~np.isnan(some.observed)).sum() < 2 * (len(theta) + data.nuisances):
            continue
        units = int(data.unit.max()) + 1
        problem = Problem(model, some.rows, loss_of(some, np.ones(units)), data.block, data.size)
        end = levenberg_marquardt(problem, theta, initial, max_iter, tol=1e-4)
        if np.isfinite(Problem(model, data.rows, loss_of(data, np.ones(units)), data.block, data.size).value(*end[:2])):
            theta, initial = end.theta, end.initial
    return theta, initial


def loss_of(data: Data, noise: Float[np.ndarray, " unit"]) -> Loss:
    """What is minimised, given the variance of the noise of each unit."""
    return Bernoulli(data.observed) if data.binary else Gaussian(data.observed, noise[data.unit])


def _squares(model: Model, data: Data, theta: np.ndarray, initial: np.ndarray, units: int) -> tuple[np.ndarray, ...]:
    """The sum of squared errors of each unit, and the number of its entries."""
    path = model.run(theta, data.rows._replace(initial=initial))
    assert path is not None  # it is the end of a search, which never goes where the run diverges
    errors = np.nan_to_num(data.observed - path.activity) ** 2
    squares, counts = np.zeros((2, units))
    np.add.at(squares, data.unit, errors.sum(axis=1))
    np.add.at(counts, data.unit, (~np.isnan(data.observed)).sum(axis=1))
    return squares, counts


def _variances(model: Model, data: Data, theta: np.ndarray, initial: np.ndarray, units: int) -> np.ndarray:
    squares, counts = _squares(model, data, theta, initial, units)
    spare = counts.sum() - len(theta) - data.nuisances
    inflation = counts.sum() / spare if spare > 0 else 1.0
    variances = inflation * squares / np.maximum(counts, 1)
    mean = inflation * squares.sum() / counts.sum()
    tiny = np.finfo(float).eps ** 2 * float(np.nanmean(data.observed**2)) + np.finfo(float).tiny
    floored: np.ndarray = np.where(counts > 0, np.maximum(variances, QUIETEST * mean + tiny), mean + tiny)
    return floored


def _gaussian(model: Model, data: Data, theta: np.ndarray, initial: np.ndarray, units: int) -> float:
    """The log-likelihood with the variance of each unit that makes it largest."""
    squares, counts = _squares(model, data, theta, initial, units)
    seen = counts > 0
    tiny = np.finfo(float).eps ** 2 * float(np.nanmean(data.observed**2)) + np.finfo(float).tiny
    return gaussian_log_likelihood(np.maximum(squares[seen] / counts[seen], tiny), counts[seen])


def gaussian_log_likelihood(variances: Float[np.ndarray, " unit"], counts: Float[np.ndarray, " unit"]) -> float:
    """The largest log-likelihood of errors with these mean squares: -sum n / 2 (log(2 pi s^2) + 1).

    Args:
        variances: Mean squared error of each unit, s^2.
        counts: Number of its entries, n.
    """
    return float(-(counts * (np.log(2 * np.pi * variances) + 1)).sum() / 2)


def constant_log_likelihood(data: Data) -> float:
    """The log-likelihood of the best prediction that never changes: a mean of each unit, or one probability."""
    if data.binary:
        p = float(np.nanmean(data.observed))
        count = int((~np.isnan(data.observed)).sum())
        return count * float(-stats.entropy([p, 1 - p]))
    tiny = np.finfo(float).eps ** 2 * float(np.nanmean(data.observed**2)) + np.finfo(float).tiny
    units = np.unique(data.unit[~np.isnan(data.observed).all(axis=1)])
    of_units = [data.observed[data.unit == unit] for unit in units]
    variances = np.array([max(float(np.nanvar(entries)), tiny) for entries in of_units])
    return gaussian_log_likelihood(variances, np.array([float((~np.isnan(entries)).sum()) for entries in of_units]))


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
