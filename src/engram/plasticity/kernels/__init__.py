"""Faster forms of the scans of ``engram.plasticity.scan``, which are their definition: they differ by speed only.

Of the recurrent network, ``cpu`` holds the numba kernels and ``fused`` makes a torch operator of them; of the LSTM and
of the linear layer, ``cpu_lstm`` and ``lstm``, ``cpu_linear`` and ``linear`` do, by the passes over a trace that are in
``cpu_trace``. ``simd`` is what all kernels are written in, ``attention`` a form without traces for short sequences, and
``choice`` says which form is the fastest.
"""
