"""The plastic recurrent scan on CUDA: how the programs of ``cuda_programs`` are launched.

Nothing is summed in an order that depends on timing: each program writes its own part, and the parts are summed in
order. The kernels run in Triton's interpreter too (``TRITON_INTERPRET=1``), which is how they are tested without a GPU.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from engram.plasticity.kernels import constants
from engram.plasticity.kernels.layout import GROUPS, like, zeros
from engram.plasticity.kernels.rnn.cuda_programs import collect_kernel, forward_kernel, replay_kernel, undo_kernel
from engram.plasticity.kernels.rnn.options import Options

# Bytes of one tile of a matrix, of which a program holds several in registers, and of a warp's part of it.
TILE, PART = 2**14, 2**10
# The backward pass holds up to this many bytes of all samples' traces at once, or sqrt(T) steps if these are more.
HISTORY = 2**28


class _Tiles(NamedTuple):
    """The tiles of whole rows into which a matrix is cut, and the number of warps for each."""

    rows: int
    columns: int
    warps: int
    programs: int


def _tiles(size: int, element_size: int, share: int = 1) -> _Tiles:
    # At least as many numbers as threads: if two threads held one number, one might write it before the other reads it.
    tile_size, columns = TILE // share, max(32, triton.next_power_of_2(size))
    rows = max(1, min(triton.next_power_of_2(size), tile_size // element_size // columns))
    warps = min(tile_size // PART, max(1, rows * columns * element_size // PART))
    return _Tiles(rows, columns, warps, -(-size // rows))


def _launch(kernel: Any, grid: tuple[int, int], tiles: _Tiles, **arguments: Any) -> None:
    # One stage: a load started a step ahead would read values that this step has yet to write.
    kernel[grid](**arguments, rows=tiles.rows, columns=tiles.columns, num_warps=tiles.warps, num_stages=1)


class _Scan:
    """The arguments that all kernels share."""

    def __init__(self, mask: Tensor | None, hidden: Tensor, trace: Tensor, *args: Any) -> None:
        eligibility, weight, alpha, eta, v, v0, fan, base = (t.detach().contiguous() for t in args[:8])
        options = Options(*args[8:])
        self.batch, self.size = hidden.shape
        self.hidden, self.trace = hidden.detach().contiguous(), trace.detach().contiguous()
        self.eligibility = eligibility if eligibility.dim() == 3 else self.trace
        self.options = options
        # A tensor, because a number would reach the kernel in single precision.
        bound = torch.full((1,), options.clip, dtype=weight.dtype, device=weight.device)
        self.sizes = {"batch": self.batch, "size": self.size}
        self.rates = {"eta": eta, "fan": fan, "base": base, "bound": bound}
        self.rule = {
            "recursion": options.recursion, "clipped": math.isfinite(options.clip), "trace_first": options.trace_first,
            "modulated": options.modulated, "forgets": options.forgets,
        }  # fmt: skip
        self.units = {"relu": options.relu, "squash": options.squash, "masked": mask is not None}
        self.layer = {"weight": weight, "alpha": alpha, "v": v, "connection": alpha.dim() == 2}
        # Missing tensors are never read.
        self.mask = eta if mask is None else mask.contiguous().view(torch.uint8)
        self.v, self.v0 = v, v0

    def signals(self, outputs: Tensor) -> Tensor:
        """M at every step for every sample; not as a matrix product, which might be less precise."""
        current = (outputs * self.v).sum(-1) + self.v0
        return {1: torch.tanh, 2: torch.sigmoid}.get(self.options.squash, torch.clone)(current)


def forward(drive: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Run the operator ``engram::plastic_scan``, called with its arguments, in Triton kernels."""
    trace, eligibility = args[2], args[3]
    last_trace, last_eligibility = (t.clone(memory_format=torch.contiguous_format) for t in (trace, eligibility))
    if drive.numel() == 0:
        return drive.new_empty(drive.shape), last_trace, last_eligibility
    scan = _Scan(*args)
    time, batch, size = drive.shape
    activities = drive.new_empty(time + 1, batch, size)
    activities[0] = scan.hidden
    with torch.cuda.device_of(drive):  # type: ignore[no-untyped-call]
        _launch(
            forward_kernel, (batch, 1), _tiles(size, drive.element_size()), drive=drive.detach().contiguous(),
            mask=scan.mask, activities=activities, v0=scan.v0, H=last_trace,
            E=last_eligibility if eligibility.dim() == 3 else last_trace, time=time,
            **scan.layer, **scan.rates, **scan.sizes, **scan.rule, **scan.units,
        )  # fmt: skip
    return activities[1:].clone(), last_trace, last_eligibility


