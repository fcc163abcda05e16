"""A combination of the rows of a clause, whose bound over a box is raised by gradient steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engram.verify.bounds import Relaxation
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Clause

STEPS, SLOPE_RATE, WEIGHT_RATE = 20, 0.1, 0.3


def raised_multipliers(net: AffineReLU, relaxation: Relaxation, clause: Clause) -> tuple[Array, Array]:
    """Multipliers for ``dual_bound`` of each box, and the bounds that they give, up to rounding.

    A clause holds in a box if a combination of its rows, with weights w >= 0, is positive there, even where no row is
    positive everywhere. Adam raises the minimum over the box of the line below

        w . (Q y + c),   w = softmax(logits)

    by its choice of w and of the slopes in [0, 1] of the lines below all ReLUs; bounds of hidden units stay.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over all boxes.
        clause: Q and c.

    Source: Xu et al., "Fast and complete" (2021), for the slopes.
    """
    boxes, hidden = len(relaxation.low), len(net.weights) - 1
    weights, biases = ([torch.tensor(array) for array in arrays] for arrays in (net.weights, net.biases))
    Q, offset = torch.from_numpy(np.array(clause.Q)), torch.from_numpy(np.array(clause.c))
    low, high = torch.from_numpy(relaxation.low), torch.from_numpy(relaxation.high)
    middle, radius = (low + high) / 2, (high - low) / 2
    upper_slope, intercept = (
        [torch.from_numpy(a) for a in part] for part in (relaxation.upper_slope, relaxation.intercept)
    )
    alpha = [torch.tensor(slope, requires_grad=True) for slope in relaxation.lower_slope]
    logits = torch.zeros(boxes, len(offset), dtype=torch.float64, requires_grad=True)
    groups = [{"params": alpha, "lr": SLOPE_RATE}, {"params": [logits], "lr": WEIGHT_RATE}]
    optimizer = torch.optim.Adam(groups, maximize=True)

    def backward() -> tuple[Tensor, list[Tensor]]:
        w = torch.softmax(logits, 1)
        A, c, lambdas = w @ Q, w @ offset, [w]
        for k in range(hidden, -1, -1):
            c, A = c + A @ biases[k], A @ weights[k]
            if k:
                c = c + (A.clamp(max=0) * intercept[k - 1]).sum(1)
                A = A.clamp(min=0) * alpha[k - 1] + A.clamp(max=0) * upper_slope[k - 1]
                lambdas.insert(1, A)
        return (A * middle).sum(1) - (A.abs() * radius).sum(1) + c, lambdas

    best = torch.full((boxes,), -torch.inf, dtype=torch.float64)
    multipliers = torch.zeros(boxes, len(offset) + sum(net.sizes[1:-1]), dtype=torch.float64)
    for _ in range(STEPS):
        value, lambdas = backward()
        better = (value > best).detach()
        best[better] = value.detach()[better]
        multipliers[better] = torch.cat([a.detach()[better] for a in lambdas], 1)
        if (best > 0).all():
            break
        optimizer.zero_grad()
        value.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for slope in alpha:
                slope.clamp_(0, 1)
    return multipliers.numpy(), best.numpy()
