"""Random actions: the baseline that every agent should beat."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

from engram import checks
from engram.state import check_state


class RandomActions:
    """An agent that draws its actions from the action space and learns nothing.

    Args:
        observation_space: Any space.
        action_space: A ``Discrete``, ``Box``, ``MultiDiscrete`` or ``MultiBinary``.
        rng: Source of all randomness.

    Raises:
        TypeError: ``action_space`` is another kind of space, or ``rng`` is not a generator.

    Examples:
        >>> two = spaces.Discrete(2)
        >>> RandomActions(spaces.Box(-1.0, 1.0, (4,)), two, rng=np.random.default_rng(0)).act(np.zeros(4)) in two
        True
    """

    __repr__ = checks.described

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], *, rng: np.random.Generator
    ) -> None:
        checks.arguments()
        if not isinstance(action_space, spaces.Discrete | spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
            raise TypeError(f"action_space = {action_space!r}: expected actions that are numbers")
        self.action_space = copy.deepcopy(action_space)  # with its own generator
        self.action_space.seed(int(rng.integers(2**31)))

    def act(self, observation: Any) -> Any:
        """A random action."""
        return self.action_space.sample()

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Do nothing."""

    def learn(self) -> dict[str, float]:
        """Do nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state of the random generator."""
        return {"rng": self.action_space.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        check_state(state, self.state_dict())
        self.action_space.np_random.bit_generator.state = state["rng"]
