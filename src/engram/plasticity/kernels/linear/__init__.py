"""The plastic linear layer: numba kernels for the CPU."""

from engram.plasticity.kernels.linear.scan import fused_scan, unsupported

__all__ = ["fused_scan", "unsupported"]
