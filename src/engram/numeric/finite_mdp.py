"""A finite Markov decision process as tables, which tasks make and tabular learners run through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class FiniteMDP(NamedTuple):
    """The outcomes of each action in each state.

    Outcome k of action a in state s has the probability ``probabilities[s, a, k]``, leads to ``successors[s, a, k]``
    and pays ``rewards[s, a, k]``.

    Attributes:
        successors: Next state of each outcome.
        probabilities: Their probabilities, with the sum 1 over the outcomes.
        rewards: Their rewards.
        terminal: Which states end an episode.
        start: The state that an episode begins in.
    """

    successors: Int[np.ndarray, "states actions outcomes"]
    probabilities: Float[np.ndarray, "states actions outcomes"]
    rewards: Float[np.ndarray, "states actions outcomes"]
    terminal: Bool[np.ndarray, "states"]
    start: int
