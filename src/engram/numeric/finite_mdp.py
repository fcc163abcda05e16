"""A finite Markov decision process as tables, which tasks make and tabular learners use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class FiniteMDP(NamedTuple):
    """The outcomes of each action in each state.

    Outcome k of action a in state s has the probability ``probabilities[s, a, k]``, leads to ``successors[s, a, k]``
    and yields the reward ``rewards[s, a, k]``.

    Attributes:
        successors: Next state of each outcome.
        probabilities: Probability of each outcome; they sum to 1 over the outcomes.
        rewards: Reward of each outcome.
        terminal: Whether a state ends the episode.
        start: The state in which an episode begins.
    """

    successors: Int[np.ndarray, "states actions outcomes"]
    probabilities: Float[np.ndarray, "states actions outcomes"]
    rewards: Float[np.ndarray, "states actions outcomes"]
    terminal: Bool[np.ndarray, "states"]
    start: int
