"""Online rules of neurons and synapses, found by learning to remember (Gregor 2020).

A ``RuleNetwork`` of a ``Topology`` carries a ``RuleState``, which a ``NeuralUpdateRule`` changes; ``train_window``
trains the rule. Only the abstract and the introduction of the paper could be read; everything beyond them is ours, and
documented as such. For learning to remember from a multi-task teacher (Xiong, Ren and Urtasun 2019), see
``engram.learned.updates``.
"""

from engram.learned.learning_to_remember.baselines import (
    body_only_accuracy,
    delta_memory,
    hebb_memory,
    pseudo_inverse_memory,
    sgd_recall,
)
from engram.learned.learning_to_remember.gated_rule import GatedRule
from engram.learned.learning_to_remember.lstm_memory import LSTMMemory, LSTMMemoryState
from engram.learned.learning_to_remember.network import RuleNetwork, RuleState
from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule
from engram.learned.learning_to_remember.outer_rule import OuterRule
from engram.learned.learning_to_remember.recall import Recall, recall_by_age
from engram.learned.learning_to_remember.static_rule import StaticRule
from engram.learned.learning_to_remember.topology import Topology
from engram.learned.learning_to_remember.training import Trained, bit_accuracy, remember_loss, train_window

__all__ = [
    "GatedRule",
    "LSTMMemory",
    "LSTMMemoryState",
    "NeuralUpdateRule",
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
