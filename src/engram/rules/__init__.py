"""Learning rules that train slow weights without backpropagation, and backpropagation itself.

Hebb's and Oja's rules are in ``engram.plasticity``, for fast weights; ``engram.rules.synaptic`` applies them to slow
weights, beside Sanger's rule, BCM and STDP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.numeric.imports import deferred
from engram.rules.align import AlignAda, AlignProp, AlignZero
from engram.rules.backprop import Backprop
from engram.rules.contract import (
    LearningRule,
    Properties,
    SynapticRule,
    SynapticUpdate,
    Update,
    apply_rule,
    checked_update,
    train_step,
)
from engram.rules.difference_target_propagation import DifferenceTargetPropagation
from engram.rules.direct_feedback_alignment import DirectFeedbackAlignment
from engram.rules.equilibrium_propagation import EquilibriumPropagation
from engram.rules.feedback_alignment import FeedbackAlignment
from engram.rules.hebbian_conv import (
    AdaptiveThreshold,
    HebbianConv2d,
    HebbianLinear,
    SoftHebbConv2d,
    fixed_fan_in,
    hebbian_loss,
    hebbian_update,
    k_winners,
    per_sample_standardize,
    soft_hebb_update,
    soft_winners,
    triangle,
)
from engram.rules.kolen_pollack import KolenPollack
from engram.rules.last_layer_only import LastLayerOnly
from engram.rules.local_error import LocalError
from engram.rules.loss import output_error, output_loss, sample_losses
from engram.rules.node_perturbation import NodePerturbation
from engram.rules.predictive_coding import PredictiveCoding
from engram.rules.reinforce import Reinforce
from engram.rules.sign_symmetry import SignSymmetry
from engram.rules.unroll import detached, unroll
from engram.rules.weight_mirror import WeightMirror
from engram.rules.weight_perturbation import WeightPerturbation

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.rules.classifier import RuleClassifier
    from engram.rules.hebbian_conv import HebbianFeatures, ZCAWhitening, layer_features, quadrants

__all__ = [
    "AdaptiveThreshold",
    "AlignAda",
    "AlignProp",
    "AlignZero",
    "Backprop",
    "DifferenceTargetPropagation",
    "DirectFeedbackAlignment",
    "EquilibriumPropagation",
    "FeedbackAlignment",
    "HebbianConv2d",
    "HebbianFeatures",
    "HebbianLinear",
    "KolenPollack",
    "LastLayerOnly",
    "LearningRule",
    "LocalError",
    "NodePerturbation",
    "PredictiveCoding",
    "Properties",
    "Reinforce",
    "RuleClassifier",
    "SignSymmetry",
    "SoftHebbConv2d",
    "SynapticRule",
    "SynapticUpdate",
    "Update",
    "WeightMirror",
    "WeightPerturbation",
    "ZCAWhitening",
    "apply_rule",
    "checked_update",
    "detached",
    "fixed_fan_in",
    "hebbian_loss",
    "hebbian_update",
    "k_winners",
    "layer_features",
    "output_error",
    "output_loss",
    "per_sample_standardize",
    "quadrants",
    "sample_losses",
    "soft_hebb_update",
    "soft_winners",
    "train_step",
    "triangle",
    "unroll",
]

__getattr__, __dir__ = deferred(
    __name__,
    {
        "engram.rules.classifier": ["RuleClassifier"],
        "engram.rules.hebbian_conv": ["HebbianFeatures", "ZCAWhitening", "layer_features", "quadrants"],
    },
)
