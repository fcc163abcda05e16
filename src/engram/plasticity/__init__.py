"""Fast weights: synapses that change while the network runs."""

from engram.plasticity.clamped_lstm import ClampedLSTM, LSTMState
from engram.plasticity.hebb import Hebb
from engram.plasticity.oja import Oja
from engram.plasticity.plastic_linear import PlasticLinear
from engram.plasticity.plastic_rnn import PlasticRNN
from engram.plasticity.rule import Coefficients, PlasticityRule, TraceState
from engram.plasticity.scan import PlasticState, plastic_current, plastic_linear_scan, plastic_scan

__all__ = [
    "ClampedLSTM",
    "Coefficients",
    "Hebb",
    "LSTMState",
    "Oja",
    "PlasticLinear",
    "PlasticRNN",
    "PlasticState",
    "PlasticityRule",
    "TraceState",
    "plastic_current",
    "plastic_linear_scan",
    "plastic_scan",
]
