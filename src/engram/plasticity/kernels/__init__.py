"""Faster forms of the scans of ``engram.plasticity.scan``, which are their definition: they differ by speed only.

Of the recurrent network, ``cpu`` holds the numba kernels, ``cuda`` the Triton kernels, and ``fused`` makes one torch
operator of both; of the LSTM and of the linear layer, ``cpu_lstm`` and ``lstm``, ``cpu_linear`` and ``linear`` do for
the CPU, by the passes over a trace that are in ``cpu_trace``. ``simd`` is what the numba kernels are written in,
``attention`` a form without traces for short sequences, and ``choice`` says which form is the fastest.
"""
