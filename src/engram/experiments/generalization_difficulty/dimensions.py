"""The dimension of shapes that have a known one, and of what is seen of a cart and pole, in part and with noise."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from engram import analysis
from engram.lab import Run, setting, settings

SHAPES = {"sphere": (1, 2, 5), "torus": (2, 4), "cube": (2, 4)}
DRAWS = 10  # of points of a shape, so that what is off is the estimate and not a draw
NOISE, STRIDE, WINDOWS = 0.1, 3, 4000  # of the cart and pole's observations


def shapes(config: object, run: Run) -> dict[str, Any]:
    """Measure the dimension of shapes that have a known one, by draws of 2000 points of each."""
    cases = [(shape, m) for shape, dimensions in SHAPES.items() for m in dimensions]
    measured = np.zeros(len(cases))
    for step in run.steps(len(cases), measured=measured):
        shape, m = cases[step]
        each = [analysis.intrinsic_dimension(points_on(shape, m, 2000, run.rng)).value for _ in range(DRAWS)]
        measured[step] = np.mean(each)
        run.log(step + 1, relative_error=measured[step] / m - 1)
    result = {f"m_{shape}_{m}": value for (shape, m), value in zip(cases, measured.tolist(), strict=True)}
    return result | {
        f"error_{shape}": max(abs(result[f"m_{shape}_{m}"] / m - 1) for m in sizes) for shape, sizes in SHAPES.items()
    }


def points_on(shape: str, m: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of an m-dimensional sphere, flat torus or cube."""
    if shape == "cube":
        return rng.random((count, m))
    if shape == "torus":
        return np.asarray(np.exp(2j * np.pi * rng.random((count, m))).view(float))
    points = rng.normal(size=(count, m + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@settings
class CartPole:
    """How long the cart and pole is watched."""

    steps: int = setting(50_000, "steps of the cart and pole", ge=2000, scales=True)


def cartpole(config: CartPole, run: Run) -> dict[str, Any]:
    """Measure the dimension of windows of what is seen of a cart and pole: all or the positions, exact or noisy."""
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
