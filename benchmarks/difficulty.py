"""Time to compute the difficulty of a data set, and nearest neighbours compared with other packages.

The data are 60,000 samples of 784 features in ten classes, each a random smooth image of a 14-dimensional Gaussian, so
that no file is needed and the dimension is known. All available threads are used.

``python benchmarks/difficulty.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes a sixth of the samples; ``--page`` only prints the section, from the existing record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_info

import engram
from engram.analysis import class_margin, classification_difficulty, intrinsic_dimension, nearest_distances

RECORD = Path(__file__).with_suffix(".json")
SAMPLES, FEATURES, DIMENSION, CLASSES, HIDDEN = 60_000, 784, 14, 10, 64
QUERIES, NEIGHBOURS, ALL = 10_000, 5, 10_000
TARGET = 60.0  # seconds
REPETITIONS = 3


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points on ten manifolds, and the manifold of each point."""
    rng = np.random.default_rng(0)
    X, y = np.empty((count, FEATURES), dtype=np.float32), np.arange(count) % CLASSES
    for label in range(CLASSES):
        first = rng.normal(size=(DIMENSION, HIDDEN)) / DIMENSION**0.5
        second = rng.normal(size=(HIDDEN, FEATURES)) / HIDDEN**0.5
        here = y == label
        X[here] = np.tanh(rng.normal(size=(here.sum(), DIMENSION)) @ first) @ second
    return X, y


def peers(X: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return the estimators of the dimension that are compared, on the same points and with all of them as queries."""
    estimators: dict[str, Callable[[], Any]] = {
        "engram, MLE": lambda: intrinsic_dimension(X, NEIGHBOURS, n_queries=None).value,
        "engram, TwoNN": lambda: intrinsic_dimension(X, method="twonn", n_queries=None).value,
    }
    try:
        import skdim
    except ImportError:
        print("scikit-dimension is not installed: its rows are left out")
        return estimators
    estimators["scikit-dimension, MLE"] = lambda: skdim.id.MLE().fit(X, n_neighbors=NEIGHBOURS, n_jobs=-1).dimension_
    estimators["scikit-dimension, TwoNN"] = lambda: skdim.id.TwoNN().fit(X).dimension_
    return estimators


def measure(calls: dict[str, Callable[[], Any]], repetitions: int) -> list[dict[str, Any]]:
    """Return the result and the seconds of each call, measured in turn."""
    rows = [{"what": what, "seconds": [], "value": None} for what in calls]
    for _ in range(repetitions):
        for row, call in zip(rows, calls.values(), strict=True):
            began = time.perf_counter()
            row["value"] = call()
            row["seconds"].append(time.perf_counter() - began)
            print(row["what"], f"{row['seconds'][-1]:.2f} s", row["value"])
    return rows


def record(count: int, repetitions: int) -> dict[str, Any]:
    """Measure everything."""
    where = {
        "processor": platform.processor() or platform.machine(),
        "threads": max(pool["num_threads"] for pool in threadpool_info()),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "engram": engram.__version__,
    }
    X, y = samples(count)
    queries = np.arange(0, count, max(1, count // QUERIES))
    brute = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(X)

    def neighbours() -> str:
        return f"{nearest_distances(X, NEIGHBOURS, queries).mean():.9g}"

    def scikit_learns() -> str:
        return f"{brute.kneighbors(X[queries], NEIGHBOURS + 1)[0][:, 1:].mean():.9g}"

    whole_data_set = {
        "difficulty, margin extrapolated": lambda: classification_difficulty(X, y, error=0.01).difficulty.log10_bits,
        "its dimension": lambda: intrinsic_dimension(X).value,
        "its margin, extrapolated from 4e6 pairs": lambda: class_margin(X, y).value,
        "margin, exact": lambda: class_margin(X, y, "exact").value,
        "neighbours of 10,000, engram": neighbours,
        "neighbours of 10,000, scikit-learn": scikit_learns,
    }
    return {
        "samples": count,
        "whole": measure(whole_data_set, repetitions),
        "peers": measure(peers(X[: min(ALL, count)]), repetitions),
        "machine": where,
    }


def table(rows: list[dict[str, Any]], value: str) -> list[str]:
    """Return the lines of a table of seconds."""
    lines = [f"| | s | range | {value} |", "|---|---|---|---|"]
    for row in rows:
        seconds, result = row["seconds"], row["value"]
        shown = result if isinstance(result, str) else f"{result:.6g}"
        spread = f"{min(seconds):.2f} .. {max(seconds):.2f}"
        lines.append(f"| {row['what']} | {statistics.median(seconds):.2f} | {spread} | {shown} |")
    return lines


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    where, took = record["machine"], statistics.median(record["whole"][0]["seconds"])
    verdict = "met" if took <= TARGET else "**not met**"
    if record["samples"] != SAMPLES:
        verdict = "not measured"
    return [
        "## Difficulty",
        "",
        f"{record['samples']:,} samples of {FEATURES} features in {CLASSES} classes, each on a manifold of {DIMENSION}",
        f"dimensions; {where['threads']} threads, {where['processor']}, NumPy {where['numpy']}, scikit-learn",
        f"{where['scikit-learn']}, engram {where['engram']}; load average before the run {where['load']:.1f}. Medians",
        "in seconds of repetitions, taken in turn.",
        "",
        *table(record["whole"], "result"),
        "",
        f"- the difficulty of 60,000 x 784 within {TARGET:.0f} s: {verdict}",
        "",
        f"Intrinsic dimension of the first {ALL:,} samples, with all of them as queries:",
        "",
        *table(record["peers"], "dimension"),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sixth of the samples, once")
    parser.add_argument("--page", action="store_true", help="only print the section, from the existing record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.page:
        measured = record(SAMPLES // 6 if options.quick else SAMPLES, 1 if options.quick else REPETITIONS)
        RECORD.write_text(json.dumps(measured) + "\n")
    print("\n".join(section(json.loads(RECORD.read_text()))))


if __name__ == "__main__":
    main()
