"""Distances and fits of dsa-metric for given operators and data; ``dsa.py`` runs this in dsa-metric's environment."""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from DSA import DMD, SimilarityTransformDist

warnings.simplefilter("ignore")
torch.set_num_threads(1)


def timed(call):
    began = time.perf_counter()
    result = call()
    return float(result) if result is not None else None, time.perf_counter() - began


def main(source: Path, target: Path) -> None:
    archive, record = np.load(source), {"version": version("dsa-metric")}
    for name in {key.rsplit("_", 1)[0] for key in archive if key.endswith("_A")}:
        record[name] = {}
        for method in ("angular", "wasserstein"):
            rows = []
            for number, (A, B) in enumerate(zip(archive[f"{name}_A"], archive[f"{name}_B"], strict=True)):
                torch.manual_seed(number)
                search = SimilarityTransformDist(iters=1500, lr=5e-3, score_method=method)
                rows.append(timed(lambda: search.fit_score(A.copy(), B.copy())))  # noqa: B023  called at once
            record[name][method] = rows
    for name in (key for key in archive if key.startswith("data")):
        delays, rank = (int(part) for part in name.split("_")[1:])
        record[name] = [
            timed(lambda: DMD(archive[name], n_delays=delays, rank=rank).fit())[1]  # noqa: B023  called at once
            for _ in range(3)
        ]
    target.write_text(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
