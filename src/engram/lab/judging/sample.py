"""The numbers that decide a claim: one for each seed, pair of runs or cluster, or those of each arm by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from engram.lab.claims.inference import Form
from engram.lab.claims.measure import Measure
from engram.lab.judging.columns import ARM, CLUSTER, SEED, Runs
from engram.lab.judging.grammar import ParsedClaim

Values = Float[np.ndarray, " _"]
Kind = Literal["one arm", "paired", "two arms"]
MOST_NAMED = 5


@dataclass(frozen=True, eq=False)
class Sample:
    """The numbers that decide a claim.

    Attributes:
        kind: One number a unit of ``"one arm"``, one a pair of units of several arms (``"paired"``), or those of
            ``"two arms"`` (or more), which are independent.
        form: What is estimated.
        parts: The numbers; of independent arms those of each, whose means add up to the effect (with the form
            ``"ratio"`` those whose logarithms do).
        names: The units of each part.
        unit: What a unit is called.
        trials: Of a share, the number of trials of each unit.
        is_binary: Whether every number of an arm is 0 or 1.
        said: What was assumed, in sentences.
        doubts: What is doubtful about the runs that are compared, in sentences.
    """

    kind: Kind
    form: Form
    parts: tuple[Values, ...]
    names: tuple[tuple[str, ...], ...]
    unit: str
    trials: Values | None = None
    is_binary: bool = False
    said: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of units; of independent arms that of the smallest."""
        return min(len(part) for part in self.parts)

    def first(self, count: int) -> Sample:
        """The sample of the first units alone."""
        trials = None if self.trials is None else self.trials[:count]
        names = tuple(names[:count] for names in self.names)
        return replace(self, parts=tuple(part[:count] for part in self.parts), names=names, trials=trials)

    def beginning_with(self, known: Sequence[Sequence[str]]) -> Sample | None:
        """The sample in an order that begins with known units; None if one of them is missing."""
        if len(known) != len(self.names):
            return None
        orders = []
        for own, first in zip(self.names, known, strict=True):
            place = {name: number for number, name in enumerate(own)}
            if not set(first) <= place.keys():
                return None
            begun = set(first)
            orders.append([place[name] for name in first] + [n for n, name in enumerate(own) if name not in begun])
        parts = tuple(part[order] for part, order in zip(self.parts, orders, strict=True))
        names = tuple(tuple(own[n] for n in order) for own, order in zip(self.names, orders, strict=True))
        trials = None if self.trials is None else self.trials[orders[0]]
        return replace(self, parts=parts, names=names, trials=trials)


def sample_of(claim: ParsedClaim, runs: Runs, *, is_paired: bool) -> Sample:
    """The numbers that decide a claim.

    Args:
        claim: The claim.
        runs: The runs of its arms.
        is_paired: Whether runs of the same seed belong together.

    Raises:
        ValueError: Nothing can be paired, or the claim needs pairs.
    """
    arms = claim.measure.arms
    form, expression = claim.measure.form, claim.expression
    if len(arms) == 1 or is_paired or (runs.cluster and _clusters_hold_all(runs, arms)):
        return _joined(claim, runs, is_paired=is_paired)
    if form == "ratio" and expression.product_of:
        return _independent(
            form, runs, [(part, 1) if power > 0 else (part, -1) for part, power in expression.product_of]
        )
    if form == "mean" and expression.sum_of:
        return _independent(form, runs, [(part, 1) for part in expression.sum_of.values()])
    raise ValueError(
        f"claim = {claim.text!r}: this combination of arms is formed seed by seed, so name what belongs together with "
        "pair, as in pair = 'seed'"
    )


def _clusters_hold_all(runs: Runs, arms: Sequence[str]) -> bool:
    """Whether every cluster has runs of all arms, so that they are compared within it."""
    held = runs.frame.group_by(CLUSTER).agg(pl.col(ARM).n_unique())[ARM]
    return bool((held == len(arms)).all())


