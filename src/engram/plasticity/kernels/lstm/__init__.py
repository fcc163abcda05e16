"""The plastic LSTM: numba kernels for the CPU."""

from engram.plasticity.kernels.lstm.scan import fused_scan, unsupported

__all__ = ["fused_scan", "unsupported"]
