"""Episodic control: action values are read from a memory of past episodes, by the nearest neighbours of a state."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.agents.exploration import ActionValues, EpsilonGreedy, Exploration
from engram.agents.returns import TRUNCATIONS
from engram.memory import KeyValueMemory, Written
from engram.state import check_state


@dataclass
class Trajectory:
    """The steps of an episode so far."""

    keys: list[Tensor] = field(default_factory=list)  # of the observations, each (1, key_dim)
    hashes: list[Tensor] = field(default_factory=list)  # each (1, hash_dim); empty for a memory without hashes
    observations: list[np.ndarray] = field(default_factory=list)  # empty for agents that do not replay them
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)  # the largest action value at each step, when the agent acted
    last: list[float] = field(default_factory=list)  # value of the last state; empty before the end


class EpisodicControl(ABC):
    """An agent that writes each finished episode into a memory with one table for each action.

        Q(s, a) = value of s, if it is stored for a, else the mean over its k nearest neighbours, weighted by the kernel

    A subclass computes the returns (``_returns``), and may also train other parts.

    Args:
        memory: A memory with one table for each action, ``KeyValueMemory(..., tables=actions)``.
        rng: Source of all randomness.
        exploration: Policy over the action values; ``EpsilonGreedy()`` if None.
        embedding: Maps observations, (batch, ...), to keys, (batch, key_dim), for example a ``RandomProjection``; None:
            the flattened observation. Pixels in bytes are divided by 255.
        k: Number of neighbours in a query.
        gamma: Discount for each step, from 0 to 1.
        kernel: Kernel that weighs the neighbours, as in ``KeyValueMemory.query``.
        delta: Constant of the kernel, as in ``KeyValueMemory.query``.
        truncation: Value of the state after a truncated episode: ``"bootstrap"``, its largest action value, or
            ``"terminal"``, 0, as published.
        standardise: Length of an observation, to standardise each feature by its running mean and variance before it
            becomes part of a key; stored keys do not change. None: do not standardise.
    """

    _exact_match = True
    _replays = False  # whether observations are kept until the episode is over

    __repr__ = checks.described

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
        truncation: str = "bootstrap",
        standardise: int | None = None,
    ) -> None:
        checks.arguments()
        self.gamma = checks.number("gamma", gamma, minimum=0, maximum=1)
        self.truncation = checks.choice("truncation", truncation, TRUNCATIONS)
        if memory.tables is None:
            raise ValueError("memory.tables = None: expected one table for each action")
        if k > memory.capacity:
            warnings.warn(f"k = {k}: only {memory.capacity} rows can be neighbours", RuntimeWarning, stacklevel=3)
            k = memory.capacity
        self.memory, self.embedding, self.rng, self.steps = memory, embedding, rng, 0
        self.exploration: Exploration = exploration or EpsilonGreedy()
        weights = [] if embedding is None else [*embedding.parameters(), *embedding.buffers()]
        self._device = weights[0].device if weights else torch.device("cpu")
        self._scale = None if standardise is None else RunningScale(standardise)
        self._query: dict[str, Any] = {"k": k, "kernel": kernel, "delta": delta, "exact_match": self._exact_match}
        self._trajectory, self._finished = Trajectory(), list[Trajectory]()

    @abstractmethod
    def _returns(self, trajectory: Trajectory) -> Float[np.ndarray, "time"]: ...

    def _key(self, observation: Any) -> Float[Tensor, "1 key_dim"]:
        return self._embedded(self._prepared(np.asarray(observation)[None])).detach()

    def _prepared(self, observations: np.ndarray) -> Float[Tensor, "batch ..."]:
        """Observations as standardised floats; bytes are divided by 255."""
        x = _floats(observations)
        if self._scale is not None:
            x = self._scale(x.reshape(len(x), -1)).reshape(x.shape)
        return torch.from_numpy(x)

    def _embedded(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch key_dim"]:
        if self.embedding is None:
            return x.reshape(len(x), -1)
        like = next(self.embedding.parameters(), None)  # whose precision it takes
        keys: Tensor = self.embedding(x.to(self._device, None if like is None else like.dtype)).cpu()
        return keys

    def _values(self, key: Float[Tensor, "1 key_dim"], use: bool) -> ActionValues:
        # A differentiable memory is queried without gradients, which takes a fraction of the time.
        return KeyValueMemory.query(self.memory, key, **self._query, use=use).values.numpy()[0, :, 0]

    def values(self, observation: Any) -> ActionValues:
        """The value of each action; neither the agent nor its memory changes."""
        with checks.noted(observation=observation):
            return self._values(self._key(observation), use=False)

    def act(self, observation: Any, identity: Any = None) -> int:
        """An action; ``identity``, (hash_dim,), such as the RAM of a game, is only for a memory with hashes.

        Raises:
            RuntimeError: ``observe`` was not called after the last action.
            ValueError: ``identity`` is given, but the memory has no hashes.
        """
        trajectory = self._trajectory
        if len(trajectory.actions) > len(trajectory.rewards):
            raise RuntimeError("act was called twice: expected observe in between")
        hash_dim = self.memory.hash_dim
        if identity is not None and hash_dim is None:
            raise ValueError("identity is given, but the memory has no hash_dim")
        with checks.noted(observation=observation, identity=identity):
            array = np.asarray(observation)
            name, state = ("observation", array) if identity is None else ("identity", identity)
            state_hash = None if hash_dim is None else checks.array(name, np.ravel(state), (hash_dim,), np.float32)
            if self._scale is not None:
                x = checks.array("observation", _floats(array).reshape(-1), self._scale.mean.shape, np.float64)
                self._scale.update(x)
            key = self._key(array)
            values = self._values(key, use=True)
        action = self.exploration(values, self.steps, self.rng)
        if state_hash is not None:
            trajectory.hashes.append(torch.from_numpy(state_hash[None]))
        trajectory.keys.append(key)
        trajectory.actions.append(action)
        trajectory.best.append(float(values.max()))
        if self._replays:
            trajectory.observations.append(array.copy())
        self.steps += 1
        return action

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Record the outcome of the last action.

        Args:
            reward: Its reward.
            terminated: Whether it terminated the episode.
            truncated: Whether the episode was truncated.
            observation: The next observation; needed only at a truncation, to bootstrap from it.

        Raises:
            RuntimeError: There was no action.
            ValueError: The reward is not finite, or the observation is missing.
        """
        trajectory = self._trajectory
        if len(trajectory.actions) == len(trajectory.rewards):
            raise RuntimeError("observe was called without an action: expected act before it")
        reward = checks.number("reward", reward)
        with checks.noted(terminated=terminated, truncated=truncated):
            finished = bool(terminated or truncated)
        bootstrap = truncated and not terminated and self.truncation == "bootstrap"
        if bootstrap and observation is None:
            why = f"as truncated = {checks.shown(truncated)}, and the agent bootstraps from it"
            raise ValueError(f"observation = None: expected the observation at the truncation, {why}")
        final_value = float(self.values(observation).max()) if bootstrap else 0.0
        trajectory.rewards.append(reward)
        if finished:
            trajectory.last = [final_value]
            self._finished.append(trajectory)
            self._trajectory = Trajectory()

    def learn(self) -> dict[str, float]:
        """Write the finished episodes into the memory; return numbers to log."""
        for trajectory in self._finished:
            self._write(trajectory, self._returns(trajectory))
        self._finished.clear()
        return {}

    def _write(self, trajectory: Trajectory, returns: Float[np.ndarray, "time"]) -> Written:
        return self.memory.write(
            torch.cat(trajectory.keys),
            torch.from_numpy(returns.astype(np.float32)),
            torch.cat(trajectory.hashes) if trajectory.hashes else None,
            tables=torch.tensor(trajectory.actions),
        )

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the episode in progress and of the random generator."""
        return {
            "memory": copy.deepcopy(dict(self.memory.state_dict())),
            "embedding": {} if self.embedding is None else copy.deepcopy(dict(self.embedding.state_dict())),
            "scale": None if self._scale is None else copy.deepcopy(self._scale.state_dict()),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "traces": [copy.deepcopy(vars(trajectory)) for trajectory in (*self._finished, self._trajectory)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit."""
        check_state(state, self._form())
        if not state["traces"]:
            raise ValueError("state['traces'] = []: expected at least that of the episode in progress")
        for index, lists in enumerate(state["traces"]):
            check_state(lists, dict.fromkeys(vars(self._trajectory), list), f"state['traces'][{index}]")
        self.memory.load_state_dict(state["memory"])
        if self.embedding is not None:
            self.embedding.load_state_dict(state["embedding"])
        if self._scale is not None:
            self._scale.load_state_dict(state["scale"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = state["steps"]
        *self._finished, self._trajectory = (Trajectory(**lists) for lists in copy.deepcopy(state["traces"]))

    def _form(self) -> dict[str, Any]:
        return self.state_dict() | {"traces": list}


def _floats(observations: np.ndarray) -> Float[np.ndarray, "..."]:
    """Observations as floats, in double precision if they have it; bytes are divided by 255."""
    x: Float[np.ndarray, "..."] = observations.astype(np.float64 if observations.dtype == np.float64 else np.float32)
    if observations.dtype == np.uint8:
        x /= 255
    return x


class RunningScale:
    """Standardisation of vectors by the running mean and variance of each feature.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products" (1962).

    Examples:
        >>> RunningScale(1)(np.array([3.0], dtype=np.float32)).tolist()
        [3.0]
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0
        self.mean, self.squares = np.zeros(n_features), np.zeros(n_features)

    def update(self, x: Float[np.ndarray, "features"]) -> None:
        """Update mean and variance with a vector."""
        self.count += 1
        delta = x - self.mean
        self.mean += delta / self.count
        self.squares += delta * (x - self.mean)

    def __call__(self, x: Float[np.ndarray, "*batch features"]) -> Float[np.ndarray, "*batch features"]:
        """Standardised vectors; a feature of zero variance is centred only."""
        deviation = np.sqrt(self.squares / max(1, self.count))
        deviation[deviation == 0] = 1.0
        return ((x - self.mean) / deviation).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Mean and variance so far."""
        return {"count": self.count, "mean": self.mean.copy(), "squares": self.squares.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        check_state(state, self.state_dict())
        self.count = state["count"]
        self.mean[...], self.squares[...] = state["mean"], state["squares"]
