"""Faster implementations of the scans of ``engram.plasticity.scan``, which define them.

``dispatch`` says which form runs. Of each layer, ``rnn``, ``lstm`` and ``linear``, ``scan`` is the torch operator and
``cpu`` its two passes in numba. ``any_rule`` is for rules that these kernels do not know, and ``rnn.step`` for networks
that act step by step; ``rnn.cuda`` launches the passes in Triton, ``rnn.cuda_programs``. They share the numbers by
which kernels know a rule (``constants``, ``rule_encoding``), the registration with torch (``custom_operator``), arrays
and threads (``layout``), and the passes over a trace (``trace``), written in the vectors of ``engram.numeric.simd``.
"""
