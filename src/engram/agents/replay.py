"""Replay of transitions, with or without actions."""

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
from engram.state import Axes, check_state


class TransitionBatch(NamedTuple):
    """A batch of transitions; ``actions`` are None if only states were recorded."""

    states: Float[Tensor, "batch features"]
    actions: Float[Tensor, "batch actions"] | None  # vectors of ``ActionVectors``
    rewards: Float[Tensor, "batch"]
    next_states: Float[Tensor, "batch features"]
    terminated: Float[Tensor, "batch"]  # 1 where the episode terminated, not where it was truncated
    truncated: Float[Tensor, "batch"]  # 1 where the episode was truncated after the step


class ReplayBuffer:
    """A buffer of the last transitions, from which batches are drawn.

    Args:
        capacity: Maximum number of transitions.
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` or a ``Discrete``; None: a log of states, without actions.
        device: Device of the batches.

    Raises:
        TypeError: The observations are not vectors; ``gymnasium.wrappers.FlattenObservation`` makes them vectors.

    Examples:
        >>> buffer = ReplayBuffer(100, spaces.Box(-1, 1, (2,)))
        >>> never = np.zeros(3, bool)
        >>> buffer.add(np.zeros((3, 2)), None, np.ones(3), np.ones((3, 2)), terminated=never, truncated=never)
        >>> buffer.sample(3, torch.Generator().manual_seed(0)).rewards
        tensor([1., 1., 1.])
    """

    __repr__ = checks.described

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
        with checks.noted(device=device):
            self.device = torch.device(device)
        self.actions = None if action_space is None else ActionVectors(action_space)
        # One row for each transition, so that a batch is one gather.
        self._widths = [self.features, self.actions.size if self.actions else 0, 1, self.features, 1, 1]
        # States in double precision stay so: far from 0, single precision would make different ones equal.
        self.dtype = torch.float64 if observation_space.dtype == np.float64 else torch.float32
        self._rows = torch.zeros(self.capacity, sum(self._widths), dtype=self.dtype)
        self.written = 0

    def __len__(self) -> int:
        """Number of transitions."""
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
        """Add transitions.

        Args:
            states: States before the steps.
            actions: Actions of the action space, (batch, ...); None in a log of states.
            rewards: Rewards of the steps.
            next_states: States after the steps.
            terminated: Whether a step terminated its episode.
            truncated: Whether an episode was truncated after a step.

        Raises:
            FloatingPointError: A state or a reward is not finite.
            ValueError: The arrays differ in length or width, or actions are missing, or given for a log of states; a
                flag is not True or False, a discrete action is not an integer, or a number is too large for 32 bits.
        """
        if (actions is None) != (self.actions is None):
            expected = "None, in a log of states" if self.actions is None else "those of each transition"
            raise ValueError(f"actions = {actions!r}: expected {expected}")
        checks.has_shape("rewards", np.shape(rewards), ("transitions",))
        n_transitions, arrays = len(rewards), {"states": states, "rewards": rewards, "next_states": next_states}
        for name, array in arrays.items():
            shape = (n_transitions,) if name == "rewards" else (n_transitions, self.features)
            if np.shape(array) != shape:
                raise ValueError(f"{name}.shape = {np.shape(array)}: expected {shape}")
            if not np.isfinite(checks.as_array(array)).all():
                raise FloatingPointError(f"{name} of transition {self.written} or later: expected finite numbers")
        flags = {"terminated": terminated, "truncated": truncated}
        flag_columns = [checks.array(name, flag, (n_transitions,), np.float32)[:, None] for name, flag in flags.items()]
        for (name, flag), flag_column in zip(flags.items(), flag_columns, strict=True):
            if getattr(flag, "dtype", None) != np.bool_ and not ((flag_column == 0) | (flag_column == 1)).all():
                raise ValueError(f"{name} = {flag!r}: expected True or False for each transition")
        vectors = [] if self.actions is None else [self.actions.encode(actions)]
        if vectors and len(vectors[0]) != n_transitions:
            raise ValueError(f"actions = {actions!r}: expected one for each of {n_transitions} transitions")
        columns = [states, *vectors, np.reshape(rewards, (n_transitions, 1)), next_states, *flag_columns]
        rows = torch.cat([torch.as_tensor(column, dtype=self.dtype) for column in columns], 1)[-self.capacity :]
        if not (rows.abs() <= torch.finfo(torch.float32).max).all():  # batches of other agents have 32 bits
            raise ValueError("states, rewards or next_states have a number beyond 32 bits: expected at most 3.4e38")
        indices = (self.written + torch.arange(n_transitions)[-self.capacity :]) % self.capacity
        self._rows[indices] = rows
        self.written += n_transitions

    def add_log(
        self, states: Any, actions: Any, rewards: Any, next_states: Any, *, terminated: Any, truncated: Any
    ) -> None:
        """Add consecutive transitions.

        Args:
            states: States before the steps.
            actions: Actions of the action space, (batch, ...); None in a log of states.
            rewards: Rewards of the steps.
            next_states: States after the steps, each the state before the next step unless an episode ends.
            terminated: Whether a step terminated its episode.
            truncated: Whether an episode was truncated after a step.

        Raises:
            ValueError: A step is missing, or as in ``add``.
        """
        with checks.noted(states=states, next_states=next_states, terminated=terminated, truncated=truncated):
            continues = ~(np.asarray(terminated, bool) | np.asarray(truncated, bool))[:-1]
            differs = (np.asarray(next_states)[:-1] != np.asarray(states)[1:]).any(1) & continues
        if differs.any():
            step = int(differs.argmax())
            gap = f"next_states[{step}] is not states[{step + 1}], and step {step} ends no episode"
            raise ValueError(f"{gap}: expected a log without gaps, or add, which takes transitions in any order")
        self.add(states, actions, rewards, next_states, terminated=terminated, truncated=truncated)

    def sample(self, batch_size: int, generator: torch.Generator) -> TransitionBatch:
        """Draw transitions uniformly, with replacement; warn if there are fewer than ``batch_size``."""
        checks.size("batch_size", batch_size)
        if not self.written:
            raise ValueError("the buffer is empty: call add first")
        if len(self) < batch_size:
            size = f"batch_size = {batch_size}: only {len(self)} transitions are in the buffer"
            warnings.warn(f"{size}, so that some are drawn twice", RuntimeWarning, stacklevel=2)
        return self._batch(self._rows[torch.randint(len(self), (batch_size,), generator=generator)])

    def all(self) -> TransitionBatch:
        """All transitions."""
        return self._batch(self._rows[: len(self)].clone())

    def _batch(self, rows: Float[Tensor, "batch columns"]) -> TransitionBatch:
        states, actions, rewards, next_states, terminated, truncated = torch.split(
            rows.to(self.device), self._widths, 1
        )
        rewards, terminated, truncated = rewards.float(), terminated.float(), truncated.float()
        known_actions = None if self.actions is None else actions.float()
        return TransitionBatch(states, known_actions, rewards[:, 0], next_states, terminated[:, 0], truncated[:, 0])

    def state_dict(self) -> dict[str, Any]:
        """The transitions."""
        return {"rows": self._rows[: len(self)].clone(), "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``.

        Args:
            state: State of a buffer with the same capacity and the same sizes of observations and actions.

        Raises:
            TypeError, ValueError: It does not fit this buffer.
        """
        checks.arguments()
        rows_written = checks.size("state['written']", state.get("written", 0), minimum=0, maximum=None)
        rows = Axes((min(rows_written, self.capacity), self._rows.shape[1]), self._rows)
        check_state(state, {"rows": rows, "written": int})
        self.written = rows_written
        self._rows[: len(state["rows"])] = state["rows"]


def features_of(space: spaces.Space[Any]) -> int:
    """The length of an observation; raises TypeError if observations are not vectors."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        hint = "gymnasium.wrappers.FlattenObservation makes them vectors"
        raise TypeError(f"observation_space = {space!r}: expected a Box of vectors; {hint}")
    return int(space.shape[0])


def states_of(
    observations: Any, features: int, device: torch.device | str, dtype: torch.dtype | None = torch.float32
) -> Float[Tensor, "batch features"]:
    """Observations as states; ValueError if their shape is another one.

    Args:
        observations: The observations.
        features: Their number of features.
        device: Device of the states.
        dtype: Their data type; None: double precision for observations that have it, else single.
    """
    with checks.noted(observations=observations):
        is_double = str(getattr(observations, "dtype", "")).endswith("float64")
        dtype = dtype or (torch.float64 if is_double else torch.float32)
        states = torch.as_tensor(observations, dtype=dtype, device=device)
    if states.dim() != 2 or states.shape[1] != features:
        raise ValueError(f"observations.shape = {tuple(states.shape)}: expected (batch, {features})")
    return states


def in_single(batch: TransitionBatch) -> TransitionBatch:
    """A batch whose states are in single precision, as networks take them."""
    return batch._replace(states=batch.states.float(), next_states=batch.next_states.float())


def check_outcomes(batch: TransitionBatch) -> None:
    """Raise ValueError unless a batch has a reward, a next state and a termination for each state."""
    if not batch.states.shape[:1] == batch.next_states.shape[:1] == batch.rewards.shape == batch.terminated.shape:
        raise ValueError(
            f"batch.rewards.shape = {tuple(batch.rewards.shape)}, batch.terminated.shape = "
            f"{tuple(batch.terminated.shape)}: expected ({len(batch.states)},), and as many "
            f"next states, found {len(batch.next_states)}"
        )


def transition_consistency(batch: TransitionBatch) -> float:
    """The spread of the outcomes of nearly the same state and action, relative to that of any two transitions.

        median |d_i - d_nearest(i)| / median |d_i - d_other(i)|,  d = s' - s

    where nearest(i) is the nearest by state and action, with each feature standardised. It is near 0 if transitions are
    deterministic and dense, and near 1 if they are noise; above 0.5, where values of transitions are useless, it warns.

    Raises:
        ValueError: There are no actions, or fewer than 3 transitions, or states and next states differ in shape.
    """
    checks.arguments()
    from sklearn.neighbors import NearestNeighbors

    if batch.next_states.shape != batch.states.shape:
        raise ValueError(f"batch.next_states has shape {tuple(batch.next_states.shape)}: expected that of batch.states")
    if batch.actions is None or len(batch.states) < 3:
        raise ValueError("batch: expected actions, and at least 3 transitions")
    inputs = torch.cat([batch.states, batch.actions], 1).numpy(force=True).astype(float)
    change = (batch.next_states - batch.states).numpy(force=True).astype(float)
    deviation = inputs.std(0)
    scaled = inputs / np.where(deviation > 0, deviation, 1)
    nearest = NearestNeighbors(n_neighbors=2).fit(scaled).kneighbors(scaled, return_distance=False)
    itself = np.arange(len(inputs))
    neighbour = np.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
    near = np.median(np.linalg.norm(change - change[neighbour], axis=1))
    far = np.median(np.linalg.norm(change - np.roll(change, len(change) // 2, 0), axis=1))
    ratio = float(near / far) if far else 0.0
    if ratio > 0.5:
        noise = f"transition_consistency = {ratio:.2f}: nearly the same states and actions led to different next states"
        warnings.warn(f"{noise}; D3G takes the environment for deterministic", RuntimeWarning, stacklevel=2)
    return ratio
