"""The numbers of the operator ``engram::plastic_scan``, for its kernels on CPU and CUDA."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """A rule, its neuromodulator and the units, encoded as the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int
    relu: bool
    modulated: bool
    squash: int
    stretch: int
