"""A test of any similarity measure on systems whose similarity is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from engram import registry
from engram.analysis.similarity import SimilarityMeasure, as_measure
from engram.analysis.similarity.trials import Recording
from engram.lab import Run, Task, setting, settings
from engram.studies.experiments.dsa.comparison import Systems, separation
from engram.studies.experiments.dsa.networks import Rules
from engram.studies.experiments.dsa.simulated import Embeddings, SameGeometry

Battery = Literal["same-geometry", "embeddings", "shared-embeddings", "rules"]
TITLES: dict[Battery, str] = {
    "same-geometry": "the same mean trajectories",
    "embeddings": "random embeddings of own trajectories",
    "shared-embeddings": "random embeddings of the same trajectories",
    "rules": "learning rules, by traces of training",
}


class Size(SimilarityMeasure):
    """A trivial baseline that compares only the magnitude of activity."""

    invariant = ("shift", "rotation")

    def describe(self, trials: list[Recording]) -> float:
        """The logarithm of the standard deviation of all activity."""
        return float(np.log(np.linalg.norm(np.concatenate(trials).std(0))))

    def distance(self, first: float, second: float) -> float:
        """The absolute difference of logarithms."""
        return abs(first - second)


MEASURES = {"size": "engram.experiments.dsa.measured:Size"}


@settings
class Measured:
    """The settings of a measure and of the systems that it should separate."""

    measure: str = setting("dsa", "a registered similarity measure, or a reference such as file.py:Name")
    battery: Battery = setting("same-geometry", "the systems")
    same_geometry: SameGeometry = setting(SameGeometry(), "the systems with the same geometry")
    embeddings: Embeddings = setting(Embeddings(), "the systems with embeddings of different trajectories")
    shared_embeddings: Embeddings = setting(
        Embeddings(shared=True), "the systems with embeddings of the same trajectories"
    )
    rules: Rules = setting(Rules(networks=2), "networks trained by four learning rules")

    def __post_init__(self) -> None:
        registry.check("similarity_measures", self.measure, "measure")

    def systems(self, run: Run) -> Systems:
        """The systems of the battery."""
        systems_measured: Systems = getattr(self, self.battery.replace("-", "_")).systems(run)
        return systems_measured


def changes_of(measure: str, battery: Battery) -> dict[str, Any]:
    """The settings of the arm of a measure on a battery."""
    return {"measure": MEASURES.get(measure, measure), "battery": battery}


def measure_of(config: Measured) -> SimilarityMeasure:
    """The measure of an arm."""
    return as_measure(registry.get("similarity_measures", config.measure))


def trial(config: Measured, run: Run) -> dict[str, Any]:
    """Compare the systems of a battery, by shapes if the measure pairs samples, otherwise by trials."""
    systems, measure = config.systems(run), measure_of(config)
    scores = separation(measure.distances(systems.shapes if measure.paired else systems.activity), systems)
    run.log(1, silhouette=scores["silhouette"])
    return scores


def step_of(config: Measured) -> Callable[[], object]:
    """A function to be timed, which computes the distance between two systems of 20 trials."""
    rng, measure = np.random.default_rng(0), measure_of(config)
    systems = rng.normal(size=(2, 20, 100, 10)).cumsum(2)
    return lambda: measure(*systems)


tasks = [
    Task(
        "similarity_measures",
        title,
        f"{battery}-{{}}".format,
        partial(changes_of, battery=battery),
        "silhouette",
        study="measures",
        margin=0.1,
        baselines=tuple(registry.names("similarity_measures")),
        chance=0.0,
        trivial="size",
        costs={"nearest is of the same kind": "accuracy"},
        step=step_of,
    )
    for battery, title in TITLES.items()
]
