"""A trained network as an agent for meta-tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks
from engram.agents.a2c import sample_actions
from engram.agents.actor_critic import ActorCritic


class TrainedAgent:
    """An actor-critic as an agent for meta-tasks, for ``engram.agents.reference.play``.

    Args:
        network: The actor-critic, whose input contains the previous action and reward (see ``RL2Observation``).
        generator: Source of the actions.

    Examples:
        >>> agent = TrainedAgent(ActorCritic(torch.nn.RNN(3, 4), actions=2), torch.Generator().manual_seed(0))
        >>> agent.reset(None, np.zeros((5, 3), dtype=np.float32))
        >>> agent.act().shape
        (5,)
    """

    __repr__ = checks.described

    def __init__(self, network: ActorCritic, generator: torch.Generator) -> None:
        checks.arguments()
        self.network, self.generator = network, generator
        self._policy: Callable[[Float[Tensor, "num_envs features"]], Float[Tensor, "num_envs actions"]] | None = None

    def reset(self, env: Any, observations: Float[np.ndarray, "num_envs features"]) -> None:
        """Start a lifetime in every environment, with the first ``observations``."""
        checks.arguments()
        self._observations, self._policy = observations, self.network.acting(len(observations))

    def act(self) -> Int[np.ndarray, "num_envs"]:
        """The next action in every environment.

        Raises:
            RuntimeError: ``reset`` was not called before; a copy of an agent does not go on with its lifetimes.
        """
        if self._policy is None:
            raise RuntimeError("act was called before reset: expected reset at the start of the lifetimes")
        observations = torch.as_tensor(self._observations).to(self.network.value.weight)
        return sample_actions(self._policy(observations), self.generator).numpy(force=True)

    def learn(self, actions: Any, rewards: Any, observations: Float[np.ndarray, "num_envs features"]) -> None:
        """Store the next observations.

        Args:
            actions: The last actions; not used, since the observations contain them.
            rewards: Their rewards; not used, since the observations contain them.
            observations: The next observations.
        """
        self._observations = observations

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but the policy, a function that a copy could only share."""
        return {**vars(self), "_policy": None}
