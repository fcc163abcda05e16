"""Training slow weights without backpropagation, or beside it."""

from engram import arguments
from engram.rules.feedback_alignment import FeedbackAlignmentLinear, feedback_alignment_linear

__all__ = ["FeedbackAlignmentLinear", "feedback_alignment_linear"]

arguments.noted_in(__name__)
