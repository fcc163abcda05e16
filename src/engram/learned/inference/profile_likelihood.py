"""Another rule that explains the data as well: the farthest one along the direction that the data determine least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram.learned.inference.feed_forward import Path, Rows
from engram.learned.inference.fitting import Data, Fit, loss_of
from engram.learned.inference.identifiability import curvature
from engram.learned.inference.levenberg_marquardt import Problem, levenberg_marquardt
from engram.learned.inference.model import Model, TermsModel
from engram.plasticity import PlasticityRule

DOUBLINGS, HALVINGS = 12, 10


class EqualRule(NamedTuple):
    """A rule that explains data nearly as well as the fitted one.

    Attributes:
        rule: The rule.
        coefficients: Its coefficients.
        loss: By how much its log-likelihood is smaller; smaller than ``delta`` if the walk ended before.
        difference: Root mean square of the difference of changes, at the inputs, activity and weights of the fit, as a
            share of that of the changes.
        separation: By inputs, see ``designs``, the units of log-likelihood by which a session tells the two rules
            apart; NaN where a rule diverges.
    """

    rule: PlasticityRule
    coefficients: dict[str, float]
    loss: float
    difference: float
    separation: dict[str, float]


class Along(NamedTuple):
    """A model of fewer numbers z, theta = origin + basis z."""

    model: Model
    origin: Float[np.ndarray, " part"]
    basis: Float[np.ndarray, "part free"]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return tuple(map(str, range(self.basis.shape[1])))

    @property
    def start(self) -> Float[np.ndarray, " free"]:
        """The origin."""
        return np.zeros(self.basis.shape[1])

    def theta(self, z: Float[np.ndarray, " free"]) -> Float[np.ndarray, " part"]:
        """The coefficients."""
        theta: np.ndarray = self.origin + self.basis @ z
        return theta

    def rule(self, theta: Float[np.ndarray, " free"]) -> PlasticityRule:
        """The rule with these numbers."""
        return self.model.rule(self.theta(theta))

    def run(self, theta: Float[np.ndarray, " free"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """See ``Model.run``.

        Args:
            theta: The numbers z.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        return self.model.run(self.theta(theta), rows, keep_weights=keep_weights)

    def linearise(
        self, theta: Float[np.ndarray, " free"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """See ``Model.linearise``.

        Args:
            theta: The numbers z.
            rows: The units.
            by_initial: Whether the parameters include the first weights.
        """
        parts = len(self.origin)
        for kept, predicted, J in self.model.linearise(self.theta(theta), rows, by_initial=by_initial):
            yield kept, predicted, np.concatenate([J[:, :, :parts] @ self.basis, J[:, :, parts:]], axis=2)


def farthest_equal_rule(
    model: TermsModel, data: Data, fit: Fit, scale: Float[np.ndarray, " part"], delta: float
) -> EqualRule:
    """The rule farthest from the fit along its least known direction whose log-likelihood is smaller by at most delta.

    At each distance along the direction all other coefficients, and first weights that are unknown, are fitted again
    (the profile of the likelihood); the distance is doubled while less than ``delta`` is lost, and then found by
    bisection. Of both senses the farther one is returned.

    Args:
        model: The model.
        data: What was fitted.
        fit: The fit.
        scale: The size of each coefficient; see ``scale_of_terms``.
        delta: Units of log-likelihood.
    """
    known = curvature(fit.information, scale)
    basis = scale[:, None] * known.directions
    loss = loss_of(data, fit.variance)
    least = Problem(model, data.rows, loss, data.block, data.size).value(fit.theta, fit.initial)

    def profile(distance: float) -> tuple[float, np.ndarray]:
        along = Along(model, fit.theta + distance * basis[:, -1], basis[:, :-1])
        problem = Problem(along, data.rows, loss, data.block, data.size)
        start = along.start
        if not np.isfinite(problem.value(start, fit.initial)):
            return np.inf, along.origin
        end = levenberg_marquardt(problem, start, fit.initial, max_iter=20, tol=1e-6)
        return end.loss - least, along.theta(end.theta)

    found = []
    for sense in (-1.0, 1.0):
        deviation = known.deviations[-1]
        distance = sense * (np.sqrt(2 * delta) * deviation if np.isfinite(deviation) else 1.0)
        inside, best = 0.0, (0.0, fit.theta)
        for _ in range(DOUBLINGS):
            lost, theta = profile(distance)
            if lost > delta:
                break
            inside, best, distance = distance, (lost, theta), 2 * distance
        for _ in range(HALVINGS):
            middle = (inside + distance) / 2
            lost, theta = profile(middle)
            if lost > delta:
                distance = middle
            else:
                inside, best = middle, (lost, theta)
        found.append((abs(inside), *best))
    _, lost, theta = max(found, key=lambda end: end[0])
    apart, size = 0.0, 0.0
    for powers in model.visited(fit.theta, data.rows._replace(initial=fit.initial)):
        change = model.series.change(fit.theta, powers)
        apart += float(((model.series.change(theta, powers) - change) ** 2).sum())
        size += float((change**2).sum())
    difference = float(np.sqrt(apart / size)) if size else np.inf
    coefficients = dict(zip(model.names, theta.tolist(), strict=True))
    return EqualRule(model.rule(theta), coefficients, lost, difference, separations(model, data, fit, theta))


def designs(x: Float[np.ndarray, "session step input"]) -> dict[str, Float[np.ndarray, "session step input"]]:
    """The recorded inputs, and others made of them that an experiment could use instead.

    These are twice and half as large; mixtures, the sum of two steps; and one input at a time, the largest of each
    step, unless this is what was recorded.

    Args:
        x: The recorded inputs, zero after the end of a session.
    """
    rng, mixed = np.random.default_rng(0), x.copy()
    for session, used in enumerate((x != 0).any(axis=2)):
        steps = np.flatnonzero(used)
        mixed[session, steps] += x[session, rng.permutation(steps)]
    size = np.abs(x)
    single = np.where(size == size.max(axis=2, keepdims=True), x, 0.0)
    made = {"as recorded": x, "twice as large": 2 * x, "half as large": x / 2, "mixtures": mixed}
    return made | ({} if np.array_equal(single, x) else {"one input at a time": single})


def separations(model: Model, data: Data, fit: Fit, theta: Float[np.ndarray, " part"]) -> dict[str, float]:
    """By inputs, the expected log-likelihood of a session's data under the fitted rule minus that under another.

    Args:
        model: The model.
        data: What was fitted; signals and choices so far stay as they were.
        fit: The fit.
        theta: Coefficients of the other rule.
    """
    result = {}
    for name, inputs in designs(data.rows.inputs).items():
        rows = data.rows._replace(inputs=inputs, initial=fit.initial)
        paths = [model.run(coefficients, rows) for coefficients in (fit.theta, theta)]
        result[name] = float("nan")
        if paths[0] is not None and paths[1] is not None:
            ours, other = (path.activity for path in paths if path is not None)
            if data.binary:
                p = 0.5 * (1 + np.tanh(0.5 * ours))
                each = p * (ours - other) - np.logaddexp(0, ours) + np.logaddexp(0, other)
            else:
                each = (ours - other) ** 2 / (2 * fit.variance[data.unit, None])
            seen = ~np.isnan(data.observed)
            result[name] = float(each[seen].sum() / len(np.unique(data.session)))
    return result
