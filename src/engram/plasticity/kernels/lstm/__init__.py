"""The plastic LSTM: numba kernels for the CPU."""
