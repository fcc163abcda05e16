"""A trained network among the agents of meta-tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.agents.a2c import sample_actions
from engram.agents.actor_critic import ActorCritic


class TrainedAgent:
    """An actor-critic as an agent of meta-tasks, one of those that ``play`` runs through lifetimes.

    Args:
        network: The actor-critic; previous action and reward are part of its input, as by ``RL2Observation``.
        generator: Source of the actions.

    Examples:
        >>> agent = TrainedAgent(ActorCritic(torch.nn.RNN(3, 4), actions=2), torch.Generator().manual_seed(0))
        >>> agent.begin(None, np.zeros((5, 3), dtype=np.float32))
        >>> agent.act().shape
        (5,)
    """

    def __init__(self, network: ActorCritic, generator: torch.Generator) -> None:
        self.network, self.generator = network, generator

    def begin(self, env: Any, seen: Float[np.ndarray, "num_envs features"]) -> None:
        """Begin a lifetime in every environment; ``seen`` are the first observations."""
        self._seen, self._policy = seen, self.network.acting(len(seen))

    def act(self) -> Int[np.ndarray, "num_envs"]:
        """Return the next action in every environment."""
        seen = torch.as_tensor(self._seen).to(self.network.value.weight)
        return sample_actions(self._policy(seen), self.generator).numpy(force=True)

    def learn(self, actions: Any, rewards: Any, seen: Float[np.ndarray, "num_envs features"]) -> None:
        """Take in the next observations, which contain action and reward."""
        self._seen = seen
