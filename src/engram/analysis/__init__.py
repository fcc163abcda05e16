"""What was learned: measures of activity and of behaviour, as functions of arrays."""

from engram.analysis.lifetime import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain

__all__ = ["cumulative_regret", "normalized_return", "stay_probabilities", "within_lifetime_gain"]
