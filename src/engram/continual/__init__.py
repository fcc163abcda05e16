"""Many tasks, one after another: what keeps a network from forgetting, and learning through which one differentiates.

Penalties wrap any module and any optimiser of torch's, and leave the training loop to its owner.
"""

from engram import arguments
from engram.continual.classifier import ContinualClassifier
from engram.continual.dhp_softmax import DHPSoftmax
from engram.continual.ewc import EWC, OnlineEWC
from engram.continual.fast_weights import FastWeights
from engram.continual.fisher import fisher_diagonal, gradient_magnitude
from engram.continual.frozen_body import freeze_body
from engram.continual.inner_updates import AdamState, adam, sgd
from engram.continual.l2_anchor import L2Anchor
from engram.continual.lwf import LwF
from engram.continual.mas import MAS
from engram.continual.parameters import slow_parameters
from engram.continual.penalty import QuadraticPenalty
from engram.continual.recomputed import recomputed
from engram.continual.replay import Replay
from engram.continual.si import SynapticIntelligence

__all__ = [
    "EWC",
    "MAS",
    "AdamState",
    "ContinualClassifier",
    "DHPSoftmax",
    "FastWeights",
    "L2Anchor",
    "LwF",
    "OnlineEWC",
    "QuadraticPenalty",
    "Replay",
    "SynapticIntelligence",
    "adam",
    "fisher_diagonal",
    "freeze_body",
    "gradient_magnitude",
    "recomputed",
    "sgd",
    "slow_parameters",
]

arguments.noted_in(__name__)