def _joined(claim: ParsedClaim, runs: Runs, *, is_paired: bool) -> Sample:
    arms = claim.measure.arms
    is_one = len(arms) == 1
    doubts: list[str] = []
    by_seed = is_one or is_paired
    frame = runs.frame if by_seed else _means_of_clusters(runs)
    keys = runs.keys if by_seed else [CLUSTER]
    of_arm = {arm: frame.filter(pl.col(ARM) == arm).drop(ARM) for arm in arms}
    common = of_arm[arms[0]].select(keys)
    for arm in arms[1:]:
        common = common.join(of_arm[arm].select(keys), on=keys, how="inner")
    common = common.sort(keys)
    if common.is_empty():
        seeds = "; ".join(f"{arm} has {_some(of_arm[arm], keys)}" for arm in arms)
        raise ValueError(f"pair = {runs.seed!r}: expected runs of all arms with the same {runs.seed}, and {seeds}")
    left = {arm: len(rows) - len(common) for arm, rows in of_arm.items() if len(rows) > len(common)}
    if left:
        counts = ", ".join(f"{count} of {arm}" for arm, count in left.items())
        doubts.append(f"runs without a partner are left out: {counts}; a seed that failed in one arm is missed in both")
    aligned = {arm: common.join(rows, on=keys, how="left", maintain_order="left") for arm, rows in of_arm.items()}
    columns = [name for name in frame.columns if name not in (ARM, *keys, SEED, CLUSTER)]
    results = {arm: {name: aligned[arm][name].to_numpy().astype(np.float64) for name in columns} for arm in arms}
    values = _evaluated(claim.measure, results, common, keys)
    of_share = [name for name in columns if name.startswith("trials of ")]
    trials = results[arms[0]][of_share[0]] if claim.measure.form == "share" and of_share else None
    if claim.measure.form == "share" and trials is None:
        trials = np.ones(len(values))
    binary = claim.expression.sum_of is not None and claim.measure.form == "mean" and _is_binary(results, claim)
    form: Form = "share" if binary and is_one else claim.measure.form
    trials = np.ones(len(values)) if binary and is_one else trials
    unit = "pair" if not is_one else runs.seed
    names = _names(common, keys)
    said = ["every value is 0 or 1, so shares of successes are judged"] if binary else []
    if is_paired and not is_one:
        said.append(f"runs of the same {runs.seed} are compared with each other")
    sample = Sample("one arm" if is_one else "paired", form, (values,), (names,), unit, trials,
                    binary and not is_one, tuple(said), tuple(doubts))  # fmt: skip
    return _over_clusters(sample, common[CLUSTER].to_list(), runs.cluster) if runs.cluster else sample


def _is_binary(results: Mapping[str, Mapping[str, Values]], claim: ParsedClaim) -> bool:
    """Whether a metric of one arm, or the difference of one metric of two, has only the values 0 and 1."""
    measure = claim.measure.formula
    names = set(claim.expression.metrics)
    (name, *more) = names
    arms = claim.measure.arms
    plain = {f"{name}({arms[0]})"} if len(arms) == 1 else {f"{name}({a}) - {name}({b})" for a in arms for b in arms}
    if more or len(arms) > 2 or measure not in plain:
        return False
    return all(bool(np.all((values == 0) | (values == 1))) for of_arm in results.values() for values in of_arm.values())


