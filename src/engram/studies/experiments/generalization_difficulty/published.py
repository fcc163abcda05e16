"""The published table recomputed from the published quantities, and the dependence of bits on each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import linregress

from engram import analysis
from engram.lab import Run

PUBLISHED = {  # log10 of the bits
    "mnist": 16.17167,
    "svhn": 31.08383,
    "cifar10": 32.53627,
    "imagenet": 41.55428,
    "omniglot": 145.2527,
    "cartpole-1": 9.64493,
    "cartpole-2": 17.52192,
    "cartpole-3": 25.16554,
    "cartpole-4": 32.67108,
    "cartpole-5": 40.07445,
    "reacher": 25.46449,
    "hopper": 58.88156,
    "half-cheetah": 66.23502,
}
IMAGES = ("mnist", "svhn", "cifar10", "imagenet", "omniglot")  # from easy to hard


def trial(config: object, run: Run) -> dict[str, Any]:
    """Compute the published table and the dependence of the bits on each input."""
    log10_bits = np.zeros(len(PUBLISHED))
    for step in run.steps(len(PUBLISHED), log10_bits=log10_bits):
        log10_bits[step] = analysis.BENCHMARKS[list(PUBLISHED)[step]].difficulty().log10_bits
        run.log(step + 1, log10_bits=log10_bits[step])
    log10 = dict(zip(PUBLISHED, log10_bits.tolist(), strict=True))
    mnist, imagenet = analysis.BENCHMARKS["mnist"], analysis.BENCHMARKS["imagenet"]
    slopes = np.diff(mnist.difficulty(m=np.arange(8, 30)).log10_bits)
    per_decade = np.diff(imagenet.difficulty(n=10.0 ** np.arange(2, 20)).bits)
    errors = imagenet.difficulty(error=np.array([0.1, 0.2]))
    resolutions = np.geomspace(0.3, 4, 30)
    orders = [
        linregress(-np.log10(resolutions), mnist.difficulty(m=dimension, resolution=resolutions).log10_bits).slope
        / dimension
        for dimension in (4, 8, 14, 27)
    ]
    return {
        **{f"log10_bits_{name}": value for name, value in log10.items()},
        "deviation": max(abs(10 ** (value - PUBLISHED[name]) - 1) for name, value in log10.items()),
        "least_step": float(np.diff([log10[name] for name in IMAGES]).min()),
        "cartpole_ratio": float(10 ** np.diff([log10[f"cartpole-{window}"] for window in range(1, 6)]).min()),
        "least_slope": float(slopes.min()),
        "largest_rise_of_slope": float(np.diff(slopes).max()),
        "per_decade": float(per_decade.mean()),
        "per_decade_spread": float(np.ptp(per_decade) / abs(per_decade.mean())),
        "per_doubling": float((errors.bits[0] - errors.bits[1]) / 2.0**errors.dim_free_log2),
        "least_order": float(min(orders)),
        "largest_order": float(max(orders)),
    }
