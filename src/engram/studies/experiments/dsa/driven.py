"""Systems that are driven by known inputs, and of which few coordinates are observed (InputDSA)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import ortho_group, spearmanr

from engram import analysis
from engram.analysis import DrivenOperators, HankelDMD, driven_distance, fit_driven
from engram.lab import Run, setting, settings

MODULUS, ANGLE = 0.9, 0.4  # of the eigenvalues of the small system
NOISE = ((0.1, 0.0), (0.5, 0.0), (0.0, 0.3))  # standard deviations of the noise of observations and of the state
ENTRIES = ((0.0, 1.0), (1.0, 1.0))  # of its B: only the hidden coordinate is driven, or both are
GRID = (2, 3, 5, 10, 20, 50)  # delays among which the other methods may choose
RADII, GAINS = (0.92, 0.82), (0.5, 2.0)  # of the two A and of the two B of the large systems
KINDS = ("joint", "state", "inputs")  # of distances
Recording = Float[np.ndarray, "_ features"]
Inputs = Float[np.ndarray, "_ inputs"]


@settings
class Noise:
    """A rotation of the plane that is driven, and seen by one noisy unit."""

    trials: int = setting(5, "trials", ge=1)
    steps: int = setting(4000, "samples of a trial", ge=200)
    n_delays: int = setting(20, "delays of the subspace method", ge=2)


def noise_trial(config: Noise, run: Run) -> dict[str, Any]:
    """Fit the modulus of its eigenvalues; the results are the largest errors over kinds of noise and of inputs.

    The regression and the fit without inputs get, for each of these, the delays of smallest error in hindsight.
    """
    cosine, sine = MODULUS * np.cos(ANGLE), MODULUS * np.sin(ANGLE)
    A, conditions = np.array([[cosine, -sine], [sine, cosine]]), [(b, noise) for b in ENTRIES for noise in NOISE]
    errors = np.zeros((len(conditions), 3))
    for step in run.steps(len(conditions), errors=errors):
        b, (observation, process) = conditions[step]
        u = run.rng.normal(size=(config.trials, config.steps, 1))
        x = np.zeros((config.trials, config.steps, 2))
        for t in range(config.steps - 1):
            x[:, t + 1] = x[:, t] @ A.T + u[:, t] * b + process * run.rng.normal(size=(config.trials, 2))
        y = x[..., :1] + observation * run.rng.normal(size=u.shape)
        regressed = (fit(y, u, p, 2, "whitened", method="regression").state for p in GRID)
        errors[step] = (
            _missed(fit(y, u, config.n_delays, 2, "whitened").state),
            min(map(_missed, regressed)),
            min(_missed(autonomous(y, p, 2)) for p in GRID),
        )
        run.log(step + 1, error=errors[step, 0])
    names = ("n4sid", "regression", "autonomous")
    return {f"{name}_error": float(error) for name, error in zip(names, errors.max(0), strict=True)}


@settings
class Driven:
    """Two A and two B of 20 coordinates, of which two are observed, recorded under several inputs."""

    recordings: int = setting(4, "recordings of each of the four systems, each with its own inputs", ge=2)
    steps: int = setting(1000, "samples of a recording", ge=100)
    units: int = setting(20, "coordinates of the state", ge=4)
    observed: int = setting(2, "coordinates that are observed", ge=1)
    inputs: int = setting(1, "inputs", ge=1)
    noise: float = setting(0.01, "standard deviation of the noise of observations", ge=0)
    mixed: bool = setting(False, "whether recordings differ in their coordinates and in the smoothness of inputs")
    n_delays: int = setting(20, "delays", ge=1)
    rank: int = setting(10, "rank of the operators", ge=1)


class Recorded:
    """The recordings: observations y and inputs u of each, and the numbers of their A and B."""

    def __init__(self, config: Driven, rng: np.random.Generator) -> None:
        """Draw the four systems and record them."""
        n, m, count = config.units, config.inputs, config.recordings
        states = [_of_radius(rng.normal(size=(n, n)), radius) for radius in RADII]
        mixing = rng.normal(size=(n, n)) / np.sqrt(n)
        entries = [gain * mixing @ rng.normal(size=(n, m)) for gain in GAINS]
        entries[1] = ortho_group.rvs(n, random_state=rng) @ entries[1]
        shared = rng.permutation(n)[: config.observed]
        self.y: list[Recording] = []
        self.u: list[Inputs] = []
        self.systems = [(a, b) for a in range(2) for b in range(2) for _ in range(count)]
        for number, (a, b) in enumerate(self.systems):
            seen = rng.permutation(n)[: config.observed] if config.mixed else shared
            u = smoothed(rng.normal(size=(config.steps, m)), 0.8 if config.mixed and number % 2 else 0.001)
            x, hidden = np.zeros((config.steps, n)), np.full(n, 0.1)
            hidden[seen] = 0.0
            for t in range(config.steps - 1):
                drift = states[a] @ x[t]
                x[t + 1] = drift + hidden * np.tanh(drift) + entries[b] @ u[t]
            self.y.append(x[:, seen] + config.noise * rng.normal(size=(config.steps, config.observed)))
            self.u.append(u)

    def __iter__(self) -> Iterator[tuple[Recording, Inputs]]:
        """The outputs with the inputs."""
        return zip(self.y, self.u, strict=True)


def systems_trial(config: Driven, run: Run) -> dict[str, Any]:
    """Fit all recordings with and without inputs; the results are silhouettes of the systems, of their A and B.

    A method that finds no input-normal coordinates for a recording, since its fit is unstable even with a rank of 1 or
    inputs reach only a part of it, tells nothing apart: its silhouettes are 0.
    """
    recorded = Recorded(config, run.rng)
    labels = np.array(recorded.systems)
    fits = {
        "n4sid": {"coordinates": "input-normal"},
        "balanced": {"coordinates": "balanced"},
        "whitened": {"coordinates": "whitened"},
        "regression": {"coordinates": "whitened", "method": "regression"},
        "regression_normal": {"coordinates": "input-normal", "method": "regression"},
    }
    rank = stable_rank(recorded.y, recorded.u, config)
    scores = np.zeros((len(fits), len(KINDS)))
    for step in run.steps(len(fits), scores=scores):
        apart = distances(recorded, config.n_delays, rank, **list(fits.values())[step])
        scores[step] = 0.0 if apart is None else silhouettes(apart, labels)
        run.log(step + 1, silhouette=scores[step, 0])
    without_inputs = analysis.operator_distances([autonomous(y, config.n_delays, rank) for y in recorded.y])
    names = "autonomous_joint", "autonomous_state"
    of_autonomous = zip(names, silhouettes([without_inputs] * 2, labels), strict=True)
    by_name = {f"{name}_{kind}": scores[i, k] for i, name in enumerate(fits) for k, kind in enumerate(KINDS)}
    return {"rank": rank, **{name: float(score) for name, score in [*by_name.items(), *of_autonomous]}}


def surrogates_trial(config: Driven, run: Run) -> dict[str, Any]:
    """Fit all recordings with surrogates of their inputs; the results are rank correlations with true distances.

    They are those of the published coordinates, and of input-normal ones. Where a recording has none of these, since
    its fit is unstable or inputs reach only a part of it, distances tell nothing, and the correlation is 0.
    """
    recorded = Recorded(config, run.rng)
    pairs = np.triu_indices(len(recorded.u), 1)
    surrogates: dict[str, Callable[[Inputs], Inputs]] = {
        "true": lambda u: u,
        "filtered": lambda u: smoothed(u, 0.5),
        "delayed": lambda u: np.concatenate([np.zeros_like(u[:1]), u[:-1]]),
        "noisy": lambda u: u + u.std() * run.rng.normal(size=u.shape),
        "unrelated": lambda u: u.std() * run.rng.normal(size=u.shape),
    }
    coordinates = {"": "balanced", "input_normal_": "input-normal"}
    apart = np.zeros((len(surrogates), len(coordinates), len(pairs[0])))
    for step in run.steps(len(surrogates), apart=apart):
        inputs = [list(surrogates.values())[step](u) for u in recorded.u]
        rank = stable_rank(recorded.y, inputs, config)
        for i, name in enumerate(coordinates.values()):
            found = distances(zip(recorded.y, inputs, strict=True), config.n_delays, rank, coordinates=name)
            apart[step, i] = 0.0 if found is None else found[0][pairs]
        run.log(step + 1, distance=apart[step, 0].mean())
    return {
        prefix + name: _correlation(apart[0, i], other[i])
        for i, prefix in enumerate(coordinates)
        for name, other in zip(surrogates, apart, strict=True)
    }


def stable_rank(outputs: Sequence[Recording], inputs: Sequence[Inputs], config: Driven) -> int:
    """The largest rank, up to that of the settings, at which all recordings have a stable fit; at least 1."""
    for rank in range(config.rank, 1, -1):
        systems = (fit(y, u, config.n_delays, rank, "whitened") for y, u in zip(outputs, inputs, strict=True))
        if all(np.abs(np.linalg.eigvals(system.state)).max() < 1 for system in systems):
            return rank
    return 1


def distances(
    recordings: Iterable[tuple[Recording, Inputs]], n_delays: int, rank: int, **options: Any
) -> Float[np.ndarray, "kinds systems systems"] | None:
    """The angles of each kind between the fits of recordings; None if one of them has no input-normal coordinates."""
    try:
        systems = [fit(y, u, n_delays, rank, **options) for y, u in recordings]
    except ValueError:
        return None
    found = np.zeros((len(KINDS), len(systems), len(systems)))
    for i, first in enumerate(systems):
        for j in range(i):
            found[:, i, j] = found[:, j, i] = driven_distance(first, systems[j])[: len(KINDS)]
    return found


def silhouettes(
    apart: Sequence[Float[np.ndarray, "systems systems"]] | Float[np.ndarray, "kinds systems systems"],
    labels: Int[np.ndarray, "systems 2"],
) -> list[float]:
    """The silhouettes of the systems by joint distances, of their A by those of states, of their B by those of inputs.

    Args:
        apart: Distances of the first of these kinds, or of all.
        labels: Numbers of A and of B of each recording.
    """
    classes = (2 * labels[:, 0] + labels[:, 1], labels[:, 0], labels[:, 1])
    return [float(analysis.silhouette(of_kind, own)) for of_kind, own in zip(apart, classes, strict=False)]


def smoothed(u: Inputs, share: float) -> Inputs:
    """Inputs s(t) = share s(t - 1) + (1 - share) u(t)."""
    result = u * (1 - share)
    for t in range(1, len(u)):
        result[t] += share * result[t - 1]
    return result


def fit(
    y: Any, u: Any, n_delays: int, rank: int, coordinates: Any = "input-normal", *, method: Any = "n4sid"
) -> DrivenOperators:
    """A fit without warnings of weak inputs and of instability, since such fits are what is compared here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return fit_driven(y, u, HankelDMD(n_delays, rank=rank), method=method, coordinates=coordinates)


def autonomous(y: Any, n_delays: int, rank: int) -> Float[np.ndarray, "rank rank"]:
    """The operator of a fit that does without inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(HankelDMD(n_delays, rank=rank).fit(y).operator_)


def _correlation(first: Float[np.ndarray, "pairs"], second: Float[np.ndarray, "pairs"]) -> float:
    """Spearman's rank correlation; 0 if either does not vary."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def _missed(A: Float[np.ndarray, "rank rank"]) -> float:
    """The error of the largest modulus."""
    return float(abs(np.abs(np.linalg.eigvals(A)).max() - MODULUS))


def _of_radius(A: Float[np.ndarray, "n n"], radius: float) -> Float[np.ndarray, "n n"]:
    return np.asarray(A * (radius / np.abs(np.linalg.eigvals(A)).max()))
