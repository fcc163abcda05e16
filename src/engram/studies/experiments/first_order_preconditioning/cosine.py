"""A learning rate that decays."""

from __future__ import annotations

import math

from engram.optim import FOP


def decay(optimizer: FOP, lr: float, step: int, steps: int) -> None:
    """Set the learning rate of a step, which falls from ``lr`` to 0 along half a cosine.

    Args:
        optimizer: The optimiser, which is changed.
        lr: The initial learning rate.
        step: Index of the step, from 0.
        steps: Number of steps.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
