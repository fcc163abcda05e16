"""Checkpoints for functions that differentiate inside: memory for one stretch of a long unrolled loop at a time."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Result = TypeVar("Result")


class _Slot:
    """Where a tensor that the way back needs is, or was."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


def recomputed(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function, forget what its gradient needs, and call it again when that is due.

    It may itself take gradients, which ``torch.utils.checkpoint`` answers by recomputing everything before each of
    them: of n gradients inside, n(n+1)/2 steps instead of n. Whatever the function uses, arguments, modules or what it
    closes over, gets its gradient, of any order.

    Args:
        function: It must do the same when it is called again: nothing that it uses may change between, and what it
            draws from torch's global generators is drawn again.
        args: Its arguments.

    Returns:
        What the function returns, with a graph.

    Raises:
        RuntimeError: On the way back, where the second call did something else than the first.

    Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost" (2016), section 3.

    Examples:
        >>> w = torch.tensor(2.0, requires_grad=True)
        >>> recomputed(lambda x: torch.autograd.grad(x**3, x, create_graph=True)[0], w).backward()
        >>> w.grad
        tensor(12.)
    """
    if not torch.is_grad_enabled():
        return function(*args)
    slots: list[weakref.ref[_Slot]] = []
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    states = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]

    # A detached alias everywhere, because a node that holds its own output would never be freed.
    def put(tensor: Tensor) -> _Slot:
        slot = _Slot(tensor.detach())
        slots.append(weakref.ref(slot))
        return slot

    def get(slot: _Slot) -> Tensor:
        if slot.tensor is None:
            again()
        assert slot.tensor is not None
        return slot.tensor

    def again() -> None:
        count = 0

        def refill(tensor: Tensor) -> Tensor:
            nonlocal count
            slot = slots[count]() if count < len(slots) else None
            count += 1
            if slot is not None and slot.tensor is None:
                slot.tensor = tensor.detach()
            return tensor.detach()

        with torch.random.fork_rng(devices), torch.enable_grad(), saved_tensors_hooks(refill, lambda tensor: tensor):
            torch.set_rng_state(states[0])
            for device, state in zip(devices, states[1], strict=True):
                torch.cuda.set_rng_state(state, device)
            function(*args)
        if count != len(slots):
            raise RuntimeError(
                f"{function} saved {len(slots)} tensors, and {count} when called again: expected as many"
            )

    with saved_tensors_hooks(put, get):
        result = function(*args)
    for reference in slots:
        slot = reference()
        if slot is not None:
            slot.tensor = None
    return result
