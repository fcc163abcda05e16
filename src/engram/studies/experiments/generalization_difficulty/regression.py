"""The number of samples needed to fit a band-limited function, and the number predicted from its dimension."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engram import analysis
from engram.lab import Run, setting, settings

MODES = {1: 8, 2: 4, 3: 4}  # highest frequency on the torus, by dimension


@settings
class Regression:
    """The settings of the regression."""

    draws: int = setting(20, "random functions of each dimension", ge=1)


def trial(config: Regression, run: Run) -> dict[str, Any]:
    """Fit random band-limited functions on the torus, with as many samples as modes or fewer."""
    result: dict[str, Any] = {}
    for dimension, max_frequency in MODES.items():
        grid = np.stack(
            np.meshgrid(*[np.arange(-max_frequency, max_frequency + 1)] * dimension, indexing="ij"), -1
        ).reshape(-1, dimension)
        frequencies = grid[(grid**2).sum(1) <= max_frequency**2]
        modes = len(frequencies)
        sizes = [modes // 5, modes // 2, modes - 1, modes]
        errors = np.zeros((config.draws, len(sizes)))
        for draw in run.steps(config.draws, errors=errors):
            target = run.rng.normal(size=modes) / math.sqrt(modes)
            x = run.rng.uniform(0, 2 * np.pi, size=(modes, dimension))
            # One of the frequencies k and -k is a cosine and the other a sine. This basis is orthonormal, so the error
            # of a function is that of its coefficients.
            cosine = (frequencies > 0).any(1) & (frequencies[np.arange(modes), (frequencies != 0).argmax(1)] > 0)
            phase = x @ frequencies.T
            basis = math.sqrt(2) * np.where(cosine, np.cos(phase), np.sin(phase))
            basis[:, (frequencies == 0).all(1)] = 1
            for column, size in enumerate(sizes):
                errors[draw, column] = ((least_fit(basis[:size], target) - target) ** 2).sum()
            run.log(draw + 1, **{f"error_{dimension}": errors[draw, -2]})
        names = ("fifth", "half", "but_one", "all")
        result |= {f"error_{dimension}_{name}": mean for name, mean in zip(names, errors.mean(0).tolist(), strict=True)}
        # The samples that leave no free dimensions according to the formula, relative to those that determine the fit.
        task = analysis.control_task(dimension, 1, n=1, resolution=2 * np.pi / max_frequency)
        result[f"modes_{dimension}"] = modes
        result[f"formula_{dimension}"] = float(2 ** task.difficulty().dim_theta_log2) / modes
    return result


def least_fit(basis: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The minimum-norm coefficients that reproduce the values of the target."""
    # Nearly dependent samples magnify rounding, so values and residuals have higher precision.
    exact, fitted = basis.astype(np.longdouble), np.zeros(len(target), np.longdouble)
    values = exact @ target
    for _ in range(4):
        fitted += np.linalg.lstsq(basis, (values - exact @ fitted).astype(float), rcond=None)[0]
    return fitted
