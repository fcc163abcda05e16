"""Shapes whose dimension is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.analysis import intrinsic_dimension
from engram.lab import Run

SHAPES = {"sphere": (1, 2, 5), "torus": (2, 4), "cube": (2, 4)}


def trial(config: object, run: Run) -> dict[str, Any]:
    """Measure the dimension of shapes that have a known one, by 2000 points of each."""
    todo = [(shape, m) for shape, dimensions in SHAPES.items() for m in dimensions]
    found = np.zeros(len(todo))
    for step in run.steps(len(todo), found=found):
        shape, m = todo[step]
        found[step] = intrinsic_dimension(points_on(shape, m, 2000, run.rng)).value
        run.log(step + 1, relative_error=found[step] / m - 1)
    result = {f"m_{shape}_{m}": value for (shape, m), value in zip(todo, found.tolist(), strict=True)}
    return {**result, "error": max(abs(found[step] / m - 1) for step, (_, m) in enumerate(todo))}


def points_on(shape: str, m: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of an m-dimensional sphere, flat torus or cube."""
    if shape == "cube":
        return rng.random((count, m))
    if shape == "torus":
        return np.asarray(np.exp(2j * np.pi * rng.random((count, m))).view(float))
    points = rng.normal(size=(count, m + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))
