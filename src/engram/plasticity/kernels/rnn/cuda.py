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
# Bytes of a tile where several programs share a sample, forward and backward, and the most warps of each of these.
SHARED, SHARED_BACK, WARPS = 2**15, 2**14, 8
# A program more for a sample pays if it takes this many bytes of a matrix off the others.
WORTH_A_PROGRAM = 2**13
# The backward pass holds up to this many bytes of all samples' traces at once, or sqrt(T) steps if these are more.
HISTORY = 2**28
# The rounds of one launch, if programs wait for one another; all of them if None.
ROUNDS: int | None = None


class _Tiles(NamedTuple):
    """The tiles of whole rows into which a matrix is cut, and the number of warps for each."""

    rows: int
    columns: int
    warps: int
    programs: int


def _tiles(size: int, element_size: int, tile_size: int, shares: _Shares | None = None) -> _Tiles:
    # At least as many numbers as threads: if two threads held one number, one might write it before the other reads it.
    columns = max(32, triton.next_power_of_2(size))
    most_rows = columns if shares is None else shares.units
    rows = max(1, min(most_rows, triton.next_power_of_2(size), tile_size // element_size // columns))
    most_warps = tile_size // PART if shares is None or shares.programs == 1 else WARPS
    warps = min(most_warps, max(1, rows * columns * element_size // PART))
    return _Tiles(rows, columns, warps, -(-size // rows))


def _launch(kernel: Any, grid: tuple[int, int], tiles: _Tiles, **arguments: Any) -> None:
    # One stage: a load started a step ahead would read values that this step has yet to write.
    kernel[grid](**arguments, rows=tiles.rows, columns=tiles.columns, num_warps=tiles.warps, num_stages=1)


def processors(device: torch.device) -> int:
    """The programs that a device certainly runs at the same time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


class _Shares(NamedTuple):
    """How many units of a sample each program has, and how many programs that takes."""

    units: int
    programs: int

    @classmethod
    def of(cls, size: int, batch: int, element_size: int, device: torch.device) -> _Shares:
        most = min(processors(device) // batch, size * size * element_size // WORTH_A_PROGRAM)
        if most < 2:
            return cls(max(32, triton.next_power_of_2(size)), 1)
        units = triton.next_power_of_2(-(-size // most))
        return cls(units, -(-size // units))

    def launch(self, kernel: Any, tiles: _Tiles, rounds: int, **arguments: Any) -> None:
        """Launch all programs of all samples for these rounds; programs of a sample that wait for one another meet."""
        at_once = rounds if self.programs == 1 else min(rounds, ROUNDS or rounds)
        batch, device = arguments["batch"], arguments["weight"].device
        for first in range(0, rounds, at_once):
            waits = self.programs > 1 and at_once > 1
            # A program that waits must not keep those from starting that it waits for: all are started, or none.
            together = {"launch_cooperative_grid": True} if waits else {}
            _launch(
                kernel, (batch, self.programs), tiles, **arguments, **together, waits=waits, share=self.units,
                arrived=torch.zeros(batch, dtype=torch.int32, device=device),
                first=first, last=min(rounds, first + at_once),
            )  # fmt: skip


class _Scan:
    """The arguments that all kernels share."""

    def __init__(self, mask: Tensor | None, hidden: Tensor, trace: Tensor, *args: Any) -> None:
        eligibility, weight, alpha, eta, v, v0, fan, base = (t.detach().contiguous() for t in args[:8])
        options = Options(*args[8:])
        self.batch, self.size = hidden.shape
        self.hidden, self.trace = hidden.detach().contiguous(), trace.detach().contiguous()
        self.eligibility = eligibility if eligibility.dim() == 3 else self.trace
        self.options, self.fixed = options, options.recursion == constants.FIXED
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
        shares = _Shares.of(size, batch, drive.element_size(), drive.device)
        tiles = _tiles(size, drive.element_size(), TILE if shares.programs == 1 else SHARED, shares)
        shares.launch(
            forward_kernel, tiles, time if scan.fixed else time + 1, drive=drive.detach().contiguous(),
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

    stretch = time
    if not scan.fixed:
        fitting = HISTORY // (batch * size * size * outputs.element_size())
        stretch = min(time, scan.options.stretch or max(math.isqrt(time - 1) + 1, fitting))
    stretches = -(-time // stretch)
    history = outputs.new_empty(0) if scan.fixed else outputs.new_empty(stretch, batch, size, size)
    recent = torch.empty_like(history) if retroactive else history

    shares = _Shares.of(size, batch, outputs.element_size(), outputs.device)
    programs, parts = shares.programs, triton.next_power_of_2(shares.programs)
    tiles = _tiles(size, outputs.element_size(), TILE if programs == 1 else SHARED_BACK, shares)
    small = _tiles(size, outputs.element_size(), TILE // 4)
    groups = min(GROUPS, batch)
    delta, of_rates = like((outputs, outputs))
    grad_drive = torch.empty_like(delta) if mask is not None else delta
    grad_hidden, of_posts = torch.empty_like(scan.hidden), torch.empty_like(scan.hidden)
    of_eta, of_signal = outputs.new_zeros(time, batch, programs), outputs.new_zeros(time, batch)
    alphas = outputs.new_zeros(0 if scan.fixed else groups, size, size)
    sent, ruled = outputs.new_zeros(2, 2, programs, batch, size)
    currents = outputs.new_empty(2, programs, batch)
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
            if not scan.fixed:
                _launch(
                    replay_kernel, (batch, small.programs), small, from_H=starts, from_E=early, to_H=history,
                    to_E=recent, source=part, begin=begin, end=end, every=1, **remade,
                )  # fmt: skip
            lowest = begin if part > 0 else -1  # the state before the first step is undone with it
            shares.launch(
                undo_kernel, tiles, end - lowest + 1, grad_outputs=grad_outputs.contiguous(), mask=scan.mask,
                history=history, recent=recent, G=G, F=F if retroactive else G, sent=sent, ruled=ruled,
                of_posts=of_posts, currents=currents, delta=delta, grad_drive=grad_drive, grad_hidden=grad_hidden,
                of_rates=of_rates, of_eta=of_eta, of_signal=of_signal, time=time, origin=begin, begin=lowest, end=end,
                parts=parts, **remade, **scan.layer, **scan.units,
            )  # fmt: skip
            if not scan.fixed:
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
