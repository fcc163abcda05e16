"""A lower bound from any multipliers, which makes the solution of a linear program a proof."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram.verify.bounds import TINY, Relaxation, interval_bounds
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Clause, Domain


def dual_bound(
    net: AffineReLU, relaxation: Relaxation, clause: Clause, domain: Domain, multipliers: Float[np.ndarray, " n"]
) -> float:
    """A lower bound of w . (Q y + c) over one box, intersected with half-spaces, from any multipliers.

    With lambda_L = Q' w, and any lambda_k and nu >= 0, for all x in the box with H x <= v,

        w . (Q y + c) >= w . c - nu . v + sum_k lambda_k . b_k + min_x (W_1' lambda_1 + H' nu) . x
                         + sum_k min_z ((W_{k+1}' lambda_{k+1}) . relu(z) - lambda_k . z),   l_k <= z <= u_k,

    since z_k = W_k h_{k-1} + b_k; each minimum is at an end or at zero. If the bound is positive and w >= 0, a row of
    Q y + c is positive. Rounding is accounted for.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over one box.
        clause: Q and c.
        domain: The box and its half-spaces.
        multipliers: w, lambda_1 .. lambda_{L-1} and nu, concatenated.

    Source: Dvijotham et al., "A dual approach to scalable verification of deep networks" (2018), equation 6.
    """
    sizes = [len(clause.c), *net.sizes[1:-1], len(domain.v)]
    if len(multipliers) != sum(sizes) or not np.isfinite(multipliers).all():
        return -np.inf
    w, *lambdas, nu = np.split(multipliers, np.cumsum(sizes)[:-1])
    w, nu = np.maximum(w, 0), np.maximum(nu, 0)
    gamma = (max(*net.sizes, *sizes) + 8) * 2.0**-50
    y_low, y_high = (output_bound[0] for output_bound in interval_bounds(net, relaxation.low, relaxation.high))
    value: Any = w @ clause.c
    size: Any = w @ np.abs(clause.c)
    # TINY: the loss of a multiplier by underflow matters where its factor is large.
    slack = (w @ np.abs(clause.Q) + TINY) @ np.maximum(np.abs(y_low), np.abs(y_high))
    current: Array = w @ clause.Q
    for k in range(len(net.weights) - 1, -1, -1):
        value += current @ net.biases[k]
        size += np.abs(current) @ np.abs(net.biases[k])
        spread = np.abs(current) @ np.abs(net.weights[k]) + TINY
        current = current @ net.weights[k]
        if k == 0:
            break
        lower, upper, lambda_k = relaxation.lower[k - 1][0], relaxation.upper[k - 1][0], lambdas[k - 1]
        ends = np.stack([lower, upper, np.clip(0, lower, upper)])
        terms = current * np.maximum(ends, 0) - lambda_k * ends
        reach = np.maximum(np.abs(lower), np.abs(upper))
        value += terms.min(0).sum()
        size += (np.abs(current) + np.abs(lambda_k)) @ reach
        slack += spread @ reach
        current = lambda_k
    slack += spread @ np.maximum(np.abs(domain.low), np.abs(domain.high))
    total = current + nu @ domain.H
    ends = np.stack([domain.low, domain.high])
    value += (total * ends).min(0).sum() - nu @ domain.v
    size += (np.abs(current) + nu @ np.abs(domain.H) + TINY) @ np.abs(ends).max(0) + nu @ np.abs(domain.v)
    bound = value - gamma * (size + slack) - TINY
    return float(bound) if np.isfinite(bound) else -np.inf
