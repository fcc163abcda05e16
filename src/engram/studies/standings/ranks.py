"""Ranks of candidates over tasks, and which differences between them are significant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engram.numeric.rounding import levelled


class Ranks(NamedTuple):
    """Mean ranks over tasks.

    Attributes:
        tasks: The tasks, which all of these candidates did.
        mean: The mean rank of each candidate (1 is best), the best first; candidates that are equally good, up to
            rounding, share a rank.
        p: The probability of ranks this different if no candidate is better than another (Friedman's test).
        critical: The critical difference of mean ranks, at 5 % over all pairs (Nemenyi's test).
    """

    tasks: tuple[str, ...]
    mean: dict[str, float]
    p: float
    critical: float

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The largest groups of two or more candidates that differ by less than the critical difference, best first.

        Examples:
            >>> Ranks(("a",), {"x": 1.0, "y": 1.5, "z": 2.5}, 0.1, 1.2).groups
            [('x', 'y'), ('y', 'z')]
        """
        names, means = list(self.mean), list(self.mean.values())
        ends = [sum(mean - first < self.critical for mean in means) for first in means]  # the means ascend
        starts = [index for index, end in enumerate(ends) if end - index > 1 and (not index or end > ends[index - 1])]
        return [tuple(names[index : ends[index]]) for index in starts]

    @property
    def lines(self) -> list[str]:
        """The critical difference, and whether any mean ranks differ by as much; nothing of fewer than two candidates.

        Examples:
            >>> print(*Ranks(("a",), {"x": 1.0, "y": 2.0}, math.nan, 1.96).lines)
            Mean ranks over a differ significantly from 1.96 apart: none of 2 do.
        """
        if len(self.mean) < 2:
            return []
        spread, number = max(self.mean.values()) - min(self.mean.values()), len(self.mean)
        which = "some" if spread >= self.critical else "none"
        friedman = f" (Friedman: p = {self.p:.2g})" if math.isfinite(self.p) else ""
        apart = f"differ significantly from {self.critical:.2f} apart: {which} of {number} do{friedman}."
        return [f"Mean ranks over {', '.join(self.tasks)} {apart}"]


def ranks(scores: Mapping[str, Mapping[str, float]]) -> Ranks:
    """Rank candidates over the tasks that they share.

        CD = q sqrt(k (k + 1) / (6 N)),   q = Q(0.95; k, inf) / sqrt(2), Q the studentised range

    If candidates did different tasks, the tasks and candidates that keep the most results are ranked.

    Args:
        scores: For each task, the score of each candidate that did it; larger is better.

    Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006), section 3.2.

    Examples:
        >>> ranking = ranks({"a": {"x": 0.9, "y": 0.5, "z": 0.1}, "b": {"x": 0.8, "y": 0.8, "z": 0.2}})
        >>> ranking.mean, round(ranking.critical, 2)
        ({'x': 1.25, 'y': 1.75, 'z': 3.0}, 2.34)
    """
    from scipy import stats

    tasks: tuple[str, ...] = ()
    names: list[str] = []
    by_size = sorted(scores, key=lambda task: -len(scores[task]))
    for number in range(1, len(by_size) + 1):
        shared = [name for name in scores[by_size[0]] if all(name in scores[task] for task in by_size[:number])]
        if len(shared) * number >= len(names) * len(tasks):
            tasks, names = tuple(by_size[:number]), shared
    if len(names) < 2:
        return Ranks(tasks, dict.fromkeys(names, 1.0), math.nan, math.nan)
    table = np.array([levelled([scores[task][name] for name in names]) for task in tasks])
    mean = stats.rankdata(-table, axis=1).mean(0)
    k, n = len(names), len(tasks)
    has_test = k > 2 and n > 1 and np.ptp(table, axis=1).any()
    p = float(stats.friedmanchisquare(*table.T).pvalue) if has_test else math.nan
    critical = float(stats.studentized_range.ppf(0.95, k, math.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    order = np.argsort(mean, kind="stable")
    return Ranks(tasks, {names[index]: float(mean[index]) for index in order}, p, critical)
