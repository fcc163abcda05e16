"""Faster forms of the scans of ``engram.plasticity.scan``, which are their definition: they differ by speed only.

``cpu`` holds the numba kernels and ``simd`` what they are written in, ``fused`` makes a torch operator of them, and
``attention`` is a form without traces for short sequences.
"""
