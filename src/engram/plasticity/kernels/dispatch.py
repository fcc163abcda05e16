"""Which form of a scan runs: the definition, or a kernel where one can and is faster."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from engram import checks
from engram.nn.sequence import autocast
from engram.plasticity.kernels.linear import scan as linear
from engram.plasticity.kernels.lstm import scan as lstm
from engram.plasticity.kernels.rnn import scan as rnn
from engram.plasticity.kernels.rnn.step import step_scan

BACKENDS = ("auto", "eager", "fused")
# Steps times connections up to which a call without a graph is over before the kernel has laid out its matrices.
BRIEF = 2**20

# Of every scan, its kernel, and the steps below which calling that takes longer than the plain loop, whatever the size.
KERNELS: dict[str, tuple[ModuleType, int]] = {
    "plastic_scan": (rnn, 5),
    "plastic_linear_scan": (linear, 5),
    "plastic_lstm_scan": (lstm, 4),
}


def run_layer(layer: Any, scan: Callable[..., Any], *args: Any, **options: Any) -> tuple[Tensor, Any]:
    """Return the output and the state of a plastic layer's scan.

    Arguments are those of the scan, but for alpha and the rule, which are the layer's.

    Raises:
        ValueError: As of ``run_scan``.
    """
    *sequences, state = args
    rule = layer.rule
    output, state = run_scan(scan, layer.backend, *sequences, layer.alpha, rule, state, **options)
    if rule is not None:
        rule.warn_if_saturated(getattr(state, "rule", state))
    return output, state


def run_scan(scan: Callable[..., Any], backend: str, drive: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
    """Run a scan by the backend asked for; the only place where that is decided.

    ``scan`` is ``plastic_scan``, ``plastic_linear_scan`` or ``plastic_lstm_scan``, each of which is its own definition;
    ``backend`` is as of ``PlasticRNN``, and the rest is what the scan is called with.

    Raises:
        ValueError: Unknown backend, or the kernel is asked for where it cannot run; the error says why.
    """
    checks.choice("backend", backend, BACKENDS)
    run, kernel = scan, KERNELS[scan.__name__][0]
    if backend == "auto":
        run = fastest(scan, drive, *args, **kwargs)
    if backend == "fused":
        reason = kernel.unsupported(drive, *args, **kwargs)
        if reason is not None:
            raise ValueError(f"backend = 'fused': {reason}")
        run = kernel.fused_scan
    if autocast(drive.device):
        # Increments of the trace are lost in half precision after a hundred steps.
        with torch.autocast(drive.device.type, enabled=False):
            return run(drive, *args, **kwargs)  # type: ignore[no-any-return]
    return run(drive, *args, **kwargs)  # type: ignore[no-any-return]


def fastest(scan: Callable[..., Any], drive: Tensor, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Return the fastest form of a scan that can run these arguments, which are those of the scan."""
    kernel, few = KERNELS[scan.__name__]
    # A call without a graph that is so short that steps on the tensors as they are cost less.
    brief = drive.is_cpu and drive.numel() * drive.shape[-1] <= BRIEF
    acting = kernel is rnn and brief and not torch.is_grad_enabled() and not is_compiling()
    if not (acting or len(drive) >= few) or kernel.unsupported(drive, *args, **kwargs):
        return scan
    return step_scan if acting else kernel.fused_scan
