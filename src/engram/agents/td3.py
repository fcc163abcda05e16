"""TD3: twin delayed deep deterministic policy gradients, the baseline for agents with continuous actions."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor

from engram import checks
from engram.agents.action_vectors import ActionVectors
from engram.agents.learner import Learner, adam, optimizer_step, polyak_update
from engram.agents.replay import TransitionBatch, check_outcomes, features_of, in_single, states_of
from engram.agents.twin_critic import TwinCritic
from engram.nn.mlp import mlp


class TD3(Learner):
    """Twin delayed deep deterministic policy gradients.

        y = r + gamma (1 - d) min_i Qi_target(s', clip(pi_target(s') + clip(noise)))
        L_Q = mse(Q1(s, a), y) + mse(Q2(s, a), y),  every second update  L_pi = -mean Q1(s, pi(s))

    after which the target copies move a fraction ``polyak`` of the way to critic and policy. d is 1 at terminations
    only, not at truncations.

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` with finite bounds.
        generator: Source of all randomness.
        hidden: Units of the hidden layers.
        gamma: Discount for each step, from 0 to 1.
        learning_rate: Learning rate of Adam.
        polyak: Fraction of the way that the target copies move at each update of the policy.
        policy_noise: Standard deviation of the noise in y, as a multiple of half the range of an action.
        noise_clip: Maximum of that noise, as a multiple of half the range.
        policy_every: Updates of the critic for each update of the policy.
        device: Where to compute.

    Source: Fujimoto, van Hoof and Meger, "Addressing function approximation error in actor-critic methods" (2018).

    Examples:
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> TD3(box, box, generator=torch.Generator().manual_seed(0)).act([[0.0, 0.0]]).shape
        (1, 2)
    """

    parts = ("critic", "target_critic", "policy", "target_policy", "critic_optimizer", "policy_optimizer")

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        generator: torch.Generator,
        hidden: Sequence[int] = (256, 256),
        gamma: float = 0.99,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        policy_noise: float = 0.2,
        noise_clip: float = 0.5,
        policy_every: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        checks.arguments()
        self.actions = ActionVectors(action_space, device)
        if self.actions.discrete:
            raise TypeError(f"action_space = {action_space!r}: expected a Box")
        self.features, self.generator = features_of(observation_space), checks.generator(generator)
        self.gamma = checks.number("gamma", gamma, minimum=0, maximum=1)
        self.polyak = checks.number("polyak", polyak, above=0, maximum=1)
        self.policy_noise = checks.number("policy_noise", policy_noise, minimum=0)
        self.noise_clip = checks.number("noise_clip", noise_clip, minimum=0)
        self.policy_every = checks.size("policy_every", policy_every)
        rate = checks.number("learning_rate", learning_rate, minimum=0)
        self.policy = mlp(self.features, hidden, self.actions.size, generator=generator).to(device)
        self.critic = TwinCritic(self.features + self.actions.size, hidden, generator=generator).to(device)
        self.target_policy, self.target_critic = (
            deepcopy(network).requires_grad_(False) for network in (self.policy, self.critic)
        )
        self.critic_optimizer, self.policy_optimizer = adam(rate, self.critic), adam(rate, self.policy)
        self._target_parameters = [*self.target_critic.parameters(), *self.target_policy.parameters()]
        self._parameters = [*self.critic.parameters(), *self.policy.parameters()]
        self.updates = 0

    @torch.no_grad()
    def act(self, observations: Any, noise: float = 0.0) -> Shaped[Any, "batch ..."]:
        """The actions of the policy.

        Args:
            observations: The states, (batch, features).
            noise: Standard deviation of normal noise, as a multiple of half the range of an action.

        Raises:
            ValueError: ``noise`` is negative, or ``observations`` have another shape or a number that is not finite.
        """
        states = states_of(observations, self.features, self.actions.device)
        checks.finite("observations", states)
        actions = self.actions.squash(self.policy(states))
        return self.actions.decode(self.actions.explore(actions, noise, self.generator))

    @torch.no_grad()
    def targets(self, batch: TransitionBatch) -> Float[Tensor, "batch"]:
        """The targets y of the critic; ValueError unless each state has one reward and one termination."""
        checks.arguments()
        check_outcomes(batch)
        batch = in_single(batch)
        next_actions = self.actions.squash(self.target_policy(batch.next_states))
        if self.policy_noise:
            normal = torch.randn(next_actions.shape, generator=self.generator).to(next_actions)
            noise = (self.policy_noise * normal).clamp_(-self.noise_clip, self.noise_clip)
            next_actions = self.actions.clip(next_actions + self.actions.half * noise)
        target_q = self.target_critic(torch.cat([batch.next_states, next_actions], 1)).amin(0)
        target_q = target_q.masked_fill(batch.terminated == 1, 0)
        return torch.addcmul(batch.rewards, 1 - batch.terminated, target_q, value=self.gamma)

    def update(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Learn from a batch; return the losses."""
        checks.arguments()
        actions, batch = self.actions.checked(batch.actions), in_single(batch)
        loss = self.critic.loss(torch.cat([batch.states, actions], 1), self.targets(batch))
        optimizer_step(self.critic_optimizer, [loss], self.critic)
        losses = {"critic_loss": loss.detach()}
        self.updates += 1
        if self.updates % self.policy_every == 0:
            policy_actions = self.actions.squash(self.policy(batch.states))
            policy_loss = -self.critic.first(torch.cat([batch.states, policy_actions], 1)).mean()
            optimizer_step(self.policy_optimizer, [policy_loss], self.policy)
            polyak_update(self._target_parameters, self._parameters, self.polyak)
            losses["policy_loss"] = policy_loss.detach()
        return losses
