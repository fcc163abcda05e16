"""A network that has learned, as one who lives lifetimes among agents of other kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.agents.a2c import sample_actions
from engram.agents.actor_critic import ActorCritic


class TrainedAgent:
    """An actor-critic as an agent of meta-tasks, which ``engram.agents.reference.play`` lets live.

    What it did and got it knows from what it sees, as ``RL2Observation`` shows it.

    Args:
        network: The actor-critic.
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
        """Begin a lifetime in every environment, which has shown what is ``seen``."""
        self._seen, self._policy = seen, self.network.acting(len(seen))

    def act(self) -> Int[np.ndarray, "num_envs"]:
        """Return the next action in every environment."""
        seen = torch.as_tensor(self._seen).to(self.network.value.weight)
        return sample_actions(self._policy(seen), self.generator).numpy(force=True)

    def learn(self, actions: Any, rewards: Any, seen: Float[np.ndarray, "num_envs features"]) -> None:
        """Take in what is seen now, which tells also what was done and what it gave."""
        self._seen = seen
