"""Inverse dynamics: the action that leads from one state to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.agents.action_vectors import ActionVectors, Vectors
from engram.nn.mlp import mlp


class InverseModel(nn.Module):
    """An inverse dynamics model, regressed on the actions taken.

        I(s, s') = squash(network(s, s')),  loss = mean (I(s, s') - a)^2,  or the cross-entropy

    Args:
        features: Length of a state.
        action_space: A ``Box`` with finite bounds (outputs squashed by tanh), or a ``Discrete`` (by the softmax).
        hidden: Units of the hidden layers.
        kind: ``"mse"``, or for discrete actions also ``"cross-entropy"``.
        generator: Source of the initial values.

    Source: Edwards et al. (2020), the "actor" of its published code.

    Examples:
        >>> inverse = InverseModel(3, spaces.Discrete(2), (8,), generator=torch.Generator().manual_seed(0))
        >>> inverse(torch.zeros(1, 3), torch.zeros(1, 3)).sum().item()
        1.0
    """

    def __init__(
        self,
        features: int,
        action_space: spaces.Space[Any],
        hidden: Sequence[int] = (256, 256),
        *,
        kind: Literal["mse", "cross-entropy"] = "mse",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.features = checks.size("features", features)
        self.kind = checks.choice("kind", kind, ("mse", "cross-entropy"))
        if kind == "cross-entropy" and not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"kind = {kind!r}: expected 'mse', as the action space is {action_space}")
        self.vectors = ActionVectors(action_space)
        self.network = mlp(2 * features, hidden, self.vectors.size, generator=generator)

    def forward(self, states: Float[Tensor, "batch features"], next_states: Float[Tensor, "batch features"]) -> Vectors:
        """The actions as vectors."""
        checks.arguments()
        return self.vectors.squash(self._output(states, next_states))

    def loss(
        self,
        states: Float[Tensor, "batch features"],
        next_states: Float[Tensor, "batch features"],
        actions: Vectors,
    ) -> Float[Tensor, ""]:
        """The loss of the model.

        Args:
            states: States.
            next_states: States after the actions.
            actions: The actions taken, as vectors.
        """
        checks.arguments()
        if self.kind == "mse":
            return nn.functional.mse_loss(self(states, next_states), actions)
        return nn.functional.cross_entropy(self._output(states, next_states), actions)

    def _output(self, states: Tensor, next_states: Tensor) -> Tensor:
        """The network's output, before squashing."""
        like = next(self.network.parameters())
        for name, value in (("states", states), ("next_states", next_states)):
            checks.tensor(name, value, ("batch", self.features), like)
        return self.network(torch.cat([states, next_states], 1))  # type: ignore[no-any-return]
