"""What was learned: measures of activity and of behaviour, as functions of arrays."""

from engram.analysis.decoding import cross_temporal_decoding
from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain

__all__ = [
    "cross_temporal_decoding",
    "cumulative_regret",
    "normalized_return",
    "stay_probabilities",
    "within_lifetime_gain",
]
