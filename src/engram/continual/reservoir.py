"""A bounded memory of samples that keeps each sample seen so far with the same probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram import checks
from engram.state import Axes, check_state


class Reservoir:
    """A bounded memory of samples that keeps each sample seen so far with the same probability.

    The n-th sample is kept with probability capacity / n, and replaces a random one.

    With ``balanced``, classes are stored in equal numbers as far as their samples suffice: once the memory is full, a
    sample of a class that was never the largest replaces a random one of the largest class, and any other one of its
    own class, with probability (stored samples of this class) / (samples of this class so far).

    Args:
        capacity: Maximum number of stored samples.
        generator: Draws the samples to keep and to replay.
        balanced: Whether classes are stored in equal numbers; labels are then classes, integers.

    Attributes:
        seen: Number of samples offered so far.

    Raises:
        ValueError: ``capacity`` is below 1.

    Source: Vitter, "Random sampling with a reservoir" (1985), algorithm R; balanced: Chrysakis and Moens, "Online
        continual learning from imbalanced data" (2020), algorithm 1.

    Examples:
        >>> memory = Reservoir(capacity=100, generator=torch.Generator().manual_seed(0))
        >>> memory.add(torch.ones(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> inputs, labels, tasks = memory.sample(4)
        >>> len(memory), inputs.shape
        (8, torch.Size([4, 2]))
    """

    __repr__ = checks.described

    def __init__(self, capacity: int, generator: torch.Generator, *, balanced: bool = False) -> None:
        checks.arguments()
        self.capacity = checks.size("capacity", capacity)
        self.generator = checks.generator(generator)
        self.balanced = balanced
        self.seen = 0
        self._inputs = self._labels = torch.empty(0)
        self._tasks = torch.empty(0, dtype=torch.int64)
        self._seen_of: dict[int, int] = {}  # samples so far by class, if balanced
        self._full: set[int] = set()  # the classes that were once the largest in a full memory

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, inputs: Tensor, labels: Tensor, task: int = 0) -> None:
        """Offer a batch of samples.

        Args:
            inputs: (batch, ...). They are stored on the device of the first batch.
            labels: (batch, ...): classes, or anything else to store with a sample.
            task: A number to store with each, such as the index of their task.

        Raises:
            ValueError: The numbers of inputs and labels differ, samples differ in shape or dtype from earlier ones, or
                labels are not classes, which balancing needs.
        """
        checks.size("task", task, minimum=0)
        checks.instance("inputs", inputs, Tensor)
        checks.instance("labels", labels, Tensor)
        if not inputs.ndim or not labels.ndim or len(inputs) != len(labels):
            raise ValueError(
                f"labels.shape = {tuple(labels.shape)}: expected one for each of inputs {tuple(inputs.shape)}"
            )
        if self.balanced and (labels.ndim != 1 or labels.is_floating_point()):
            found = f"labels of {labels.dtype}, of shape {tuple(labels.shape)}"
            raise ValueError(f"balanced = True with {found}: expected classes, integers, one for each sample")
        if not self.seen:
            self._inputs, self._labels = (
                values.new_zeros(self.capacity, *values.shape[1:]) for values in (inputs, labels)
            )
            self._tasks = torch.zeros(self.capacity, dtype=torch.int64, device=labels.device)
        else:
            inputs, labels = inputs.to(self._inputs.device), labels.to(self._labels.device)
            for name, new, stored in (("inputs", inputs, self._inputs), ("labels", labels, self._labels)):
                checks.has_shape(name, new.shape, ("batch", *stored.shape[1:]))
                if new.dtype != stored.dtype:
                    raise ValueError(f"{name}.dtype = {new.dtype}: expected {stored.dtype}, as earlier samples have")
        slots = self._balanced_slots(labels.tolist()) if self.balanced else self._slots(len(inputs))
        row_of_slot = {slot: row for row, slot in enumerate(slots) if slot < self.capacity}
        if row_of_slot:
            targets, rows = (
                torch.tensor([*values], device=inputs.device) for values in (row_of_slot.keys(), row_of_slot.values())
            )
            self._inputs[targets], self._labels[targets] = inputs[rows].detach(), labels[rows].detach()
            self._tasks[targets] = task
        self.seen += len(inputs)

    def _draws(self, *shape: int) -> list[Any]:
        """Uniform numbers; for samples in order, so that it does not matter how these are batched."""
        device = self.generator.device
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64, device=device).tolist()

    def _slots(self, count: int) -> list[int]:
        """The place of each of the next samples; at or above the capacity for those that are not stored."""
        numbers = range(self.seen, self.seen + count)
        pairs = zip(numbers, self._draws(count), strict=True)
        return [number if number < self.capacity else int(draw * (number + 1)) for number, draw in pairs]

    def _balanced_slots(self, labels: list[int]) -> list[int]:
        """The same by class, where each sample takes two draws: whether to store it, and in which place."""
        stored = self._labels[: len(self)].tolist()
        places: dict[int, list[int]] = {}
        for place, label in enumerate(stored):
            places.setdefault(label, []).append(place)
        slots = []
        for label, (keep, which) in zip(labels, self._draws(len(labels), 2), strict=True):
            self._seen_of[label] = self._seen_of.get(label, 0) + 1
            if len(stored) < self.capacity:
                slot = len(stored)
                stored.append(label)
                places.setdefault(label, []).append(slot)
            else:
                most = max(map(len, places.values()))
                self._full |= {name for name, of_class in places.items() if len(of_class) == most}
                if label not in self._full:
                    largest = [place for place in range(self.capacity) if len(places[stored[place]]) == most]
                    slot = largest[int(which * len(largest))]
                    places[stored[slot]].remove(slot)
                    places.setdefault(label, []).append(slot)
                    stored[slot] = label
                elif keep * self._seen_of[label] < len(places[label]):
                    slot = places[label][int(which * len(places[label]))]
                else:
                    slot = self.capacity
            slots.append(slot)
        return slots

    def sample(self, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels and tasks of random samples, drawn without replacement; of all if there are fewer.

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
        return self._inputs[rows], self._labels[rows], self._tasks[rows.to(self._tasks.device)]

    def state_dict(self) -> dict[str, Tensor]:
        """The state, including that of the generator."""
        samples = {"inputs": self._inputs.clone(), "labels": self._labels.clone(), "tasks": self._tasks.clone()}
        classes = [[label, count, label in self._full] for label, count in sorted(self._seen_of.items())]
        counts = {"seen": torch.tensor(self.seen), "classes": torch.tensor(classes, dtype=torch.int64).reshape(-1, 3)}
        return {**samples, **counts, "generator": self.generator.get_state()}

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
            form |= {"inputs": Tensor, "labels": Tensor, "tasks": Tensor}
        form["classes"] = Axes(("classes", 3), self._tasks)
        check_state(state, form)
        if len(state["inputs"]) not in (0, self.capacity):
            raise ValueError(
                f"state['inputs'] holds {len(state['inputs'])} places: expected capacity = {self.capacity}"
            )
        for name in ("labels", "tasks"):
            if len(state[name]) != len(state["inputs"]):
                raise ValueError(f"state[{name!r}] holds {len(state[name])} places: expected {len(state['inputs'])}")
        self._inputs, self._labels, self._tasks = (state[name].clone() for name in ("inputs", "labels", "tasks"))
        self._seen_of = {label: count for label, count, _ in state["classes"].tolist()}
        self._full = {label for label, _, full in state["classes"].tolist() if full}
        self.seen = int(state["seen"])
        self.generator.set_state(state["generator"].cpu())
