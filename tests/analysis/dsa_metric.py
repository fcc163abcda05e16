"""Writes dsa_metric.json, beside this file: what dsa-metric makes of some operators and of some trials.

dsa-metric brings dependencies of its own, and so needs an environment of its own, with whose interpreter this is run:
``PYTHON tests/analysis/dsa_metric.py``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

DELAYS, RANK = 3, 4


def score(A: np.ndarray, B: np.ndarray, method: str) -> float:
    from DSA import SimilarityTransformDist

    torch.manual_seed(0)
    return float(SimilarityTransformDist(iters=1500, lr=5e-3, score_method=method).fit_score(A.copy(), B.copy()))


def main() -> None:
    from DSA import DMD

    rng = np.random.default_rng(0)
    record = {"version": version("dsa-metric"), "pairs": [], "delays": DELAYS, "rank": RANK}
    for n in (2, 4, 6, 8):
        A, noise, turn = rng.normal(size=(3, n, n)).round(4)
        Q = np.linalg.qr(turn)[0]
        for B in (noise, (Q.T @ (A + 0.1 * noise) @ Q).round(4)):
            scores = {method: score(A, B, method) for method in ("wasserstein", "angular")}
            record["pairs"].append({"A": A.tolist(), "B": B.tolist(), **scores})
    x, A = np.zeros((3, 40, 2)), np.array([[0.8, -0.4], [0.5, 0.7]])
    for t in range(1, 40):
        x[:, t] = (x[:, t - 1] @ A.T + rng.normal(size=(3, 2))).round(4)
    dmd = DMD(x.copy(), n_delays=DELAYS, rank=RANK, lamb=0)
    dmd.fit()
    values = np.linalg.eigvals(np.asarray(dmd.A_v))
    record |= {"trials": x.tolist(), "eigenvalues": [[float(v.real), float(v.imag)] for v in values]}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
