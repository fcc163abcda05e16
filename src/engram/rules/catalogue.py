"""Learning rules of feed-forward networks by name, with their usual settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engram.rules.align import AlignAda, AlignProp, AlignZero
from engram.rules.backprop import Backprop
from engram.rules.contract import LearningRule
from engram.rules.difference_target_propagation import DifferenceTargetPropagation
from engram.rules.direct_feedback_alignment import DirectFeedbackAlignment
from engram.rules.equilibrium_propagation import EquilibriumPropagation
from engram.rules.feedback_alignment import FeedbackAlignment
from engram.rules.kolen_pollack import KolenPollack
from engram.rules.last_layer_only import LastLayerOnly
from engram.rules.local_error import LocalError
from engram.rules.node_perturbation import NodePerturbation
from engram.rules.predictive_coding import PredictiveCoding
from engram.rules.reinforce import Reinforce
from engram.rules.sign_symmetry import SignSymmetry
from engram.rules.weight_mirror import WeightMirror
from engram.rules.weight_perturbation import WeightPerturbation

CATALOGUE: dict[str, Callable[[], LearningRule[Any]]] = {
    "backprop": Backprop,
    "fa": FeedbackAlignment,
    "dfa": DirectFeedbackAlignment,
    "usf": SignSymmetry,
    "frsf": SignSymmetry.fixed,
    "brsf": SignSymmetry.redrawn,
    "kolen-pollack": KolenPollack,
    "weight-mirror": WeightMirror,
    "local-error": LocalError,
    "last-layer": LastLayerOnly,
    "dtp": DifferenceTargetPropagation,
    "pc-fixed": PredictiveCoding,
    "pc-strict": PredictiveCoding.strict,
    "ep": EquilibriumPropagation,
    "ep-one-sided": EquilibriumPropagation.one_sided,
    "node-perturbation": NodePerturbation,
    "weight-perturbation": WeightPerturbation,
    "reinforce": Reinforce,
    "align-zero": AlignZero,
    "align-ada": AlignAda,
    "align-prop": AlignProp,
}
"""As they are registered; each is called without arguments."""
