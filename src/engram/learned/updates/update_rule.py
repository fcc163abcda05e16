"""The contract of a learned update: a direction from gradients, weights, running moments and a memory of old tasks."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engram import checks
from engram.meta.inner_updates import Update, Weights

EPS = 1e-8


class Moments(NamedTuple):
    """Running moments of a tensor's gradients: their number, their means by decay (first axis), and the mean square."""

    steps: int
    means: Tensor
    square: Tensor


class TaskMemory(NamedTuple):
    """The memory of old tasks for one tensor: its weights at the end of the last task, and their importance."""

    anchor: Tensor
    importance: Tensor


Memory = Mapping[str, TaskMemory]


class UpdateRule(nn.Module, abc.ABC):
    """A learned update of weights: w' = w - lr direction(gradients, weights, moments, memory).

    Directions are differentiable with respect to the rule's own parameters. Gradients and weights are dictionaries by
    name; ``memory`` lacks the names of weights for which no task has ended yet.

    Attributes:
        DECAYS: Decays of the running means of gradients.
        SQUARE_DECAY: Decay of the running mean of their squares.
    """

    DECAYS: tuple[float, ...] = (0.9,)
    SQUARE_DECAY = 0.99

    def init(self, params: Weights) -> dict[str, Moments]:
        """Empty moments, as at the start of each task.

        Raises:
            TypeError: A weight is complex.
        """
        checks.arguments()
        for name, w in params.items():
            if w.is_complex():  # of whose gradients the squares are no moments
                raise TypeError(f"params[{name!r}] is complex ({w.dtype}): expected real weights")
        return {
            name: Moments(0, w.new_zeros(len(self.DECAYS), *w.shape), torch.zeros_like(w, requires_grad=False))
            for name, w in params.items()
        }

    @abc.abstractmethod
    def forward(
        self, grads: Weights, params: Weights, state: dict[str, Moments], memory: Memory
    ) -> tuple[Weights, dict[str, Moments]]:
        """The directions, and the moments updated by these gradients.

        Args:
            grads: Gradients, by name in the order of depth.
            params: The weights.
            state: Moments of earlier gradients.
            memory: The memory of ended tasks, by name.
        """

    def as_update(self, lr: float, memory: Memory | None = None) -> Update:
        """The rule as an update for ``FastWeights``, through which its parameters are learned.

        Args:
            lr: Learning rate, at least 0.
            memory: The memory of ended tasks.

        Raises:
            ValueError: ``lr`` is negative.
        """
        checks.number("lr", lr, minimum=0)
        return _AsUpdate(self, lr, memory or {})

    def estimated(self, every: int, generator: torch.Generator) -> AbstractContextManager[None]:
        """A context in which the gradient of the rule's parameters is estimated, if that is cheaper than computing it.

        A rule with inputs for each weight may use one weight in ``every``, from a random start, and multiply the result
        by ``every``, which is right on average. The directions do not change. By default nothing changes.

        Args:
            every: The gradient uses one in this many weights, at least 1.
            generator: Draws the first of them.

        Raises:
            ValueError: ``every`` is below 1.
        """
        checks.size("every", every)
        checks.generator(generator)
        return nullcontext()

    def advanced(self, grads: Weights, state: dict[str, Moments]) -> dict[str, Moments]:
        """The moments updated by gradients: m' = b m + (1 - b) g, v' = b v + (1 - b) g^2."""
        checks.arguments()
        moments = {}
        for name, g in grads.items():
            steps, *earlier = state[name]
            # In half precision a decay near 1 would be 1.
            new, means, square = (checks.widened(tensor) for tensor in (g, *earlier))
            decays = torch.tensor(self.DECAYS, dtype=new.dtype, device=g.device).view(-1, *[1] * g.ndim)
            b = self.SQUARE_DECAY
            mean, mean_square = decays * means + (1 - decays) * new, b * square + (1 - b) * new.square()
            moments[name] = Moments(steps + 1, mean.to(earlier[0].dtype), mean_square.to(earlier[1].dtype))
        return moments

    def normalised(self, moments: Moments) -> Tensor:
        """Adam's direction for each decay: m / (sqrt(v) + 1e-8), with m and v corrected for their start at zero."""
        checks.instance("moments", moments, Moments)
        steps, means, square = moments.steps, checks.widened(moments.means), checks.widened(moments.square)
        decays = torch.tensor(self.DECAYS, dtype=means.dtype, device=means.device)
        unbiased = (1 - decays**steps).view(-1, *[1] * square.ndim)
        direction = means / unbiased / ((square / (1 - self.SQUARE_DECAY**steps)).sqrt() + EPS)
        return direction.to(moments.means.dtype)


def rates_of(log_rates: Tensor | None, names: Weights) -> dict[str, Tensor | float]:
    """The factor of each tensor's direction, by name: exp(c), or 1 if no rates are learned.

    Raises:
        ValueError: There are more or fewer tensors than rates.
    """
    if log_rates is None:
        return dict.fromkeys(names, 1.0)
    if len(log_rates) != len(names):
        described = f"{len(names)} ({', '.join(names)})"
        raise ValueError(f"params: expected {len(log_rates)} tensors, one for each learned rate, found {described}")
    return dict(zip(names, log_rates.exp(), strict=True))


@dataclass(frozen=True, eq=False)
class _AsUpdate:
    rule: UpdateRule
    lr: float
    memory: Memory

    def __call__(
        self, grads: Weights, params: Weights, state: dict[str, Moments] | None
    ) -> tuple[Weights, dict[str, Moments]]:
        directions, state = self.rule(grads, params, state or self.rule.init(params), self.memory)
        return {name: w - self.lr * directions[name] for name, w in params.items()}, state
