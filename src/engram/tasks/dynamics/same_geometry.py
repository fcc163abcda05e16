"""Three kinds of dynamics whose trajectories have the same mean: a saddle, a line attractor, a point attractor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks

KINDS = ("bistable", "line", "point")
INPUTS = np.array([-0.1, 0.1])  # one for each condition
STEP = 0.01


def same_geometry(
    models: int, rng: np.random.Generator, *, trials: int = 100, steps: int = 10000, noise: float = 0.05, keep: int = 10
) -> Float[np.ndarray, "kinds models trials time 2"]:
    """Trajectories of two-dimensional systems that differ only in the noise of their trials.

        x_i = x_(i-1) + dt (f(x_(i-1)) + u_i + eps_i),  eps_i ~ N(0, noise^2),  dt = 0.01,  x_0 = 0

    Bistable: f = (a x^3 + b x + I, c y + I), u = 0, in two conditions I = -0.1 and 0.1. A line attractor f = A x, with
    one eigenvalue of 0, and a point attractor, f = diag(p, q) x, get inputs u, the same in all trials of a condition,
    so that their mean over trials follows that of the bistable system.

    Args:
        models: Number of systems of each kind; those with the same index have the same mean.
        rng: Draws parameters and noise.
        trials: Number of trials of each condition.
        steps: Number of steps.
        noise: Standard deviation of eps.
        keep: Number of steps from one state of the result to the next.

    Returns:
        The states for each kind in ``KINDS``; the first half of the trials belongs to the first condition.

    Raises:
        ValueError: A number is below 1, or ``noise`` is negative.

    Source: Ostrow et al. (2023), tutorial of figure 3; the inputs after Galgali, Sahani and Mante (2023).

    Examples:
        >>> same_geometry(2, np.random.default_rng(0), trials=3, steps=50).shape
        (3, 2, 6, 5, 2)
    """
    checks.arguments()
    for name, value in {"models": models, "trials": trials, "steps": steps, "keep": keep}.items():
        checks.size(name, value)
    checks.number("noise", noise, minimum=0)
    a, b, c = (rng.uniform(low, high, (models, 1, 1)) for low, high in ((-5, -4), (4, 5), (-4, -3)))
    line, point = np.zeros((2, models, 2, 2))
    line[:, 1, 1] = rng.uniform(-3, -2, models)
    turn, basis = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2), np.array([[1.0, 0.0], [np.sqrt(0.5), np.sqrt(0.5)]])
    point[:, 0, 0], point[:, 1, 1] = rng.uniform(-5, -4, models), rng.uniform(-9, -8, models)
    linear = np.stack([turn @ basis @ line @ np.linalg.inv(basis), point])
    inputs = INPUTS[:, None]
    x = np.zeros((len(KINDS), models, len(INPUTS), trials, 2))
    trajectories = np.empty((-(-steps // keep), *x.shape))
    for step in range(steps):
        if step % keep == 0:
            trajectories[step // keep] = x
        drift = np.empty_like(x)
        x1, x2 = x[0, ..., 0], x[0, ..., 1]
        drift[0, ..., 0] = (a * x1 * x1 + b) * x1 + inputs
        drift[0, ..., 1] = c * x2 + inputs
        drift[1:] = np.einsum("kmij,kmcnj->kmcni", linear, x[1:])
        mean_before = x[1:].mean(3)
        x = x + STEP * (drift + rng.normal(0, noise, x.shape))
        # The inputs with which the mean moves like that of the bistable system.
        u = (x[0].mean(2) - mean_before) / STEP - np.einsum("kmij,kmcj->kmci", linear, mean_before)
        x[1:] += STEP * u[:, :, :, None]
    return np.moveaxis(trajectories, 0, 4).reshape(len(KINDS), models, len(INPUTS) * trials, len(trajectories), 2)
