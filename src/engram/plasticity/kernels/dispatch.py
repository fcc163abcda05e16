"""The choice of a scan's implementation: the definition, or a kernel if it can run and is faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling

from engram import checks
from engram.nn.sequence import autocast
from engram.plasticity.kernels.linear import scan as linear
from engram.plasticity.kernels.lstm import any_rule as lstm_any_rule
from engram.plasticity.kernels.lstm import scan as lstm
from engram.plasticity.kernels.rnn import any_rule as rnn_any_rule
from engram.plasticity.kernels.rnn import scan as rnn
from engram.plasticity.kernels.rnn.step import step_scan
from engram.plasticity.scan import plastic_linear_scan, plastic_lstm_scan, plastic_scan

BACKENDS = ("auto", "eager", "fused")
# Up to this many steps times connections, a call without a graph ends before the kernel has laid out its matrices.
BRIEF = 2**20


class Scan(NamedTuple):
    """The implementations of a scan, which all take the same arguments.

    Attributes:
        plain: The definition.
        fused: The kernel.
        unsupported: Returns why the kernel cannot run given arguments; None if it can.
        fewest: Number of steps below which calling the kernel takes longer than the plain loop, for layers of any size.
        brief: The implementation for a few steps without a graph; None if there is none.
        any_rule: The implementation for rules that the kernel does not know, and a test of whether it can run given
            arguments; or None.
    """

    plain: Callable[..., Any]
    fused: Callable[..., Any]
    unsupported: Callable[..., str | None]
    fewest: int
    brief: Callable[..., Any] | None = None
    any_rule: tuple[Callable[..., Any], Callable[..., bool]] | None = None


RNN = Scan(
    plastic_scan, rnn.fused_scan, rnn.unsupported, 5, step_scan, (rnn_any_rule.any_rule_scan, rnn_any_rule.can_run)
)
LINEAR = Scan(plastic_linear_scan, linear.fused_scan, linear.unsupported, 5)
LSTM = Scan(
    plastic_lstm_scan,
    lstm.fused_scan,
    lstm.unsupported,
    4,
    any_rule=(lstm_any_rule.any_rule_scan, lstm_any_rule.can_run),
)


def run_scan(scan: Scan, backend: str, *args: Any, **options: Any) -> tuple[Tensor, Any]:
    """The output and state of a scan, run by the given backend; the only place where the backend is decided.

    Args:
        scan: ``RNN``, ``LINEAR`` or ``LSTM``.
        backend: ``"eager"`` for the plain loop, ``"fused"`` for the kernel, ``"auto"`` for the faster of the two.
        *args: Positional arguments of the scan: two sequences or weights, alpha, the rule and the state.
        **options: Its keyword arguments.

    Raises:
        TypeError: alpha or a parameter of the rule has another dtype than the weights, as of a rule that another layer
            has too.
        ValueError: Unknown backend, or the backend is the kernel but it cannot run; the error says why.
    """
    checks.choice("backend", backend, BACKENDS)
    run, (drive, *_, alpha, rule, _) = scan.plain, args
    _check_dtypes(alpha, rule, drive.dtype)
    if backend == "auto":
        run = fastest(scan, *args, **options)
    if backend == "fused":
        reason = scan.unsupported(*args, **options)
        if reason is not None:
            raise ValueError(f"backend = 'fused': {reason}")
        run = scan.fused
    if autocast(drive.device):
        # Increments of the trace are lost in half precision after a hundred steps.
        with torch.autocast(drive.device.type, enabled=False):
            output, state = run(*args, **options)
    else:
        output, state = run(*args, **options)
    if rule is not None:
        rule.warn_if_saturated(getattr(state, "rule", state))
    return output, state


def _check_dtypes(alpha: Any, rule: Any, dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):  # no kernel runs these, and the plain loop says what it lacks
        return
    parameters = {} if rule is None else {f"rule.{name}": value for name, value in rule._parameters.items()}
    for name, value in {"alpha": alpha, **parameters}.items():
        if isinstance(value, Tensor) and value.dtype != dtype:
            raise TypeError(f"{name}.dtype = {value.dtype}: expected {dtype}, as the weights have")


def fastest(scan: Scan, drive: Tensor, *args: Any, **options: Any) -> Callable[..., Any]:
    """The fastest implementation of a scan that can run these arguments.

    Args:
        scan: ``RNN``, ``LINEAR`` or ``LSTM``.
        drive: The first argument of the scan, a sequence.
        *args: The other positional arguments of the scan.
        **options: Its keyword arguments.
    """
    if is_compiling() and torch.onnx.is_in_onnx_export():
        return scan.plain  # ONNX has no operator for a kernel
    brief = None
    # In so short a call without a graph, it costs less to work on the tensors as they are.
    without_graph = drive.is_cpu and not torch.is_grad_enabled() and not is_compiling()
    if without_graph and drive.numel() * drive.shape[-1] <= BRIEF and args[-2] is not None:
        brief = scan.brief  # which needs a rule
    if scan.unsupported(drive, *args, **options):
        run, can_run = scan.any_rule or (None, None)
        return run if run and can_run and can_run(drive, *args, **options) else scan.plain
    return brief or (scan.fused if len(drive) >= scan.fewest else scan.plain)
