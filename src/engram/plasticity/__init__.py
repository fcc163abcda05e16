"""Fast weights: synapses that change while the network runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.numeric.imports import deferred
from engram.plasticity.alpha import LowRank
from engram.plasticity.clamped_lstm import ClampedLSTM, LSTMState
from engram.plasticity.clipped_hebb import ClippedHebb
from engram.plasticity.competitive import Competitive
from engram.plasticity.converted import from_lstm, to_lstm
from engram.plasticity.hebb import Hebb
from engram.plasticity.instar import Instar
from engram.plasticity.json_rule import rule_from_json, rule_to_json
from engram.plasticity.lifetime import Lifetimes, Trials, lifetimes
from engram.plasticity.mlp_rule import MLPRule
from engram.plasticity.modulated import Modulated
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.node_perturbation import NodePerturbationRNN, NodePerturbationState, Perturbations, three_factor
from engram.plasticity.oja import Oja
from engram.plasticity.plastic_linear import PlasticLinear
from engram.plasticity.plastic_lstm import PlasticLSTM
from engram.plasticity.plastic_rnn import PlasticRNN
from engram.plasticity.retroactive import Retroactive
from engram.plasticity.rule import Coefficients, PlasticityRule
from engram.plasticity.scan import plastic_current, plastic_linear_scan, plastic_lstm_scan, plastic_scan
from engram.plasticity.state import EligibilityState, PlasticLSTMState, PlasticState, RuleState, TraceState
from engram.plasticity.taylor import TaylorRule

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.plasticity.associative_memory import PlasticAssociativeMemory

__all__ = [
    "ClampedLSTM",
    "ClippedHebb",
    "Coefficients",
    "Competitive",
    "EligibilityState",
    "Hebb",
    "Instar",
    "LSTMState",
    "Lifetimes",
    "LowRank",
    "MLPRule",
    "Modulated",
    "Neuromodulator",
    "NodePerturbationRNN",
    "NodePerturbationState",
    "Oja",
    "Perturbations",
    "PlasticAssociativeMemory",
    "PlasticLSTM",
    "PlasticLSTMState",
    "PlasticLinear",
    "PlasticRNN",
    "PlasticState",
    "PlasticityRule",
    "Retroactive",
    "RuleState",
    "TaylorRule",
    "TraceState",
    "Trials",
    "from_lstm",
    "lifetimes",
    "plastic_current",
    "plastic_linear_scan",
    "plastic_lstm_scan",
    "plastic_scan",
    "rule_from_json",
    "rule_to_json",
    "three_factor",
    "to_lstm",
]

__getattr__, __dir__ = deferred(__name__, {"engram.plasticity.associative_memory": ["PlasticAssociativeMemory"]})
