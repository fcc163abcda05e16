"""Networks in the neural tangent kernel parameterisation: the wider they are, the less their weights move."""

from engram.nn.ntk.batch_only_norm import BatchOnlyNorm, freeze_norms
from engram.nn.ntk.layers import NTKConv2d, NTKLinear
from engram.nn.ntk.networks import from_standard, standard_rates, to_standard, wide_cnn, wide_mlp, wide_rnn
from engram.nn.ntk.rnn import NTKRNN, HiddenState, WideRNN

__all__ = [
    "NTKRNN",
    "BatchOnlyNorm",
    "HiddenState",
    "NTKConv2d",
    "NTKLinear",
    "WideRNN",
    "freeze_norms",
    "from_standard",
    "standard_rates",
    "to_standard",
    "wide_cnn",
    "wide_mlp",
    "wide_rnn",
]
