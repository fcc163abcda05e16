"""Faster forms of the scans of ``engram.plasticity.scan``, which are their definition: they differ by speed only.

``dispatch`` says which form runs. Of each layer, ``rnn``, ``lstm`` and ``linear``, ``scan`` is the torch operator and
``cpu`` its two passes in numba; ``rnn.cuda`` launches those in Triton, ``rnn.cuda_programs``, and ``rnn.step`` is for
networks that act step by step.
Shared are the numbers that rules declare (``codes``, ``encoding``), what operators are made of (``operator``), and
the passes over a trace (``trace``). They are written in the vectors of ``engram.numeric.simd``.
"""
