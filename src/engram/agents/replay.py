"""Replay of transitions, with actions or of states only."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from engram import checks
from engram.agents.action_vectors import ActionVectors


class TransitionBatch(NamedTuple):
    """Some transitions; of a log of states ``actions`` are None."""

    states: Float[Tensor, "batch features"]
    actions: Float[Tensor, "batch actions"] | None  # as ``ActionVectors`` has them
    rewards: Float[Tensor, "batch"]
    next_states: Float[Tensor, "batch features"]
    terminated: Float[Tensor, "batch"]  # 1 where the episode terminated, not where its time was over
    truncated: Float[Tensor, "batch"]


class ReplayBuffer:
    """The last transitions, of which batches are drawn.

    Args:
        capacity: Transitions that are kept.
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` or a ``Discrete``; None: a log of states, without actions.
        device: Where batches are.

    Raises:
        TypeError: The observations are no vectors; ``gymnasium.wrappers.FlattenObservation`` makes them such.

    Examples:
        >>> buffer = ReplayBuffer(100, spaces.Box(-1, 1, (2,)))
        >>> no = np.zeros(3, bool)
        >>> buffer.add(np.zeros((3, 2)), None, np.ones(3), np.ones((3, 2)), terminated=no, truncated=no)
        >>> buffer.sample(3, torch.Generator().manual_seed(0)).rewards
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        capacity: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = checks.size("capacity", capacity)
        self.features = features_of(observation_space)
        self.device = torch.device(device)
        self.actions = None if action_space is None else ActionVectors(action_space)
        # One row for a transition, so that a batch is one gather.
        self._widths = [self.features, self.actions.size if self.actions else 0, 1, self.features, 1, 1]
        self._rows = torch.zeros(self.capacity, sum(self._widths))
        self.written = 0

    def __len__(self) -> int:
        """Return how many transitions there are."""
        return min(self.written, self.capacity)

    def add(
        self,
        states: Shaped[np.ndarray, "batch features"],
        actions: Any,
        rewards: Shaped[np.ndarray, "batch"],
        next_states: Shaped[np.ndarray, "batch features"],
        *,
        terminated: Bool[np.ndarray, "batch"],
        truncated: Bool[np.ndarray, "batch"],
    ) -> None:
        """Add transitions; ``actions`` are those of the space, None in a log of states.

        Raises:
            FloatingPointError: A state or a reward is not finite.
            ValueError: The parts differ in length or width, or actions are missing or not asked for.
        """
        if (actions is None) != (self.actions is None):
            expected = "None, in a log of states" if self.actions is None else "those of each transition"
            raise ValueError(f"actions = {actions!r}: expected {expected}")
        n, parts = len(rewards), {"states": states, "rewards": rewards, "next_states": next_states}
        for name, part in parts.items():
            wide = (n,) if name == "rewards" else (n, self.features)
            if np.shape(part) != wide:
                raise ValueError(f"{name}.shape = {np.shape(part)}: expected {wide}")
            if not np.isfinite(part).all():
                raise FloatingPointError(f"{name} of transition {self.written} or later: expected finite numbers")
        ended, over = (("terminated", terminated), ("truncated", truncated))
        ends = [checks.array(*end, (n,), np.float32) for end in (ended, over)]
        taken = [] if self.actions is None else [self.actions.encode(actions)]
        if taken and len(taken[0]) != n:
            raise ValueError(f"actions = {actions!r}: expected one for each of {n} transitions")
        columns = [states, *taken, np.reshape(rewards, (n, 1)), next_states, *(end[:, None] for end in ends)]
        rows = torch.cat([torch.as_tensor(column, dtype=torch.float32) for column in columns], 1)[-self.capacity :]
        places = (self.written + torch.arange(n)[-self.capacity :]) % self.capacity
        self._rows[places] = rows
        self.written += n

    def add_log(
        self, states: Any, actions: Any, rewards: Any, next_states: Any, *, terminated: Any, truncated: Any
    ) -> None:
        """As ``add``, of steps that follow one another; raise ValueError where one is missing."""
        going_on = ~(np.asarray(terminated, bool) | np.asarray(truncated, bool))[:-1]
        differs = (np.asarray(next_states)[:-1] != np.asarray(states)[1:]).any(1) & going_on
        if differs.any():
            step = int(differs.argmax())
            gap = f"next_states[{step}] is not states[{step + 1}], and step {step} ends no episode"
            raise ValueError(f"{gap}: expected a log without gaps, or add, which takes transitions in any order")
        self.add(states, actions, rewards, next_states, terminated=terminated, truncated=truncated)

    def sample(self, batch_size: int, generator: torch.Generator) -> TransitionBatch:
        """Draw transitions, each with the same probability; warn where there are fewer than ``batch_size``."""
        checks.size("batch_size", batch_size)
        if not self.written:
            raise ValueError("the buffer is empty: call add first")
        if len(self) < batch_size:
            what = f"batch_size = {batch_size}: only {len(self)} transitions are in the buffer"
            warnings.warn(f"{what}, so that some are drawn twice", RuntimeWarning, stacklevel=2)
        chosen = torch.randint(len(self), (batch_size,), generator=generator)
        return self._batch(self._rows[chosen])

    def all(self) -> TransitionBatch:
        """Return all transitions."""
        return self._batch(self._rows[: len(self)])

    def _batch(self, rows: Float[Tensor, "batch columns"]) -> TransitionBatch:
        columns = torch.split(rows.to(self.device), self._widths, 1)
        states, actions, rewards, following, terminated, truncated = columns
        taken = None if self.actions is None else actions
        return TransitionBatch(states, taken, rewards[:, 0], following, terminated[:, 0], truncated[:, 0])

    def state_dict(self) -> dict[str, Any]:
        """Return the transitions."""
        return {"rows": self._rows[: len(self)].clone(), "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from earlier ones."""
        self.written = state["written"]
        self._rows[: len(state["rows"])] = state["rows"]


def features_of(space: spaces.Space[Any]) -> int:
    """Return the length of observations; raise TypeError where they are no vectors."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        hint = "gymnasium.wrappers.FlattenObservation makes them such"
        raise TypeError(f"observation_space = {space!r}: expected a Box of vectors; {hint}")
    return int(space.shape[0])


def transition_consistency(batch: TransitionBatch) -> float:
    """Return how far apart the outcomes of nearly the same state and action are; warn where that is far.

        median |d_i - d_nearest(i)| / median |d_i - d_other(i)|,  d = s' - s

    with the nearest by state and action, each number standardised, and any other transition for comparison. It is
    near 0 where transitions are deterministic and dense, and near 1 where they are noise; above 0.5 a RuntimeWarning
    says that values of transitions are of no use there. One sample alone does not tell.

    Raises:
        ValueError: There are no actions, or fewer than 3 transitions.
    """
    from sklearn.neighbors import NearestNeighbors

    if batch.actions is None or len(batch.states) < 3:
        raise ValueError("batch: expected actions, and at least 3 transitions")
    given = torch.cat([batch.states, batch.actions], 1).numpy(force=True).astype(float)
    change = (batch.next_states - batch.states).numpy(force=True).astype(float)
    deviation = given.std(0)
    scaled = given / np.where(deviation > 0, deviation, 1)
    nearest = NearestNeighbors(n_neighbors=2).fit(scaled).kneighbors(scaled, return_distance=False)
    itself = np.arange(len(given))
    other = np.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
    near = np.median(np.linalg.norm(change - change[other], axis=1))
    far = np.median(np.linalg.norm(change - np.roll(change, len(change) // 2, 0), axis=1))
    found = float(near / far) if far else 0.0
    if found > 0.5:
        what = f"transition_consistency = {found:.2f}: nearly the same states and actions led to different next states"
        warnings.warn(f"{what}; D3G takes the environment for deterministic", RuntimeWarning, stacklevel=2)
    return found
