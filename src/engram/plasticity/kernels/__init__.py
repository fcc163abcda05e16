"""Faster forms of the scans of ``engram.plasticity.scan``, which are their definition: they differ by speed only.

``cpu`` holds the numba kernels and ``simd`` what they are written in, ``cuda`` the Triton kernels; ``fused`` makes one
torch operator of both, and ``attention`` is a form without traces for short sequences.
"""
