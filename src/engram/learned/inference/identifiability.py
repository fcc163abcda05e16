"""What data can tell about a rule: terms that are equal on all its inputs, and directions without curvature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from engram.learned.inference.arrowhead import NEGLIGIBLE
from engram.learned.inference.feed_forward import Rows
from engram.learned.inference.model import TermsModel

SAMPLES = 500  # steps at which terms are compared
EQUAL = 1e-9  # share of a term's length that others leave unexplained, below which they determine it
IDENTIFIED = 0.99


class Dependence(NamedTuple):
    """Terms that the inputs do not tell apart, whatever the weights are.

    Attributes:
        kept: Places of terms that are independent of each other.
        groups: Names of terms, the kept ones first: two of equal effect, or more of which one is a sum of others.
    """

    kept: tuple[int, ...]
    groups: tuple[tuple[str, ...], ...]


def dependent_terms(model: TermsModel, rows: Rows) -> Dependence:
    """Terms whose values are linearly dependent at all recorded inputs and signals, for any weights.

    Inputs of 0 and 1 have x^2 = x; with one input at a time, x y = x w in a linear unit, which makes an error of reward
    prediction equal to an input-gated decay. Of such terms the fit can use only one, so of each group the first, of
    lowest degree, is kept.

    Args:
        model: The layer.
        rows: The recorded units; only their inputs and signals are used.
    """
    rng = np.random.default_rng(0)
    places = np.argwhere(rows.changes)
    if not len(places):
        return Dependence(tuple(range(len(model.series.names))), ())
    few = len(places) < SAMPLES  # which then occur several times, with other weights
    places = places[rng.choice(len(places), SAMPLES, replace=few)]
    session, step = places.T
    values = model.series.terms_at(model.samples((session, step), rows, rng))
    columns = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
    norms = np.linalg.norm(columns, axis=0)
    basis = np.zeros((0, len(columns)))
    kept: list[int] = []
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, column in enumerate((columns / np.where(norms > 0, norms, 1)).T):
        residual = column
        for _ in range(2):  # once more, against rounding
            residual = residual - (basis @ residual) @ basis
        length = np.linalg.norm(residual)
        if length > EQUAL:
            basis = np.concatenate([basis, residual[None] / length])
            kept.append(number)
            continue
        shares = np.linalg.lstsq(columns[:, kept] / norms[kept], column, rcond=None)[0]
        involved = tuple(kept[k] for k in np.flatnonzero(np.abs(shares) > 1e-6))
        groups.setdefault(involved, []).append(number)
    names = model.series.names
    found = tuple(tuple(names[k] for k in (*first, *rest)) for first, rest in groups.items())
    return Dependence(tuple(kept), found)


def scale_of_terms(model: TermsModel, theta: Float[np.ndarray, " part"], rows: Rows) -> Float[np.ndarray, " part"]:
    """The size at which each coefficient matters: where its term alone changes weights as much as the whole rule.

    s_p = sd of the changes along the run / root mean square of the term's values

    Args:
        model: The layer.
        theta: Coefficients.
        rows: The recorded units.
    """
    squares, total, square, count = np.zeros(len(theta)), 0.0, 0.0, 0
    for powers in model.visited(theta, rows):
        change = model.series.change(theta, powers)
        squares += (model.series.terms_at(powers) ** 2).sum((0, 2))
        total, square, count = total + change.sum(), square + (change**2).sum(), count + change.size
    if not count:
        return np.ones(len(theta))
    deviation = np.sqrt(max(square / count - (total / count) ** 2, 0.0))
    sizes = np.sqrt(squares / count)
    # A rule that changes nothing has no size to compare with.
    return np.where(sizes > 0, deviation / np.where(sizes > 0, sizes, 1), 0.0)


class Curvature(NamedTuple):
    """Which directions the data determine.

    Attributes:
        identified: Of each coefficient, whether nearly all of it lies in directions that are known.
        directions: Directions in units of ``scale``, the best known first, (part, direction).
        deviations: The posterior standard deviation along each.
        condition: The largest of these divided by the smallest.
    """

    identified: Bool[np.ndarray, " part"]
    directions: Float[np.ndarray, "part direction"]
    deviations: Float[np.ndarray, " direction"]
    condition: float


def curvature(information: Float[np.ndarray, "part part"], scale: Float[np.ndarray, " part"]) -> Curvature:
    """The eigenvectors of diag(s) F diag(s); one of posterior standard deviation above 1 is not known.

    Args:
        information: F, the Fisher information.
        scale: s, see ``scale_of_terms``.
    """
    if not len(scale):
        return Curvature(np.zeros(0, bool), np.zeros((0, 0)), np.zeros(0), 1.0)
    values, vectors = np.linalg.eigh(np.outer(scale, scale) * information)
    values, vectors = values[::-1], vectors[:, ::-1]
    floor = NEGLIGIBLE * max(values[0], np.finfo(float).tiny)
    deviations = np.where(values > floor, 1 / np.sqrt(np.maximum(values, floor)), np.inf)
    shares = (vectors[:, deviations <= 1] ** 2).sum(axis=1)
    condition = float(deviations[-1] / deviations[0]) if np.isfinite(deviations[-1]) else np.inf
    return Curvature(shares > IDENTIFIED, vectors, deviations, condition)
