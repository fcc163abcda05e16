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
    """Return regions of one class around inputs, each around the one of largest margin that no earlier region holds.

    Args:
        net: The network.
        X: Inputs inside the box; those that the network gives another class are left out.
        box: All inputs of interest.
        label: The class.
        mode: As of ``relaxed_region``.
        most: Most regions.
        **options: Further arguments of ``relaxed_region``.

    Returns:
        At most that many regions; a union, to be asked by ``contains`` of each.

    Examples:
        >>> net = AffineReLU((np.array([[1.0], [-1.0]]),), (np.zeros(2),))
        >>> found = class_regions(net, np.array([[0.5], [1.0], [-0.5]]), Box([-1], [1]), 0)
        >>> len(found), found[0].contains(np.array([[0.5], [1.0], [-0.5]]))
        (1, array([ True,  True, False]))
    """
    y = net(X)
    margin = y[:, label] - np.delete(y, label, axis=1).max(1)
    waiting = X[np.argsort(-margin, kind="stable")][: int((margin > 0).sum())]
    found: list[Region] = []
    while len(waiting) and len(found) < most:
        found.append(relaxed_region(net, waiting[0], box, mode, label=label, **options))
        waiting = waiting[1:][~found[-1].contains(waiting[1:])]
    return found
