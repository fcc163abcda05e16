"""Rates and strengths that a trial chooses by validation, and what is known of a choice afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Literal

import numpy as np
from jaxtyping import Float
from typing_extensions import TypedDict

from engram import checks

EXTENSIONS = 3  # candidates at most beyond the given ones
OFTEN = 0.25  # from which share of its trials on an arm is said to choose an end


class Choice(TypedDict):
    """What a trial chose, and from what.

    ``scores`` are of the ``candidates`` in ascending order, None where it did not come to one; ``end`` is that of the
    grid at which the choice stands, so that a better one may lie beyond; empty within it and at a bound.
    """

    candidates: list[float]
    scores: list[float | None]
    chosen: float
    end: Literal["", "smallest", "largest"]


def check_grid(
    name: str, candidates: Sequence[float], bounds: tuple[float, float], chosen: Mapping[str, Choice]
) -> None:
    """Raise ValueError unless candidates are distinct numbers within their bounds, and the name is a new one."""
    low, high = bounds
    if name in chosen:
        raise ValueError(f"name = {name!r}: expected another than those of earlier choices, {', '.join(chosen)}")
    if not candidates or len(set(candidates)) < len(candidates):
        raise ValueError(f"candidates = {candidates!r}: expected numbers, no two of them equal")
    for value in candidates:
        checks.number("candidates", value, minimum=low, maximum=high if high < math.inf else None)


def score_of(score: Callable[[float], float], candidate: float) -> float:
    """The score of a candidate; minus infinity where there is none."""
    try:
        value = float(score(candidate))
    except FloatingPointError:
        return -math.inf
    return -math.inf if math.isnan(value) else value


def ranking(candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> list[int]:
    """The numbers of the candidates that came to a score, the best first; of equal ones those in their middle."""
    by_value = np.argsort(candidates)
    ranked: list[int] = []
    for value in sorted({score for score in scores if score > -math.inf}, reverse=True):
        equal = [int(number) for number in by_value if scores[number] == value]
        ranked += sorted(equal, key=lambda number, equal=equal: abs(2 * equal.index(number) - len(equal) + 1))  # type: ignore[misc]
    return ranked


def beyond(candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], bounds: tuple[float, float]) -> float:
    """The candidate beyond the end of the grid that scores best, a factor further; NaN where no end does."""
    candidates = candidates[~np.isnan(candidates)]
    ranked = ranking(candidates, scores[: len(candidates)])
    if len(candidates) < 2 or not ranked:
        return math.nan
    best, ordered = candidates[ranked[0]], np.sort(candidates)
    for end, next_to_it in ((ordered[0], ordered[1]), (ordered[-1], ordered[-2])):
        if best == end and end > 0 and next_to_it > 0:
            further = min(max(end * end / next_to_it, bounds[0]), bounds[1])
            return math.nan if further == end else float(further)
    return math.nan


def chosen_of(
    number: int, candidates: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"], bounds: tuple[float, float]
) -> Choice:
    """What is written down of the choice of a candidate."""
    order, value = np.argsort(candidates), float(candidates[number])
    ends: dict[float, Literal["smallest", "largest"]] = {}
    if len(candidates) > 1:
        ends = {float(candidates[order[0]]): "smallest", float(candidates[order[-1]]): "largest"}
    return {
        "candidates": candidates[order].tolist(),
        "scores": [score if math.isfinite(score) else None for score in scores[order].tolist()],
        "chosen": value,
        "end": "" if value in bounds else ends.get(value, ""),
    }


def at_ends(choices: Mapping[str, Sequence[Mapping[str, Choice]]]) -> dict[str, list[str]]:
    """What arms chose at an end of its grid in more than a quarter of their trials, in words.

    Args:
        choices: The choices of each trial, by arm.

    Returns:
        Of each arm that did so the sentences, one for each end.
    """
    said: dict[str, list[str]] = {}
    for arm, trials in choices.items():
        ends = Counter((name, choice["end"]) for trial in trials for name, choice in trial.items() if choice["end"])
        for (name, end), count in ends.items():
            if count > OFTEN * len(trials):
                values = {t[name]["chosen"] for t in trials if name in t and t[name]["end"] == end}
                tried = ", ".join(f"{value:g}" for value in sorted(values))
                sentence = f"{arm} chose the {end} {name} of those tried, {tried}, in {count} of {len(trials)} trials"
                said.setdefault(arm, []).append(sentence)
    return said


def table(choices: Mapping[str, Sequence[Mapping[str, Choice]]]) -> list[dict[str, str]]:
    """What each arm chose: rows of arm, what, the candidates that any trial tried, and how often each was chosen."""
    rows = []
    for arm, trials in choices.items():
        for name in dict.fromkeys(chain.from_iterable(trials)):
            own = [trial[name] for trial in trials if name in trial]
            counts = Counter(choice["chosen"] for choice in own)
            grid = sorted({value for choice in own for value in choice["candidates"]})
            chosen = ", ".join(f"{value:g} ({counts[value]})" for value in sorted(counts))
            tried = ", ".join(f"{value:g}" for value in grid)
            rows.append({"arm": arm, "what": name, "tried": tried, "chosen": chosen})
    return rows
