"""The contract of an associative memory: it stores sign patterns and completes noisy ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.memory.hopfield.recall import signs
from engram.state import check_state, form_of_attribute, restored, saved


class AssociativeMemory(ABC):
    """A memory of units that are +1 or -1: it stores patterns, and completes noisy ones.

    To write your own memory, define ``store``, ``recall`` and ``n_weights``, and list in ``stored`` the names of the
    attributes that storing changes, so that they can be saved. ``apply_store`` and ``apply_recall`` call these methods
    and reject invalid input.

    Args:
        units: Number of units in a pattern, N, at least 2.
        generator: Source of all randomness of the memory; a new one with the seed 0 if None.

    Attributes:
        stored: Names of the attributes that storing changes: tensors, numbers, modules (which exist from the start),
            and lists or dicts of tensors and numbers.

    Raises:
        TypeError, ValueError: ``units`` is not a valid size, or ``generator`` is not one of torch's.

    Examples:
        >>> class Nearest(AssociativeMemory):  # answers with the nearest row of a table
        ...     stored = ("table",)
        ...     def __init__(self, units, *, generator=None):
        ...         super().__init__(units, generator=generator)
        ...         self.table = torch.zeros(0, units)
        ...     def store(self, patterns):
        ...         self.table = torch.cat((self.table, patterns))
        ...     def recall(self, cues):
        ...         return self.table[(cues @ self.table.T).argmax(1)]
        ...     @property
        ...     def n_weights(self):
        ...         return self.table.numel()
        >>> memory = Nearest(4)
        >>> apply_store(memory, torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1]]))
        >>> apply_recall(memory, torch.tensor([[1, -1, -1, -1]])).tolist()
        [[1.0, 1.0, -1.0, -1.0]]
    """

    stored: ClassVar[tuple[str, ...]] = ()

    def __init__(self, units: int, *, generator: torch.Generator | None = None) -> None:
        self.units = checks.size("units", units, minimum=2)
        self.generator = torch.Generator().manual_seed(0) if generator is None else checks.generator(generator)

    __repr__ = checks.described

    @abstractmethod
    def store(self, patterns: Float[Tensor, "patterns units"]) -> None:
        """Store patterns in addition to those already stored.

        Args:
            patterns: Patterns of +1 and -1, in rows.
        """

    @abstractmethod
    def recall(self, cues: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        """The patterns recalled from cues, of +1 and -1; each depends on its own cue only.

        Args:
            cues: Noisy patterns, of +1 and -1.
        """

    @property
    @abstractmethod
    def n_weights(self) -> int:
        """The number of weights that store patterns; equal weights count once."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that storing changes, as tensors, numbers, and lists or dicts of them."""
        state = {name: saved(getattr(self, name)) for name in self.stored}
        return {"units": self.units, **state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict`` of a memory made with the same arguments.

        Args:
            state: The state that ``state_dict`` returned.

        Raises:
            TypeError, ValueError: It belongs to another memory, or to another number of units; nothing was changed.
        """
        checks.arguments()
        form = {name: form_of_attribute(getattr(self, name)) for name in self.stored}
        check_state(state, {"units": int, **form, "generator": self.generator.get_state()})
        if state["units"] != self.units:
            raise ValueError(f"state['units'] = {state['units']}: expected {self.units}")
        loaded = {name: restored(name, state[name], getattr(self, name)) for name in self.stored}
        for name, value in loaded.items():
            setattr(self, name, value)
        self.generator.set_state(state["generator"])


def patterns_of(memory: AssociativeMemory, name: str, value: Any) -> Float[Tensor, "batch units"]:
    """Check the input of a memory; return it as a new tensor of +1 and -1, (batch, units), in torch's default dtype.

    Args:
        memory: The memory.
        name: Name of the argument in error messages.
        value: The argument.

    Raises:
        TypeError, ValueError: It is not a tensor of +1 and -1.
    """
    checks.instance(name, value, Tensor)
    if value.layout != torch.strided or value.is_meta:
        raise ValueError(f"{name} is {value.layout} on {value.device}: expected a dense tensor with numbers")
    return signs(name, value, memory.units).to(torch.get_default_dtype(), copy=True)


def apply_store(memory: AssociativeMemory, patterns: Annotated[Tensor, "patterns units"]) -> None:
    """Call ``memory.store`` after the input checks that all memories share, so that your own need not repeat them.

    Args:
        memory: The memory.
        patterns: Patterns of +1 and -1, in rows, of any dtype; the memory gets them in torch's default dtype.

    Raises:
        TypeError, ValueError: They are not all +1 or -1, have another number of units than the memory, or there are
            none.
    """
    checks.instance("memory", memory, AssociativeMemory)  # type: ignore[type-abstract]
    memory.store(patterns_of(memory, "patterns", patterns))


def apply_recall(memory: AssociativeMemory, cues: Annotated[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
    """The answer of ``memory.recall``, with the input checks that all memories share and a check of the answer.

    Args:
        memory: The memory.
        cues: Cues of +1 and -1, in rows, of any dtype; the memory gets them in torch's default dtype.

    Raises:
        TypeError, ValueError: Cues or answers are not all +1 or -1, or have a wrong shape.
    """
    checks.instance("memory", memory, AssociativeMemory)  # type: ignore[type-abstract]
    recalled = memory.recall(patterns_of(memory, "cues", cues))
    name = f"the answer of {type(memory).__name__}"
    checks.has_shape(name, checks.instance(name, recalled, Tensor).shape, tuple(cues.shape))
    return patterns_of(memory, name, recalled)
