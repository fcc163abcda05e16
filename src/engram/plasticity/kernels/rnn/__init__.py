"""The plastic recurrent network: numba kernels for the CPU, and Triton kernels for CUDA."""
