"""The agents of ``engram compare``, made from the spaces of an environment and a generator, with our own settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int

from engram import checks
from engram.agents.discrete_actions import discrete_actions
from engram.agents.exploration import EpsilonGreedy
from engram.agents.mfec import MFEC
from engram.agents.nec import NEC
from engram.agents.replay import features_of
from engram.agents.tabular_q import TabularQ
from engram.memory import DND, KeyValueMemory
from engram.nn import vector_encoder

CELLS, MOST_CELLS = 4096, 2**18  # of a grid: as a rule, and at most, where two per axis are more than that
UNBOUNDED, EDGE = 1e6, 3.0  # size from which a bound counts as infinite, and where the grid ends instead
ROWS, KEYS = 1000, 32
EXPLORATION = EpsilonGreedy(final=0.05, start=0, end=1000)

Edges = Float[np.ndarray, "features"]


def seeded(rng: np.random.Generator) -> torch.Generator:
    """A torch generator with a seed drawn from a numpy generator."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def grid_of(observation_space: spaces.Space[Any]) -> tuple[Edges, Edges, Int[np.ndarray, "features"]]:
    """The bounds of a grid over observations, and its number of cells along each axis.

    Args:
        observation_space: A ``Discrete``, or a ``Box`` of vectors of at most 18 numbers.

    Raises:
        TypeError: The space is neither.
        ValueError: It has too many features for a grid.

    Examples:
        >>> grid_of(spaces.Box(0.0, 1.0, (3,)))[2]
        array([16, 16, 16])
    """
    if isinstance(observation_space, spaces.Discrete):
        lowest, n_states = int(observation_space.start), int(observation_space.n)
        return np.array([float(lowest)]), np.array([float(lowest + n_states)]), np.array([n_states])
    features = features_of(observation_space)
    if 2**features > MOST_CELLS:
        raise ValueError(f"observation_space = {observation_space!r}: expected fewer features, for a grid over them")
    box: Any = observation_space
    bounds = box.low.astype(float), box.high.astype(float)  # the size of the least integer is none of its kind
    low, high = (np.where(np.abs(bound) < UNBOUNDED, bound, np.sign(bound) * EDGE) for bound in bounds)
    # A single bound near the usual end of the grid, or beyond it, moves the other end away from it.
    above, below = (high - low < EDGE) & (bounds[1] >= UNBOUNDED), (high - low < EDGE) & (bounds[0] <= -UNBOUNDED)
    low, high = np.where(below, high - 2 * EDGE, low), np.where(above, low + 2 * EDGE, high)
    bins = np.full(features, max(2, int(CELLS ** (1 / features) + 1e-9)))
    return low.astype(float), np.where(high > low, high, low + 1).astype(float), bins


def tabular_q(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    rng: np.random.Generator,
    learning_rate: float = 0.2,
) -> TabularQ:
    """Q-learning on a grid over the observations.

    Args:
        observation_space: A ``Discrete``, or a ``Box`` of vectors of at most 18 numbers.
        action_space: A ``Discrete`` that starts at 0.
        rng: Source of all randomness.
        learning_rate: Learning rate of the table.
    """
    checks.arguments()
    actions, grid = discrete_actions(action_space), grid_of(observation_space)
    return TabularQ(*grid, actions, rng=rng, exploration=EXPLORATION, learning_rate=learning_rate)


def mfec(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    rng: np.random.Generator,
    truncation: str = "bootstrap",
) -> MFEC:
    """Model-free episodic control with a thousand rows for each action.

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Discrete`` that starts at 0.
        rng: Source of all randomness.
        truncation: Value of the state after a truncated episode, as in ``EpisodicControl``.
    """
    checks.arguments()
    actions, features = discrete_actions(action_space), features_of(observation_space)
    memory = KeyValueMemory(ROWS, features, tables=actions, generator=seeded(rng))
    return MFEC(memory, rng=rng, exploration=EXPLORATION, truncation=truncation)


def nec(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    *,
    rng: np.random.Generator,
    truncation: str = "bootstrap",
) -> NEC:
    """Neural episodic control with a thousand rows for each action; it is slow, so its learning rate is fixed.

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Discrete`` that starts at 0.
        rng: Source of all randomness.
        truncation: Value of the state after a truncated episode, as in ``EpisodicControl``.
    """
    checks.arguments()
    actions, features, generator = discrete_actions(action_space), features_of(observation_space), seeded(rng)
    memory = DND(ROWS, KEYS, tables=actions, generator=generator)
    encoder = vector_encoder(features, KEYS, generator=generator)
    options: dict[str, Any] = {"exploration": EXPLORATION, "learning_starts": 500, "learning_rate": 5e-4}
    return NEC(memory, encoder, rng=rng, k=11, truncation=truncation, **options)
