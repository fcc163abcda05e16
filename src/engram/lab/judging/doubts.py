"""What is doubtful about a judgement, in sentences: equal values, one outlier, rounding, settings that differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from engram.lab.claims.location import location_of
from engram.lab.claims.measure import Criterion
from engram.lab.judging.columns import ARM, Runs
from engram.lab.judging.sample import Sample
from engram.numeric.rounding import are_equal

HALF = 0.5
SKEWED, UNLIKE = 1.0, 2.0  # the skewness and the ratio of spreads from which t errs to one side
MOST_DIGITS = 6
OF_RUN = re.compile(  # columns that tell of a run, not of its settings
    r"(^|[_./])(id|name|time|timestamp|date|created|started|ended|runtime|duration|seconds|path|dir|file|run|notes?|"
    r"user|host)$",
    re.IGNORECASE,
)


def doubts_of(sample: Sample, criterion: Criterion, runs: Runs, metrics: Sequence[str], at: str) -> list[str]:
    """What is doubtful, in sentences.

    Args:
        sample: The numbers that decide the claim.
        criterion: The criterion.
        runs: The runs that they come from.
        metrics: The metrics that the claim reads.
        at: Which value of a curve counts.
    """
    said = [*sample.doubts, *_equal(sample, runs, metrics), *_outlier(sample, criterion), *_skewed(sample)]
    said += [*_rounded(sample, runs, metrics), *_settings(runs, metrics)]
    if at == "best" and any("of a curve" in guess for guess in runs.said):
        said.append(
            "the best value of each curve was chosen on the values that are judged, which flatters noisy curves"
        )
    if _is_zero(criterion):
        said.append(
            "the criterion is 0 without a margin, so any gain will do, however small: give the least that matters"
        )
    return said


def _is_zero(criterion: Criterion) -> bool:
    ends = [end for end in (criterion.low, criterion.high) if np.isfinite(end)]
    return ends == [0.0]


def _equal(sample: Sample, runs: Runs, metrics: Sequence[str]) -> list[str]:
    if sample.kind == "paired" and sample.form != "share" and bool(np.all(sample.parts[0] == 0)):
        return ["the arms have the same values in every pair: does the change take effect?"]
    said = []
    for name in metrics:
        for (arm,), rows in runs.frame.group_by(ARM, maintain_order=True):
            values = rows[name].cast(pl.Float64).to_numpy()
            if len(values) > 2 and are_equal(values) and not set(np.unique(values)) <= {0.0, 1.0}:
                said.append(f"{name} of {arm} is equal in all {len(values)} runs: does the {runs.seed} take effect?")
    return said


def _outlier(sample: Sample, criterion: Criterion) -> list[str]:
    """One number without which half of the distance from the threshold is gone."""
    if len(sample.parts) != 1 or sample.form == "share" or sample.is_binary or sample.size < 3:
        return []
    values = sample.parts[0]
    ends = [end for end in (criterion.low, criterion.high) if np.isfinite(end)]
    threshold = min(ends, key=lambda end: abs(end - float(np.mean(values))))
    distance = float(np.mean(values)) - threshold
    without = (values.sum() - values) / (len(values) - 1) - threshold
    place = int(np.argmin(without * np.sign(distance)))
    near = location_of(values).error > abs(distance)
    if sample.form == "median" or near or without[place] * np.sign(distance) > HALF * abs(distance):
        return []
    name = sample.names[0][place]
    return [f"one {sample.unit} ({name}) carries more than half of the distance from the threshold"]


def _skewed(sample: Sample) -> list[str]:
    if sample.size < 3 or sample.form in ("share", "median") or sample.is_binary:
        return []
    if all(are_equal(part) for part in sample.parts):
        return []
    said = []
    skewness = location_of(*sample.parts).skewness * sample.size**0.5
    if abs(skewness) >= SKEWED:
        said.append(f"the values are skewed ({skewness:.1f}), so a mean of few of them misses the truth to one side")
    if len(sample.parts) == 2:
        spreads = sorted(float(np.std(part, ddof=1)) for part in sample.parts)
        if spreads[0] > 0 and spreads[1] / spreads[0] > UNLIKE and abs(skewness) >= HALF:
            said.append(f"one arm spreads {spreads[1] / spreads[0]:.1f} times as much as the other")
    return said


def _rounded(sample: Sample, runs: Runs, metrics: Sequence[str]) -> list[str]:
    """Values on a grid that is as coarse as their spread."""
    if sample.form == "share" or sample.is_binary or sample.size < 3:
        return []
    said = []
    for name in metrics:
        values = runs.frame[name].cast(pl.Float64).to_numpy()[:1000]
        for digits in range(MOST_DIGITS):
            if np.allclose(np.round(values, digits), values, rtol=0, atol=10.0 ** -(digits + 6)):
                spread = max(float(np.std(part, ddof=1)) for part in sample.parts)
                if 0 < spread < 10.0**-digits and len(np.unique(values)) > 1:
                    said.append(f"{name} is rounded to {10.0**-digits:g}, more than the values spread")
                break
    return said


def _settings(runs: Runs, metrics: Sequence[str]) -> list[str]:
    """Columns that are constant in every arm and differ between arms: what else was changed."""
    table = runs.table
    if table[ARM].n_unique() < 2:
        return []
    names = [
        name for name in table.columns
        if name not in runs.used and name != ARM and name not in metrics and not OF_RUN.search(name)
        and not table.schema[name].is_nested()
    ]  # fmt: skip
    if not names:
        return []
    of_arm = table.group_by(ARM).agg(
        *(pl.col(name).n_unique().alias(f"{number}n") for number, name in enumerate(names)),
        *(pl.col(name).first().alias(f"{number}v") for number, name in enumerate(names)),
        rows=pl.len(),
    )
    if of_arm["rows"].min() < 2:  # type: ignore[operator]
        return []
    differing = [
        name for number, name in enumerate(names)
        if (of_arm[f"{number}n"] == 1).all() and of_arm[f"{number}v"].n_unique() > 1
    ]  # fmt: skip
    return [f"the arms differ in more than the arm: also in {', '.join(differing[:5])}"] if differing else []
