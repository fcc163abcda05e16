"""Speed and quality of distances between operators, compared with dsa-metric on the same operators.

The pairs are independent random matrices, matrices that are conjugate up to noise, and operators fitted to three kinds
of dynamics with the same geometry. Both packages compute in one thread; only a whole matrix of distances uses two.
dsa-metric has its own dependencies, so it runs in its own environment: ``--peer`` names the interpreter of that
environment. Without ``--peer`` only engram is measured.

``python benchmarks/dsa.py --peer PYTHON`` measures, writes the record next to this file and prints its section of the
page; ``--quick`` takes few pairs; ``--page`` only prints the section, from the existing record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ortho_group
from threadpoolctl import threadpool_limits

import engram
from engram.analysis import HankelDMD, operator_distance, operator_distances, spectral_distance
from engram.tasks import latent_dynamics, observed, same_geometry

RECORD = Path(__file__).with_suffix(".json")
NOISE = (0.01, 0.1, 0.3)
CLOSE = 1e-6  # by how much a distance may exceed that of dsa-metric
ROUNDING = 2.0**-23  # rounding error of dsa-metric's cosine; divided by the sine, it is the error of the angle
TARGETS = {15: 30.0, 50: 10.0}
FIT, SPECTRAL, SHARE, MATRIX = 5.0, 3.0, 0.99, 60.0
Pairs = tuple[np.ndarray, np.ndarray]


def random_pairs(n: int, count: int, rng: np.random.Generator) -> Pairs:
    first, second = rng.normal(size=(2, count, n, n))
    return first, second


def noisy_pairs(n: int, count: int, rng: np.random.Generator) -> Pairs:
    """Return matrices that are conjugate up to noise of 1, 10 and 30 % of the norm."""
    first, noise = rng.normal(size=(2, count, n, n))
    second = np.empty_like(first)
    for k in range(count):
        Q = ortho_group.rvs(n, random_state=rng)
        scale = NOISE[k % len(NOISE)] * np.linalg.norm(first[k]) / np.linalg.norm(noise[k])
        second[k] = Q.T @ (first[k] + scale * noise[k]) @ Q
    return first, second


def fitted_pairs(count: int, data: np.ndarray) -> Pairs:
    operators = np.stack([HankelDMD(20, rank=15).fit(x).operator_ for x in data.reshape(-1, *data.shape[2:])])
    i, j = np.triu_indices(len(operators), 1)
    chosen = np.linspace(0, len(i) - 1, min(count, len(i))).astype(int)
    return operators[i[chosen]], operators[j[chosen]]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def measured(pairs: dict[str, Pairs], data: dict[str, np.ndarray], operators: int) -> dict[str, Any]:
    """Return the distances that engram computes, and their seconds."""
    record: dict[str, Any] = {}
    operator_distance(np.eye(2), np.ones((2, 2)))  # compiles
    for name, (first, second) in pairs.items():
        operator_pairs = list(zip(first, second, strict=True))
        record[name] = {
            "angular": [timed(lambda: operator_distance(A, B)) for A, B in operator_pairs],  # noqa: B023  called at once
            "wasserstein": [timed(lambda: spectral_distance(A, B, squared=True)) for A, B in operator_pairs],  # noqa: B023
        }
        print(name, "engram", statistics.median(seconds for _, seconds in record[name]["angular"]), flush=True)
    for name, X in data.items():
        delays, rank = (int(part) for part in name.split("_")[1:])
        record[name] = [timed(lambda: HankelDMD(delays, rank=rank).fit(X))[1] for _ in range(3)]  # noqa: B023
    many = random_pairs(15, operators, np.random.default_rng(7))[0]
    record["matrix"] = {"operators": operators, "seconds": timed(lambda: operator_distances(many, n_jobs=2))[1]}
    return record


def compare(peer: str | None, quick: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    states = same_geometry(2 if quick else 4, rng, trials=100)
    count = 4 if quick else 70
    pairs = {
        "random_15": random_pairs(15, count, rng),
        "noisy_15": noisy_pairs(15, count, rng),
        "fitted_15": fitted_pairs(4 if quick else 60, states),
        "random_50": random_pairs(50, -(-count // 6), rng),
        "noisy_50": noisy_pairs(50, -(-count // 6), rng),
    }
    many = observed(latent_dynamics("lorenz", rng, trials=64, steps=200), "tanh", rng, units=15)
    data = {"data_20_15": states[0, 0], "data_10_30": many}
    record: dict[str, Any] = {"ours": measured(pairs, data, 10 if quick else 100)}
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            arrays_file, results_file = Path(folder) / "arrays.npz", Path(folder) / "results.json"
            arrays = {f"{name}_{side}": values for name, two in pairs.items() for side, values in zip("AB", two)}  # noqa: B905
            np.savez(arrays_file, **arrays, **data)
            script = Path(__file__).with_name("dsa_peer.py")
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            subprocess.run([peer, str(script), str(arrays_file), str(results_file)], check=True, env=environment)
            record["theirs"] = json.loads(results_file.read_text())
    return record


def machine() -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "engram": engram.__version__,
    }


def middle(rows: list[Any]) -> float:
    return statistics.median(row[1] if isinstance(row, (list, tuple)) else row for row in rows)


def mark(met: bool) -> str:
    return "met" if met else "**not met**"


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    where, ours, theirs = record["machine"], record["ours"], record.get("theirs")
    matrix = ours["matrix"]
    count = matrix["operators"] * (matrix["operators"] - 1) // 2
    lines = [
        "## Dynamical similarity analysis",
        "",
        f"{where['processor']}, one thread, NumPy {where['numpy']}, engram {where['engram']}"
        + (f", dsa-metric {theirs['version']} with 1500 iterations" if theirs else "")
        + f"; load average before the run {where['load']:.1f}.",
        "",
        f"All {count} pairs of {matrix['operators']} random operators, n = 15, two threads: {matrix['seconds']:.1f} s.",
    ]
    if theirs is None:
        return [*lines, "", "dsa-metric was not measured: `--peer` names an interpreter that has it.", ""]
    lines += [
        "",
        "Median times per pair, mean angles and, in the last column, the share of pairs for which the angle of engram",
        "is at most the angle of dsa-metric + 1e-6. Each package reports the angle of the alignment that it found, so",
        "a smaller angle is nearer to the true distance.",
        "",
        "| pairs | n | number | engram, ms | dsa-metric, ms | ratio | engram, angle | dsa-metric, angle | not above |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = [name for name in ours if name.rsplit("_", 1)[0] in ("random", "noisy", "fitted")]
    share: dict[int, list[bool]] = {n: [] for n in TARGETS}
    ratios: dict[int, list[float]] = {n: [] for n in TARGETS}
    spectral, rounded = [], 0
    for name in names:
        kind, n = name.split("_")
        a, b = (np.array(side[name]["angular"]) for side in (ours, theirs))
        low = a[:, 0] <= b[:, 0] + CLOSE
        rounded += int((~low & (a[:, 0] <= b[:, 0] + CLOSE + ROUNDING / np.sin(b[:, 0]))).sum())
        ratio = np.median(b[:, 1]) / np.median(a[:, 1])
        share[int(n)] += low.tolist()
        ratios[int(n)].append(float(ratio))
        spectral.append(middle(theirs[name]["wasserstein"]) / middle(ours[name]["wasserstein"]))
        means = [f"{values[:, 0].mean():.4f}" for values in (a, b)]
        times = [f"{1e3 * np.median(values[:, 1]):.1f}" for values in (a, b)]
        lines.append(
            f"| {kind} | {n} | {len(a)} | {' | '.join(times)} | {ratio:.0f}x | {' | '.join(means)} | {low.mean():.1%} |"
        )
    fits = {name: (middle(ours[name]), middle(theirs[name])) for name in ours if name.startswith("data")}
    lines += ["", "| data | engram, ms | dsa-metric, ms | ratio |", "|---|---|---|---|"]
    for name, (mine, other) in fits.items():
        delays, rank = name.split("_")[1:]
        lines.append(
            f"| fit, {delays} delays, rank {rank} | {1e3 * mine:.0f} | {1e3 * other:.0f} | {other / mine:.1f}x |"
        )
    lower_bounds = [low for values in share.values() for low in values]
    part = float(np.mean(lower_bounds))
    worst = min(other / mine for mine, other in fits.values())
    lines += [
        "",
        "dsa-metric computes the arc cosine of a 32-bit number. The rounding of this number explains "
        f"{rounded} of the pairs for which the angle of engram is larger.",
    ]
    lines += ["", "| target | measured | |", "|---|---|---|"]
    for n, target in TARGETS.items():
        lines.append(
            f"| {target:.0f} times as fast per pair at n = {n} | {min(ratios[n]):.0f}x "
            f"| {mark(min(ratios[n]) >= target)} |"
        )
    lines += [
        f"| at most the angle of dsa-metric + 1e-6 on 99 % of {len(lower_bounds)} pairs | {part:.1%} "
        f"| {mark(part >= SHARE)} |",
        f"| fit {FIT:.0f} times as fast | {worst:.1f}x | {mark(worst >= FIT)} |",
        f"| spectral distance {SPECTRAL:.0f} times as fast | {min(spectral):.1f}x "
        f"| {mark(min(spectral) >= SPECTRAL)} |",
        f"| {MATRIX:.0f} s for 4950 pairs at n = 15 on two threads | {matrix['seconds'] * 4950 / count:.0f} s | "
        f"{mark(matrix['seconds'] * 4950 / count <= MATRIX)} |",
    ]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few pairs")
    parser.add_argument("--page", action="store_true", help="only print the section, from the existing record")
    parser.add_argument("--peer", help="interpreter of an environment with dsa-metric")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.page:
        where = machine()
        with threadpool_limits(1):
            record = {"machine": where, **compare(options.peer, options.quick)}
        RECORD.write_text(json.dumps(record) + "\n")
    print("\n".join(section(json.loads(RECORD.read_text()))))


if __name__ == "__main__":
    main()
