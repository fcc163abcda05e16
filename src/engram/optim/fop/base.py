"""Directions of SGD and Adam, before the learning rate, and their derivatives with respect to the gradient.

``grads`` and ``states`` are lists with an element for each parameter; ``group`` has the options of the parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TINY = 1e-30


def sgd_directions(grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> list[Tensor]:
    """The direction of SGD, v = mu v + (1 - damp) g, or g + mu v with Nesterov momentum."""
    mu = group["momentum"]
    if not mu:
        return grads
    started = [number for number, state in enumerate(states) if "momentum_buffer" in state]
    if started:
        buffers = [states[number]["momentum_buffer"] for number in started]
        torch._foreach_mul_(buffers, mu)
        torch._foreach_add_(buffers, [grads[number] for number in started], alpha=1 - group["dampening"])
    for state, g in zip(states, grads, strict=True):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = g.clone()
    velocities = [state["momentum_buffer"] for state in states]
    return list(torch._foreach_add(grads, velocities, alpha=mu)) if group["nesterov"] else velocities


def sgd_gains(states: list[dict[str, Any]], group: dict[str, Any]) -> list[Tensor]:
    """The derivative of the last direction of SGD with respect to the gradient that entered it."""
    mu, undamped = group["momentum"], 1 - group["dampening"]
    gains = [(1 + mu if group["nesterov"] else 1 if not mu or state["step"] == 1 else undamped) for state in states]
    return [torch.tensor(gain, dtype=torch.float64) for gain in gains]


def adam_directions(grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> list[Tensor]:
    """The direction of Adam, m^ / (sqrt(v^) + eps)."""
    b1, b2 = group["betas"]
    for state, g in zip(states, grads, strict=True):
        if "exp_avg" not in state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(g), torch.zeros_like(g)
    first_moments, second_moments = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
    torch._foreach_lerp_(first_moments, grads, 1 - b1)
    torch._foreach_mul_(second_moments, b2)
    torch._foreach_addcmul_(second_moments, grads, grads, 1 - b2)
    steps = [float(state["step"]) for state in states]
    roots = torch._foreach_sqrt(second_moments)
    torch._foreach_div_(roots, [(1 - b2**t) ** 0.5 for t in steps])
    torch._foreach_add_(roots, group["eps"])
    torch._foreach_mul_(roots, [1 - b1**t for t in steps])
    return list(torch._foreach_div(first_moments, roots))


def adam_gains(grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> list[Tensor]:
    """The elementwise derivative of the last direction of Adam with respect to the gradient g that entered it.

        (1 - b1) / (c1 (r + eps)) - m / c1 (1 - b2) g / (c2 r (r + eps)^2),   r = sqrt(v / c2),   c = 1 - b^t

    Args:
        grads: The gradients g of the last step.
        states: The states after that step, with its number t and the moments m and v.
        group: The options ``betas``, b1 and b2, and ``eps``.
    """
    (b1, b2), eps, gains = group["betas"], group["eps"], []
    for g, state in zip(grads, states, strict=True):
        t = float(state["step"])
        c1, c2 = 1 - b1**t, 1 - b2**t
        root = (state["exp_avg_sq"] / c2).sqrt()
        denominator = root + eps
        through_second = state["exp_avg"] / c1 * (1 - b2) * g / (c2 * root.clamp(min=TINY) * denominator.square())
        # Where no gradient was ever felt, it is 0 / 0, since the product of these small numbers vanishes.
        gains.append((1 - b1) / (c1 * denominator) - torch.where(root > 0, through_second, 0.0))
    return gains
