"""The plastic linear layer: numba kernels for the CPU."""
