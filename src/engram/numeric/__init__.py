"""Foundations of the kernels: compilation (``jit``), vectors (``simd``), threads, workers, and shared tables."""
