"""The plastic recurrent network: numba kernels for the CPU, and Triton kernels for CUDA, not yet measured."""

from __future__ import annotations

from typing import Any

from engram.plasticity.kernels.rnn.scan import SCAN, fused_scan, unsupported

__all__ = ["fused_scan", "unsupported"]


def _cuda_forward(*args: Any) -> Any:
    from engram.plasticity.kernels.rnn import cuda

    return cuda.forward(*args)


def _cuda_backward(*args: Any) -> Any:
    from engram.plasticity.kernels.rnn import cuda

    return cuda.backward(*args)


SCAN.forward.register_kernel("cuda", _cuda_forward)
SCAN.backward.register_kernel("cuda", _cuda_backward)
