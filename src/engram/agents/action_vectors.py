"""Actions as vectors: numbers within bounds, or one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor

from engram import checks

Vectors = Float[Tensor, "batch actions"]


class ActionVectors:
    """The actions of a space as vectors that networks give and take.

    Args:
        space: ``Box`` with finite bounds, whose axes may have different ones, or ``Discrete``.
        device: Where the vectors are.

    Attributes:
        size: Length of a vector.
        discrete: Whether a vector is one-hot.

    Raises:
        TypeError: Another kind of space.
        ValueError: A bound is infinite.

    Examples:
        >>> ActionVectors(spaces.Box(0.0, 3.0, (2,))).squash(torch.zeros(1, 2))
        tensor([[1.5000, 1.5000]])
    """

    def __init__(self, space: spaces.Space[Any], device: torch.device | str = "cpu") -> None:
        self.discrete = isinstance(space, spaces.Discrete)
        self.device = torch.device(device)
        if isinstance(space, spaces.Discrete):
            self.size, self.first = int(space.n), int(space.start)
            return
        if not isinstance(space, spaces.Box):
            raise TypeError(f"action_space = {space!r}: expected a Box or a Discrete")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(f"action_space = {space!r}: expected finite bounds")
        self.shape: tuple[int, ...] = space.shape
        self.size, self.first = int(np.prod(space.shape)), 0
        self.low, self.high = (
            torch.as_tensor(np.ravel(end), dtype=torch.float32, device=self.device) for end in (space.low, space.high)
        )
        self.middle, self.half = (self.low + self.high) / 2, (self.high - self.low) / 2

    def squash(self, raw: Vectors) -> Vectors:
        """Return the output of a network as vectors: tanh, scaled to the bounds, or the softmax."""
        return raw.softmax(-1) if self.discrete else torch.addcmul(self.middle, self.half, raw.tanh())

    def encode(self, actions: Any) -> Vectors:
        """Return actions of the space, (batch, ...), as vectors; raise ValueError where there are no such."""
        if self.discrete:
            chosen = torch.as_tensor(np.asarray(actions), device=self.device).long().flatten() - self.first
            if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < self.size:
                raise ValueError(f"actions = {actions!r}: expected {self.first} to {self.first + self.size - 1}")
            return torch.nn.functional.one_hot(chosen, self.size).float()
        found = checks.array("actions", actions, ("batch", *self.shape), np.float32)
        return torch.as_tensor(found.reshape(len(found), self.size), device=self.device)

    def decode(self, vectors: Vectors) -> Shaped[np.ndarray, "batch ..."]:
        """Return vectors as actions of the space: of shares the largest."""
        if self.discrete:
            return (vectors.argmax(-1) + self.first).numpy(force=True)
        return vectors.numpy(force=True).reshape(-1, *self.shape)

    def random(self, batch: int, generator: torch.Generator) -> Vectors:
        """Draw uniform actions, as vectors."""
        if self.discrete:
            drawn = torch.randint(self.size, (batch,), generator=generator)
            return torch.nn.functional.one_hot(drawn, self.size).float().to(self.device)
        drawn = torch.rand(batch, self.size, generator=generator).to(self.low)
        return torch.addcmul(self.low, self.high - self.low, drawn)

    def explore(self, vectors: Vectors, noise: float, generator: torch.Generator | None) -> Vectors:
        """Add normal noise, as a part of half the range, within the bounds; or replace such a part by random ones."""
        if not noise:
            return vectors
        checks.generator(generator)
        assert generator is not None
        if self.discrete:
            replaced = torch.rand(len(vectors), 1, generator=generator).to(self.device) < noise
            return torch.where(replaced, self.random(len(vectors), generator), vectors)
        added = torch.randn(vectors.shape, generator=generator).to(vectors)
        return self.within(vectors + noise * self.half * added)

    def checked(self, vectors: Tensor | None) -> Vectors:
        """Return the actions of a batch; raise ValueError where there are none, or those of another space."""
        if vectors is None or vectors.shape[1] != self.size:
            given = "None" if vectors is None else f"of shape {tuple(vectors.shape)}"
            raise ValueError(f"batch.actions are {given}: expected vectors of {self.size}, as the action space has")
        return vectors

    def within(self, vectors: Vectors) -> Vectors:
        """Clip to the bounds."""
        return vectors.clamp(self.low, self.high)
