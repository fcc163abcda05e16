"""DSA of systems that are driven by inputs (InputDSA): operators of the state and of the inputs, compared together."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import linalg

from engram import checks
from engram.analysis.similarity.hankel_dmd import HankelDMD
from engram.analysis.similarity.operator_distance import align_operators
from engram.analysis.similarity.subspace import Identified, identify, unit
from engram.analysis.similarity.trials import Data, Recording, as_trials, refuse_shorter

WEAK, UNREACHED = 0.01, 1e-12  # shares of a coordinate's variance under white inputs: little, and none
SMALL = 1e-13  # relative singular values of products of controllability blocks that count as zero
Inputs = Float[np.ndarray, "_ inputs"]  # of one trial
Method = Annotated[Any, Literal["n4sid", "regression"]]
Coordinates = Annotated[Any, Literal["input-normal", "balanced", "whitened"]]


class DrivenOperators(NamedTuple):
    """The operators of a driven system, x(t + 1) = A x(t) + B u(t), y(t) = C x(t).

    Attributes:
        state: A.
        inputs: B.
        observation: C, or None.
        singular_values: Those among which the rank was chosen, descending, divided by the root of the number of
            samples; or None.
        condition: Condition number of the regressors, from which past and future (``"n4sid"``), or states and inputs
            (``"regression"``), are separated; NaN if nothing was fitted.
    """

    state: Float[np.ndarray, "rank rank"]
    inputs: Float[np.ndarray, "rank inputs"]
    observation: Float[np.ndarray, "features rank"] | None = None
    singular_values: Float[np.ndarray, " values"] | None = None
    condition: float = np.nan


class DrivenDistance(NamedTuple):
    """Distances between two driven systems after one orthogonal change of coordinates.

    Attributes:
        joint: Between their controllability blocks.
        state: Between their A.
        inputs: Between their B.
        transform: The change of coordinates C of the second system.
        normalised: Whether A and B were divided by their norms before.
        reached: Number of coordinates that the inputs of both reach. If it is below the rank, C is free on the others,
            and ``state`` is an upper bound.
    """

    joint: float
    state: float
    inputs: float
    transform: Float[np.ndarray, "rank rank"]
    normalised: bool
    reached: int


def fit_driven(
    X: Data,
    inputs: Data,
    dmd: HankelDMD | None = None,
    *,
    method: Method = "n4sid",
    future: int | None = None,
    coordinates: Coordinates = "input-normal",
) -> DrivenOperators:
    """Fit the operators of a system with known inputs, of which only some features may be observed.

        x(t + 1) = A x(t) + B u(t),   y(t) = C x(t)                                      y: a sample of X

    ``"n4sid"`` projects the ``future`` samples of y from t on the ``n_delays`` samples of u and y before t, along the
    future inputs. ``"regression"`` is the least-squares fit to the eigen-time-delay coordinates of ``HankelDMD``, which
    is exact if X is the whole state, without delays; otherwise inputs older than u(t) are left out and bias it, more
    than noise does. A direct effect of u(t) on y(t) does not bias ``"n4sid"``; inputs that depend on noise of earlier
    samples, as in a closed loop, do.

    Distances need coordinates that are unique up to a rotation. ``"input-normal"`` depend on A and B alone: white
    inputs would give states of covariance W = A W A^T + B B^T = I, whatever the features and the inputs were. Only the
    scale of several inputs relative to each other counts. They need a stable A, and inputs that reach all coordinates;
    those reached weakly are magnified with their noise, so that the rank should be no larger than needed.
    ``"whitened"``: states have the second moment I, and depend on the inputs too. ``"balanced"``: as published, states
    have second moments of the size of the singular values, and depend on the inputs and on linear maps of the features.

    Args:
        X: One trial (time, features), (trials, time, features), or a list of trials.
        inputs: The inputs u of each trial, (time, inputs), of the same length as the trial.
        dmd: Settings ``n_delays``, ``rank``, ``reg`` and ``center``, which also subtracts means of the inputs; None:
            ``HankelDMD()``. ``n_delays`` times features should be at least twice the rank, and at least 5 with noise.
            The rank of ``"n4sid"``, if None, counts the singular values above a threshold for the noise of residuals.
            ``"regression"`` takes all settings, and fits the estimator in place.
        method: ``"n4sid"`` or ``"regression"``.
        future: Samples in the future of a window; None: ``n_delays``.
        coordinates: ``"input-normal"``, ``"balanced"`` or ``"whitened"``.

    Raises:
        ValueError: A trial is too short, inputs are not those of the trials or excite too few frequencies, the rank is
            larger than the data allow, or the coordinates need a stable system that the inputs reach.

    Source: Huang, Ostrow et al., "InputDSA" (2025, arXiv 2510.25943); Van Overschee and De Moor, "N4SID" (1994); the
    regression is dynamic mode decomposition with control, Proctor, Brunton and Kutz (2016). Input-normal coordinates:
    Moore, "Principal component analysis in linear systems" (1981).

    Examples:
        >>> u, x = np.random.default_rng(0).normal(size=(200, 1)), np.zeros((200, 2))
        >>> for t in range(199):
        ...     x[t + 1] = [0.9 * x[t, 0] + u[t, 0], 0.5 * x[t, 0] + 0.3 * x[t, 1]]
        >>> np.sort(np.linalg.eigvals(fit_driven(x[:, 1:], u, HankelDMD(n_delays=4)).state)).round(6).tolist()
        [0.3, 0.9]
    """
    checks.arguments()
    checks.choice("method", method, ("n4sid", "regression"))
    checks.choice("coordinates", coordinates, ("input-normal", "balanced", "whitened"))
    if future is not None:
        checks.size("future", future)
    dmd = HankelDMD() if dmd is None else checks.instance("dmd", dmd, HankelDMD)
    dmd._validate_params()
    trials, driven = as_trials(X), as_trials(inputs, "inputs")
    lengths, expected = ([len(trial) for trial in recordings] for recordings in (driven, trials))
    if lengths != expected:
        raise ValueError(f"inputs have trials of {lengths} samples: expected {expected}, as in X")
    outputs, driven = _centred(trials, dmd.center), _centred(driven, dmd.center)
    if method == "regression" and future is not None:
        raise ValueError(f'future = {future!r}: expected None with method = "regression"')
    size, input_size = 1.0 if method == "regression" else _largest(outputs), _largest(driven)
    outputs, driven = [y / size for y in outputs], [u / input_size for u in driven]  # so that no square overflows
    if method == "n4sid":
        found = _in_coordinates(_subspace(outputs, driven, dmd, future), coordinates, driven)
    else:
        found = _in_coordinates(_regress(trials, outputs, driven, dmd), coordinates, driven)
    # States in these coordinates have the unit of the inputs, of the root of an output, or none.
    unit_of_state = {"input-normal": input_size, "balanced": np.sqrt(size), "whitened": 1.0}[coordinates]
    return DrivenOperators(
        found.state,
        found.inputs * (unit_of_state / input_size),
        found.observation * (size / unit_of_state),
        found.singular_values * size,
        found.condition,
    )


def _largest(trials: list[Recording]) -> float:
    return max(float(np.abs(trial).max()) for trial in trials) or 1.0


def _subspace(trials: list[Recording], driven: list[Inputs], dmd: HankelDMD, future: int | None) -> Identified:
    for name, value in (("delay_interval", 1), ("steps_ahead", 1), ("method", "pcr"), ("rank_threshold", 0)):
        if (own := getattr(dmd, name)) != value:
            raise ValueError(f'dmd.{name} = {own!r}: expected {value!r} with method = "n4sid"')
    past, future = dmd.n_delays, future or dmd.n_delays
    refuse_shorter(trials, past + future + 1, f"{past} + {future} + 1, for n_delays in the past and a future")
    if not any(trial.any() for trial in trials):
        raise ValueError(f"X is zero everywhere{' after its mean is subtracted' if dmd.center else ''}: expected data")
    features, n_inputs = trials[0].shape[1], driven[0].shape[1]
    windows = sum(len(trial) - past - future + 1 for trial in trials)
    if (regressors := past * (features + n_inputs) + future * n_inputs) > windows / 2:
        warnings.warn(
            f"n_delays = {past} gives {regressors} regressors for {windows} windows: expected at most half as many",
            RuntimeWarning,
            stacklevel=3,
        )
    return identify(trials, driven, past=past, future=future, rank=dmd.rank, reg=float(dmd.reg))


def _regress(trials: list[Recording], centred: list[Recording], driven: list[Inputs], dmd: HankelDMD) -> Identified:
    horizon, offset = dmd.fit(trials).steps_ahead, (dmd.n_delays - 1) * dmd.delay_interval
    coordinates = dmd.transform(trials)
    states_and_inputs = np.concatenate(
        [np.hstack([v[:-horizon], u[offset : len(u) - horizon]]) for v, u in zip(coordinates, driven, strict=True)]
    )
    next_states = np.concatenate([v[horizon:] for v in coordinates])
    gram = states_and_inputs.T @ states_and_inputs + dmd.reg * np.eye(states_and_inputs.shape[1])
    operators = linalg.solve(gram, states_and_inputs.T @ next_states, assume_a="pos", check_finite=False).T
    rank, scale = coordinates[0].shape[1], np.sqrt(sum(map(len, coordinates)))
    samples = np.concatenate([trial[offset:] for trial in centred])
    observation = np.linalg.lstsq(np.concatenate(coordinates), samples)[0].T / scale
    condition = float(np.linalg.cond(unit(states_and_inputs)[0]))
    A, B = operators[:, :rank].copy(), operators[:, rank:] * scale
    return Identified(A, B, observation, dmd.singular_values_ / scale, condition)


def _centred(trials: list[Recording], center: str | None) -> list[Recording]:
    if center is None:
        return trials
    mean = np.concatenate(trials).mean(0)
    return [trial - (mean if center == "global" else trial.mean(0)) for trial in trials]


def _in_coordinates(system: Identified, coordinates: str, driven: list[Recording]) -> Identified:
    """The system in other coordinates than those in which its states have the second moment I.

    Args:
        system: The system in these coordinates.
        coordinates: Name of the others.
        driven: Inputs of each trial.
    """
    (A, B, C, singular_values, condition), n = system, len(system.state)
    if coordinates == "whitened":
        return system
    if coordinates == "balanced":
        scale = np.sqrt(singular_values[:n])
        return Identified(A * scale[:, None] / scale, B * scale[:, None], C / scale, singular_values, condition)
    if (radius := float(np.abs(np.linalg.eigvals(A)).max())) >= 1:
        raise ValueError(
            f'coordinates = "input-normal": expected a stable system, but its spectral radius is {radius:.4f}; take '
            '"balanced" coordinates or a lower rank'
        )
    input_variances = (np.concatenate(driven) ** 2).mean(0)
    reach = np.linalg.eigvalsh(linalg.solve_discrete_lyapunov(A, (B * input_variances) @ B.T))[0]
    if reach <= UNREACHED:
        raise ValueError(
            f'coordinates = "input-normal": expected inputs that reach all {n} coordinates, but some get only '
            f'{max(reach, 0):.0e} of their variance from white inputs; take "balanced" coordinates or a lower rank'
        )
    if reach < WEAK:
        warnings.warn(
            f"white inputs would give some coordinates only {reach:.0e} of their variance: input-normal coordinates "
            "magnify these and their noise; a lower rank may be better",
            RuntimeWarning,
            stacklevel=3,
        )
    variances, basis = np.linalg.eigh(linalg.solve_discrete_lyapunov(A, B @ B.T))
    to, back = ((basis * variances**power) @ basis.T for power in (-0.5, 0.5))
    return Identified(to @ A @ back, to @ B, C @ back, singular_values, condition)


def driven_distance(
    first: DrivenOperators,
    second: DrivenOperators,
    *,
    metric: Annotated[Any, Literal["angular", "euclidean"]] = "angular",
    normalise: bool = True,
    blocks: Annotated[Any, Literal["all", "published"]] = "all",
) -> DrivenDistance:
    """The distance between two driven systems up to an orthogonal change of coordinates, in closed form.

        K = [B, A B, A^T B, ..., A^n B, (A^T)^n B],   C = argmin over O(n) of ||K_1 - C K_2||_F

    The distances are between K_1 and C K_2 (joint), A_1 and C A_2 C^T (state), and B_1 and C B_2 (inputs). If the
    inputs reach all coordinates, the joint distance is 0 for conjugate systems alone. C minimises it, and not the
    distance of A or B: for A alone there is ``operator_distance``. Both systems must have the same rank and inputs.

    Args:
        first: A system, in coordinates that are unique up to a rotation.
        second: Another one, in coordinates of the same kind.
        metric: ``"angular"``, angles in radians, or ``"euclidean"``, Frobenius norms of differences.
        normalise: Divide A and B by their norms first, so that scales of A and B do not count; otherwise powers of an A
            with a spectral radius above 1 outweigh all other blocks, and B outweighs those of a small A.
        blocks: ``"all"``, or ``"published"``: without the last two, A^n B and (A^T)^n B. Without them a part of A does
            not count, and systems that are not conjugate may have a joint distance of 0.

    Raises:
        ValueError: The shapes of the systems differ, or an operator is zero whose norm is needed.

    Source: Huang, Ostrow et al. (2025), and its code; the last two blocks are ours.

    Examples:
        >>> A, B = np.diag([0.5, 0.9]), np.array([[1.0], [2.0]])
        >>> distance = driven_distance(DrivenOperators(A, B), DrivenOperators(A[::-1, ::-1].copy(), B[::-1].copy()))
        >>> round(distance.joint, 6), round(distance.state, 6)
        (0.0, 0.0)
    """
    checks.arguments()
    checks.choice("metric", metric, ("angular", "euclidean"))
    checks.choice("blocks", blocks, ("all", "published"))
    n = len(first.state)
    for name, shape in (("state", (n, n)), ("inputs", np.shape(first.inputs))):
        for argument, system in (("first", first), ("second", second)):
            values = checks.array(f"{argument}.{name}", getattr(system, name), shape)
            if (normalise or metric == "angular") and not values.any():
                raise ValueError(f"{argument}.{name} is zero: expected an operator with a norm")
    (A1, B1), (A2, B2) = ((system.state, system.inputs) for system in (first, second))
    if normalise:
        A1, B1, A2, B2 = (operator / np.linalg.norm(operator) for operator in (A1, B1, A2, B2))
    power = n if blocks == "all" else n - 1
    K1, K2 = _controllability(A1, B1, power), _controllability(A2, B2, power)
    left, values, right = np.linalg.svd(K1 @ K2.T)
    reached = int((values > SMALL * values[0]).sum())
    distance = _angle if metric == "angular" else _euclidean
    C = left @ right
    if reached < n:
        free = _free_alignments(A1, A2, left[:, reached:], right[reached:])
        C = min(
            (left[:, :reached] @ right[:reached] + part for part in free), key=lambda C: _euclidean(A1, C @ A2 @ C.T)
        )
    distances = distance(K1, C @ K2), distance(A1, C @ A2 @ C.T), distance(B1, C @ B2)
    return DrivenDistance(*distances, C, normalise, reached)


def _controllability(
    A: Float[np.ndarray, "n n"], B: Float[np.ndarray, "n inputs"], power: int
) -> Float[np.ndarray, "n blocks"]:
    blocks, forward, backward = [B], B, B
    for _ in range(power):
        forward, backward = A @ forward, A.T @ backward
        blocks += [forward, backward]
    return np.hstack(blocks)


def _free_alignments(
    A1: Float[np.ndarray, "n n"],
    A2: Float[np.ndarray, "n n"],
    left: Float[np.ndarray, "n free"],
    right: Float[np.ndarray, "free n"],
) -> list[Float[np.ndarray, "n n"]]:
    """Candidates for the part of C on which the inputs have no effect: as it comes, and the best one for A there."""
    first, second = left.T @ A1 @ left, right @ A2 @ right.T
    candidates = [left @ right]
    if first.any() and second.any():
        aligned = left @ align_operators(first, second).transform @ right
        candidates += [aligned, -aligned]
    return candidates


def _angle(X: Float[np.ndarray, "n m"], Y: Float[np.ndarray, "n m"]) -> float:
    return float(2 * np.arcsin(min(_euclidean(X / np.linalg.norm(X), Y / np.linalg.norm(Y)) / 2, 1.0)))


def _euclidean(X: Float[np.ndarray, "n m"], Y: Float[np.ndarray, "n m"]) -> float:
    return float(np.linalg.norm(X - Y))
