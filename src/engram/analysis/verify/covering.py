"""Regions that together hold many inputs of one class: sequential covering."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram.analysis.verify.network import AffineReLU
from engram.analysis.verify.region import Region
from engram.analysis.verify.relaxation import Mode, relaxed_region
from engram.analysis.verify.specification import Box


def class_regions(
    net: AffineReLU,
    X: Float[np.ndarray, "points inputs"],
    box: Box,
    label: int,
    mode: Mode = "structural",
    *,
    most: int = 10,
    **options: Any,
) -> list[Region]:
    """Return at most ``most`` regions of a class, each around the input of largest margin that no earlier region holds.

    Inputs that the network gives another class are left out. Other arguments are those of ``relaxed_region``.

    Examples:
        >>> net = AffineReLU((np.array([[1.0], [-1.0]]),), (np.zeros(2),))
        >>> len(class_regions(net, np.array([[0.5], [1.0], [-0.5]]), Box([-1], [1]), 0))
        1
    """
    y = net(X)
    margin = y[:, label] - np.delete(y, label, axis=1).max(1)
    waiting = X[np.argsort(-margin, kind="stable")][: int((margin > 0).sum())]
    found: list[Region] = []
    while len(waiting) and len(found) < most:
        found.append(relaxed_region(net, waiting[0], box, mode, label=label, **options))
        waiting = waiting[1:][~found[-1].contains(waiting[1:])]
    return found
