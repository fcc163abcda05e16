"""Behavioural cloning from observation: imitate a log of states, with actions inferred from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Shaped
from torch import Tensor, nn

from engram import checks
from engram.agents.action_vectors import ActionVectors
from engram.agents.inverse import InverseModel
from engram.agents.learner import Learner, adam, optimizer_step
from engram.agents.replay import TransitionBatch, features_of, in_single, states_of
from engram.nn.mlp import mlp


class BCO(Learner):
    """Behavioural cloning from observation: an inverse model of the agent's steps, and a policy that imitates states.

        L_I = mse(I(s, s'), a)  on own steps,  L_pi = mse(pi(s), I(s, s'))  on a log of states

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` with finite bounds, or a ``Discrete``.
        generator: Source of all randomness.
        hidden: Units of the hidden layers.
        learning_rate: Learning rate of Adam.
        device: Where to compute.

    Source: Torabi, Warnell and Stone, "Behavioral cloning from observation" (2018), as the baseline of Edwards et al.
    (2020).

    Examples:
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> BCO(box, box, generator=torch.Generator().manual_seed(0)).act([[0.0, 0.0]]).shape
        (1, 2)
    """

    parts = ("inverse", "policy", "inverse_optimizer", "policy_optimizer")

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        generator: torch.Generator,
        hidden: Sequence[int] = (256, 256),
        learning_rate: float = 3e-4,
        device: torch.device | str = "cpu",
    ) -> None:
        self.actions = ActionVectors(action_space, device)
        self.features, self.generator = features_of(observation_space), checks.generator(generator)
        rate = checks.number("learning_rate", learning_rate, minimum=0)
        self.inverse = InverseModel(self.features, action_space, hidden, generator=generator).to(device)
        self.inverse.vectors = self.actions
        self.policy = mlp(self.features, hidden, self.actions.size, generator=generator).to(device)
        self.inverse_optimizer, self.policy_optimizer = adam(rate, self.inverse), adam(rate, self.policy)
        self.updates = 0

    @torch.no_grad()
    def act(self, observations: Any, noise: float = 0.0) -> Shaped[Any, "batch ..."]:
        """The actions of the policy.

        Args:
            observations: The states, (batch, features).
            noise: Standard deviation of normal noise, as a multiple of half the range of an action; for discrete
                actions, the probability of a random one.

        Raises:
            ValueError: ``noise`` is negative, or ``observations`` have another shape or a number that is not finite.
        """
        states = states_of(observations, self.features, self.actions.device)
        checks.finite("observations", states)
        actions = self.actions.squash(self.policy(states))
        return self.actions.decode(self.actions.explore(actions, noise, self.generator))

    def update_inverse(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Train the inverse model on the agent's own steps; return the loss."""
        checks.arguments()
        batch = in_single(batch)
        loss = self.inverse.loss(batch.states, batch.next_states, self.actions.checked(batch.actions))
        optimizer_step(self.inverse_optimizer, [loss], self.inverse)
        return {"inverse_loss": loss.detach()}

    def update(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Train the policy on states alone; return the loss."""
        checks.arguments()
        batch = in_single(batch)
        with torch.no_grad():
            inferred = self.inverse(batch.states, batch.next_states)
        loss = nn.functional.mse_loss(self.actions.squash(self.policy(batch.states)), inferred)
        optimizer_step(self.policy_optimizer, [loss], self.policy)
        self.updates += 1
        return {"policy_loss": loss.detach()}
