"""Linear systems under noise, of which the order is to be found: by prediction, and by singular values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Float

from engram import analysis
from engram.lab import Run

DELAYS, MOST = (1, 2, 5), 8


@dataclass(frozen=True)
class Order:
    """Rotations of several planes, at a speed of its own each, seen by units with noise."""

    models: Annotated[int, Ge(1)] = 6
    """Systems, each of an order drawn from 1 to 8."""
    trials: Annotated[int, Ge(2)] = 6
    """Trajectories of a system."""
    steps: Annotated[int, Ge(40)] = 200
    """Samples of a trajectory."""
    noise: Annotated[float, Ge(0), Le(10)] = 0.5
    """Standard deviation of the noise of a unit over that of what it sees."""

    def seconds(self) -> float:
        """Time of a trial on one core."""
        return self.models * (0.06 + 1.8e-4 * self.trials * self.steps)


def trial(config: Order, run: Run) -> dict[str, Any]:
    """Look for the order of each system: the share that is found, and that is missed by one at most."""
    missed = np.zeros((config.models, 2))
    for step in run.steps(config.models, missed=missed):
        order = int(run.rng.integers(1, MOST + 1))
        x = rotations(order, run.rng, noise=config.noise, trials=config.trials, time=config.steps)
        found = analysis.choose_delays(x, DELAYS, range(1, MOST + 3))
        values = analysis.HankelDMD(found.n_delays, rank="svht").fit(x)
        missed[step] = abs(found.rank - order), abs(values.rank_ - order)
        run.log(step + 1, prediction=1 - found.table["mase"].min())
    shares = {"found": (missed == 0).mean(0), "near": (missed <= 1).mean(0)}
    return {f"{way}_{what}": float(s[k]) for what, s in shares.items() for k, way in enumerate(("aic", "svht"))}


def rotations(
    order: int, rng: np.random.Generator, *, noise: float, trials: int = 6, time: int = 200, units: int = 20
) -> Float[np.ndarray, "trials time units"]:
    """Return noisy units that see ``order`` coordinates: planes that turn, and of an odd order a constant as well."""
    planes = order // 2
    speeds = (np.arange(planes) + rng.uniform(0.2, 0.8, planes)) * np.pi / max(planes, 1)
    phases = rng.uniform(0, 2 * np.pi, (trials, 1, planes)) + np.arange(time)[:, None] * speeds
    constant = rng.choice([-1.0, 1.0], (trials, 1, order % 2)).repeat(time, 1)
    latent = np.concatenate([np.cos(phases), np.sin(phases), constant], axis=2)
    seen = latent @ np.linalg.qr(rng.normal(size=(units, order)))[0].T
    return np.asarray(seen + noise * seen.std() * rng.normal(size=seen.shape))
