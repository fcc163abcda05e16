"""What the operators of all scans share: registration, memory, and samples dealt to threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional

from engram.numeric.threads import available, shared, single_threaded
from engram.plasticity.kernels.codes import RETROACTIVE

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

# Samples are summed in at most so many groups, whatever the number of threads, so that this does not show.
GROUPS = 32
# Fewer steps times connections than this take less than some milliseconds, which another thread may be late by.
WORTH_A_THREAD = 2**22
# Bytes of one sample's traces that the backward pass keeps at once even where sqrt(T) of them are fewer.
CACHED = 2**19
# The tensors that the operators of recurrent layers take last.
RECURRENT = (
    "Tensor trace, Tensor eligibility, Tensor weight, Tensor alpha, "
    "Tensor eta, Tensor v, Tensor v0, Tensor fan, Tensor base"
)


def register(
    name: str,
    passes: tuple[Callable[..., Any], Callable[..., Any]],
    fakes: tuple[Callable[..., Any], Callable[..., Any]],
    *,
    given: str,
    kept: str,
    keep: Callable[[tuple[Any, ...], tuple[Tensor, ...]], tuple[Any, ...]],
    options: type,
    returned: int,
    graded: int,
) -> tuple[CustomOpDef, CustomOpDef]:
    """Return an operator of the CPU and its derivative, registered with torch and known to ``torch.compile``.

    The derivative has none of its own, and no transform of ``torch.func`` passes through.

    Args:
        name: Its name, without ``engram::``; that of the derivative ends in ``_backward``.
        passes: Forward from the tensors given and the options; backward from the gradients, the tensors kept and the
            options to the gradients of all tensors given but those that may be missing.
        fakes: For both, what is returned in shape alone.
        given: The tensors given, as a schema has them.
        kept: Those that the derivative needs.
        keep: Returns the latter from those given and those returned.
        options: NamedTuple of the numbers that follow.
        returned: How many tensors the forward pass returns.
        graded: To how many of those returned, the first ones, gradients may come.
    """
    ends = ", ".join(f"{kind.__name__} {field}" for field, kind in get_type_hints(options).items())
    gradients = ", ".join(f"Tensor grad_{number}" for number in range(graded))
    learned = [not tensor.startswith("Tensor?") for tensor in given.split(", ")]
    schemas = (f"{given}, {ends}", returned), (f"{gradients}, {kept}, {ends}", sum(learned))
    forward, backward = (
        custom_op(
            f"engram::{name}{suffix}",
            single_threaded()(call),
            mutates_args=(),
            device_types="cpu",
            schema=f"({arguments}) -> ({', '.join(['Tensor'] * count)})",
        )
        for suffix, call, (arguments, count) in zip(("", "_backward"), passes, schemas, strict=True)
    )
    forward.register_fake(fakes[0])
    backward.register_fake(fakes[1])

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*keep(inputs[: len(learned)], output))
        ctx.options = inputs[len(learned) :]
        ctx.shapes = [tensor.shape for tensor in output]
        ctx.set_materialize_grads(False)  # autograd would make zeros by all threads

    def derivative(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        like = ctx.saved_tensors[0]
        with single_threaded():
            whole = [like.new_zeros(of) if g is None else g for g, of in zip(grads, ctx.shapes, strict=True)]
        found = iter(backward(*whole[:graded], *ctx.saved_tensors, *ctx.options))
        return (*(next(found) if has else None for has in learned), *[None] * len(ctx.options))

    def no_second_derivative(ctx: Any, *grads: Tensor) -> None:
        raise NotImplementedError(
            "the fused scan has no second derivative: make the network with backend='eager' to differentiate twice"
        )

    forward.register_autograd(derivative, setup_context=save)
    backward.register_autograd(no_second_derivative)
    return forward, backward


@cache
def kernel(layer: str, direction: str, *kind: int) -> Any:
    """Return a pass, ``"forward"`` or ``"backward"``, of a layer for one kind of alpha and of rule, made once."""
    make = getattr(import_module(f"engram.plasticity.kernels.{layer}.cpu"), f"{direction}_kernel")
    return make(*map(int, kind))


def scratch_size(direction: str, recursion: int, trace: int, wide: int, time: int = 1, stretch: int = 1) -> int:
    """Return how many numbers of memory a pass needs for the traces of one sample, each of ``trace`` padded numbers.

    The backward pass goes through ``time`` steps and holds ``stretch`` at once; ``wide`` is at least a register.
    """
    traces = 1 if direction == "forward" else -(-time // stretch) + stretch + 2
    return (2 if recursion == RETROACTIVE else 1) * traces * (trace + wide)


def in_groups(
    kernel: Callable[..., None],
    work: int,
    batch: int,
    scratch: tuple[int, torch.dtype],
    arguments: Callable[[int], tuple[Any, ...]],
    groups: int = GROUPS,
) -> None:
    """Run a kernel on a batch, group after group of its samples, on as many threads as ``work`` is worth.

    The kernel is called with the ``arguments`` of the group's number, the thread's own zeroed memory, of the size and
    dtype of ``scratch``, the group's first sample and the one after its last; ``work`` is steps times connections.
    """
    groups = min(groups, batch)

    def call(group: int, own: Any) -> None:
        kernel(*arguments(group), own, batch * group // groups, batch * (group + 1) // groups)

    def memory() -> Any:
        # torch's begins where a line of the cache does, and no load of a whole register so reaches into a second one.
        return torch.zeros(scratch[0], dtype=scratch[1]).numpy()

    count = available() if work >= WORTH_A_THREAD else 1
    shared.run(call, groups, count, memory)


def array(tensor: Tensor) -> Any:
    """Return a tensor as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def padded(tensor: Tensor, *sizes: int) -> Any:
    """Return a tensor as a flat array of which the last axes have these sizes, with zeros behind what there was."""
    padding = [n for size, want in zip(reversed(tensor.shape), reversed(sizes), strict=False) for n in (0, want - size)]
    return functional.pad(tensor.detach(), padding).contiguous().view(-1).numpy()


