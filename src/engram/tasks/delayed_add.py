"""A sum of delayed inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.tasks.episode import Episode


@dataclass(frozen=True)
class DelayedAdd:
    """A sum of delayed inputs: the targets are weighted sums of earlier random bits x.

        y(t) = bias + sum_k coefs[k] x(t - delays[k]),   where x is 0 before the start

    Args:
        delays: Number of steps from an input to the output, one for each term.
        coefs: Weight of the delayed input, one for each term.
        bias: Output when all inputs are 0.
        length: Number of steps of an episode.
        wrap: Compute the targets like the authors' code: the last inputs wrap around to the start, and the first
            ``delays[k]`` episodes of a batch lack the k-th term.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022), recurrent networks;
    the task of Marschall, Cho and Savin, "A unified framework of online learning algorithms" (2020).

    Examples:
        >>> episode = DelayedAdd(length=20).sample(4, torch.Generator().manual_seed(0))
        >>> episode.inputs.shape, episode.targets[:2, 0, 0].tolist()
        (torch.Size([20, 4, 1]), [0.5, 0.5])
    """

    delays: Sequence[int] = (2, 5)
    coefs: Sequence[float] = (0.5, -0.25)
    bias: float = 0.5
    length: int = 100
    wrap: bool = False

    def __post_init__(self) -> None:
        checks.arguments()
        for name in ("delays", "coefs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        checks.size("length", self.length)
        checks.number("bias", self.bias)
        for delay in self.delays:
            checks.size("delays", delay, minimum=0)
        for coef in self.coefs:
            checks.number("coefs", coef)
        if len(self.coefs) != len(self.delays):
            raise ValueError(f"coefs = {tuple(self.coefs)}: expected {len(self.delays)}, one for each delay")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Episodes of bits, 0 or 1 with equal probability, in which every step counts."""
        checks.size("batch_size", batch_size)
        device = checks.generator(generator).device
        bits = torch.randint(2, (self.length, batch_size, 1), generator=generator, device=device)
        return self.episode(bits.to(torch.get_default_dtype()))

    def published(self) -> Episode:
        """The 400 episodes of the authors' code, which trains on the first 300 and tests on the others.

        Raises:
            ValueError: ``length`` is not 100.
        """
        if self.length != 100:
            raise ValueError(f"length = {self.length}: expected 100, as published")
        bits = np.random.RandomState(99).binomial(1, 0.5, (400, 100))
        return self.episode(torch.from_numpy(bits).to(torch.get_default_dtype()).t()[:, :, None].contiguous())

    def episode(self, inputs: Float[Tensor, "time batch 1"]) -> Episode:
        """The episodes with these inputs."""
        checks.arguments()
        targets = torch.full_like(inputs, self.bias)
        for delay, coef in zip(self.delays, self.coefs, strict=True):
            delayed = inputs.roll(delay, 0)
            # The authors clear the first axis of (episodes, time), which is that of the episodes.
            (delayed[:, :delay] if self.wrap else delayed[:delay]).zero_()
            targets += coef * delayed
        return Episode(inputs, targets, torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device))
