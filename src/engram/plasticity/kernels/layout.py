"""How tensors are laid out in memory for the numba kernels, and samples dealt to threads in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engram.numeric.threads import available, shared
from engram.plasticity.kernels.constants import RETROACTIVE

# Samples are summed in at most this many groups for any number of threads, so that results do not depend on it.
GROUPS = 32
# Fewer steps times connections than this take only some milliseconds, about the delay with which a thread may start.
WORTH_A_THREAD = 2**22
# Bytes of one sample's traces that the backward pass keeps at once even where sqrt(T) of them are fewer.
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
    """How many numbers of memory a pass needs for the traces of one sample, each of ``trace`` padded numbers.

    The backward pass goes through ``time`` steps and holds ``stretch`` at once; ``wide`` is at least a register.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        recursion: That of the rule.
        trace: Padded numbers of a trace.
        wide: At least a register's numbers.
        time: Steps.
        stretch: Steps whose traces are held at once.
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

    Args:
        kernel: The compiled function.
        work: Steps times connections.
        batch: Number of samples.
        scratch: Size and dtype of a thread's memory.
        arguments: The first arguments of the kernel, by the number of the group.
        groups: Most groups.
    """
    groups = min(groups, batch)

    def call(group: int, own: Any) -> None:
        kernel(*arguments(group), own, batch * group // groups, batch * (group + 1) // groups)

    def memory() -> Any:
        # torch's memory starts at a cache line, so that no load of a whole register reaches into a second line.
        return torch.zeros(scratch[0], dtype=scratch[1]).numpy()

    count = available() if work >= WORTH_A_THREAD else 1
    shared.run(call, groups, count, memory)


def array(tensor: Tensor) -> Any:
    """A tensor as a contiguous array."""
    return tensor.detach().contiguous().numpy()


def padded(tensor: Tensor, *sizes: int) -> Any:
    """A tensor as a flat array, its last axes padded with zeros to these sizes."""
    padding = [
        n for size, target in zip(reversed(tensor.shape), reversed(sizes), strict=False) for n in (0, target - size)
    ]
    return functional.pad(tensor.detach(), padding).contiguous().view(-1).numpy()


def modulating(width: int, eta: Tensor, v: Tensor, v0: Tensor, fan: Tensor, base: Tensor) -> tuple[Any, ...]:
    """The rate and the parameters of a neuromodulator as arrays, with padding up to ``width``.

    Args:
        width: Numbers of a padded row.
        eta: The rate.
        v: Weights of the neuromodulator.
        v0: Its bias.
        fan: Weights of its fan-out.
        base: Their biases.
    """
    return array(eta), padded(v, width), array(v0), padded(fan, width), padded(base, width)


def traces(trace: Tensor, eligibility: Tensor) -> tuple[Any, Any]:
    """Traces as arrays (batch, post, pre), of no samples where a rule has no eligibility trace."""
    return array(trace), array(eligibility if eligibility.dim() == 3 else trace.new_empty(0, 0, 0))


def like(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Contiguous tensors of these shapes, not yet written."""
    return [t.new_empty(t.shape) for t in tensors]


def zeros(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Contiguous tensors of these shapes, all zero."""
    return [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in tensors]


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Contiguous copies."""
    return [t.contiguous().clone() for t in tensors]


def stretch_of(time: int, asked: int, trace_bytes: int) -> int:
    """How many steps' traces the backward pass stores: as asked, or as many as fit, and at least sqrt(T).

    Args:
        time: Steps T.
        asked: Steps asked for; 0: none.
        trace_bytes: Bytes of a trace.
    """
    return min(time, asked or max(math.isqrt(time - 1) + 1, CACHED // trace_bytes))


def registers(post: int, pre: int, element_size: int) -> tuple[int, int, int]:
    """The rows and the width of a padded trace, and the size of a padded row of receiving units.

    Args:
        post: Number of receiving units.
        pre: Number of sending units.
        element_size: Bytes of a number.
    """
    from engram.numeric.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // element_size
    return -(-post // ROWS) * ROWS, -(-pre // lanes) * lanes, -(-post // lanes) * lanes


def modulator_sums(like: Tensor, batch: int, width: int) -> list[Tensor]:
    """Zeros, for the gradients of eta, v, v0, fan and base of every sample.

    Args:
        like: A tensor of the dtype.
        batch: Number of samples.
        width: Numbers of a padded row.
    """
    eta, v0 = like.new_zeros(2, batch).unbind()
    v, fan, base = like.new_zeros(3, batch, width).unbind()
    return [eta, v, v0, fan, base]


def totals(sums: list[Tensor], size: int) -> list[Tensor]:
    """The gradients of eta, v, v0, fan and base, summed over the samples."""
    return [t.sum().reshape(1) if t.dim() == 1 else t.sum(0)[:size].clone() for t in sums]
