"""Selection of terms: backward elimination, judged by an information criterion."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram.learned.inference.fitting import Fit


class Candidate(NamedTuple):
    """A fit with some of the terms.

    Attributes:
        support: Places of its terms.
        criterion: The value of the criterion; the smaller, the better.
        fit: The fit.
    """

    support: tuple[int, ...]
    criterion: float
    fit: Fit


def backward_elimination(
    support: tuple[int, ...],
    refit: Callable[[tuple[int, ...], Fit | None, int], tuple[Fit, float]],
    ratios: Callable[[Fit], Float[np.ndarray, " part"]],
) -> list[Candidate]:
    """All fits from the whole support to the empty one, each without the term of smallest |theta| / standard error.

    Args:
        support: Places of all terms.
        refit: Gives the fit with the terms of a support, and its criterion, from the fit before and the place in it of
            the term that was dropped.
        ratios: Gives |theta| / standard error of each term of a fit.

    Source: Schwarz, "Estimating the dimension of a model" (1978), for the criterion.
    """
    fit, criterion = refit(support, None, 0)
    path = [Candidate(support, criterion, fit)]
    while support:
        weakest = int(np.argmin(ratios(fit)))
        support = (*support[:weakest], *support[weakest + 1 :])
        fit, criterion = refit(support, fit, weakest)
        path.append(Candidate(support, criterion, fit))
    return path
