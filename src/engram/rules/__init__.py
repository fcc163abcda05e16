"""Training slow weights without backpropagation, or beside it."""

from engram import arguments
from engram.rules.backprop import Backprop
from engram.rules.contract import LearningRule, Properties, SynapticRule, SynapticUpdate, Update, train_step
from engram.rules.feedback_alignment import FeedbackAlignmentLinear, feedback_alignment_linear
from engram.rules.hebbian_conv import (
    AdaptiveThreshold,
    HebbianConv2d,
    HebbianFeatures,
    HebbianLinear,
    ZCAWhitening,
    fixed_fan_in,
    hebbian_loss,
    hebbian_update,
    k_winners,
    layer_features,
    per_sample_standardize,
    quadrants,
    triangle,
)
from engram.rules.loss import output_error, output_loss

__all__ = [
    "AdaptiveThreshold",
    "Backprop",
    "FeedbackAlignmentLinear",
    "HebbianConv2d",
    "HebbianFeatures",
    "HebbianLinear",
    "LearningRule",
    "Properties",
    "SynapticRule",
    "SynapticUpdate",
    "Update",
    "ZCAWhitening",
    "feedback_alignment_linear",
    "fixed_fan_in",
    "hebbian_loss",
    "hebbian_update",
    "k_winners",
    "layer_features",
    "output_error",
    "output_loss",
    "per_sample_standardize",
    "quadrants",
    "train_step",
    "triangle",
]

arguments.noted_in(__name__)
