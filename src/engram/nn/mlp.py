"""A multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from engram import checks
from engram.nn.initial import uniform


def mlp(inputs: int, hidden: Sequence[int], outputs: int, *, generator: torch.Generator | None = None) -> nn.Sequential:
    """A multilayer perceptron of ReLU units, with the initial values of ``torch.nn``.

    Args:
        inputs: Number of input features.
        hidden: Number of units in each hidden layer.
        outputs: Number of output features.
        generator: Source of the initial values; torch's global one if None.

    Raises:
        ValueError: A size is below 1.

    Examples:
        >>> mlp(3, (8, 8), 1)(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """
    checks.arguments()
    sizes = [("inputs", inputs), *(("hidden", units) for units in hidden), ("outputs", outputs)]
    layers: list[nn.Module] = []
    for pre, post in pairwise(checks.size(name, size) for name, size in sizes):
        layers += [uniform(nn.Linear, pre, post, generator=generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
