"""Costs of five manoeuvres of an aircraft near another one: a substitute for the tables behind ACAS Xu."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from engram import checks

TURNS = np.radians([0.0, 15.0, -15.0, 30.0, -30.0])  # clear of conflict, weak left and right, strong left and right
EFFORT = np.array([0.0, 0.1, 0.1, 0.2, 0.2])
WIDTH, TIMES = 3.0, np.arange(0.0, 31.0, 1.5)  # thousands of feet, seconds


def collision_advice(
    n_samples: int, random_state: Annotated[Any, int | np.random.Generator] = 0
) -> tuple[Float[np.ndarray, "samples 5"], Float[np.ndarray, "samples 5"]]:
    """Random encounters of two aircraft, and the smooth costs of five manoeuvres; the cheapest one is the advice.

        cost_k = effort_k + mean over t of 10 exp(-|p + t (w - v_k)|^2 / (2 width^2))

    with the intruder at p = rho (cos theta, sin theta), its velocity w in the direction psi, and own velocity v_k,
    turned by 0, 15, -15, 30 or -30 degrees; t is up to 30 seconds, the efforts are 0, 0.1, 0.1, 0.2 and 0.2, and the
    width is 3,000 feet.

    Args:
        n_samples: Number of encounters.
        random_state: A seed or a generator.

    Returns:
        Inputs, uniform in [-0.5, 0.5]: distance rho, from 0 to 20,000 feet; angles theta to the intruder and psi of its
        heading, from -pi to pi; own speed and the intruder's, from 0 to 1,000 feet a second. Then the costs of clear of
        conflict, weak left, weak right, strong left and strong right.

    Raises:
        ValueError: ``n_samples`` is below 1, or ``random_state`` is negative.

    Source: ours; quantities as in the networks of Katz et al., "Reluplex" (2017).

    Examples:
        >>> X, costs = collision_advice(1000)
        >>> X.shape, costs.shape, bool((costs >= 0).all())
        ((1000, 5), (1000, 5), True)
    """
    X = checks.rng("random_state", random_state).uniform(-0.5, 0.5, (checks.size("n_samples", n_samples), 5))
    return X, manoeuvre_costs(X)


def manoeuvre_costs(X: Float[np.ndarray, "samples 5"]) -> Float[np.ndarray, "samples 5"]:
    """The costs of the manoeuvres in given encounters, in the units of ``collision_advice``."""
    rho, theta, psi, own_speed, intruder_speed = (X * (20, 2 * np.pi, 2 * np.pi, 1, 1) + (10, 0, 0, 0.5, 0.5)).T[
        :, :, None
    ]
    risk = np.zeros((len(X), len(TURNS)))
    for t in TIMES:
        east = rho * np.cos(theta) + t * (intruder_speed * np.cos(psi) - own_speed * np.cos(TURNS))
        north = rho * np.sin(theta) + t * (intruder_speed * np.sin(psi) - own_speed * np.sin(TURNS))
        risk += np.exp(-(east**2 + north**2) / (2 * WIDTH**2))
    return np.asarray(EFFORT + 10 * risk / len(TIMES))
