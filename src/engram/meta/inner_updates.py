"""Differentiable updates of fast weights: functions from gradients, weights and a state to new weights and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engram import checks

Weights = dict[str, Tensor]
Update = Callable[[Weights, Weights, Any], tuple[Weights, Any]]


def sgd(lr: float | Tensor | Mapping[str, float | Tensor] = 0.1, momentum: float | Tensor = 0.0) -> Update:
    """The update of stochastic gradient descent: v' = momentum v + g, w' = w - lr v'.

    Args:
        lr: Learning rate: a number, a tensor (trained with the rest if it requires a gradient), or a mapping from the
            name of each weight to its own rate, of any shape that broadcasts to the weight, as in Meta-SGD.
        momentum: Fraction of the last step that is kept.

    Returns:
        The update, ``(gradients, weights, state) -> (weights, state)``; its state is None without momentum.

    Raises:
        TypeError: A rate is neither a number nor a tensor.
        ValueError: A number is negative or not finite; or, in a step, a weight has no rate in the mapping.

    Source: for rates by weight, Li, Zhou, Chen and Li, "Meta-SGD" (2017), equation 3.

    Examples:
        >>> sgd(0.5)({"w": torch.tensor(2.0)}, {"w": torch.tensor(3.0)}, None)
        ({'w': tensor(2.)}, None)
    """
    rates = lr if isinstance(lr, Mapping) else {"lr": lr}
    for name, value in {**rates, "momentum": momentum}.items():
        if not isinstance(value, Tensor):
            checks.number(name if name in ("lr", "momentum") else f"lr[{name!r}]", value, minimum=0)
    return _SGD(lr, momentum)


@dataclass(frozen=True, eq=False)
class _SGD:
    lr: float | Tensor | Mapping[str, float | Tensor]
    momentum: float | Tensor

    __repr__ = checks.described

    def __call__(self, gradients: Weights, weights: Weights, state: Weights | None) -> tuple[Weights, Weights | None]:
        lr, momentum = self.lr, self.momentum
        if isinstance(lr, Mapping) and (missing := [name for name in weights if name not in lr]):
            raise ValueError(f"lr has no rate for {missing[0]!r}: expected one for each of {', '.join(weights)}")
        no_momentum = not isinstance(momentum, Tensor) and momentum == 0
        if not no_momentum:
            velocity = state or {}
            gradients = {
                name: momentum * velocity[name] + gradient if name in velocity else gradient
                for name, gradient in gradients.items()
            }
        new_weights = {
            weight_name: weight - (lr[weight_name] if isinstance(lr, Mapping) else lr) * gradients[weight_name]
            for weight_name, weight in weights.items()
        }
        return new_weights, None if no_momentum else gradients


class AdamState(NamedTuple):
    """The number of steps so far, and the running means of gradients and of their squares."""

    steps: int
    mean: Weights
    square: Weights


def adam(lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Update:
    """The update of Adam: w' = w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

    Where v is zero, as for a unit that has been silent, the infinite derivative of its square root is replaced by zero,
    so that nothing becomes NaN.

    Args:
        lr: Learning rate, a number or a tensor.
        betas: b1 and b2, the decay of m, the mean of gradients, and of v, that of their squares; below 1.
        eps: Added to the root, above 0.

    Returns:
        The update, ``(gradients, weights, state) -> (weights, state)``, with an ``AdamState``.

    Raises:
        TypeError: An argument is not a number; or, when called, a weight is complex.
        ValueError: A number is out of range.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1.

    Examples:
        >>> adam(0.5)({"w": torch.tensor(2.0)}, {"w": torch.tensor(3.0)}, None)[0]
        {'w': tensor(2.5000)}
    """
    checks.arguments()
    if not isinstance(lr, Tensor):
        checks.number("lr", lr, minimum=0)
    b1, b2 = (checks.number("betas", beta, minimum=0, below=1) for beta in betas)
    checks.number("eps", eps, above=0)
    return _Adam(lr, (b1, b2), eps)


@dataclass(frozen=True, eq=False)
class _Adam:
    lr: float | Tensor
    betas: tuple[float, float]
    eps: float

    __repr__ = checks.described

    def __call__(self, gradients: Weights, weights: Weights, state: AdamState | None) -> tuple[Weights, AdamState]:
        for name, gradient in gradients.items():
            if gradient.is_complex():  # whose square is no second moment
                raise TypeError(f"weights[{name!r}] is complex ({gradient.dtype}): expected real weights, or sgd")
        b1, b2 = self.betas
        steps, *moments = (0, {}, {}) if state is None else state
        steps += 1
        mean = {name: b1 * moments[0].get(name, 0) + (1 - b1) * gradient for name, gradient in gradients.items()}
        square = {
            name: b2 * moments[1].get(name, 0) + (1 - b2) * gradient.square() for name, gradient in gradients.items()
        }
        new_weights = {
            name: weight - self.lr / (1 - b1**steps) * mean[name] / (_root(square[name] / (1 - b2**steps)) + self.eps)
            for name, weight in weights.items()
        }
        return new_weights, AdamState(steps, mean, square)


def _root(v: Tensor) -> Tensor:
    positive = v > 0
    return torch.where(positive, torch.where(positive, v, 1.0).sqrt(), 0.0)
