"""Small dynamical systems, seen through random high-dimensional embeddings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks

KINDS, VIEWS = ("lorenz", "van-der-pol", "bistable"), ("linear", "tanh", "sinh")


def latent_dynamics(
    kind: str, rng: np.random.Generator, *, trials: int = 20, steps: int = 400
) -> Float[np.ndarray, "trials time latent"]:
    """Trajectories of a small system from random initial states, after a transient.

        lorenz: z' = (10 (y - x), x (28 - w) - y, x y - 8/3 w), a sample every 0.02
        van-der-pol: z' = (y, 2 (1 - x^2) y - x), a sample every 0.1
        bistable: dz = (x - x^3, -y) dt + 0.4 dW, a sample every 0.1

    by Runge-Kutta (bistable: Euler-Maruyama) in steps of a fifth of this interval; each coordinate has unit variance.

    Args:
        kind: ``"lorenz"``, ``"van-der-pol"`` or ``"bistable"``.
        rng: Draws initial states and noise.
        trials: Number of trials.
        steps: Number of samples of a trial.

    Raises:
        ValueError: ``kind`` is unknown, ``trials`` is below 1, or ``steps`` is below 2.

    Source: Lorenz (1963); van der Pol (1926); our protocol.

    Examples:
        >>> latent_dynamics("lorenz", np.random.default_rng(0), trials=2, steps=30).shape
        (2, 30, 3)
    """
    checks.arguments()
    checks.choice("kind", kind, KINDS)
    checks.size("trials", trials)
    checks.size("steps", steps, 2)
    size, settle = (3 if kind == "lorenz" else 2), 200
    dt = (0.02 if kind == "lorenz" else 0.1) / 5
    z = rng.normal(size=(trials, size)) + np.array([0, 0, 25])[-size:] * (kind == "lorenz")
    samples = np.empty((trials, steps, size))
    for step in range(-settle, 5 * steps):
        if step >= 0 and step % 5 == 0:
            samples[:, step // 5] = z
        if kind == "bistable":
            z = z + dt * _flow(kind, z) + 0.4 * np.sqrt(dt) * rng.normal(size=z.shape)
        else:
            k1 = _flow(kind, z)
            k2 = _flow(kind, z + dt / 2 * k1)
            k3 = _flow(kind, z + dt / 2 * k2)
            z = z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + _flow(kind, z + dt * k3))
    return np.asarray(samples / samples.std((0, 1)))


def observed(
    latent: Float[np.ndarray, "trials time latent"], view: str, rng: np.random.Generator, units: int = 20
) -> Float[np.ndarray, "trials time units"]:
    """The activity of units that observe a system, phi(W z), with random orthonormal columns of W.

    Args:
        latent: States z.
        view: phi: ``"linear"`` (the identity), ``"tanh"`` (tanh(1.5 x)) or ``"sinh"``.
        rng: Draws W.
        units: Number of units.

    Raises:
        ValueError: ``view`` is unknown, or ``units`` is below 2 or the number of coordinates of a state.

    Examples:
        >>> observed(np.zeros((1, 5, 2)), "tanh", np.random.default_rng(0)).shape
        (1, 5, 20)
    """
    checks.arguments()
    from scipy.stats import ortho_group  # takes half as long to import as torch

    checks.choice("view", view, VIEWS)
    size = latent.shape[-1]
    checks.size("units", units, max(size, 2))
    projected = latent @ ortho_group.rvs(units, random_state=rng)[:size]
    if view == "linear":
        return projected
    return np.tanh(1.5 * projected) if view == "tanh" else np.sinh(projected)


def _flow(kind: str, z: Float[np.ndarray, "trials latent"]) -> Float[np.ndarray, "trials latent"]:
    if kind == "lorenz":
        x, y, w = z.T
        return np.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], axis=1)
    x, y = z.T
    if kind == "van-der-pol":
        return np.stack([y, 2 * (1 - x**2) * y - x], axis=1)
    return np.stack([x - x**3, -y], axis=1)
