"""Model-free episodic control: act on the best return ever received from a state, or from its neighbours."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram.agents.episodic_control import EpisodicControl, Trajectory
from engram.agents.returns import monte_carlo_returns


class MFEC(EpisodicControl):
    """Model-free episodic control: the values of the memory are Monte-Carlo returns.

        at the end of an episode, for each of its steps: write G(t) for s(t) to the table of a(t)

    The arguments are those of ``EpisodicControl``.

    Source: Blundell et al., "Model-free episodic control" (2016); small memories: Agostinelli et al. (2019).

    Examples:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> import gymnasium
        >>> from engram.agents import play_episode
        >>> from engram.memory import KeyValueMemory
        >>> agent = MFEC(KeyValueMemory(100, key_dim=4, tables=2), rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("CartPole-v1"), agent, seed=0).length == agent.steps
        True
    """

    def _returns(self, trajectory: Trajectory) -> Float[np.ndarray, "time"]:
        return monte_carlo_returns(trajectory.rewards, self.gamma, trajectory.last[0])
