"""Any measure of similarity on systems of which it is known which are alike: how well it finds that out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from engram import registry
from engram.analysis.similarity import SimilarityMeasure, as_measure
from engram.analysis.similarity.trials import Recording
from engram.experiments.dsa.comparison import Systems, separation
from engram.experiments.dsa.networks import Rules
from engram.experiments.dsa.simulated import Embeddings, SameGeometry
from engram.lab import Contest, Run, setting, settings

Battery = Literal["same-geometry", "embeddings", "shared-embeddings", "rules"]
TITLES: dict[Battery, str] = {
    "same-geometry": "the same mean trajectories",
    "embeddings": "random embeddings of own trajectories",
    "shared-embeddings": "random embeddings of the same trajectories",
    "rules": "learning rules, by traces of training",
}


class Size(SimilarityMeasure):
    """How much larger the activity of one system is than that of the other: next to nothing of what it is."""

    invariant = ("shift", "rotation")

    def describe(self, trials: list[Recording]) -> float:
        """The logarithm of the standard deviation of all activity."""
        return float(np.log(np.linalg.norm(np.concatenate(trials).std(0))))

    def distance(self, first: float, second: float) -> float:
        """The difference of logarithms."""
        return abs(first - second)


MEASURES = {"size": f"{__name__}:Size"}


@settings
class Measured:
    """A measure, and the systems that it is to tell apart."""

    measure: str = setting("dsa", "a registered measure of similarity, or where it is")
    battery: Battery = setting("same-geometry", "the systems")
    same_geometry: SameGeometry = setting(SameGeometry(), "those of the same geometry")
    embeddings: Embeddings = setting(Embeddings(), "those that are embedded, each from trajectories of its own")
    shared_embeddings: Embeddings = setting(Embeddings(shared=True), "those that are embedded from the same ones")
    rules: Rules = setting(Rules(networks=2), "networks that learn by four rules")

    def __post_init__(self) -> None:
        registry.check("similarity_measures", self.measure, "measure")

    def systems(self, run: Run) -> Systems:
        """Make them."""
        made: Systems = getattr(self, self.battery.replace("-", "_")).systems(run)
        return made


def arm_of(measure: str, battery: Battery) -> dict[str, dict[str, Any]]:
    """The arm of a measure on a battery."""
    return {f"{battery}-{measure}": {"measure": MEASURES.get(measure, measure), "battery": battery}}


def measure_of(config: Measured) -> SimilarityMeasure:
    """The measure of an arm."""
    return as_measure(registry.get("similarity_measures", config.measure))


def trial(config: Measured, run: Run) -> dict[str, Any]:
    """Make the systems of a battery and compare them: shapes by what compares samples, else the trials themselves."""
    systems, measure = config.systems(run), measure_of(config)
    scores = separation(measure.distances(systems.shapes if measure.paired else systems.activity), systems)
    run.log(1, silhouette=scores["silhouette"])
    return scores


def step_of(config: Measured) -> Callable[[], object]:
    """A distance between two systems of 20 trials, as often as one likes: to be timed."""
    rng, measure = np.random.default_rng(0), measure_of(config)
    systems = rng.normal(size=(2, 20, 100, 10)).cumsum(2)
    return lambda: measure(*systems)


contests = [
    Contest(
        "similarity_measures",
        title,
        partial(arm_of, battery=battery),
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
