"""Training slow weights without backpropagation, or beside it."""

from engram import arguments
from engram.rules.backprop import Backprop
from engram.rules.contract import LearningRule, Properties, SynapticRule, SynapticUpdate, Update, train_step
from engram.rules.feedback_alignment import FeedbackAlignmentLinear, feedback_alignment_linear
from engram.rules.loss import output_error, output_loss
from engram.rules.unroll import detached, unroll

__all__ = [
    "Backprop",
    "FeedbackAlignmentLinear",
    "LearningRule",
    "Properties",
    "SynapticRule",
    "SynapticUpdate",
    "Update",
    "detached",
    "feedback_alignment_linear",
    "output_error",
    "output_loss",
    "train_step",
    "unroll",
]

arguments.noted_in(__name__)
