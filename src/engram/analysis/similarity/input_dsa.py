"""DSA of systems that are driven by inputs (InputDSA): operators of the state and of the inputs, compared together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import linalg

from engram import checks
from engram.analysis.similarity.hankel_dmd import HankelDMD
from engram.analysis.similarity.trials import Data, as_trials


class DrivenOperators(NamedTuple):
    """The operators of a driven system, v(t + h) = A v(t) + B u(t): A of the state, B of the inputs."""

    state: Float[np.ndarray, "rank rank"]
    inputs: Float[np.ndarray, "rank inputs"]


class DrivenDistance(NamedTuple):
    """Angles between two driven systems after one orthogonal change of coordinates ``transform``.

    ``joint`` is the angle between their controllability blocks, ``state`` between their A, ``inputs`` between their B.
    """

    joint: float
    state: float
    inputs: float
    transform: Float[np.ndarray, "rank rank"]


def fit_driven(X: Data, inputs: Data, dmd: HankelDMD | None = None) -> DrivenOperators:
    """Fit the operators of a system with known inputs.

        min over A, B of sum_t |v(t + h) - A v(t) - B u(t)|^2 + reg (|A|^2 + |B|^2)

    with the eigen-time-delay coordinates v of ``HankelDMD``, and u(t) the input at the latest sample of v(t).

    Args:
        X: One trial (time, features), (trials, time, features), or a list of trials.
        inputs: The inputs u of each trial, (time, inputs), of the same length as the trial.
        dmd: Estimator of the coordinates, which is fitted in place; None: ``HankelDMD()``.

    Source: Huang, Ostrow et al., "InputDSA" (2025, arXiv 2510.25943); the regression is dynamic mode decomposition
    with control, Proctor, Brunton and Kutz (2016).

    Examples:
        >>> u, x = np.random.default_rng(0).normal(size=(200, 1)), np.zeros((200, 1))
        >>> for t in range(199):
        ...     x[t + 1] = 0.9 * x[t] + u[t]
        >>> fit_driven(x, u).state.round(6)
        array([[0.9]])
    """
    dmd = HankelDMD() if dmd is None else checks.instance("dmd", dmd, HankelDMD)
    trials, driven = as_trials(X), as_trials(inputs, "inputs")
    lengths, expected = ([len(trial) for trial in recordings] for recordings in (driven, trials))
    if lengths != expected:
        raise ValueError(f"inputs have trials of {lengths} samples: expected {expected}, as in X")
    dmd.fit(trials)
    horizon, offset = dmd.steps_ahead, (dmd.n_delays - 1) * dmd.delay_interval
    coordinates = dmd.transform(trials)
    states_and_inputs = np.concatenate(
        [np.hstack([v[:-horizon], u[offset : len(u) - horizon]]) for v, u in zip(coordinates, driven, strict=True)]
    )
    next_states = np.concatenate([v[horizon:] for v in coordinates])
    gram = states_and_inputs.T @ states_and_inputs + dmd.reg * np.eye(states_and_inputs.shape[1])
    operators = linalg.solve(gram, states_and_inputs.T @ next_states, assume_a="pos", check_finite=False).T
    rank = coordinates[0].shape[1]
    return DrivenOperators(operators[:, :rank].copy(), operators[:, rank:].copy())


def driven_distance(first: DrivenOperators, second: DrivenOperators) -> DrivenDistance:
    """The distance between two driven systems up to an orthogonal change of coordinates, in closed form.

        K = [B, A B, A^T B, A^2 B, (A^T)^2 B, ...], n blocks,  C = argmin over O(n) of ||K_1 - C K_2||_F

    The angles are between K_1 and C K_2, A_1 and C A_2 C^T, B_1 and C B_2. A and B are first divided by
    their norms, which must not be zero. Both systems must have the same rank and number of inputs.

    Source: Huang, Ostrow et al. (2025).

    Examples:
        >>> A, B = np.diag([0.5, 0.9]), np.array([[1.0], [2.0]])
        >>> distance = driven_distance(DrivenOperators(A, B), DrivenOperators(A[::-1, ::-1].copy(), B[::-1].copy()))
        >>> round(distance.joint, 6), round(distance.state, 6)
        (0.0, 0.0)
    """
    checks.arguments()
    for name, shape in zip(DrivenOperators._fields, map(np.shape, first), strict=True):
        for argument, system in (("first", first), ("second", second)):
            if not checks.array(f"{argument}.{name}", getattr(system, name), shape).any():
                raise ValueError(f"{argument}.{name} is zero: expected an operator with a norm")
    (A1, B1), (A2, B2) = ((A / np.linalg.norm(A), B / np.linalg.norm(B)) for A, B in (first, second))
    K1, K2 = _controllability(A1, B1), _controllability(A2, B2)
    C = linalg.orthogonal_procrustes(K2.T, K1.T)[0].T
    return DrivenDistance(_angle(K1, C @ K2), _angle(A1, C @ A2 @ C.T), _angle(B1, C @ B2), C)


def _controllability(A: Float[np.ndarray, "n n"], B: Float[np.ndarray, "n inputs"]) -> Float[np.ndarray, "n blocks"]:
    blocks, forward, backward = [B], B, B
    while len(blocks) < len(A):
        forward, backward = A @ forward, A.T @ backward
        blocks += [forward, backward]
    return np.hstack(blocks[: len(A)])


def _angle(X: Float[np.ndarray, "n m"], Y: Float[np.ndarray, "n m"]) -> float:
    distance = np.linalg.norm(X / np.linalg.norm(X) - Y / np.linalg.norm(Y))
    return float(2 * np.arcsin(min(float(distance) / 2, 1.0)))
