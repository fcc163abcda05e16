"""A scaffold of stable states with associated content: recall falls with more items than nodes."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engram import checks
from engram.memory.expander.expander_memory import ExpanderMemory
from engram.memory.expander.recovery import random_states
from engram.nn.sequence import full_precision
from engram.storage.saveable import Saveable


class ScaffoldRecall(NamedTuple):
    """Contents recalled from cues."""

    content: Float[Tensor, "batch features"]
    converged: Bool[Tensor, " batch"]  # the memory came to rest at a stored state


class Scaffold(Saveable):
    """Content that learned weights associate with the fixed stable states of an expander memory.

        to the scaffold    x = recall(sign(W c)),     W = sum of x c^T                 Hebb
        and back           c = V x,                   V = C X^+                        pseudo-inverse

    with a random stored state x for each content c. If there are no more items than nodes, V is exact, and recall only
    depends on whether W leads close enough to the right state.

    Args:
        memory: A memory with parity constraints and the encoding ``"signs"``.
        features: Length of a content.
        generator: Source of the states; torch's global one if None, as it is after ``load``.

    Source: Sharma, Chandra and Fiete, "Content addressable memory without catastrophic forgetting by heteroassociation
    with a fixed scaffold" (2022), with an expander memory for the scaffold.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> from engram.memory import random_regular
        >>> scaffold = Scaffold(ExpanderMemory(random_regular(240, 5, 6, seed=0)), 100)
        >>> scaffold.store(torch.eye(5, 100))
        >>> torch.allclose(scaffold.recall(torch.eye(5, 100)).content, torch.eye(5, 100), atol=1e-4)
        True
    """

    __repr__ = checks.described

    def __init__(self, memory: ExpanderMemory, features: int, *, generator: torch.Generator | None = None) -> None:
        checks.arguments()
        checks.size("features", features)
        if memory.encoding != "signs":
            raise ValueError(f"memory.encoding = {memory.encoding!r}: expected 'signs'")
        self.memory, self.generator = memory, generator
        self.content = torch.zeros(0, features, dtype=torch.float32)
        self.states = torch.zeros(0, len(memory.graph.node_degrees), dtype=torch.int8)
        self._fit()

    def store(self, content: Float[Tensor, "items features"]) -> None:
        """Associate contents of finite numbers, (items, features), with random states."""
        self._check("content", content)
        states = random_states(self.memory, len(content), self.generator).cpu()
        self.content = torch.cat((self.content, content.detach().float()))
        self.states = torch.cat((self.states, states))
        self._fit()

    def recall(self, cue: Float[Tensor, "batch features"], generator: torch.Generator | None = None) -> ScaffoldRecall:
        """The contents recalled from noisy ones, (batch, features); RuntimeError if nothing is stored."""
        self._check("cue", cue)
        if not len(self.states):
            raise RuntimeError("nothing is stored: call store first")
        with full_precision(cue.device):
            noisy_state = ((cue.detach().float() @ self.content.T) @ self.states.float()).sign()
            result = self.memory.recall(noisy_state, generator=generator, erasures=True)
            return ScaffoldRecall(result.x @ self._back, result.converged)

    def _content(self) -> dict[str, Any]:
        return {"memory": self.memory._content(), "content": self.content, "states": self.states}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Scaffold:
        scaffold = cls(ExpanderMemory._from_content(content["memory"]), content["content"].shape[1])
        scaffold.content, scaffold.states = content["content"], content["states"]
        scaffold._fit()
        return scaffold

    def _fit(self) -> None:
        """Solve for the weights from states to contents."""
        self._back = (torch.linalg.pinv(self.states.double()) @ self.content.double()).float()

    def _check(self, name: str, value: Annotated[Tensor, "batch features"]) -> None:
        checks.instance(name, value, Tensor)
        features = self.content.shape[1]
        if value.dim() != 2 or value.shape[1] != features or not len(value):
            raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected (items, {features}), at least 1 item")
        checks.finite(name, value)
