"""How tensors are laid out in memory for the numba kernels, and how groups of samples are distributed over threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from engram.numeric.threads import available, shared
from engram.plasticity.kernels.constants import RETROACTIVE

# Samples are summed in at most this many groups, for any number of threads, so that results do not depend on it.
GROUPS = 32
# Fewer steps times connections than this take only some milliseconds, about the delay with which a thread may start.
WORTH_A_THREAD = 2**22
# The backward pass holds up to this many bytes of one sample's traces at once, or sqrt(T) traces if these are more.
CACHED = 2**19


@cache
def kernel(layer: str, direction: str, *kind: int) -> Any:
    """A pass, ``"forward"`` or ``"backward"``, of a layer for one kind of alpha and of rule; compiled only once.

    Args:
        layer: ``"rnn"``, ``"lstm"`` or ``"linear"``.
        direction: ``"forward"`` or ``"backward"``.
        *kind: Whether every connection has an alpha, the recursion, and for ``"rnn"`` whether there is a bound.
    """
    make = getattr(import_module(f"engram.plasticity.kernels.{layer}.cpu"), f"{direction}_kernel")
    return make(*map(int, kind))


def scratch_size(direction: str, recursion: int, trace: int, wide: int, time: int = 1, stretch: int = 1) -> int:
    """The number of elements that a pass stores for the traces of one sample.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        recursion: The recursion of the rule, a constant such as ``RETROACTIVE``.
        trace: Number of elements of a padded trace.
        wide: Further elements reserved for each trace, at least a register.
        time: Number of steps.
        stretch: Number of steps whose traces the backward pass holds at once.
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
    """Run a kernel on a batch in groups of samples, on several threads if there is enough work.

    The kernel is called with ``arguments(group)``, the thread's own memory, which is zero at its first group, the first
    sample of the group and one past the last.

    Args:
        kernel: The compiled function.
        work: Steps times connections.
        batch: Number of samples.
        scratch: Size and dtype of a thread's memory.
        arguments: Returns the first arguments of the kernel, given the number of the group.
        groups: Largest number of groups.
    """
    groups = min(groups, batch)

    def call(group: int, thread_memory: Any) -> None:
        kernel(*arguments(group), thread_memory, batch * group // groups, batch * (group + 1) // groups)

    count = available() if work >= WORTH_A_THREAD else 1
    shared.run(call, groups, count, partial(memory, *scratch))


def memory(size: int, dtype: torch.dtype) -> Any:
    """A flat array of zeros that starts at a cache line, as torch's do: no load of a register then spans two lines."""
    return torch.zeros(size, dtype=dtype).numpy()


def array(tensor: Tensor) -> Any:
    """A tensor as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def padded(tensor: Tensor, *sizes: int) -> Any:
    """A tensor as a flat array, its axes padded with zeros to these sizes."""
    flat = memory(math.prod(sizes), tensor.dtype)
    flat.reshape(sizes)[tuple(map(slice, tensor.shape))] = tensor.detach().numpy()
    return flat


def modulating(width: int, eta: Tensor, v: Tensor, v0: Tensor, fan: Tensor, base: Tensor) -> tuple[Any, ...]:
    """The rate and the parameters of a neuromodulator as arrays, with padding up to ``width``.

    Args:
        width: Length of a padded row.
        eta: The rate.
        v: Weights of the neuromodulator.
        v0: Its bias.
        fan: Weights of its fan-out.
        base: Biases of its fan-out.
    """
    return array(eta), padded(v, width), array(v0), padded(fan, width), padded(base, width)


def traces(trace: Tensor, eligibility: Tensor) -> tuple[Any, Any]:
    """Traces as arrays (batch, post, pre); the second is empty if a rule has no eligibility trace."""
    return array(trace), array(eligibility if eligibility.dim() == 3 else trace.new_empty(0, 0, 0))


def like(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Uninitialised contiguous tensors of the same shapes."""
    return [t.new_empty(t.shape) for t in tensors]


def zeros(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Contiguous tensors of zeros of the same shapes."""
    return [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in tensors]


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Contiguous copies of tensors."""
    return [t.contiguous().clone() for t in tensors]


def stretch_of(time: int, requested: int, trace_bytes: int) -> int:
    """The number of steps whose traces the backward pass stores: as asked, else as many as fit, but at least sqrt(T).

    Args:
        time: Number of steps T.
        requested: The requested number; 0: none is requested.
        trace_bytes: Bytes of a trace.
    """
    return min(time, requested or max(math.isqrt(time - 1) + 1, CACHED // trace_bytes))


def registers(post: int, pre: int, element_size: int) -> tuple[int, int, int]:
    """The rows and the width of a padded trace, and the length of a padded row of receiving units.

    Args:
        post: Number of receiving units.
        pre: Number of sending units.
        element_size: Bytes of a number.
    """
    from engram.numeric.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // element_size
    return -(-post // ROWS) * ROWS, -(-pre // lanes) * lanes, -(-post // lanes) * lanes


def weight_gradient(of_currents: Tensor, hidden: Tensor, outputs: Tensor) -> Tensor:
    """The gradient of recurrent weights.

    Args:
        of_currents: Gradients of the currents through them, (time, batch, currents).
        hidden: Activity before the first step, (batch, hidden).
        outputs: Activity at every step, (time, batch, hidden).
    """
    # The activity before each later step is the previous output.
    first, later = of_currents[0].t() @ hidden, of_currents[1:].flatten(0, 1).t()
    return torch.addmm(first, later, outputs[:-1].flatten(0, 1))


def modulator_sums(like: Tensor, batch: int, width: int) -> list[Tensor]:
    """Zeros for every sample's gradients of eta, v, v0, fan and base.

    Args:
        like: A tensor of the same dtype.
        batch: Number of samples.
        width: Length of a padded row.
    """
    eta, v0 = like.new_zeros(2, batch).unbind()
    v, fan, base = like.new_zeros(3, batch, width).unbind()
    return [eta, v, v0, fan, base]


def totals(sums: list[Tensor], size: int) -> list[Tensor]:
    """The gradients of eta, v, v0, fan and base, summed over the samples."""
    return [t.sum().reshape(1) if t.dim() == 1 else t.sum(0)[:size].clone() for t in sums]
