"""A store of labelled items whose addresses are the stable states of an expander memory."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_256
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.memory.expander.expander_memory import ExpanderMemory, RecallResult
from engram.nn.sequence import full_precision
from engram.storage.saveable import Saveable

Label = str | int


class StoreRecall(NamedTuple):
    """Items recalled from cues; None for a cue that leads to no item."""

    labels: list[Label | None]
    payloads: list[Any]
    result: RecallResult  # a converged cue with the label None has settled at an address where nothing is written


class AssociativeStore(Saveable):
    """Items with labels of any kind, found by noisy versions of their addresses.

    The states that a memory stores cannot be chosen, so each label is assigned one of them as its address: the label's
    hash, K bits, is the message that the state encodes; an integer is itself the message. There are 2^K addresses,
    which need no storage; payloads do. Similar labels do not get similar addresses.

    With ``features``, payloads are vectors that are also stored in one matrix of Hebbian weights, ``weight``,

        W = sum of payload x^T / N,    readout W x

    which holds about N items: more items are lost in mutual interference, while the table of payloads stays exact.

    Args:
        memory: A memory with parity constraints.
        features: Length of the payloads; None: payloads can be anything, and there is no W.

    Raises:
        ValueError: The memory's states cannot be encoded, or are not signs although there are ``features``.

    Source: ours; the need for it is stated by Chaudhuri and Fiete (2019): the stored patterns cannot be chosen.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> from engram.memory import random_regular
        >>> store = AssociativeStore(ExpanderMemory(random_regular(480, 5, 6, seed=0)))
        >>> store.write(["apple", "pear"], ["red", "green"])
        >>> store.recall(store.address(["pear"])).payloads
        ['green']
    """

    __repr__ = checks.described

    def __init__(self, memory: ExpanderMemory, features: int | None = None) -> None:
        self.memory = checks.instance("memory", memory, ExpanderMemory)
        if features is not None:
            checks.size("features", features)
            if memory.encoding != "signs":
                raise ValueError(f"memory.encoding = {memory.encoding!r}: expected 'signs' with features")
        self.message_size = memory.message_size
        self.weight = None if features is None else torch.zeros(features, len(memory.graph.node_degrees))
        self._items: dict[int, tuple[Label, Any]] = {}  # label and payload by message

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items)

    def address(self, labels: Sequence[Label]) -> Annotated[Tensor, "batch nodes"]:
        """The addresses of labels, (batch, nodes), also of labels without an item."""
        checks.arguments()
        return self.memory.encode(torch.from_numpy(self._bits([self._message(label) for label in labels])))

    def write(self, labels: Sequence[Label], payloads: Sequence[Any] | Tensor | None = None) -> None:
        """Write items; the payload of a label that exists already is replaced.

        Args:
            labels: Strings, or integers below 2^K.
            payloads: One for each label; the labels themselves if None. With ``features`` they are required: finite
                vectors, (items, features).

        Raises:
            ValueError: Payloads do not fit; or two labels have the same address, which is to be expected once in about
                2^(K/2) items.
        """
        checks.arguments()
        if payloads is None and self.weight is not None:
            raise ValueError(f"payloads = None: expected a vector of {len(self.weight)} features for each label")
        contents = labels if payloads is None else payloads
        if len(contents) != len(labels):
            raise ValueError(f"payloads has {len(contents)} items: expected {len(labels)}, one for each label")
        messages = [self._message(label) for label in labels]
        new_labels: dict[int, Label] = {}
        for label, message in zip(labels, messages, strict=True):
            stored_label = self._items[message][0] if message in self._items else new_labels.setdefault(message, label)
            if stored_label != label:
                raise ValueError(
                    f"labels {stored_label!r} and {label!r} have the same address: take a memory of more nodes"
                )
        if self.weight is not None:
            contents = self._hebbian(messages, contents)
        else:  # the caller may change them
            contents = [_copied(content) for content in contents]
        self._items.update(zip(messages, zip(labels, contents, strict=True), strict=True))

    def recall(
        self, x: Annotated[Tensor, "batch nodes"], generator: torch.Generator | None = None, **settings: Any
    ) -> StoreRecall:
        """The items at whose addresses noisy states settle.

        Args:
            x: Noisy states, (batch, nodes).
            generator: Source of all choices; torch's global one if None.
            **settings: Other arguments of ``ExpanderMemory.recall``.
        """
        result = self.memory.recall(x, generator=generator, **settings)
        items: list[tuple[Label | None, Any]] = [(None, None)] * len(x)
        rows = result.converged.nonzero()[:, 0].tolist()
        for row, message in zip(rows, self.memory.index(result.x[rows]) if rows else [], strict=True):
            label, payload = self._items.get(message, (None, None))
            items[row] = label, _copied(payload)
        return StoreRecall([label for label, _ in items], [payload for _, payload in items], result)

    def readout(self, x: Annotated[Tensor, "batch nodes"]) -> Float[Tensor, "batch features"]:
        """The readout W x of states x, (batch, nodes), by the Hebbian weights; ValueError without ``features``."""
        if self.weight is None:
            raise ValueError("features = None: expected the length of the payloads, without which there are no weights")
        with checks.noted(x=x), full_precision(x.device):
            return x.float() @ self.weight.T

    def _content(self) -> dict[str, Any]:
        payloads = [payload for _, payload in self._items.values()]
        return {
            "memory": self.memory._content(),
            "weight": self.weight,
            "labels": [label for label, _ in self._items.values()],
            "payloads": payloads if self.weight is None else torch.stack(payloads or [self.weight[:, 0]]),
        }

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> AssociativeStore:
        weight = content["weight"]
        store = cls(ExpanderMemory._from_content(content["memory"]), None if weight is None else len(weight))
        items = zip(content["labels"], content["payloads"], strict=False)  # without items, weights have one payload
        store.weight, store._items = weight, {store._message(item[0]): item for item in items}
        return store

    def _message(self, label: Label) -> int:
        if isinstance(label, str):
            digest = shake_256(label.encode()).digest((self.message_size + 7) // 8)
            return int.from_bytes(digest, "little") % (1 << self.message_size)
        if not isinstance(label, int) or isinstance(label, bool):
            raise TypeError(f"labels has {label!r}, a {type(label).__name__}: expected a str or an int")
        if not 0 <= label < 1 << self.message_size:
            raise ValueError(f"labels has {label}: expected 0 .. 2^{self.message_size} - 1")
        return label

    def _bits(self, messages: Sequence[int]) -> np.ndarray:
        size = (self.message_size + 7) // 8
        packed = np.frombuffer(b"".join(message.to_bytes(size, "little") for message in messages), np.uint8)
        return np.unpackbits(packed.reshape(-1, size), axis=1, count=self.message_size, bitorder="little")

    def _hebbian(self, messages: Sequence[int], payloads: Any) -> list[Tensor]:
        """Add vectors to the weights, in place of earlier ones with the same labels; return them."""
        assert self.weight is not None
        vectors = (
            torch.as_tensor(payloads, dtype=self.weight.dtype).detach().clone()
        )  # the caller may change the payloads
        shape = (len(messages), len(self.weight))
        if vectors.shape != shape or not vectors.isfinite().all():
            raise ValueError(f"payloads of shape {tuple(vectors.shape)}: expected finite numbers, {shape}")
        change, newest = vectors.clone(), {message: row for row, message in enumerate(messages)}
        for row, message in enumerate(messages):
            if newest[message] != row:
                change[row] = 0
            elif message in self._items:
                change[row] -= self._items[message][1]
        if messages:
            states = self.memory.encode(torch.from_numpy(self._bits(messages))).to(self.weight)
            with full_precision(states.device):
                self.weight += change.T @ states / states.shape[1]
        return list(vectors)


def _copied(payload: Any) -> Any:
    """A payload whose numbers nobody else can change."""
    if isinstance(payload, Tensor):
        return payload.clone()
    return payload.copy() if isinstance(payload, np.ndarray) else payload


def sign_labels(x: Float[Tensor, "batch features"], bits: int, generator: torch.Generator) -> list[int]:
    """A number for every vector that encodes on which sides of random hyperplanes through zero it lies.

        bit i = (p_i . x > 0),    p_i normal

    so that each bit of two vectors differs with probability angle / pi. As labels of an ``AssociativeStore`` they make
    its states addresses of arbitrary vectors: vectors with equal bits share an address, and a single different bit
    leads to another address, with half of its nodes different.

    Args:
        x: The vectors.
        bits: Number of hyperplanes, such as the ``message_size`` of a store.
        generator: Source of the hyperplanes; use one in the same state for all vectors of a store.

    Returns:
        Numbers below 2^bits, bit 0 first.

    Raises:
        ValueError: ``bits`` is out of range, or a number is not finite.

    Source: Charikar, "Similarity estimation techniques from rounding algorithms" (2002), section 3; as addresses ours.

    Examples:
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]])
        >>> sign_labels(x, 4, torch.Generator().manual_seed(0))
        [8, 8, 7]
    """
    checks.arguments()
    checks.size("bits", bits)
    checks.finite("x", x, ("batch", "feature"))
    planes = torch.randn(x.shape[1], bits, generator=checks.generator(generator), dtype=torch.float64)
    sides = (x.double() @ planes > 0).tolist()
    return [sum(1 << position for position, side in enumerate(row) if side) for row in sides]
