"""How a scan's two passes, over samples that do not meet, become one torch operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op

from engram.threads import shared

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

# Samples are summed in at most so many groups, whatever the number of threads, so that this does not show.
GROUPS = 32
# Arithmetic of fewer steps and connections than this is done before another thread has begun.
WORTH_A_THREAD = 2**17


class Operator(NamedTuple):
    """An operator, and the one that is its derivative."""

    forward: CustomOpDef
    backward: CustomOpDef


def operator(
    name: str,
    passes: tuple[Callable[..., Any], Callable[..., Any]],
    fakes: tuple[Callable[..., Any], Callable[..., Any]],
    *,
    given: str,
    kept: str,
    keep: Callable[[tuple[Any, ...], tuple[Tensor, ...]], tuple[Any, ...]],
    options: type,
    returned: tuple[int, int],
    graded: int,
) -> Operator:
    """Register an operator of the CPU with its derivative, both known to ``torch.compile``.

    The derivative has none of its own, and no transform of ``torch.func`` passes through.

    Args:
        name: Its name, without ``engram::``; that of the derivative ends in ``_backward``.
        passes: What is computed, forward from the tensors given and the options, backward from the gradients, the
            tensors kept and the options; the gradients of all tensors given but those that may be missing.
        fakes: For both, what is returned in shape alone.
        given: The tensors given, as a schema has them.
        kept: Those that the derivative needs.
        keep: Returns the latter from those given and those returned.
        options: NamedTuple of the numbers that follow.
        returned: How many tensors both passes return.
        graded: To how many of those returned, the first ones, gradients may come.
    """
    ends = ", ".join(f"{kind.__name__} {field}" for field, kind in get_type_hints(options).items())
    gradients = ", ".join(f"Tensor grad_{number}" for number in range(graded))
    schemas = f"{given}, {ends}", f"{gradients}, {kept}, {ends}"
    forward, backward = (
        custom_op(
            f"engram::{name}{suffix}",
            call,
            mutates_args=(),
            device_types="cpu",
            schema=f"({arguments}) -> ({', '.join(['Tensor'] * count)})",
        )
        for suffix, call, arguments, count in zip(("", "_backward"), passes, schemas, returned, strict=True)
    )
    forward.register_fake(fakes[0])
    backward.register_fake(fakes[1])
    learned = [not tensor.startswith("Tensor?") for tensor in given.split(", ")]

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*keep(inputs[: len(learned)], output))
        ctx.options = inputs[len(learned) :]

    def derivative(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = iter(backward(*grads[:graded], *ctx.saved_tensors, *ctx.options))
        return (*(next(found) if has else None for has in learned), *[None] * len(ctx.options))

    def no_second_derivative(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(
            "the fused scan has no second derivative: make the network with backend='eager' to differentiate twice"
        )

    forward.register_autograd(derivative, setup_context=save)
    backward.register_autograd(no_second_derivative)
    return Operator(forward, backward)


def in_groups(  # noqa: PLR0917
    kernel: Callable[..., None],
    work: int,
    batch: int,
    scratch: tuple[int, Any],
    arguments: Callable[[int], tuple[Any, ...]],
    groups: int = GROUPS,
) -> None:
    """Run a kernel on a batch, group after group of its samples, on as many threads as the work is worth.

    Args:
        kernel: Called with the arguments, its memory, and the first sample of a group and the one after its last.
        work: Number of steps and connections.
        batch: How many samples there are.
        scratch: Size and dtype of the zeroed memory that a thread needs for itself.
        arguments: From the number of a group to all arguments before these.
        groups: How many groups at most.
    """
    groups = min(groups, batch)

    def call(group: int, own: Any) -> None:
        kernel(*arguments(group), own, batch * group // groups, batch * (group + 1) // groups)

    def memory() -> Any:
        # torch's begins where a line of the cache does, and no load of a whole register so reaches into a second one.
        size, dtype = scratch
        return torch.zeros(size, dtype=torch.from_numpy(np.empty(0, dtype)).dtype).numpy()

    count = torch.get_num_threads() if work >= WORTH_A_THREAD else 1
    shared.run(call, groups, count, memory)
