"""The judge beside scipy, statsmodels and rliable on the same tables, and its time for a million rows.

statsmodels and rliable have their own dependencies, so they run in their own environment: ``--peer`` names its
interpreter. Without ``--peer`` only scipy is compared. ``python benchmarks/judge.py --peer PYTHON`` takes a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from engram.lab import judge
from engram.lab.claims.correction import family_of
from engram.lab.claims.inference import estimate
from engram.lab.claims.measure import Criterion
from engram.lab.judging.assess import lacking
from engram.lab.judging.sample import Sample

RECORD = Path(__file__).with_suffix(".json")
CLAIM = "x(new) - x(old) >= 0"
TABLES, SIZES, COVERED, ROWS = 40, (3, 5, 10), 300, 1_000_000
EFFECTS = (0.5, 0.8, 1.2)


def drawn() -> dict[str, np.ndarray]:
    """Return the tables that all judge."""
    rng = np.random.default_rng(0)
    given = {"tables": rng.normal([[0.4], [0.0]], 1.0, (TABLES, 2, 7))}
    trials = rng.integers(5, 200, TABLES)
    given["shares"] = np.stack([rng.binomial(trials, 0.8), trials], 1)
    given["p_values"] = rng.uniform(size=(TABLES, 30)) ** 3
    given["effects"] = np.array(EFFECTS)
    given |= {f"runs {n}": rng.normal(size=(COVERED, n)) for n in SIZES}
    return given | {"large": rng.normal(size=(2, ROWS // 2))}


def frame_of(new: np.ndarray, old: np.ndarray) -> pl.DataFrame:
    n = len(new)
    return pl.DataFrame({"arm": np.repeat(["new", "old"], n), "seed": np.tile(np.arange(n), 2), "x": np.r_[new, old]})


def ours(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what the judge says of each table, in the form of ``judge_peer.py``."""
    record: dict[str, Any] = {}
    for name, pair in (("paired", "seed"), ("independent", None)):
        said = [judge(frame_of(*table), CLAIM, pair=pair) for table in given["tables"]]
        record[name] = [[each.p, each.low, each.high] for each in said]
    record["shares"] = [[*estimate([k / n], "share", [int(n)])[1:3]] for k, n in given["shares"]]
    record["found"] = [[bool(p <= family_of(list(ps)).largest) for p in ps] for ps in given["p_values"]]
    spread = np.array([-1.0, 1.0, -1.0, 1.0]) * 0.75**0.5  # a standard deviation of 1
    record["needed"] = [
        lacking(Sample("paired", "mean", (spread + effect,), (tuple("abcd"),), "seed"), Criterion(low=0.0))
        for effect in given["effects"]
    ]
    for n in SIZES:
        record[f"runs {n}"] = [[*estimate(values.tolist())[:3]] for values in given[f"runs {n}"]]
    frame, seconds = frame_of(*given["large"]), []
    for pair in ("seed", None) * 2:
        began = time.perf_counter()
        judge(frame, CLAIM, pair=pair)
        seconds.append(time.perf_counter() - began)
    record["seconds"] = statistics.median(seconds)
    return record


def by_scipy(given: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what scipy says of each table, in the same form."""
    tests = {
        "paired": lambda new, old: stats.ttest_1samp(new - old, 0.0),
        "independent": lambda new, old: stats.ttest_ind(new, old, equal_var=False),
    }
    record: dict[str, Any] = {
        name: [
            [float(found.pvalue), *map(float, found.confidence_interval())]
            for found in (test(*t) for t in given["tables"])
        ]
        for name, test in tests.items()
    }
    record["shares"] = [[*map(float, stats.binomtest(int(k), int(n)).proportion_ci())] for k, n in given["shares"]]
    record["found"] = [(stats.false_discovery_control(ps) <= 0.05).tolist() for ps in given["p_values"]]
    return record


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference of each part that both have, relative to the larger number."""
    parts = ("paired", "independent", "shares", "found", "needed")
    return {
        part: float(np.max(np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)))
        for part in parts
        if part in second
        for a, b in [(np.asarray(first[part], float), np.asarray(second[part], float))]
    }


def measure(peer: str | None) -> dict[str, Any]:
    given = drawn()
    own = ours(given)
    record: dict[str, Any] = {"load": os.getloadavg()[0], "seconds": own["seconds"], "needed": own["needed"]}
    record["differences"] = {"scipy": differences(own, by_scipy(given))}
    record["coverage"] = {"engram": [_coverage(own[f"runs {n}"]) for n in SIZES]}
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "given.npz", Path(folder) / "said.json"
            np.savez(source, **given)
            script = Path(__file__).with_name("judge_peer.py")
            subprocess.run([peer, str(script), str(source), str(target)], check=True)
            theirs = json.loads(target.read_text())
        record["versions"] = theirs["versions"]
        record["differences"]["statsmodels"] = differences(own, theirs)
        record["coverage"]["rliable"] = [_coverage(theirs[f"runs {n}"]) for n in SIZES]
        means = [abs(a[0] - b[0]) for n in SIZES for a, b in zip(own[f"runs {n}"], theirs[f"runs {n}"], strict=True)]
        record["differences"]["rliable"] = {"means": max(means)}
        record["seconds of statsmodels"] = theirs["seconds"]
    return record


def _coverage(intervals: list[list[float]]) -> float:
    return float(np.mean([low <= 0 <= high for _, low, high in intervals]))


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    largest = {name: max(of.values()) for name, of in record["differences"].items()}
    lines = ["## The judge of any table", ""]
    agreement = f"scipy {largest['scipy']:.0e}"
    if "statsmodels" in largest:
        agreement += f", statsmodels {largest['statsmodels']:.0e} (also of the seeds needed for 80 %)"
    lines += [
        f"`engram judge` beside others on the same {TABLES} tables of two arms and 7 seeds, shares, and sets of 30",
        "p-values: paired and Welch's t, Clopper and Pearson's interval, Benjamini and Hochberg's correction.",
        f"Largest relative difference: {agreement}.",
        f"A million rows take {record['seconds']:.2f} s after reading.",
        "",
    ]
    if "rliable" not in record["coverage"]:
        return [*lines, "statsmodels and rliable were not measured: `--peer` names an interpreter that has them.", ""]
    lines += [
        f"rliable {record['versions']['rliable']} gives the same means. How often the intervals, which are to cover",
        f"the truth with 95 %, do so (of {COVERED} tables of normal values):",
        "",
        "| | " + " | ".join(f"{n} runs" for n in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
        *[
            f"| {name} | " + " | ".join(f"{100 * c:.0f} %" for c in of) + " |"
            for name, of in record["coverage"].items()
        ],
        "",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="interpreter of an environment with statsmodels and rliable")
    record = measure(parser.parse_args().peer)
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
