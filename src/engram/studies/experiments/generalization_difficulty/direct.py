"""The bits needed by a Gaussian process, computed directly from the distribution of its test error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF

from engram import analysis
from engram.lab import Run

SIZES, FEW_SIZES = (50, 200, 800), (50, 150)  # training set sizes for ten classes and for two
NOISE_INPUTS, NOISE_SD = 16, 0.5
TARGET = 0.05
RARE, SAMPLES = 1e-3, 100_000


def trial(config: object, run: Run) -> dict[str, Any]:
    """Compute the bits that a Gaussian process lacks to generalise on digits."""
    images, labels = load_digits(return_X_y=True)
    order = run.rng.permutation(len(images))
    images, labels = images[order] / 16, labels[order]
    noise = run.rng.normal(scale=NOISE_SD, size=(len(images), NOISE_INPUTS))
    targets = np.eye(10)[labels]
    sets = {
        "ten": (images, targets, SIZES),
        "noise": (np.hstack([images, noise]), targets, SIZES),
        "two": (images[labels < 2], targets[labels < 2, :2], FEW_SIZES),
    }
    cases = [(name, size) for name, (_, _, sizes) in sets.items() for size in sizes]
    bits = np.zeros(len(cases))
    for step in run.steps(len(cases), bits=bits):
        name, size = cases[step]
        x, y, _ = sets[name]
        error = analysis.gaussian_process_test_error(x[:size], y[:size], x[-200:], y[-200:], RBF(2.0), jitter=1e-8)
        bits[step] = error.bits(TARGET)
        run.log(size, **{f"bits_{name}": bits[step]})
    error = analysis.gaussian_process_test_error(images[:200], targets[:200], images[-200:], targets[-200:], RBF(2.0))
    errors = error.sample(SAMPLES, run.rng)
    result = {f"bits_{name}_{size}": value for (name, size), value in zip(cases, bits.tolist(), strict=True)}
    return {**result, "off_by": error.bits(float(np.quantile(errors, RARE))) + math.log2(RARE)}
