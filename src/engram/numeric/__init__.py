"""What kernels stand on: compiling (``jit``), vectors (``simd``), threads, and workers; with what tables they share."""
