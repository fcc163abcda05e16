"""A choice by validation in which each candidate is trained once and the chosen one is evaluated without retraining."""

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
    """Choose a candidate by ``run.choose`` and evaluate the very model that was validated: a retrained one may fail.

    Args:
        run: The run.
        name: The name of the choice.
        candidates: Values to choose from.
        train: Maps a candidate to its score and its results on other data.
        size: The number of results.

    Returns: The chosen candidate, and the results of all candidates that produced any.
    """
    grid, results = np.full(len(candidates) + EXTENSIONS, np.nan), np.zeros((len(candidates) + EXTENSIONS, size))

    def score(candidate: float) -> float:
        validated, of_candidate = train(candidate)
        index = int(np.isnan(grid).argmax())
        grid[index], results[index] = candidate, of_candidate
        return validated

    chosen = run.choose(name, candidates, score, tried=grid, results=results)
    return chosen, {float(value): row for value, row in zip(grid, results, strict=True) if not np.isnan(value)}
