"""Rates and strengths that a trial chooses by validation, and summaries of these choices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from typing_extensions import TypedDict

from engram import checks
from engram.numeric.rounding import levelled

EXTENSIONS = 3  # maximum number of candidates tried beyond the given grid
OFTEN = 0.25  # an arm that chooses an end in a larger share of its trials is reported


class Choice(TypedDict):
    """A choice of a trial, and its candidates.

    The ``candidates`` are in ascending order, each with its entry of ``scores``, which is None if it has no score.
    ``end`` names the end of the grid at which the choice lies, since a better value may lie beyond; it is empty inside
    the grid and at a bound.
    """

    candidates: list[float]
    scores: list[float | None]
    chosen: float
    end: Literal["", "smallest", "largest"]


def check_grid(
    name: str, candidates: Sequence[float], bounds: tuple[float, float], chosen: Mapping[str, Choice]
) -> None:
    """Raise ValueError unless the candidates are distinct numbers within their bounds, and the name is new.

    Args:
        name: Name of the choice.
        candidates: The values to choose from.
        bounds: The smallest and the largest value allowed.
        chosen: The earlier choices of the trial, by name.
    """
    low, high = bounds
    if name in chosen:
        raise ValueError(f"name = {name!r}: expected a name that differs from earlier choices, {', '.join(chosen)}")
    if not len(candidates) or len(set(candidates)) < len(candidates):
        raise ValueError(f"candidates = {candidates!r}: expected one or more distinct numbers")
    for value in candidates:
        checks.number("candidates", value, minimum=low, maximum=high if high < math.inf else None)


def score_of(score: Callable[[float], float], candidate: float) -> float:
    """The score of a candidate; minus infinity where there is none, as where it is not finite."""
    try:
        value = float(score(candidate))
    except FloatingPointError:
        return -math.inf
    return value if math.isfinite(value) else -math.inf


def ranking(candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> list[int]:
    """The indices of the candidates that have a score, the best first; among equal ones the middle first.

    Scores that differ by rounding alone are equal.
    """
    by_value, levels = np.argsort(candidates), levelled(scores)
    ranked: list[int] = []
    for value in sorted({score for score in levels if score > -math.inf}, reverse=True):
        equal = [int(number) for number in by_value if levels[number] == value]
        ranked += sorted(equal, key=lambda number, equal=equal: abs(2 * equal.index(number) - len(equal) + 1))  # type: ignore[misc]
    return ranked


def beyond(candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], bounds: tuple[float, float]) -> float:
    """The next candidate to try beyond the end of the grid that scores best; NaN if the best is not at an end.

    It is further by the ratio of the last two values. If no candidate has a score, all are assumed to be too large.

    Args:
        candidates: The values tried so far, in any order; NaN is ignored.
        scores: Their scores, minus infinity where there is none.
        bounds: The smallest and the largest value allowed.
    """
    candidates = candidates[~np.isnan(candidates)]
    ranked, ordered = ranking(candidates, scores[: len(candidates)]), np.sort(candidates)
    if len(candidates) < 2:
        return math.nan
    best = candidates[ranked[0]] if ranked else ordered[0]
    for end, next_to_it in ((ordered[0], ordered[1]), (ordered[-1], ordered[-2])):
        if best == end and end > 0 and next_to_it > 0:
            further = min(max(end * end / next_to_it, bounds[0]), bounds[1])
            return math.nan if further == end else float(further)
    return math.nan


def chosen_of(
    number: int, candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], bounds: tuple[float, float]
) -> Choice:
    """The record of a choice.

    Args:
        number: Index of the chosen candidate.
        candidates: The values tried, in any order.
        scores: Their scores, minus infinity where there is none.
        bounds: The smallest and the largest value allowed; a choice at one of them is not at an end.
    """
    order, value = np.argsort(candidates), float(candidates[number])
    ends: dict[float, Literal["smallest", "largest"]] = {}
    if len(candidates) > 1:
        ends = {float(candidates[order[0]]): "smallest", float(candidates[order[-1]]): "largest"}
    return {
        "candidates": candidates[order].tolist(),
        "scores": [None if score == -math.inf else score for score in scores[order].tolist()],
        "chosen": value,
        "end": "" if value in bounds else ends.get(value, ""),
    }


def choose(
    steps: Callable[..., Iterable[int]],
    name: str,
    candidates: Sequence[float],
    score: Callable[[float], float],
    *,
    accept: Callable[[float], bool] | None,
    extend: bool,
    bounds: tuple[float, float],
    state: Mapping[str, Any],
) -> Choice:
    """Choose the candidate that scores best in a loop of a run, as ``Run.choose`` says.

    Args:
        steps: The run's ``steps``, by which the choice resumes.
        name: The name of the choice.
        candidates: Values to choose from.
        score: Returns a candidate's score.
        accept: Says whether a candidate works (None: all do).
        extend: Whether to try candidates beyond an end.
        bounds: The smallest and the largest meaningful value.
        state: Whatever ``score`` and ``accept`` change.

    Raises:
        FloatingPointError: No candidate has a score.
    """
    size = len(candidates)
    grid = np.full(size + EXTENSIONS * extend, math.nan)
    grid[:size], scores, accepted = candidates, np.full(len(grid), -math.inf), np.full(1, -1)
    grid_arrays = {f"{name}.tried": grid, f"{name}.scores": scores, f"{name}.accepted": accepted}
    for step in steps(len(grid) + (accept is not None), **grid_arrays, **state):
        if step == len(grid):
            assert accept is not None
            accepted[0] = next((number for number in ranking(grid, scores) if accept(grid[number])), -1)
            continue
        if step >= size:
            grid[step] = beyond(grid[:step], scores[:step], bounds)
        if not math.isnan(grid[step]):
            scores[step] = score_of(score, float(grid[step]))
    ranked = ranking(grid, scores)
    if not ranked:
        raise FloatingPointError(f"none of {grid[:size].tolist()} as {name} has a score")
    number = int(accepted[0]) if accepted[0] >= 0 else ranked[0]
    is_tried = ~np.isnan(grid)  # a prefix: once the best is inside the grid, no more are tried
    return chosen_of(number, grid[is_tried], scores[is_tried], bounds)


def at_ends(choices: Mapping[str, Sequence[Mapping[str, Choice]]]) -> dict[str, list[str]]:
    """Sentences about arms whose choice was at an end of the grid in more than a quarter of their trials.

    Args:
        choices: The choices of each trial, by arm.

    Returns:
        For each such arm its sentences, one for each end.
    """
    sentences: dict[str, list[str]] = {}
    for arm, trials in choices.items():
        ends = Counter((name, choice["end"]) for trial in trials for name, choice in trial.items() if choice["end"])
        for (name, end), count in ends.items():
            if count > OFTEN * len(trials):
                values = {t[name]["chosen"] for t in trials if name in t and t[name]["end"] == end}
                grid = ", ".join(f"{value:g}" for value in sorted(values))
                sentence = f"{arm} chose the {end} {name} of those tried, {grid}, in {count} of {len(trials)} trials"
                sentences.setdefault(arm, []).append(sentence)
    return sentences


def table(choices: Mapping[str, Sequence[Mapping[str, Choice]]]) -> list[dict[str, str]]:
    """The choices of each arm as rows: arm, name, the candidates tried, and how often each was chosen."""
    rows = []
    for arm, trials in choices.items():
        for name in dict.fromkeys(chain.from_iterable(trials)):
            arm_choices = [trial[name] for trial in trials if name in trial]
            counts = Counter(choice["chosen"] for choice in arm_choices)
            grid = sorted({value for choice in arm_choices for value in choice["candidates"]})
            chosen_values = ", ".join(f"{value:g} ({counts[value]})" for value in sorted(counts))
            candidates = ", ".join(f"{value:g}" for value in grid)
            rows.append({"arm": arm, "what": name, "tried": candidates, "chosen": chosen_values})
    return rows
