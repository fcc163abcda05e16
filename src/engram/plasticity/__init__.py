"""Fast weights: synapses that change while the network runs."""

from engram.plasticity.alpha import LowRank
from engram.plasticity.clamped_lstm import ClampedLSTM, LSTMState
from engram.plasticity.clipped_hebb import ClippedHebb
from engram.plasticity.hebb import Hebb
from engram.plasticity.modulated import Modulated
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.oja import Oja
from engram.plasticity.plastic_linear import PlasticLinear
from engram.plasticity.plastic_lstm import PlasticLSTM
from engram.plasticity.plastic_rnn import PlasticRNN
from engram.plasticity.retroactive import Retroactive
from engram.plasticity.rule import Coefficients, EligibilityState, PlasticityRule, RuleState, TraceState
from engram.plasticity.scan import (
    PlasticLSTMState,
    PlasticState,
    plastic_current,
    plastic_linear_scan,
    plastic_lstm_scan,
    plastic_scan,
)

__all__ = [
    "ClampedLSTM",
    "ClippedHebb",
    "Coefficients",
    "EligibilityState",
    "Hebb",
    "LSTMState",
    "LowRank",
    "Modulated",
    "Neuromodulator",
    "Oja",
    "PlasticLSTM",
    "PlasticLSTMState",
    "PlasticLinear",
    "PlasticRNN",
    "PlasticState",
    "PlasticityRule",
    "Retroactive",
    "RuleState",
    "TraceState",
    "plastic_current",
    "plastic_linear_scan",
    "plastic_lstm_scan",
    "plastic_scan",
]
