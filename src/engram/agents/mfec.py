"""Model-free episodic control: act on the best return that was ever had from here, or from nearby."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import nn

from engram.agents.episodic_control import EpisodicControl, Trace
from engram.agents.exploration import EpsilonGreedy, Exploration
from engram.agents.returns import monte_carlo_returns
from engram.memory import KeyValueMemory


class MFEC(EpisodicControl):
    """Model-free episodic control.

        Q(s, a) = value of s, if it is stored for a, else the mean over its k nearest, as the memory weighs them
        at the end of an episode, for each of its steps: write G(t) for s(t) to the table of a(t)

    Args:
        memory: A memory with one table for each action, ``KeyValueMemory(..., tables=actions)``; its policy decides
            what is kept.
        rng: Source of all chance.
        exploration: What chooses an action; ``EpsilonGreedy()`` if None.
        embedding: Makes keys, (batch, key_dim), of observations, (batch, ...), such as ``RandomProjection``; None: the
            flattened observation. Bytes, as pixels are, count as parts of 255.
        k: Neighbours.
        gamma: Discount for each step, from 0 to 1.
        kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
        delta: Added to squared distances; ``"auto"``: their mean over the k neighbours.
        truncation: What time that is up is worth: ``"terminal"``, nothing, as published, or ``"bootstrap"``, the
            largest value of what is seen then.
        standardise: Length of an observation, to bring each of its numbers to the same scale by running mean and
            variance before it becomes a key; stored keys stay as they were. None: not at all.

    Raises:
        ValueError: An argument is out of range.

    Source: Blundell et al., "Model-free episodic control" (2016); with memories that are small, Agostinelli et al.
    (2019).

    Examples:
        >>> import gymnasium
        >>> from engram.agents import play_episode
        >>> from engram.memory.episodic.policies import DynamicKMeans
        >>> memory = KeyValueMemory(100, key_dim=4, policy=DynamicKMeans(), tables=2)
        >>> agent = MFEC(memory, rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("CartPole-v1"), agent, seed=0).length == int(memory.n_filled.sum())
        True
    """

    def __init__(
        self,
        memory: KeyValueMemory,
        *,
        rng: np.random.Generator,
        exploration: Exploration | None = None,
        embedding: nn.Module | None = None,
        k: int = 11,
        gamma: float = 0.99,
        kernel: str = "idw",
        delta: float | str = 1e-3,
        truncation: str = "terminal",
        standardise: int | None = None,
    ) -> None:
        super().__init__(
            memory,
            rng=rng,
            exploration=exploration or EpsilonGreedy(),
            embedding=embedding,
            k=k,
            gamma=gamma,
            kernel=kernel,
            delta=delta,
            exact_match=True,
            truncation=truncation,
            standardise=standardise,
        )

    def _targets(self, trace: Trace) -> Float[np.ndarray, "time"]:
        return monte_carlo_returns(trace.rewards, self.gamma, trace.last[0])
