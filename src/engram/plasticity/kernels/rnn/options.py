"""The numbers of the operator ``engram::plastic_scan``, for its kernels on CPU and CUDA."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """What a rule, its neuromodulator and the units are, in the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int
    relu: bool
    modulated: bool
    squash: int
    stretch: int
