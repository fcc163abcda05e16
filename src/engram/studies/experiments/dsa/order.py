"""The order of noisy linear systems, estimated by prediction and by singular values."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram import analysis
from engram.lab import Run, setting, settings

DELAYS, MAX_ORDER = (1, 2, 5), 8


@settings
class Order:
    """The settings of systems that rotate several planes at different speeds, observed by noisy units."""

    models: int = setting(6, "systems, each with a random order from 1 to 8", ge=1)
    trials: int = setting(6, "trajectories of a system", ge=2)
    steps: int = setting(200, "samples of a trajectory", ge=40)
    noise: float = setting(0.5, "standard deviation of a unit's noise relative to that of its signal", ge=0, le=10)


def trial(config: Order, run: Run) -> dict[str, Any]:
    """Estimate the order of each system; the results are the shares found exactly and within one."""
    missed = np.zeros((config.models, 2))
    for step in run.steps(config.models, missed=missed):
        order = int(run.rng.integers(1, MAX_ORDER + 1))
        x = rotations(order, run.rng, noise=config.noise, trials=config.trials, time=config.steps)
        chosen = analysis.choose_delays(x, DELAYS, range(1, MAX_ORDER + 3))
        thresholded = analysis.HankelDMD(chosen.n_delays, rank="svht").fit(x)
        missed[step] = abs(chosen.rank - order), abs(thresholded.rank_ - order)
        run.log(step + 1, prediction=1 - chosen.table["mase"].min())
    shares = {"found": (missed == 0).mean(0), "near": (missed <= 1).mean(0)}
    result = {f"{way}_{measure}": float(s[k]) for measure, s in shares.items() for k, way in enumerate(("aic", "svht"))}
    return {**result, "systems": config.models}


def rotations(
    order: int, rng: np.random.Generator, *, noise: float, trials: int = 6, time: int = 200, units: int = 20
) -> Float[np.ndarray, "trials time units"]:
    """Noisy observations of ``order`` coordinates: rotating planes, and a constant if the order is odd.

    Args:
        order: Number of latent coordinates.
        rng: Source of the speeds, phases, embedding and noise.
        noise: Standard deviation of the noise, relative to that of the observations.
        trials: Number of trials.
        time: Steps of a trial.
        units: Number of observed units.
    """
    planes = order // 2
    speeds = (np.arange(planes) + rng.uniform(0.2, 0.8, planes)) * np.pi / max(planes, 1)
    phases = rng.uniform(0, 2 * np.pi, (trials, 1, planes)) + np.arange(time)[:, None] * speeds
    constant = rng.choice([-1.0, 1.0], (trials, 1, order % 2)).repeat(time, 1)
    latent = np.concatenate([np.cos(phases), np.sin(phases), constant], axis=2)
    activity = latent @ np.linalg.qr(rng.normal(size=(units, order)))[0].T
    return np.asarray(activity + noise * activity.std() * rng.normal(size=activity.shape))
