"""Selection of terms: the best set by an information criterion, and all sets that were fitted on the way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram.learned.inference.fitting import Data, Fit, fit_rule, loss_of
from engram.learned.inference.levenberg_marquardt import Problem
from engram.learned.inference.model import TermsModel
from engram.learned.inference.subsets import Expansion, Ranked, best_subsets

Support = tuple[int, ...]

NEARBY = 6.0  # units of the criterion within which a rule counts as a rival: a weight of exp(-3), a twentieth
AMBIGUOUS = 2.0  # units within which neither rule is to be preferred: less than 3 to 1
RANKED = 24  # sets that are fitted of those that one approximation finds near the best
STEPS = 20  # of the search of each, which starts where the approximation is smallest
FITTED_IN_A_DRAW = 3  # sets around the best one, of each draw of the bootstrap
ENOUGH, FINE = 1e-5, 1e-8  # shares of the loss; of a thousand errors the first is a hundredth of a unit


class Reach(NamedTuple):
    """By how many units of the criterion a set may be behind the best one, by the approximation, to be fitted.

    Attributes:
        ranked: Of all sets.
        changed: Of those with one term more, less or another one.
    """

    ranked: float
    changed: float


FOR_RIVALS = Reach(NEARBY, 12.0)
FOR_THE_BEST = Reach(0.5, 2.0)  # around a best set the approximation is mostly right to within a tenth


class SelectionStep(NamedTuple):
    """A fit of a selection: its terms, and its criterion, of which the smallest is chosen."""

    terms: tuple[str, ...]
    criterion: float


class Candidate(NamedTuple):
    """A fit with some of the terms.

    Attributes:
        support: Places of its terms.
        criterion: The value of the criterion; the smaller, the better.
        fit: The fit.
    """

    support: Support
    criterion: float
    fit: Fit


class Selection:
    """A search for the terms of the smallest criterion, -2 log likelihood + price times their number.

    Args:
        model: The model with all terms.
        data: What is fitted.
        price: What each term adds to the criterion.
        max_iter: Largest number of steps of the search of each fit.

    Attributes:
        model, data: As given.
        found: All sets that were fitted.
    """

    def __init__(self, model: TermsModel, data: Data, price: float, max_iter: int) -> None:
        self.model, self.data, self._price, self.max_iter = model, data, price, max_iter
        self.found: dict[Support, Candidate] = {}

    @property
    def best(self) -> Candidate:
        """The set of the smallest criterion."""
        return min(self.found.values(), key=lambda candidate: candidate.criterion)

    @property
    def path(self) -> tuple[SelectionStep, ...]:
        """All sets that were fitted, from all terms to none, the best of a size first."""
        found = sorted(self.found.values(), key=lambda each: (-len(each.support), each.criterion))
        names = self.model.names
        return tuple(SelectionStep(tuple(names[k] for k in each.support), each.criterion) for each in found)

    def near(self, margin: float) -> list[Candidate]:
        """The sets whose criterion exceeds the smallest by at most a margin, the best first.

        Args:
            margin: Units of the criterion.
        """
        best = self.best.criterion
        near = (each for each in self.found.values() if each.criterion <= best + margin)
        return sorted(near, key=lambda each: each.criterion)

    def add(self, support: Support, fit: Fit) -> Candidate:
        """Take a fit in.

        Args:
            support: Places of its terms.
            fit: The fit.
        """
        criterion = -2 * fit.log_likelihood + self._price * len(support)
        self.found[support] = Candidate(support, criterion, fit)
        return self.found[support]

    def eliminate(self, fit: Fit) -> None:
        """Fit the sets from all terms to none, each without the term of smallest |theta| / standard error.

        Args:
            fit: The fit with all terms.

        Source: Schwarz, "Estimating the dimension of a model" (1978), for the criterion.
        """
        support = tuple(range(len(self.model.names)))
        self.add(support, fit)
        while support:
            weakest = int(np.argmin(np.abs(fit.theta) / np.maximum(fit.standard_errors, np.finfo(float).tiny)))
            # The optimum without one coefficient, if the likelihood were Gaussian in all of them.
            covariance = fit.covariance[:, weakest]
            share = fit.theta[weakest] / covariance[weakest] if covariance[weakest] > 0 else 0.0
            start = np.delete(fit.theta - share * covariance, weakest)
            support = (*support[:weakest], *support[weakest + 1 :])
            fit = self._fit(support, start, fit, steps=self.max_iter)
            self.add(support, fit)

    def polish(self, *, at_most: int = RANKED, reach: Reach = FOR_RIVALS) -> None:
        """Rank all sets around the best one, fit those that may be as good, and go on from a better one, if any is.

        The likelihood is approximated to second order at the best set, all other terms at zero. Fitted are the sets
        that are then within reach of the smallest criterion, and, since the approximation may be wrong, those farther
        behind that have one term more, less or another one.

        Args:
            at_most: Number of sets of either kind that are fitted around one set.
            reach: How far these sets may be behind.
        """
        expanded: set[Support] = set()
        while (best := self.best).support not in expanded:
            expanded.add(best.support)
            self.fit_ranked(best, at_most=at_most, reach=reach)

    def fit_ranked(self, around: Candidate, *, at_most: int = RANKED, reach: Reach = FOR_RIVALS) -> None:
        """Fit the sets that are among the best by the approximation around one that was fitted.

        Args:
            around: The set around which the likelihood is approximated.
            at_most: Number of sets of either kind that are fitted.
            reach: How far these sets may be behind.
        """
        expansion = self._expansion(around)
        ranked = best_subsets(expansion, self._price, reach.ranked, at_most)
        least = ranked[0].criterion
        near = [each for each in self._neighbours(expansion, around.support) if each.criterion <= least + reach.changed]
        for support in dict.fromkeys(each.support for each in (*ranked, *near[:at_most])):
            if support not in self.found:
                self.add(support, self._fit(support, expansion.minimum(support), around.fit, steps=STEPS))

    def refine(self, margin: float) -> None:
        """Fit the sets that are within a margin of the smallest criterion more closely.

        Args:
            margin: Units of the criterion.
        """
        for each in self.near(margin):
            self.add(each.support, self._fit(each.support, each.fit.theta, each.fit, steps=STEPS, tol=FINE))

    def _neighbours(self, expansion: Expansion, support: Support) -> list[Ranked]:
        """The sets with one term more, less or another one, the best by the approximation first."""
        kept = set(support)
        others = [k for k in range(len(self.model.names)) if k not in kept]
        fewer = [kept - {k} for k in support]
        changed = [*fewer, *(kept | {k} for k in others), *(each | {k} for each in fewer for k in others)]
        sets = [tuple(sorted(each)) for each in changed]
        gains = np.array([expansion.pull[list(each)] @ expansion.minimum(each) for each in sets])
        criteria = expansion.deviance(gains) + self._price * np.array([len(each) for each in sets])
        return sorted(map(Ranked, sets, criteria.tolist()), key=lambda each: each.criterion)

    def _expansion(self, around: Candidate) -> Expansion:
        """The loss to second order in all terms around the fit with some."""
        data, fit = self.data, around.fit
        theta = np.zeros(len(self.model.names))
        theta[list(around.support)] = fit.theta
        problem = Problem(self.model, data.rows, loss_of(data, fit.variance), data.block, data.size)
        information, slope = problem.equations(theta, fit.initial).reduced()
        loss = problem.value(theta, fit.initial)
        floor = loss - slope @ theta + theta @ information @ theta / 2
        count = 0 if data.binary else int((~np.isnan(data.observed)).sum())
        return Expansion(information, information @ theta - slope, float(floor), count)

    def _fit(
        self, support: Support, start: Float[np.ndarray, " part"], near: Fit, *, steps: int, tol: float = ENOUGH
    ) -> Fit:
        """The fit with some terms from a start, if the run does not diverge there, and from the other's weights."""
        data, fewer, most = self.data, self.model.part(support), min(steps, self.max_iter)
        if fewer.run(start, data.rows._replace(initial=near.initial)) is None:
            start = fewer.start
        return fit_rule(fewer, data, start, near.initial, max_iter=most, tol=tol, variance=near.variance)


def price_of_term(criterion: str, data: Data) -> float:
    """What a term adds to minus two log-likelihoods.

    Args:
        criterion: ``"bic"``: ln n, of n observed numbers; ``"aic"``: 2.
        data: What is fitted.
    """
    return float(np.log((~np.isnan(data.observed)).sum())) if criterion == "bic" else 2.0


def select_again(selection: Selection, drawn: Data, end: Fit, criterion: str) -> Float[np.ndarray, " part"]:
    """The coefficients of all terms after a selection from sessions that were drawn again; 0 of those left out.

    Args:
        selection: The selection from all sessions, around whose best set this one looks.
        drawn: The sessions that were drawn.
        end: The fit of that best set to them.
        criterion: ``"bic"`` or ``"aic"``.
    """
    found = Selection(selection.model, drawn, price_of_term(criterion, drawn), selection.max_iter)
    found.add(selection.best.support, end)
    found.polish(at_most=FITTED_IN_A_DRAW, reach=FOR_THE_BEST)
    theta = np.zeros(len(selection.model.names))
    theta[list(found.best.support)] = found.best.fit.theta
    return theta