def _independent(form: Form, runs: Runs, terms: Sequence[tuple[Measure, int]]) -> Sample:
    """The numbers of arms whose runs have nothing in common."""
    parts: dict[str, Values] = {}
    names: dict[str, tuple[str, ...]] = {}
    for measure, power in terms:
        (arm,) = measure.arms
        rows = runs.frame.filter(pl.col(ARM) == arm)
        columns = [name for name in rows.columns if name not in (ARM, SEED, CLUSTER)]
        values = _evaluated(measure, {arm: {name: rows[name].to_numpy().astype(np.float64) for name in columns}},
                            rows.select(runs.keys), runs.keys)  # fmt: skip
        if form == "ratio":
            if not np.all(values > 0):
                raise ValueError(
                    f"{measure.formula}: expected positive values for a ratio, and it has {values.min():g}"
                )
            values = values**power
        parts[arm] = parts[arm] * values if arm in parts else values
        names[arm] = _names(rows, runs.keys)
        if runs.cluster:
            of_arm = Sample("two arms", form, (parts[arm],), (names[arm],), runs.cluster)
            averaged = _over_clusters(of_arm, rows[CLUSTER].to_list(), runs.cluster)
            parts[arm], names[arm] = averaged.parts[0], averaged.names[0]
    unit = runs.cluster or runs.seed
    numbers = tuple(parts.values())
    binary = form == "mean" and len(numbers) == 2 and all(
        bool(np.all(np.isin(part, ends))) for part, ends in zip(numbers, ([0.0, 1.0], [-1.0, 0.0]), strict=True)
    )  # fmt: skip
    said = ["runs of different arms are taken as independent: no pair is named"]
    if binary:
        said.append("every value is 0 or 1, so shares of successes are judged")
    return Sample("two arms", form, numbers, tuple(names.values()), unit, None, binary, tuple(said))


def _means_of_clusters(runs: Runs) -> pl.DataFrame:
    """The mean of every metric over the runs of an arm in a cluster."""
    metrics = [name for name in runs.frame.columns if name not in (ARM, CLUSTER, SEED)]
    return runs.frame.group_by(ARM, CLUSTER, maintain_order=True).agg(
        pl.col(name).cast(pl.Float64).mean() for name in metrics
    )


def _over_clusters(sample: Sample, clusters: Sequence[str], name: str) -> Sample:
    """One number for each cluster, whose runs have something in common, so that clusters count and not runs.

    It is the mean of its numbers; with the form ``"ratio"`` the geometric mean, with ``"median"`` the median, and of
    shares the share of all trials.
    """
    order = list(dict.fromkeys(clusters))
    place = {cluster: number for number, cluster in enumerate(order)}
    index = np.array([place[cluster] for cluster in clusters])
    values, trials = sample.parts[0], sample.trials
    if sample.form == "median":
        means = np.array([np.median(values[index == number]) for number in range(len(order))])
    elif trials is not None:
        successes = np.bincount(index, values * trials)
        trials = np.bincount(index, trials)
        means = successes / trials
    else:
        is_log = sample.form == "ratio" and bool(np.all(values > 0))
        means = np.bincount(index, np.log(values) if is_log else values) / np.bincount(index)
        means = np.exp(means) if is_log else means
    said = (*sample.said, f"every {name} counts once, with the mean of its runs")
    is_binary = sample.is_binary and len(order) == len(clusters)
    return replace(
        sample, parts=(means,), names=(tuple(order),), unit=name, trials=trials, said=said, is_binary=is_binary
    )


def _evaluated(
    measure: Measure, results: Mapping[str, Mapping[str, Values]], rows: pl.DataFrame, keys: Sequence[str]
) -> Values:
    with np.errstate(all="ignore"):
        values = np.asarray(measure(results), dtype=np.float64)
    values = np.broadcast_to(values, (len(rows),)).copy()
    if not np.all(np.isfinite(values)):
        place = int(np.argmin(np.isfinite(values)))
        where = _names(rows[place : place + 1], keys)[0]
        raise ValueError(f"{measure.formula}: expected a finite number, and of {where} it is {values[place]}")
    return values


def _names(rows: pl.DataFrame, keys: Sequence[str]) -> tuple[str, ...]:
    columns = [rows[key].cast(pl.String).to_list() for key in keys]
    return tuple("/".join(parts) for parts in zip(*columns, strict=True)) if len(columns) > 1 else tuple(columns[0])


def _some(rows: pl.DataFrame, keys: Sequence[str]) -> str:
    names = _names(rows.select(keys), keys)
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
