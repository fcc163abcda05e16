"""Online rules of neurons and synapses, found by learning to remember.

A ``RuleNetwork`` of a ``Topology`` carries a ``RuleState``, which a ``LocalRule`` changes; ``train_window`` trains the
rule. Of what is published only abstract and introduction could be read; whatever goes beyond them is ours, and says so.
"""

from engram import arguments
from engram.learned.remember.baselines import (
    body_only_accuracy,
    delta_memory,
    hebb_memory,
    pseudo_inverse_memory,
    sgd_recall,
)
from engram.learned.remember.gated_rule import GatedRule
from engram.learned.remember.local_rule import LocalRule
from engram.learned.remember.lstm_memory import LSTMMemory, LSTMMemoryState
from engram.learned.remember.network import RuleNetwork, RuleState
from engram.learned.remember.outer_rule import OuterRule
from engram.learned.remember.recall import Recall, recall_by_age
from engram.learned.remember.static_rule import StaticRule
from engram.learned.remember.topology import Topology
from engram.learned.remember.training import Trained, bit_accuracy, remember_loss, train_window

__all__ = [
    "GatedRule",
    "LSTMMemory",
    "LSTMMemoryState",
    "LocalRule",
    "OuterRule",
    "Recall",
    "RuleNetwork",
    "RuleState",
    "StaticRule",
    "Topology",
    "Trained",
    "bit_accuracy",
    "body_only_accuracy",
    "delta_memory",
    "hebb_memory",
    "pseudo_inverse_memory",
    "recall_by_age",
    "remember_loss",
    "sgd_recall",
    "train_window",
]

arguments.noted_in(__name__)
