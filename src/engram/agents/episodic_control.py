"""What episodic agents share: they remember what each action led to, and act on what similar states remember."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.agents.embedding import RunningScale
from engram.agents.exploration import ActionValues, Exploration
from engram.memory import KeyValueMemory, Written


class Trace:
    """An episode so far, step by step, as lists.

    Attributes:
        keys: Keys of what was seen, each (1, key_dim).
        hashes: Identities of what was seen, each (1, hash_dim); empty for a memory without hashes.
        observations: What was seen, in full; empty for agents that do not look at it again.
        actions: What was done.
        rewards: What came of it.
        best: The largest value of an action, as it was then.
        last: Value of what was seen at the end, at index 0; empty before the end.
    """

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.hashes: list[Tensor] = []
        self.observations: list[np.ndarray] = []
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.best: list[float] = []
        self.last: list[float] = []

    @classmethod
    def of(cls, lists: dict[str, Any]) -> Trace:
        """Make a trace of what ``vars`` gave."""
        trace = cls()
        vars(trace).update({name: list(items) for name, items in lists.items()})
        return trace


class EpisodicControl(ABC):
    """An agent that writes every episode, when it is over, into one table for each action.

    A subclass says what an episode is worth (``_targets``), and what else is learned. The arguments are those of
    ``MFEC``.

    Attributes:
        memory: The tables.
        embedding: What makes keys of observations; None where they are their own keys.
        steps: Steps taken.
    """

    _looks_again = False  # whether whole observations are kept until the episode is over

    def __init__(
        self,
        memory: KeyValueMemory,
        *,
        rng: np.random.Generator,
        exploration: Exploration,
        embedding: nn.Module | None,
        k: int,
        gamma: float,
        kernel: str,
        delta: float | str,
        exact_match: bool,
        truncation: str,
        standardise: int | None,
    ) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma = {gamma}: expected a number from 0 to 1")
        if truncation not in {"terminal", "bootstrap"}:
            raise ValueError(f"truncation = {truncation!r}: expected 'terminal' or 'bootstrap'")
        if memory.tables is None:
            raise ValueError("memory.tables = None: expected one table for each action")
        if k > memory.capacity:
            warnings.warn(f"k = {k}: only {memory.capacity} rows can be neighbours", RuntimeWarning, stacklevel=3)
            k = memory.capacity
        self.memory, self.embedding, self.exploration, self.rng = memory, embedding, exploration, rng
        self.gamma, self.truncation, self.steps = gamma, truncation, 0
        weights = [] if embedding is None else [*embedding.parameters(), *embedding.buffers()]
        self._device = weights[0].device if weights else torch.device("cpu")
        self._scale = None if standardise is None else RunningScale(standardise)
        self._look: dict[str, Any] = {"k": k, "kernel": kernel, "delta": delta, "exact_match": exact_match}
        self._trace, self._finished = Trace(), list[Trace]()

    @abstractmethod
    def _targets(self, trace: Trace) -> Float[np.ndarray, "time"]:
        """Return what each step of an episode was worth."""

    def _key(self, observation: Any) -> Float[Tensor, "1 key_dim"]:
        return self._embedded(self._prepared(np.asarray(observation)[None])).detach()

    def _prepared(self, observations: np.ndarray) -> Float[Tensor, "batch ..."]:
        """Return observations as numbers, brought to scale; bytes are taken as parts of 255."""
        x = observations.astype(np.float32)
        if observations.dtype == np.uint8:
            x /= 255
        if self._scale is not None:
            x = self._scale(x.reshape(len(x), -1)).reshape(x.shape)
        return torch.from_numpy(x)

    def _embedded(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch key_dim"]:
        return x.flatten(1) if self.embedding is None else self.embedding(x.to(self._device)).cpu()

    def _values(self, key: Float[Tensor, "1 key_dim"], use: bool) -> ActionValues:
        # A differentiable memory is asked without its gradients, which takes a fraction of the time.
        return KeyValueMemory.query(self.memory, key, **self._look, use=use).values.numpy()[0, :, 0]

    def values(self, observation: Any) -> ActionValues:
        """Return what each action is expected to give, (actions,); nothing of the agent or its memory changes."""
        return self._values(self._key(observation), use=False)

    def act(self, observation: Any, identity: Any = None) -> int:
        """Return an action.

        Args:
            observation: What is seen.
            identity: What tells whether two states are the same, (hash_dim,), such as the memory of a game's machine;
                None: the observation. Only for a memory with hashes.

        Raises:
            RuntimeError: What came of the last action was not observed.
            ValueError: The memory has no hashes, and there is an identity.
        """
        trace = self._trace
        if len(trace.actions) > len(trace.rewards):
            raise RuntimeError("act was called twice: expected observe in between")
        seen = np.asarray(observation)
        if self._scale is not None:
            self._scale.update(seen.reshape(-1))
        key = self._key(seen)
        values = self._values(key, use=True)
        if self.memory.hashes.shape[-1]:
            same = np.array(seen if identity is None else identity, dtype=np.float32)
            trace.hashes.append(torch.from_numpy(same.reshape(1, -1)))
        elif identity is not None:
            raise ValueError("identity is given, but the memory has no hash_dim")
        action = self.exploration(values, self.steps, self.rng)
        trace.keys.append(key)
        trace.actions.append(action)
        trace.best.append(float(values.max()))
        if self._looks_again:
            trace.observations.append(seen.copy())
        self.steps += 1
        return action

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Take in what came of the last action.

        Args:
            reward: The reward.
            terminated: Whether the episode is over for good.
            truncated: Whether it was cut off.
            observation: What is seen now; only a truncation that bootstraps needs it.

        Raises:
            RuntimeError: There was no action.
            ValueError: The reward is not finite, or the observation is missing.
        """
        trace = self._trace
        if len(trace.actions) == len(trace.rewards):
            raise RuntimeError("observe was called without an action: expected act before it")
        if not math.isfinite(reward):
            raise ValueError(f"reward = {reward}: expected a finite number")
        bootstrap = truncated and not terminated and self.truncation == "bootstrap"
        if bootstrap and observation is None:
            raise ValueError("observation = None: expected what is seen at the truncation, to bootstrap from it")
        trace.rewards.append(float(reward))
        if terminated or truncated:
            trace.last = [float(self.values(observation).max()) if bootstrap else 0.0]
            self._finished.append(trace)
            self._trace = Trace()

    def learn(self) -> dict[str, float]:
        """Write the episodes that are over; return what there is to log."""
        for trace in self._finished:
            self._write(trace, self._targets(trace))
        self._finished.clear()
        return {}

    def _write(self, trace: Trace, targets: Float[np.ndarray, "time"]) -> Written:
        return self.memory.write(
            torch.cat(trace.keys),
            torch.from_numpy(targets.astype(np.float32)),
            torch.cat(trace.hashes) if trace.hashes else None,
            tables=torch.tensor(trace.actions),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, the episode in progress and the source of chance included."""
        return {
            "memory": dict(self.memory.state_dict()),
            "embedding": {} if self.embedding is None else dict(self.embedding.state_dict()),
            "scale": None if self._scale is None else self._scale.state_dict(),
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "traces": [vars(trace) for trace in (*self._finished, self._trace)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state, bit for bit."""
        self.memory.load_state_dict(state["memory"])
        if self.embedding is not None:
            self.embedding.load_state_dict(state["embedding"])
        if self._scale is not None:
            self._scale.load_state_dict(state["scale"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = state["steps"]
        *self._finished, self._trace = map(Trace.of, state["traces"])
