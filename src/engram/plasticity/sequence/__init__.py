"""Memories in a sequence: a matrix of fast weights that Hebb's rule, the delta rule and their kin write."""

from engram.plasticity.sequence.delta_write import DeltaWrite
from engram.plasticity.sequence.gated_delta_write import GatedDeltaWrite
from engram.plasticity.sequence.gradient_write import GradientWrite
from engram.plasticity.sequence.layer import FastWeightLayer
from engram.plasticity.sequence.least_squares_write import LeastSquaresWrite
from engram.plasticity.sequence.linear_writes import DecayedWrite, HebbianWrite
from engram.plasticity.sequence.momentum_delta_write import MomentumDeltaWrite
from engram.plasticity.sequence.state import (
    ChunkFastWeights,
    FastWeights,
    LeastSquaresFastWeights,
    MomentumFastWeights,
)
from engram.plasticity.sequence.write_rule import WriteRule, step_scan

__all__ = [
    "ChunkFastWeights",
    "DecayedWrite",
    "DeltaWrite",
    "FastWeightLayer",
    "FastWeights",
    "GatedDeltaWrite",
    "GradientWrite",
    "HebbianWrite",
    "LeastSquaresFastWeights",
    "LeastSquaresWrite",
    "MomentumDeltaWrite",
    "MomentumFastWeights",
    "WriteRule",
    "step_scan",
]
