"""Training slow weights without backpropagation, or beside it."""

from engram import arguments
from engram.rules.backprop import Backprop
from engram.rules.contract import LearningRule, Properties, SynapticRule, SynapticUpdate, Update, train_step
from engram.rules.feedback_alignment import FeedbackAlignmentLinear, feedback_alignment_linear
from engram.rules.loss import output_error, output_loss

__all__ = [
    "Backprop",
    "FeedbackAlignmentLinear",
    "LearningRule",
    "Properties",
    "SynapticRule",
    "SynapticUpdate",
    "Update",
    "feedback_alignment_linear",
    "output_error",
    "output_loss",
    "train_step",
]

arguments.noted_in(__name__)
