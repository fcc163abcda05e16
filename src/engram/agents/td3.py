"""TD3: twin delayed deep deterministic policy gradients, the baseline of agents with continuous actions."""

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
from engram.agents.learner import Learner, adam, descend, follow
from engram.agents.replay import TransitionBatch, features_of
from engram.agents.twin_critic import TwinCritic
from engram.nn.mlp import mlp


class TD3(Learner):
    """Twin delayed deep deterministic policy gradients.

        y = r + gamma (1 - d) min_i Qi_slow(s', clip(pi_slow(s') + clip(noise)))
        L_Q = mse(Q1(s, a), y) + mse(Q2(s, a), y),  every second update  L_pi = -mean Q1(s, pi(s))

    and then the slow copies move by a part ``polyak`` of the way to critic and policy. d is 1 at terminations only.

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` with finite bounds.
        generator: Source of all randomness.
        hidden: Units of the hidden layers.
        gamma: Discount for each step, from 0 to 1.
        learning_rate: Of Adam.
        polyak: Part of the way.
        policy_noise: Standard deviation of the noise of the target, in halves of the range of an action.
        noise_clip: Its largest amount, in the same.
        policy_every: Updates of the critic for one of the policy.
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
        self.actions = ActionVectors(action_space, device)
        if self.actions.discrete:
            raise TypeError(f"action_space = {action_space!r}: expected a Box")
        self.features, self.generator = features_of(observation_space), checks.generator(generator)
        self.gamma = checks.number("gamma", gamma, least=0, most=1)
        self.polyak = checks.number("polyak", polyak, above=0, most=1)
        self.policy_noise = checks.number("policy_noise", policy_noise, least=0)
        self.noise_clip = checks.number("noise_clip", noise_clip, least=0)
        self.policy_every = checks.size("policy_every", policy_every)
        rate = checks.number("learning_rate", learning_rate, above=0)
        self.policy = mlp(self.features, hidden, self.actions.size, generator=generator).to(device)
        self.critic = TwinCritic(self.features + self.actions.size, hidden, generator=generator).to(device)
        self.target_policy, self.target_critic = (
            deepcopy(one).requires_grad_(False) for one in (self.policy, self.critic)
        )
        self.critic_optimizer, self.policy_optimizer = adam(rate, self.critic), adam(rate, self.policy)
        self._slow = [*self.target_critic.parameters(), *self.target_policy.parameters()]
        self._fast = [*self.critic.parameters(), *self.policy.parameters()]
        self.updates = 0

    @torch.no_grad()
    def act(self, observations: Any, noise: float = 0.0) -> Shaped[Any, "batch ..."]:
        """Return actions, with normal noise whose deviation is a part of half the range."""
        seen = torch.as_tensor(observations, dtype=torch.float32, device=self.actions.device)
        return self.actions.decode(self.actions.explore(self.actions.squash(self.policy(seen)), noise, self.generator))

    @torch.no_grad()
    def targets(self, batch: TransitionBatch) -> Float[Tensor, "batch"]:
        """Return y."""
        following = self.actions.squash(self.target_policy(batch.next_states))
        if self.policy_noise:
            drawn = torch.randn(following.shape, generator=self.generator).to(following)
            noise = (self.policy_noise * drawn).clamp_(-self.noise_clip, self.noise_clip)
            following = self.actions.within(following + self.actions.half * noise)
        worth = self.target_critic(torch.cat([batch.next_states, following], 1)).amin(0)
        return torch.addcmul(batch.rewards, 1 - batch.terminated, worth, value=self.gamma)

    def update(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Learn from a batch; return the losses."""
        taken = self.actions.checked(batch.actions)
        loss = self.critic.loss(torch.cat([batch.states, taken], 1), self.targets(batch))
        descend(self.critic_optimizer, [loss], self.critic)
        found = {"critic_loss": loss.detach()}
        self.updates += 1
        if self.updates % self.policy_every == 0:
            chosen = self.actions.squash(self.policy(batch.states))
            policy_loss = -self.critic.first(torch.cat([batch.states, chosen], 1)).mean()
            descend(self.policy_optimizer, [policy_loss], self.policy)
            follow(self._slow, self._fast, self.polyak)
            found["policy_loss"] = policy_loss.detach()
        return found
