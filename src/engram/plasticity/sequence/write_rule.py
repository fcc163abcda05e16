"""The contract of a write rule: how a matrix of fast weights takes up a key and a value, and what it recalls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import check_precision
from engram.plasticity.sequence.state import FastWeights

State = Any  # one of the NamedTuples of ``state``, as ``WriteRule.state_type`` says
LARGEST_BETA = 2.0  # from there on, I - beta k k' has an eigenvalue below -1 for keys of unit length

CHUNK_SIZE = 32  # of 16 to 128, the fastest on a CPU


class WriteRule(nn.Module, ABC):
    """How a matrix S, (value, key), takes up the pair of a key k and a value v, and what it recalls.

    A rule owns its own parameters, if any, and never the state. ``write`` and ``recall`` are the definition, one step
    at a time; ``scan`` gives the same for a whole sequence, in matrix products of chunks of it.

    Attributes:
        signals: Names of the numbers that the rule takes at each step, for each sequence and head: ``"beta"``, the
            strength of the write; ``"log_decay"``, the logarithm of the factor by which the old weights decay; and
            ``"log_momentum"``, the same of the momentum.
        corrects: Whether the write depends on what the memory recalls; then ``beta`` is at most 2.
        square: Whether values must be as long as keys.
        trains_start: Whether the matrix at the start of a sequence is a parameter of the layer.
        state_type: The class of the state.
    """

    signals: ClassVar[tuple[str, ...]] = ("beta",)
    corrects: bool = True
    square: bool = False
    trains_start: bool = False
    state_type: ClassVar[type] = FastWeights

    def shapes(self, value_size: int, key_size: int) -> tuple[tuple[int, ...], ...]:
        """The last axes of each tensor of the state; () is a number for each sequence."""
        return tuple((value_size, key_size) for _ in self.state_type._fields)  # type: ignore[attr-defined]

    def init(self, weight: Float[Tensor, "batch heads value key"]) -> State:
        """The state in which nothing has been written yet but ``weight``; all else is zero."""
        checks.arguments()
        others = self.shapes(*weight.shape[2:])[1:]
        zeros = [weight.new_zeros(*weight.shape[: 2 if shape else 1], *shape) for shape in others]
        return self.state_type(weight, *zeros)

    @abstractmethod
    def write(self, state: State, key: Tensor, value: Tensor, *signals: Tensor) -> State:
        """The state after one pair; nothing is changed in place.

        Args:
            state: The state before.
            key: k, (batch, heads, key).
            value: v, (batch, heads, value).
            *signals: The rule's signals in their order, (batch, heads) each.
        """

    def recall(self, state: State, query: Float[Tensor, "batch heads key"]) -> Float[Tensor, "batch heads value"]:
        """What the memory answers to a query: S q."""
        return times(state.weight, query)

    @abstractmethod
    def chunk(self, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor) -> tuple[Tensor, State]:
        """What is recalled at each step of equally long chunks, and the state after the last.

        Args:
            state: The state before the first chunk.
            query: (chunks, batch, heads, size, key), as the other sequences.
            key: The keys.
            value: The values.
            *signals: (chunks, batch, heads, size) each.
        """

    def scan(
        self,
        state: State,
        query: Annotated[Tensor, "batch heads time key"],
        key: Annotated[Tensor, "batch heads time key"],
        value: Annotated[Tensor, "batch heads time value"],
        *signals: Annotated[Tensor, "batch heads time"],
        chunk_size: int = CHUNK_SIZE,
    ) -> tuple[Float[Tensor, "batch heads time value"], State]:
        """What is recalled at each step, after its write, and the state after the last step.

        Args:
            state: The state before the first step.
            query: q at each step.
            key: k at each step.
            value: v at each step.
            *signals: The rule's signals in their order.
            chunk_size: Number of steps that are computed together; the result does not depend on it.

        Raises:
            TypeError, ValueError: A tensor has the wrong shape, dtype or device, is of half precision or not finite,
                the number of signals is wrong, or one is out of range.
        """
        checks.size("chunk_size", chunk_size)
        check_written(self, state, (query, key, value), signals)
        return self.run(state, query, key, value, *signals, chunk_size=chunk_size)

    def run(
        self, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor, chunk_size: int = CHUNK_SIZE
    ) -> tuple[Tensor, State]:
        """As ``scan``, for arguments that were checked."""
        length, outputs = query.shape[2], []
        if length == 1:
            state = self.write(state, key[:, :, 0], value[:, :, 0], *(signal[:, :, 0] for signal in signals))
            return self.recall(state, query[:, :, 0]).unsqueeze(2), state
        whole = length - length % chunk_size
        for part, size in ((slice(0, whole), chunk_size), (slice(whole, length), length - whole)):
            if part.start < part.stop:
                chunks = (in_chunks(t[:, :, part], size) for t in (query, key, value, *signals))
                output, state = self.chunk(state, *chunks)
                outputs.append(output)
        return torch.cat(outputs, 2) if outputs else value, state

    def check_state(self, state: State, shape: tuple[int, ...], sizes: tuple[int, int, int], like: Tensor) -> None:
        """Raise unless ``state`` is one of this rule's, of this form.

        Args:
            state: The state.
            shape: Its axes before the heads: the batch, or none.
            sizes: Heads, value size, key size.
            like: A tensor of the expected dtype and device.
        """
        checks.instance("state", state, self.state_type)
        heads, *matrix = sizes
        for name, tensor, last in zip(state._fields, state, self.shapes(*matrix), strict=True):
            checks.tensor(f"state.{name}", tensor, (*shape, heads, *last) if last else shape, like)
            checks.finite(f"state.{name}", tensor.detach())


def step_scan(
    rule: WriteRule, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
) -> tuple[Tensor, State]:
    """The definition of ``WriteRule.scan``: at each step one write, then one recall.

    Args:
        rule: The rule.
        state: The state before the first step.
        query: q at each step, (batch, heads, time, key).
        key: k at each step.
        value: v at each step, (batch, heads, time, value).
        *signals: The rule's signals in their order, (batch, heads, time) each.

    Raises:
        TypeError, ValueError: As ``WriteRule.scan``.
    """
    checks.instance("rule", rule, WriteRule)  # type: ignore[type-abstract]
    check_written(rule, state, (query, key, value), signals)
    outputs = []
    for q, k, v, *at_step in zip(*(t.unbind(2) for t in (query, key, value, *signals)), strict=True):
        state = rule.write(state, k, v, *at_step)
        outputs.append(rule.recall(state, q))
    return torch.stack(outputs, 2) if outputs else torch.empty_like(value), state


def check_written(rule: WriteRule, state: State, sequences: tuple[Any, ...], signals: tuple[Any, ...]) -> None:
    """Raise unless a rule can write these sequences into this state.

    Args:
        rule: The rule.
        state: The state before the first step.
        sequences: Queries, keys and values.
        signals: The signals.
    """
    query, key, value = sequences
    checks.tensor("key", key, ("batch", "heads", "time", "key"), checks.instance("key", key, Tensor))
    check_precision(key)
    batch, heads, length, key_size = key.shape
    checks.tensor("query", query, tuple(key.shape), key)
    checks.tensor("value", value, (batch, heads, length, key_size if rule.square else "value"), key)
    if len(signals) != len(rule.signals):
        raise ValueError(f"signals has {len(signals)} items: expected {len(rule.signals)}, {', '.join(rule.signals)}")
    rule.check_state(state, (batch,), (heads, value.shape[3], key_size), key)
    for name, signal in zip(rule.signals, signals, strict=True):
        checks.tensor(name, signal, (batch, heads, length), key)
        if checks.readable(signal) and signal.numel():
            low, high = (0.0, LARGEST_BETA if rule.corrects else torch.inf) if name == "beta" else (-torch.inf, 0.0)
            for extreme in (signal.detach().min().item(), signal.detach().max().item()):
                if not low <= extreme <= high:
                    raise ValueError(f"{name} contains {extreme}: expected numbers from {low} to {high}")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        checks.finite(name, tensor, ("batch", "head", "time", "feature"))


def times(matrix: Float[Tensor, "... value key"], vector: Float[Tensor, "... key"]) -> Float[Tensor, "... value"]:
    """Product of matrices and vectors."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def plus_outer(
    matrix: Float[Tensor, "... value key"],
    strength: Float[Tensor, "..."],
    value: Float[Tensor, "... value"],
    key: Float[Tensor, "... key"],
) -> Float[Tensor, "... value key"]:
    """S + beta v k'."""
    return torch.addcmul(matrix, (value * strength.unsqueeze(-1)).unsqueeze(-1), key.unsqueeze(-2))


def scaled(tensor: Tensor, factor: Tensor) -> Tensor:
    """A tensor whose rows are multiplied by a number each: one more axis than the factor, or a matrix two."""
    return tensor * factor.reshape(*factor.shape, *(1,) * (tensor.dim() - factor.dim()))


def in_chunks(
    sequence: Float[Tensor, "batch heads time ..."], size: int
) -> Float[Tensor, "chunks batch heads size ..."]:
    """A sequence in chunks of a size that divides its length."""
    return torch.unflatten(sequence, 2, (-1, size)).movedim(2, 0)


def in_time(chunks: list[Tensor]) -> Float[Tensor, "batch heads time value"]:
    """What ``in_chunks`` took apart, chunk by chunk, as one sequence."""
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, 2)


def by_chunk(*sequences: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The corresponding chunks of several sequences."""
    return zip(*(sequence.unbind(0) for sequence in sequences), strict=True)
