"""The contract of a write rule: how a matrix of fast weights takes up a key and a value, and what it recalls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
    at a time; ``scan`` gives the same for a whole sequence, in matrix products of chunks of it. Your own rule defines
    ``_write``, which ``write`` calls with checked arguments, and, where they differ, ``_recall`` and ``_chunk``.

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
        batch, heads, *matrix = weight.shape
        # Not ``new_zeros``, which under ``torch.func.vmap`` would give a state for each set of parameters.
        options: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        sizes = [(batch, heads, *shape) if shape else (batch,) for shape in self.shapes(*matrix)[1:]]
        return self.state_type(weight, *(torch.zeros(*size, **options) for size in sizes))

    def write(
        self,
        state: State,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> State:
        """The state after one pair; nothing is changed in place.

        Args:
            state: The state before.
            key: k.
            value: v.
            *signals: The rule's signals in their order.

        Raises:
            TypeError, ValueError: As ``scan``.
        """
        checks.arguments()
        at_step = [checks.instance("signals", signal, Tensor).unsqueeze(-1) for signal in signals]
        check_written(self, state, (key.unsqueeze(2), key.unsqueeze(2), value.unsqueeze(2)), at_step)
        return self._write(state, key, value, *signals)

    def recall(self, state: State, query: Float[Tensor, "batch heads key"]) -> Float[Tensor, "batch heads value"]:
        """What the memory answers to a query: S q, unless the rule says otherwise.

        Args:
            state: The state.
            query: q.

        Raises:
            TypeError, ValueError: The query is no tensor, or the state not one of the rule's for this batch, heads and
                key size.
        """
        checks.arguments()
        checks.instance("state", state, self.state_type)
        batch, heads, key_size = query.shape
        checks.tensor("state.weight", state.weight, (batch, heads, "value", key_size), query)
        check_state(self, state, (batch,), (heads, state.weight.shape[2], key_size), query)
        return self._recall(state, query)

    @abstractmethod
    def _write(self, state: State, key: Tensor, value: Tensor, *signals: Tensor) -> State:
        """As ``write``, for arguments that were checked: what defines the rule."""

    def _recall(self, state: State, query: Float[Tensor, "batch heads key"]) -> Float[Tensor, "batch heads value"]:
        """As ``recall``, for arguments that were checked."""
        return times(state.weight, query)

    def _chunk(self, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor) -> tuple[Tensor, State]:
        """What is recalled at each step of equally long chunks, and the state after the last; by default step by step.

        Args:
            state: The state before the first chunk.
            query: (chunks, batch, heads, size, key), as the other sequences.
            key: The keys.
            value: The values.
            *signals: (chunks, batch, heads, size) each.
        """
        outputs = []
        for sequences in by_chunk(query, key, value, *signals):
            output, state = by_step(self, state, *sequences)
            outputs.append(output)
        return in_time(outputs), state

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
        return self._run(state, query, key, value, *signals, chunk_size=chunk_size)

    def _run(
        self, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor, chunk_size: int = CHUNK_SIZE
    ) -> tuple[Tensor, State]:
        """As ``scan``, for arguments that were checked."""
        length, outputs = query.shape[2], []
        if length == 1:
            state = self._write(state, key[:, :, 0], value[:, :, 0], *(signal[:, :, 0] for signal in signals))
            return self._recall(state, query[:, :, 0]).unsqueeze(2), state
        whole = length - length % chunk_size
        for part, size in ((slice(0, whole), chunk_size), (slice(whole, length), length - whole)):
            if part.start < part.stop:
                chunks = (in_chunks(t[:, :, part], size) for t in (query, key, value, *signals))
                output, state = self._chunk(state, *chunks)
                outputs.append(output)
        return torch.cat(outputs, 2) if outputs else value, state


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
    return by_step(rule, state, query, key, value, *signals)


def by_step(
    rule: WriteRule, state: State, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
) -> tuple[Tensor, State]:
    """As ``step_scan``, for arguments that were checked."""
    outputs = []
    for q, k, v, *at_step in zip(*(t.unbind(2) for t in (query, key, value, *signals)), strict=True):
        state = rule._write(state, k, v, *at_step)
        outputs.append(rule._recall(state, q))
    return torch.stack(outputs, 2) if outputs else torch.empty_like(value), state


def check_state(
    rule: WriteRule, state: State, shape: tuple[int, ...], sizes: tuple[int, int, int], like: Tensor
) -> None:
    """Raise unless ``state`` is one of the rule's, of this form.

    Args:
        rule: The rule.
        state: The state.
        shape: Its axes before the heads: the batch, or none.
        sizes: Heads, value size, key size.
        like: A tensor of the expected dtype and device.
    """
    checks.instance("state", state, rule.state_type)
    heads, *matrix = sizes
    for name, tensor, last in zip(state._fields, state, rule.shapes(*matrix), strict=True):
        place = f"state.{name}"
        checks.tensor(place, tensor, (*shape, heads, *last) if last else shape, like)
        checks.finite(place, tensor)


def check_written(rule: WriteRule, state: State, sequences: tuple[Any, ...], signals: Sequence[Any]) -> None:
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
    check_state(rule, state, (batch,), (heads, value.shape[3], key_size), key)
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
