"""Checkpointing for functions that take gradients inside: a long loop takes the memory of one segment at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from engram import checks

Result = TypeVar("Result")


def recomputed(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function without storing intermediate values for its gradient, and call it again in the backward pass.

    The function may itself take gradients; ``torch.utils.checkpoint`` would recompute everything before each of them,
    n(n+1)/2 steps instead of n for n gradients. Whatever the function uses, whether arguments, modules or outside
    variables, gets its gradient, of any order.

    Args:
        function: It must do the same when called again: nothing that it uses may change in between, and autocast has to
            be entered inside it. Random numbers from torch's global generators are repeated.
        *args: Its arguments.

    Returns:
        The return value of the function, with a graph.

    Raises:
        RuntimeError: If a tensor that a gradient needs was changed in place; in the backward pass, if the second call
            saved another number of tensors than the first.

    Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost" (2016), section 3.

    Examples:
        >>> w = torch.tensor(2.0, requires_grad=True)
        >>> recomputed(lambda x: torch.autograd.grad(x**3, x, create_graph=True)[0], w).backward()
        >>> w.grad
        tensor(12.)
    """
    checks.arguments()
    if not torch.is_grad_enabled():
        return function(*args)
    saved: list[Tensor | None] = []  # plain tensors, since a loop saves too many for wrapper objects
    versions: list[int] = []  # of them, since autograd leaves it to hooks to notice what was changed in place
    count = 0  # of saved tensors, once it is known
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    states = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]

    # A detached alias everywhere, because a node that holds its own output would never be freed.
    def pack(tensor: Tensor) -> int:
        saved.append(tensor.detach())
        versions.append(tensor._version)
        return len(saved) - 1

    def unpack(index: int) -> Tensor:
        if not saved or saved[index] is None:
            recompute()
        tensor = saved[index]
        assert tensor is not None
        if tensor._version != versions[index]:
            shape = tuple(tensor.shape)
            raise RuntimeError(f"{function} changed a tensor of shape {shape} in place that its gradient needs")
        if count:  # in the backward pass, which needs each tensor only once
            saved[index] = None
        return tensor

    def recompute() -> None:
        refilled: list[Tensor] = []
        refilled_versions: list[int] = []

        def refill(tensor: Tensor) -> Tensor:
            refilled.append(tensor.detach())
            refilled_versions.append(tensor._version)
            return refilled[-1]

        with torch.random.fork_rng(devices), torch.enable_grad(), saved_tensors_hooks(refill, lambda tensor: tensor):
            torch.set_rng_state(states[0])
            for device, state in zip(devices, states[1], strict=True):
                torch.cuda.set_rng_state(state, device)
            function(*args)
        if len(refilled) != count:
            raise RuntimeError(
                f"{function} saved {count} tensors, and {len(refilled)} when called again: expected as many"
            )
        saved[:], versions[:] = refilled, refilled_versions

    with saved_tensors_hooks(pack, unpack):
        result = function(*args)
    count = len(saved)
    saved.clear()
    versions.clear()
    return result
