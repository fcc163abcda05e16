"""Rates of a driven ring attractor, and of the line attractor that it becomes when it is cut open."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks

INHIBITION, SHIFT = 8.0, 2
TAU, DT = 10.0, 0.5
REST, PUSH = 1.0, 0.1


def ring_weights(
    neurons: int, length: float, closure: float = 1.0
) -> Float[np.ndarray, "two_populations two_populations"]:
    """The weights of two populations that push a bump of activity in opposite directions.

        w(d) = 8 (cos(pi d / l) - 1) / 2 for |d| < 2 l, summed over all ways round the ring, divided by n

    with d counted from 2 neurons below each neuron of the first population, and above each of the second.

    Args:
        neurons: Neurons of a population, n, at least 2.
        length: Width l of the profile, in neurons, above 0.
        closure: 1: a ring of n neurons. From 0 to below 1: n neurons of a ring that has (1 - closure) l more.

    Raises:
        ValueError: ``neurons`` is below 2, ``length`` is not above 0, or ``closure`` is not from 0 to 1.

    Source: Ostrow et al. (2023), notebook of figure 4; the division by n is ours, so that steps of dt are stable.

    Examples:
        >>> ring_weights(50, 30.0).shape
        (100, 100)
    """
    checks.size("neurons", neurons, 2)
    checks.number("length", length, above=0)
    checks.number("closure", closure, minimum=0, maximum=1)
    period = neurons + int((1 - closure) * length)
    position = np.arange(neurons)
    halves = []
    for shift in (-SHIFT, SHIFT):
        distance = position[:, None] - position - shift
        turns = int((2 * length + neurons + SHIFT) // period)  # as many ways round as a profile can reach
        d = distance[..., None] + period * np.arange(-turns, turns + 1)
        profile = INHIBITION * (np.cos(np.pi * d / length) - 1) / 2 * (np.abs(d) < 2 * length)
        halves.append(profile.sum(-1))
    rows = np.concatenate(halves, axis=1) / neurons
    return np.concatenate([rows, rows])


def ring_rates(
    weights: Float[np.ndarray, "rings units units"],
    drive: Float[np.ndarray, "time rings"],
    rng: np.random.Generator,
    *,
    noise: float = 0.01,
    shared: bool = False,
) -> Float[np.ndarray, "rings time units"]:
    """Rates of rings under a drive.

        tau s' = -s + relu(W s + 1 -+ drive / 10 + noise),  tau = 10, dt = 0.5

    where the drive inhibits the first population and excites the second. The initial bump is at a random position.

    Args:
        weights: Weights of each ring.
        drive: Drive of each ring at each step.
        rng: Draws the initial position and the noise.
        noise: Standard deviation of the noise of each unit at each step.
        shared: Whether all rings have the same initial position and the same noise, so that only weights and drive
            differ.

    Raises:
        ValueError: Shapes do not match, the number of units is odd, or ``noise`` is negative.

    Examples:
        >>> weights = np.stack([ring_weights(20, 12.0)])
        >>> ring_rates(weights, np.full((30, 1), 2.0), np.random.default_rng(0)).shape
        (1, 30, 40)
    """
    checks.arguments()
    checks.number("noise", noise, minimum=0)
    rings, units = weights.shape[:2]
    if units % 2:
        raise ValueError(f"weights.shape = {weights.shape}: expected an even number of units")
    half = units // 2
    n_draws = 1 if shared else rings
    phase = 2 * np.pi * (np.arange(half) / half - rng.uniform(size=(n_draws, 1)))
    rates = np.broadcast_to(np.tile(np.maximum(np.cos(phase), 0), 2) * 0.1, (rings, units))
    push = PUSH * np.repeat([-1.0, 1.0], half)
    trajectory = np.empty((len(drive), rings, units))
    for step in range(len(drive)):
        trajectory[step] = rates
        total = (weights @ rates[:, :, None])[:, :, 0] + REST + drive[step][:, None] * push
        rates = rates + DT / TAU * (np.maximum(total + noise * rng.normal(size=(n_draws, units)), 0) - rates)
    return trajectory.transpose(1, 0, 2)
