"""Faster implementations of the scans of ``engram.plasticity.scan``, which define them.

``dispatch`` chooses the implementation. For each layer (``rnn``, ``lstm``, ``linear``), ``scan`` is the torch operator
and ``cpu`` its forward and backward passes in numba. ``any_rule`` is for rules that these kernels do not know, and
``rnn.step`` for networks that act step by step; ``rnn.fixed`` is the recurrent network without plasticity, and
``rnn.cuda`` launches the Triton kernels of ``rnn.cuda_programs``. They share the encoding of rules as numbers
(``constants``, ``rule_encoding``), the registration with torch (``custom_operator``), memory layout and threads
(``layout``), and the passes over a trace (``trace``), written with the vectors of ``engram.numeric.simd``. A gradient
that is to be differentiated again is that of the plain scan (``plain_gradients``), with the rule read back from its
numbers (``rule_decoding``).
"""
