"""A bounded memory of samples that keeps each sample seen so far with the same probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram import checks
from engram.state import check_state


class Reservoir:
    """A bounded memory of samples that keeps each sample seen so far with the same probability.

    The n-th sample is kept with probability capacity / n, and replaces a random one.

    Args:
        capacity: Maximum number of stored samples.
        generator: Draws the samples to keep and to replay.

    Attributes:
        seen: Number of samples offered so far.

    Raises:
        ValueError: ``capacity`` is below 1.

    Source: Vitter, "Random sampling with a reservoir" (1985), algorithm R.

    Examples:
        >>> memory = Reservoir(capacity=100, generator=torch.Generator().manual_seed(0))
        >>> memory.add(torch.ones(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> inputs, labels = memory.sample(4)
        >>> len(memory), inputs.shape
        (8, torch.Size([4, 2]))
    """

    __repr__ = checks.described

    def __init__(self, capacity: int, generator: torch.Generator) -> None:
        self.capacity = checks.size("capacity", capacity)
        self.generator = checks.generator(generator)
        self.seen = 0
        self._inputs = self._labels = torch.empty(0)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, inputs: Tensor, labels: Tensor) -> None:
        """Offer a batch of samples.

        Args:
            inputs: (batch, ...).
            labels: (batch, ...): classes, or anything else to store with a sample.

        Raises:
            ValueError: The numbers of inputs and labels differ, or samples differ in shape or dtype from earlier ones.
        """
        checks.instance("inputs", inputs, Tensor)
        checks.instance("labels", labels, Tensor)
        if not inputs.ndim or not labels.ndim or len(inputs) != len(labels):
            raise ValueError(
                f"labels.shape = {tuple(labels.shape)}: expected one for each of inputs {tuple(inputs.shape)}"
            )
        if not self.seen:
            self._inputs, self._labels = (
                values.new_zeros(self.capacity, *values.shape[1:]) for values in (inputs, labels)
            )
        else:
            checks.tensor("inputs", inputs, ("batch", *self._inputs.shape[1:]), like=self._inputs)
            checks.tensor("labels", labels, ("batch", *self._labels.shape[1:]), like=self._labels)
        # One draw for each sample, in order, so that it does not matter how they are batched.
        numbers = torch.arange(self.seen, self.seen + len(inputs), dtype=torch.float64)
        draws = torch.rand(
            len(inputs), generator=self.generator, dtype=torch.float64, device=self.generator.device
        ).cpu()
        slots = torch.where(numbers < self.capacity, numbers, (draws * (numbers + 1)).floor()).long().tolist()
        row_of_slot = {slot: row for row, slot in enumerate(slots) if slot < self.capacity}
        if row_of_slot:
            targets, rows = (
                torch.tensor([*values], device=inputs.device) for values in (row_of_slot.keys(), row_of_slot.values())
            )
            self._inputs[targets], self._labels[targets] = inputs[rows].detach(), labels[rows].detach()
        self.seen += len(inputs)

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels of random samples, drawn without replacement; of all if there are fewer.

        Args:
            batch_size: Number of samples, at least 1.

        Raises:
            ValueError: The memory is empty.
        """
        checks.size("batch_size", batch_size)
        if not len(self):
            raise ValueError("the memory is empty: call add first")
        size = checks.size("batch_size", batch_size)
        rows = torch.randperm(len(self), generator=self.generator, device=self.generator.device)
        rows = rows[:size].to(self._inputs.device)
        return self._inputs[rows], self._labels[rows]

    def state_dict(self) -> dict[str, Tensor]:
        """The state, including that of the generator."""
        samples = {"inputs": self._inputs.clone(), "labels": self._labels.clone(), "seen": torch.tensor(self.seen)}
        return {**samples, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state that ``state_dict`` returned.

        Args:
            state: State of a memory with this capacity.

        Raises:
            TypeError, ValueError: It is not the state of a memory, or of a memory with another capacity.
        """
        checks.arguments()
        form: dict[str, Any] = dict(self.state_dict())
        is_empty = isinstance(state.get("inputs"), Tensor) and not len(state["inputs"])
        if is_empty or not self.seen:  # the shapes are not known before the first sample
            form |= {"inputs": Tensor, "labels": Tensor}
        check_state(state, form)
        if len(state["inputs"]) not in (0, self.capacity):
            raise ValueError(
                f"state['inputs'] holds {len(state['inputs'])} places: expected capacity = {self.capacity}"
            )
        if len(state["labels"]) != len(state["inputs"]):
            raise ValueError(f"state['labels'] holds {len(state['labels'])} places: expected {len(state['inputs'])}")
        self._inputs, self._labels = state["inputs"].clone(), state["labels"].clone()
        self.seen = int(state["seen"])
        self.generator.set_state(state["generator"].cpu())