def modulating(width: int, eta: Tensor, v: Tensor, v0: Tensor, fan: Tensor, base: Tensor) -> tuple[Any, ...]:
    """Return the rate and the parameters of a neuromodulator as arrays, with padding up to ``width``."""
    return array(eta), padded(v, width), array(v0), padded(fan, width), padded(base, width)


def traces(trace: Tensor, eligibility: Tensor) -> tuple[Any, Any]:
    """Return traces as arrays (batch, post, pre), of no samples where a rule has no eligibility trace."""
    return array(trace), array(eligibility if eligibility.dim() == 3 else trace.new_empty(0, 0, 0))


def like(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return contiguous tensors of these shapes, not yet written."""
    return [t.new_empty(t.shape) for t in tensors]


def zeros(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return contiguous tensors of these shapes, all zero."""
    return [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in tensors]


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return contiguous copies."""
    return [t.contiguous().clone() for t in tensors]


def stretch_of(time: int, asked: int, trace_bytes: int) -> int:
    """Return of how many steps the backward pass holds the traces: as asked, or what fits, and at least sqrt(T)."""
    return min(time, asked or max(math.isqrt(time - 1) + 1, CACHED // trace_bytes))


def registers(post: int, pre: int, element_size: int) -> tuple[int, int, int]:
    """Return the rows and the width of a padded trace, and the size of a padded row of receiving units."""
    from engram.numeric.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // element_size
    return -(-post // ROWS) * ROWS, -(-pre // lanes) * lanes, -(-post // lanes) * lanes


def modulator_sums(like: Tensor, batch: int, width: int) -> list[Tensor]:
    """Return zeros, for the gradients of eta, v, v0, fan and base of every sample."""
    eta, v0 = like.new_zeros(2, batch).unbind()
    v, fan, base = like.new_zeros(3, batch, width).unbind()
    return [eta, v, v0, fan, base]


def totals(sums: list[Tensor], size: int) -> list[Tensor]:
    """Return the gradients of eta, v, v0, fan and base, summed over the samples."""
    return [t.sum().reshape(1) if t.dim() == 1 else t.sum(0)[:size].clone() for t in sums]
