"""Simulated systems: with the same geometry, seen through random embeddings, and ring attractors."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.decomposition import PCA

from engram.lab import Run, setting, settings
from engram.studies.experiments.dsa.comparison import COMPONENTS, Fit, Systems, check_rank
from engram.tasks import latent_dynamics, observed, ring_rates, ring_weights, same_geometry
from engram.tasks.dynamics.observed_dynamics import KINDS as DYNAMICS
from engram.tasks.dynamics.observed_dynamics import VIEWS
from engram.tasks.dynamics.same_geometry import KINDS


@settings
class SameGeometry:
    """A saddle, a line attractor and a point attractor whose trajectories have the same mean."""

    data: Literal["trials", "averages"] = setting("trials", "data to fit: single trials, or the mean of each condition")
    models: int = setting(4, "systems of each kind", ge=2)
    trials: int = setting(100, "trials per condition", ge=2)
    steps: int = setting(10_000, "steps simulated", ge=50)
    noise: float = setting(0.05, "standard deviation of the noise per step", ge=0)
    fit: Fit = setting(Fit(n_delays=20), "settings for fitting operators")

    def __post_init__(self) -> None:
        check_rank(self.fit, 2)

    def systems(self, run: Run) -> Systems:
        """Simulate the systems; geometric measures see the condition means, and spreads are about these means."""
        states = same_geometry(self.models, run.rng, trials=self.trials, steps=self.steps, noise=self.noise)
        kinds, models, trials, _, units = states.shape
        by_condition = states.reshape(kinds, models, 2, trials // 2, *states.shape[3:])
        means = by_condition.mean(3)
        deviations = (by_condition - means[:, :, :, None]).reshape(kinds * models, -1, units)
        spreads = np.log(np.maximum(np.linalg.svd(deviations, compute_uv=False), np.finfo(float).tiny))
        trajectories = means if self.data == "averages" else states
        pairs = [(kind, model) for kind in range(kinds) for model in range(models)]
        shapes = [means[pair].reshape(-1, 2) for pair in pairs]
        labels = [KINDS[kind] for kind, _ in pairs]
        return Systems([list(trajectories[pair]) for pair in pairs], shapes, labels, spreads=spreads)


def memory(config: SameGeometry) -> float:
    """The bytes that a trial needs: most of them for the trajectories, three times as many as these have were measured.

    Args:
        config: The settings.
    """
    samples = len(KINDS) * config.models * 2 * config.trials * config.steps // 10
    return 0.5e9 + 3 * samples * 2 * 8


@settings
class Embeddings:
    """Three systems, each seen by several random populations, on the same or on different trajectories."""

    views: int = setting(5, "embeddings of each system", ge=2)
    shared: bool = setting(False, "whether all embeddings of a system see the same trajectories")
    trials: int = setting(20, "trajectories of a system", ge=2)
    steps: int = setting(400, "samples of a trajectory", ge=50)
    fit: Fit = setting(Fit(), "settings for fitting operators")

    def systems(self, run: Run) -> Systems:
        """Simulate and embed the systems."""
        activity = []
        for kind in DYNAMICS:
            for view in range(self.views):
                if view == 0 or not self.shared:
                    latent = latent_dynamics(kind, run.rng, trials=self.trials, steps=self.steps)
                activity.append(observed(latent, VIEWS[view % len(VIEWS)], run.rng))
        shapes = [x.reshape(-1, x.shape[-1]) for x in activity]
        return Systems([list(x) for x in activity], shapes, [kind for kind in DYNAMICS for _ in range(self.views)])


@settings
class Ring:
    """A driven ring attractor seen through ever steeper sigmoids, and an unrelated ring.

    All sigmoids see the same rates. These reach 0.5, where the published sigmoids, up to a steepness of 3.6, are nearly
    linear, so steeper ones are added; they are reported next to the published ones.
    """

    neurons: int = setting(100, "neurons of a population", ge=10)
    steps: int = setting(2000, "steps simulated", ge=50)
    fit: Fit = setting(Fit(rank=12), "settings for fitting operators")

    def systems(self, run: Run) -> Systems:
        """Simulate the rings; the last is the unrelated one."""
        widths = run.rng.uniform(0.55, 0.65, 2) * self.neurons
        weights = np.stack([ring_weights(self.neurons, width) for width in widths])
        rates = ring_rates(weights, np.tile([2.0, 1.0], (self.steps, 1)), run.rng)[:, self.steps // 10 :]
        published = np.arange(0.1, 3.7, 0.5).round(1).tolist()
        steepness = [*published, 5.0, 10.0, 20.0]
        shapes = [1 / (1 + np.exp(-beta * rates[0])) for beta in steepness]
        shapes.append(1 / (1 + np.exp(-steepness[0] * rates[1])))
        labels = [*steepness, None]
        return Systems([components(x) for x in shapes], shapes, labels, ordered=True, published=published[-1])


@settings
class Topology:
    """A line attractor that is gradually closed to a ring, driven back and forth.

    All stages start with the same bump and get the same drive and noise, so that only their closure differs.
    """

    neurons: int = setting(100, "neurons of a population", ge=10)
    steps: int = setting(8000, "steps simulated", ge=50)
    fit: Fit = setting(Fit(rank=16), "settings for fitting operators")

    def systems(self, run: Run) -> Systems:
        """Simulate the line, the ring and the stages in between."""
        closure = np.linspace(0, 1, 11).round(1).tolist()
        width = run.rng.uniform(0.55, 0.65) * self.neurons
        weights = np.stack([ring_weights(self.neurons, width, alpha) for alpha in closure])
        drive, side, step = np.empty(self.steps), 1.0, 0
        while step < self.steps:
            length = int(run.rng.integers(100, 4001))
            drive[step : step + length] = side
            side, step = -side, step + length
        drive += run.rng.normal(0, 0.5, self.steps)
        rates = ring_rates(weights, np.tile(drive[:, None], len(closure)), run.rng, shared=True)
        shapes = list(rates[:, self.steps // 40 :])
        return Systems([components(x) for x in shapes], shapes, closure, ordered=True)


def components(activity: np.ndarray) -> list[np.ndarray]:
    """The principal components of a single trial."""
    return [PCA(COMPONENTS, svd_solver="covariance_eigh").fit_transform(activity)]