def backward(grad_outputs: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Run the derivative of the operator, ``engram::plastic_scan_backward``, in Triton kernels."""
    grad_last, outputs, args = args[:2], args[2], args[3:]
    mask, hidden, *inputs = args[:11]
    G, F = (t.clone(memory_format=torch.contiguous_format) for t in grad_last)
    if outputs.numel() == 0:
        return (*like([outputs]), *zeros([hidden]), G, F, *zeros(inputs[2:]))
    scan = _Scan(*args)
    time, batch, size = outputs.shape
    activities = torch.cat((scan.hidden.unsqueeze(0), outputs.detach()))
    signals = scan.signals(activities[1:]) if scan.options.modulated else activities
    retroactive = scan.options.recursion == constants.RETROACTIVE

    fitting = HISTORY // (batch * size * size * outputs.element_size())
    stretch = min(time, scan.options.stretch or max(math.isqrt(time - 1) + 1, fitting))
    stretches = -(-time // stretch)
    history = outputs.new_empty(stretch, batch, size, size)
    recent = torch.empty_like(history) if retroactive else history

    tiles = _tiles(size, outputs.element_size())
    small = _tiles(size, outputs.element_size(), share=4)
    groups = min(GROUPS, batch)
    delta, of_rates = like((outputs, outputs))
    grad_drive = torch.empty_like(delta) if mask is not None else delta
    grad_hidden = torch.empty_like(scan.hidden)
    of_eta, of_signal = outputs.new_zeros(2, time, batch).unbind()
    alphas = outputs.new_zeros(groups, size, size)
    sums, sent, ruled = (outputs.new_zeros(n, batch, size) for n in (3, 1, 2))
    forward_arrays = {"activities": activities, **scan.sizes}
    remade = {**forward_arrays, "signals": signals, **scan.rates, **scan.rule}
    with torch.cuda.device_of(outputs):  # type: ignore[no-untyped-call]
        starts, early = scan.trace, scan.eligibility
        if stretches > 1:
            starts = outputs.new_empty(stretches, batch, size, size)
            early = torch.empty_like(starts) if retroactive else starts
            _launch(
                replay_kernel, (batch, small.programs), small, from_H=scan.trace, from_E=scan.eligibility, to_H=starts,
                to_E=early, source=0, begin=0, end=(stretches - 1) * stretch + 1, every=stretch, **remade,
            )  # fmt: skip
        for part in range(stretches - 1, -1, -1):
            begin, end = part * stretch, min(time, (part + 1) * stretch)
            _launch(
                replay_kernel, (batch, small.programs), small, from_H=starts, from_E=early, to_H=history, to_E=recent,
                source=part, begin=begin, end=end, every=1, **remade,
            )  # fmt: skip
            _launch(
                undo_kernel, (batch, 1), tiles, grad_outputs=grad_outputs.contiguous(), mask=scan.mask,
                history=history, recent=recent, G=G, F=F if retroactive else G, sums=sums, sent=sent, ruled=ruled,
                delta=delta, grad_drive=grad_drive, grad_hidden=grad_hidden, of_rates=of_rates, of_eta=of_eta,
                of_signal=of_signal, time=time, origin=begin, end=end,
                begin=begin if part > 0 else -1,  # the state before the first step is undone with it
                **remade, **scan.layer, **scan.units,
            )  # fmt: skip
            _launch(
                collect_kernel, (small.programs, groups), small, delta=delta, history=history, grad_alpha=alphas,
                begin=begin, end=end, groups=groups, **forward_arrays,
            )  # fmt: skip

    of_modulator = zeros(inputs[5:])
    if scan.options.modulated:
        by_v, by_fan = of_signal.unsqueeze(-1) * activities[1:], signals.unsqueeze(-1) * of_rates
        of_modulator = [by_v.sum((0, 1)), of_signal.sum().reshape(1), by_fan.sum((0, 1)), of_rates.sum((0, 1))]
    grad_weight = delta.reshape(-1, size).t() @ activities[:-1].reshape(-1, size)
    grad_alpha = alphas.sum(0) if inputs[3].dim() == 2 else alphas.sum(0).sum(1)
    return (grad_drive, grad_hidden, G, F, grad_weight, grad_alpha, of_eta.sum().reshape(1), *of_modulator)
