"""The common trial: operators are fitted to systems, and their distances are tested against known similarity."""

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

COMPONENTS = 15  # principal components of a network's activity

SHOWN = 24  # systems of each class in the figure


@settings
class Fit:
    """The settings for fitting an operator."""

    n_delays: int = setting(10, "delays of the embedding", ge=1)
    rank: int = setting(15, "rank of the operator", ge=1)


def check_rank(fit: Fit, features: int) -> None:
    """Raise ValueError if the rank of an operator exceeds the number of its delayed features.

    Args:
        fit: The settings of the fit.
        features: Number of features of the activity.
    """
    if fit.rank > fit.n_delays * features:
        delayed = f"fit.n_delays = {fit.n_delays} times {features} features"
        raise ValueError(f"fit.rank = {fit.rank}: expected at most {delayed}")


class Systems(NamedTuple):
    """The systems to be compared."""

    activity: list[list[np.ndarray]]  # the trials of each system, (time, features), to which operators are fitted
    shapes: list[np.ndarray]  # the data for geometric measures, (samples, features) for each system
    labels: list[Any]  # the class of each system, or a number by which they are ordered; None if it has none
    ordered: bool = False  # whether labels are such numbers; distances are then measured from the first system
    published: float = np.inf  # the largest of these numbers that was published
    raw: np.ndarray | None = None  # (systems, features) for a random forest and for plain Euclidean distances
    neighbours: int = 1  # number of nearest systems from which a class is predicted
    spreads: np.ndarray | None = None  # (systems, directions) log spread of trials, regardless of temporal order


def trial(config: Any, run: Run) -> dict[str, Any]:
    """Generate the systems of a study, fit an operator to each, and compare them."""
    systems: Systems = config.systems(run)
    fit: Fit = config.fit
    operators = np.empty((len(systems.activity), fit.rank, fit.rank))
    predicted = np.zeros(len(operators))
    for step in run.steps(len(operators), operators=operators, predicted=predicted):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # about an unstable fit; its radius is logged
            dmd = analysis.HankelDMD(fit.n_delays, rank=fit.rank).fit(systems.activity[step])
        operators[step], predicted[step] = dmd.operator_, dmd.score(systems.activity[step])
        run.log(step + 1, prediction=predicted[step], radius=dmd.spectral_radius_)
    result = along(operators, systems) if systems.ordered else between(operators, systems)
    return {**result, "prediction": float(predicted.mean())}


def between(operators: np.ndarray, systems: Systems) -> dict[str, Any]:
    """The separation of the classes by each distance."""
    by_name: dict[str, np.ndarray] = {
        "dsa": analysis.operator_distances(operators),
        "spectral": analysis.pairwise(operators, analysis.spectral_distance),
        "procrustes": analysis.pairwise(systems.shapes, analysis.procrustes_angle),
        "cka": analysis.pairwise(systems.shapes, lambda X, Y: 1 - analysis.linear_cka(X, Y)),
    }
    # 1 - CKA grows with the square of a small change; the arc cosine is an angle, as the distances of the others are.
    by_name["cka_angle"] = np.arccos(np.clip(1 - by_name["cka"], -1, 1))
    if systems.spreads is not None:
        by_name["spread"] = squareform(pdist(systems.spreads))
        # Operators do not see the scale of activity; a control on the same terms sees only the ratios of spreads.
        by_name["relative_spread"] = squareform(pdist(systems.spreads - systems.spreads.mean(1, keepdims=True)))
    if systems.raw is not None:
        by_name["raw"] = squareform(pdist(systems.raw))
        by_name["euclidean"] = squareform(pdist(np.stack([samples.ravel() for samples in systems.shapes])))
    some = [i for i, label in enumerate(systems.labels) if systems.labels[:i].count(label) < SHOWN]
    distances_of_some = by_name["dsa"][np.ix_(some, some)].round(5).tolist()
    shown = {"labels": [systems.labels[i] for i in some], "distances": distances_of_some}
    result: dict[str, Any] = {"shown": shown}
    for name, distances in by_name.items():
        result |= {f"{name}_{key}": score for key, score in separation(distances, systems).items()}
    if systems.raw is not None:
        forest = RandomForestClassifier(100, random_state=0)
        result["forest_accuracy"] = float(cross_val_score(forest, systems.raw, systems.labels, cv=3).mean())
    return result


def separation(distances: Float[np.ndarray, "systems systems"], systems: Systems) -> dict[str, float]:
    """The separation of classes: the silhouette, nearest-neighbour accuracy, and a ratio of mean distances."""
    labels = np.array(systems.labels)
    same_class = labels[:, None] == labels
    off_diagonal = ~np.eye(len(labels), dtype=bool)
    nearest = KNeighborsClassifier(systems.neighbours, metric="precomputed")
    return {
        "silhouette": analysis.silhouette(distances, labels),
        "accuracy": float(cross_val_score(nearest, distances, labels, cv=LeaveOneOut()).mean()),
        "ratio": float(distances[~same_class].mean() / max(distances[same_class & off_diagonal].mean(), 1e-12)),
    }


def along(operators: np.ndarray, systems: Systems) -> dict[str, Any]:
    """Distances to the first system, in radians; systems without a number are unrelated.

    The largest one is given for the published numbers, and as the widest for all.
    """
    dsa = analysis.operator_distances(operators[:1], operators)[0]
    shape = np.array([analysis.procrustes_angle(systems.shapes[0], samples) for samples in systems.shapes])
    numbered = [i for i, label in enumerate(systems.labels) if label is not None]
    unrelated = [i for i, label in enumerate(systems.labels) if label is None]
    numbers = [systems.labels[i] for i in numbered]
    result: dict[str, Any] = {"labels": numbers}
    for name, distances in (("dsa", dsa), ("procrustes", shape)):
        curve = distances[numbered]
        jumps = np.abs(np.diff(curve))
        result[f"{name}_curve"] = curve.round(6).tolist()
        result[f"{name}_most"] = float(curve[np.array(numbers) <= systems.published].max())
        result[f"{name}_widest"] = float(curve.max())
        result[f"{name}_last_jump"] = float(jumps[-1] / jumps[:-1].max())
        if unrelated:
            result[f"{name}_unrelated"] = float(distances[unrelated].mean())
    return result
