"""Intervals, p-values and seeds of statsmodels and rliable for given tables; ``judge.py`` runs this elsewhere."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rliable import library, metrics
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

warnings.simplefilter("ignore")
REPETITIONS = 2000


def paired(new, old):
    of = DescrStatsW(new - old)
    return [float(of.ttest_mean(0.0)[1]), *map(float, of.tconfint_mean())]


def independent(new, old):
    of = CompareMeans(DescrStatsW(new), DescrStatsW(old))
    return [float(of.ttest_ind(usevar="unequal")[1]), *map(float, of.tconfint_diff(usevar="unequal"))]


def needed(effect):
    return math.ceil(float(TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)))


def bootstrapped(values):
    """The mean and its stratified bootstrap interval, as rliable's plots show them."""
    state = np.random.RandomState(0)
    estimate, interval = library.get_interval_estimates(
        {"a": values[:, None]}, lambda x: np.array([metrics.aggregate_mean(x)]), reps=REPETITIONS, random_state=state
    )
    return [float(estimate["a"][0]), *map(float, interval["a"][:, 0])]


def main(source: Path, target: Path) -> None:
    given = np.load(source)
    record = {"versions": {name: version(name) for name in ("statsmodels", "rliable")}}
    record["paired"] = [paired(*table) for table in given["tables"]]
    record["independent"] = [independent(*table) for table in given["tables"]]
    record["shares"] = [[*map(float, proportion_confint(k, n, method="beta"))] for k, n in given["shares"]]
    record["found"] = [multipletests(p, method="fdr_bh")[0].tolist() for p in given["p_values"]]
    record["needed"] = [needed(effect) for effect in given["effects"]]
    for name in (name for name in given if name.startswith("runs")):
        record[name] = [bootstrapped(values) for values in given[name]]
    began = time.perf_counter()
    independent(*given["large"])
    record["seconds"] = time.perf_counter() - began
    target.write_text(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
