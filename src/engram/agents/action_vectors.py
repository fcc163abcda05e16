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
    """The actions of a space as vectors, for the inputs and outputs of networks.

    Args:
        space: ``Box`` of any type of numbers with finite bounds, which may differ between axes, or ``Discrete``. An
            action of a box of integers is the nearest integer.
        device: Device of the vectors.

    Attributes:
        size: Length of a vector.
        discrete: Whether a vector is one-hot.

    Raises:
        TypeError: ``space`` is neither a ``Box`` nor a ``Discrete``.
        ValueError: A bound is infinite, or too large for single precision.

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
            torch.as_tensor(np.ravel(bound), dtype=torch.float32, device=self.device)
            for bound in (space.low, space.high)
        )
        if not (self.low.isfinite().all() and self.high.isfinite().all()):
            raise ValueError(f"action_space = {space!r}: expected bounds that single precision can hold")
        self.bounds, self.is_whole = (space.low, space.high), np.issubdtype(space.dtype, np.integer)
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        self.is_wide = not (middle.isfinite().all() and (self.high - self.low).isfinite().all())
        if self.is_wide:  # beyond what 32 bits hold
            middle, half = self.low / 2 + self.high / 2, self.high / 2 - self.low / 2
        self.middle, self.half = middle, half

    def squash(self, raw: Vectors) -> Vectors:
        """Actions as vectors from the unbounded output of a network: its tanh scaled to the bounds, or its softmax."""
        if self.discrete:
            return raw.softmax(-1)
        # A network may have been moved or converted since.
        return torch.addcmul(self.middle.to(raw), self.half.to(raw), raw.tanh())

    def encode(self, actions: Any) -> Vectors:
        """Actions, (batch, ...), as vectors; raise ValueError for a wrong shape or a discrete action out of range."""
        if self.discrete:
            numbers = np.asarray(actions)
            index = torch.as_tensor(numbers, device=self.device).long().flatten() - self.first
            if numbers.dtype.kind == "f" and (numbers % 1 != 0).any():
                raise ValueError(f"actions = {actions!r}: expected integers")
            if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.size:
                raise ValueError(f"actions = {actions!r}: expected {self.first} to {self.first + self.size - 1}")
            return torch.nn.functional.one_hot(index, self.size).float()
        numbers = checks.array("actions", actions, ("batch", *self.shape), np.float32)
        return torch.as_tensor(numbers.reshape(len(numbers), self.size), device=self.device)

    def decode(self, vectors: Vectors) -> Shaped[np.ndarray, "batch ..."]:
        """Vectors as actions of the space; a discrete action is the argmax."""
        if self.discrete:
            return (vectors.argmax(-1) + self.first).numpy(force=True)
        # Rounding may put a saturated action just beyond its bound, as may that of a bound in double precision.
        low, high = self.bounds
        numbers = vectors.numpy(force=True).reshape(-1, *self.shape)
        if not self.is_whole:
            actions: Shaped[np.ndarray, "batch ..."] = np.clip(numbers, low, high).astype(low.dtype)
            return actions
        nearest = np.rint(numbers.astype(np.float64))
        beyond = (nearest <= low) | (nearest >= high)  # also where doubles cannot hold the bound itself
        inside = np.where(beyond, 0, nearest).astype(low.dtype)
        return np.where(nearest <= low, low, np.where(nearest >= high, high, inside))

    def random(self, batch: int, generator: torch.Generator) -> Vectors:
        """Draw uniform actions, as vectors."""
        if self.discrete:
            index = torch.randint(self.size, (batch,), generator=generator)
            return torch.nn.functional.one_hot(index, self.size).float().to(self.device)
        uniform = torch.rand(batch, self.size, generator=generator).to(self.low)
        if self.is_whole:  # each integer has an equal share of an interval that is longer by one
            return torch.addcmul(self.middle, 2 * self.half + 1, uniform - 0.5)
        if self.is_wide:
            return torch.addcmul(self.middle, self.half, 2 * uniform - 1)
        return torch.addcmul(self.low, self.high - self.low, uniform)

    def explore(self, vectors: Vectors, noise: float, generator: torch.Generator | None) -> Vectors:
        """Vectors with noise for exploration.

        Args:
            vectors: The actions.
            noise: Standard deviation of normal noise, as a multiple of half the range of an action; for discrete
                actions, the probability of a random one.
            generator: Source of the noise; required unless ``noise`` is 0.
        """
        if not checks.number("noise", noise, minimum=0):
            return vectors
        checks.generator(generator)
        assert generator is not None
        if self.discrete:
            replaced = torch.rand(len(vectors), 1, generator=generator).to(self.device) < noise
            return torch.where(replaced, self.random(len(vectors), generator), vectors)
        normal = torch.randn(vectors.shape, generator=generator).to(vectors)
        return self.clip(vectors + noise * self.half * normal)

    def checked(self, vectors: Tensor | None) -> Vectors:
        """The actions of a batch; raise ValueError if they are None, or vectors of another length."""
        if vectors is not None and vectors.ndim != 2:
            raise ValueError(f"batch.actions.shape = {tuple(vectors.shape)}: expected (batch, {self.size})")
        if vectors is None or vectors.shape[1] != self.size:
            actions = "None" if vectors is None else f"of shape {tuple(vectors.shape)}"
            raise ValueError(f"batch.actions are {actions}: expected vectors of {self.size}, as the action space has")
        return vectors

    def clip(self, vectors: Vectors) -> Vectors:
        """Vectors clipped to the bounds."""
        return vectors.clamp(self.low, self.high)
