"""The estimated dimension of shapes of known dimension, and of partial and noisy observations of a cart-pole."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from engram import analysis
from engram.lab import Run, setting, settings

SHAPES = {"sphere": (1, 2, 5), "torus": (2, 4), "cube": (2, 4)}
DRAWS = 10  # draws of points of a shape, to average out sampling noise
NOISE, STRIDE, WINDOWS = 0.1, 3, 4000  # of cart-pole observations: noise, steps between windows, and windows


def shapes(config: object, run: Run) -> dict[str, Any]:
    """Estimate the dimension of shapes of known dimension, from draws of 2000 points."""
    cases = [(shape, m) for shape, dimensions in SHAPES.items() for m in dimensions]
    measured = np.zeros(len(cases))
    for step in run.steps(len(cases), measured=measured):
        shape, m = cases[step]
        estimates = [analysis.intrinsic_dimension(points_on(shape, m, 2000, run.rng)).value for _ in range(DRAWS)]
        measured[step] = np.mean(estimates)
        run.log(step + 1, relative_error=measured[step] / m - 1)
    result = {f"m_{shape}_{m}": value for (shape, m), value in zip(cases, measured.tolist(), strict=True)}
    return result | {
        f"error_{shape}": max(abs(result[f"m_{shape}_{m}"] / m - 1) for m in sizes) for shape, sizes in SHAPES.items()
    }


def points_on(shape: str, m: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random points on an m-dimensional sphere or flat torus, or in a cube.

    Args:
        shape: "sphere", "torus" or "cube".
        m: Dimension of the manifold.
        count: Number of points.
        rng: Source of the points.
    """
    if shape == "cube":
        return rng.random((count, m))
    if shape == "torus":
        return np.asarray(np.exp(2j * np.pi * rng.random((count, m))).view(float))
    points = rng.normal(size=(count, m + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@settings
class CartPole:
    """The settings for observing a cart-pole."""

    steps: int = setting(50_000, "steps of the cart-pole", ge=2000)


def cartpole(config: CartPole, run: Run) -> dict[str, Any]:
    """Estimate the dimension of windows of cart-pole observations: full or positions only, exact or noisy."""
    rng = run.rng

    def policy(observation: np.ndarray) -> int:
        if rng.random() < 0.5:
            return int(rng.integers(2))
        return int(observation[2] + 0.5 * observation[3] > 0)

    seed = int(rng.integers(2**31))
    episodes = analysis.standardised(analysis.roll_out(gym.make("CartPole-v1"), policy, steps=config.steps, seed=seed))
    noisy = [episode + rng.normal(scale=NOISE, size=episode.shape) for episode in episodes]
    views = {
        "clean": [episode[:, [0, 2]] for episode in episodes],
        "noisy": [episode[:, [0, 2]] for episode in noisy],
        "state": noisy,
    }
    cases = [(name, window) for name in views for window in (1, 2, 3, 4)]
    measured = np.zeros(len(cases))
    for step in run.steps(len(cases), measured=measured):
        name, window = cases[step]
        points = analysis.stacked(views[name], window, STRIDE)
        points = points[rng.choice(len(points), min(WINDOWS, len(points)), replace=False)]
        measured[step] = analysis.intrinsic_dimension(points).value
        run.log(window, **{f"m_{name}": measured[step]})
    result = {f"m_{name}_{window}": value for (name, window), value in zip(cases, measured.tolist(), strict=True)}
    for name, window in (("clean", 1), ("clean", 3), ("noisy", 3)):
        task = analysis.control_task(max(1.0, result[f"m_{name}_{window}"]), 1, n=10_000, resolution=0.01)
        result[f"log10_bits_{name}_{window}"] = task.difficulty().log10_bits
    return result
