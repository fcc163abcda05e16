"""The searches of an estimator: a first one, those along backward elimination, and those from other starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from engram.learned.inference.fitting import Data, Fit, fit_rule, start_of_search
from engram.learned.inference.identifiability import scale_of_terms
from engram.learned.inference.model import Model, TermsModel, has_terms
from engram.learned.inference.selection import NEARBY, RANKED, Selection

CONFIDENCE = 0.95
LIKE_THE_BEST = float(stats.chi2.ppf(CONFIDENCE, 1) / 2)  # what a log-likelihood may lose within such an interval
DIFFERENT = 4.0  # standard errors between coefficients of equally good fits that are not the same solution


class Start(NamedTuple):
    """Where a search from another start ended."""

    coefficients: Float[np.ndarray, " part"]
    log_likelihood: float
    converged: bool


class Search(NamedTuple):
    """How far each search goes; see the estimator.

    Attributes:
        max_iter: Largest number of steps.
        tol: The share by which the last step lowers the loss.
    """

    max_iter: int
    tol: float

    def from_nothing(self, model: Model, data: Data, *, recurrent: bool) -> Fit:
        """The fit from the model's own start; that of a recurrent network begins with its first steps.

        Args:
            model: The model.
            data: What is fitted.
            recurrent: Whether its units drive each other.
        """
        theta, initial = model.start, data.rows.initial
        if recurrent:
            theta, initial = start_of_search(model, data, theta, self.max_iter)
        return fit_rule(model, data, theta, initial, max_iter=self.max_iter, tol=self.tol)

    def near(self, model: Model, data: Data, theta: Float[np.ndarray, " part"], like: Fit | None = None) -> Fit:
        """The fit near some coefficients, and near the first weights of another fit.

        Args:
            model: The model.
            data: What is fitted.
            theta: The coefficients.
            like: The other fit; None: unknown first weights start from zero.
        """
        initial = data.rows.initial if like is None else like.initial
        return fit_rule(model, data, theta, initial, max_iter=self.max_iter, tol=self.tol)

    def select_terms(self, model: TermsModel, data: Data, fit: Fit, price: float) -> Selection:
        """The fits of a search for the terms of the smallest criterion.

        Args:
            model: The model with all terms.
            data: What is fitted.
            fit: The fit with all terms.
            price: What each term adds to minus two log-likelihoods.
        """
        selection = Selection(model, data, price, self.max_iter)
        selection.eliminate(fit)
        selection.fit_ranked(selection.found[tuple(range(len(model.names)))], at_most=RANKED // 2)
        selection.polish()
        # What was fitted roughly on the way is fitted to the end where it matters.
        selection.refine(NEARBY)
        best = selection.best
        selection.add(best.support, self.near(model.part(best.support), data, best.fit.theta, best.fit))
        return selection

    def from_elsewhere(
        self, model: Model, data: Data, fit: Fit, count: int, rng: np.random.Generator
    ) -> tuple[Start, ...]:
        """The ends of searches from random coefficients, of the size at which each matters."""
        scale, starts = scale_of(model, data, fit), []
        for _ in range(count):
            theta = scale * rng.normal(size=len(fit.theta))
            while model.run(theta, data.rows) is None:
                theta = theta / 2
            end = self.near(model, data, theta)
            starts.append(Start(end.theta, end.log_likelihood, end.converged))
        return tuple(starts)


def scale_of(model: Model, data: Data, fit: Fit) -> Float[np.ndarray, " part"]:
    """The size at which each coefficient matters; of a rule that is no series, its own size.

    Args:
        model: The model.
        data: What was fitted.
        fit: The fit.
    """
    if has_terms(model):
        return scale_of_terms(model, fit.theta, data.rows._replace(initial=fit.initial))
    return np.where(fit.theta == 0, 1.0, np.abs(fit.theta))


def agreed(starts: tuple[Start, ...], fit: Fit) -> np.ndarray:
    """Whether all searches that ended in as good a fit agree on each coefficient."""
    same = np.ones(len(fit.theta), dtype=bool)
    for start in starts:
        if start.log_likelihood >= fit.log_likelihood - LIKE_THE_BEST:
            same &= np.abs(start.coefficients - fit.theta) <= DIFFERENT * fit.standard_errors
    return same
