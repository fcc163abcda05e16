"""What was learned: measures of activity, as functions of arrays."""

from engram.analysis.decoding import cross_temporal_decoding

__all__ = ["cross_temporal_decoding"]
