"""What experiments that choose by validation share: each candidate is trained once, and the chosen is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from engram.lab import Run
from engram.lab.choice import EXTENSIONS


def judged(
    run: Run,
    name: str,
    candidates: Sequence[float],
    train: Callable[[float], tuple[float, Sequence[float]]],
    size: int = 1,
) -> tuple[float, dict[float, Float[np.ndarray, " size"]]]:
    """Choose a candidate by ``run.choose``: what was validated is judged, and nothing trained again that may collapse.

    Args:
        run: The run.
        name: What is chosen.
        candidates: Values to choose from.
        train: From a candidate to its score, and to its results on other data.
        size: How many results.

    Returns:
        The choice, and by candidate the results of all that came to any.
    """
    tried, results = np.full(len(candidates) + EXTENSIONS, np.nan), np.zeros((len(candidates) + EXTENSIONS, size))

    def score(candidate: float) -> float:
        validated, of_candidate = train(candidate)
        place = int(np.isnan(tried).argmax())
        tried[place], results[place] = candidate, of_candidate
        return validated

    chosen = run.choose(name, candidates, score, tried=tried, results=results)
    return chosen, {float(value): row for value, row in zip(tried, results, strict=True) if not np.isnan(value)}
