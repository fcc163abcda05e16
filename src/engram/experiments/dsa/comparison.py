"""The trial of all studies: operators are fitted to systems, and distances between these tell what is known, or not."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist, squareform
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from engram import analysis
from engram.lab import Run, setting, settings

COMPONENTS = 15  # principal components of the activity of a network


@settings
class Fit:
    """How an operator is fitted."""

    n_delays: int = setting(10, "delays of the embedding", ge=1)
    rank: int = setting(15, "rank of the operator", ge=1)


class Systems(NamedTuple):
    """What is compared."""

    activity: list[list[np.ndarray]]  # what operators are fitted to, trials (time, features) of each system
    shapes: list[np.ndarray]  # what geometry sees, (samples, features) of each
    labels: list[Any]  # the class of each, or a number by which they are ordered; None stands for none
    ordered: bool = False  # whether it is such a number; distances then are those to the first
    raw: np.ndarray | None = None  # (systems, features) from which a forest is taught the classes
    neighbours: int = 1  # how many nearest systems a class is guessed from
    spreads: np.ndarray | None = None  # (systems, directions) how far trials are from their mean, whatever their order


def trial(config: Any, run: Run) -> dict[str, Any]:
    """Make the systems of a study, fit an operator to each, and compare them."""
    systems: Systems = config.systems(run)
    fit: Fit = config.fit
    operators = np.empty((len(systems.activity), fit.rank, fit.rank))
    for step in run.steps(len(operators), operators=operators):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of an unstable fit: its radius is logged
            dmd = analysis.HankelDMD(fit.n_delays, rank=fit.rank).fit(systems.activity[step])
        operators[step] = dmd.operator_
        run.log(step + 1, prediction=dmd.score(systems.activity[step]), radius=dmd.spectral_radius_)
    return along(operators, systems) if systems.ordered else between(operators, systems)


def between(operators: np.ndarray, systems: Systems) -> dict[str, Any]:
    """How well each distance finds the classes."""
    by_name: dict[str, np.ndarray] = {
        "dsa": analysis.operator_distances(operators),
        "spectral": analysis.pairwise(operators, analysis.spectral_distance),
        "procrustes": analysis.pairwise(systems.shapes, analysis.procrustes_angle),
        "cka": analysis.pairwise(systems.shapes, lambda X, Y: 1 - analysis.linear_cka(X, Y)),
    }
    if systems.spreads is not None:
        by_name["spread"] = squareform(pdist(systems.spreads))
    result: dict[str, Any] = {"labels": systems.labels, "distances": by_name["dsa"].round(5).tolist()}
    for name, distances in by_name.items():
        result |= {f"{name}_{key}": score for key, score in separation(distances, systems).items()}
    if systems.raw is not None:
        forest = RandomForestClassifier(100, random_state=0)
        result["forest_accuracy"] = float(cross_val_score(forest, systems.raw, systems.labels, cv=3).mean())
    return result


def separation(distances: Float[np.ndarray, "systems systems"], systems: Systems) -> dict[str, float]:
    """How well distances find the classes: clustered, by the nearest, and as a ratio of mean distances."""
    labels = np.array(systems.labels)
    same = labels[:, None] == labels
    others = ~np.eye(len(labels), dtype=bool)
    nearest = KNeighborsClassifier(systems.neighbours, metric="precomputed")
    return {
        "silhouette": analysis.silhouette(distances, labels),
        "accuracy": float(cross_val_score(nearest, distances, labels, cv=LeaveOneOut()).mean()),
        "ratio": float(distances[~same].mean() / max(distances[same & others].mean(), 1e-12)),
    }


def along(operators: np.ndarray, systems: Systems) -> dict[str, Any]:
    """Distances to the first system, in radians; what has no number is unrelated."""
    dsa = analysis.operator_distances(operators[:1], operators)[0]
    shape = np.array([analysis.procrustes_angle(systems.shapes[0], other) for other in systems.shapes])
    numbered = [i for i, label in enumerate(systems.labels) if label is not None]
    unrelated = [i for i, label in enumerate(systems.labels) if label is None]
    result: dict[str, Any] = {"labels": [systems.labels[i] for i in numbered]}
    for name, distances in (("dsa", dsa), ("procrustes", shape)):
        curve = distances[numbered]
        jumps = np.abs(np.diff(curve))
        result[f"{name}_curve"] = curve.round(6).tolist()
        result[f"{name}_most"] = float(curve.max())
        result[f"{name}_last_jump"] = float(jumps[-1] / jumps[:-1].max())
        if unrelated:
            result[f"{name}_unrelated"] = float(distances[unrelated].mean())
    return result
