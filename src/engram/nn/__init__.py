"""Plain layers and networks, and their initial values."""

from engram.nn import initial, surrogates
from engram.nn.conv_body import ConvBody
from engram.nn.embedding import RandomProjection, pixel_encoder, vector_encoder
from engram.nn.leaky_rnn import LeakyRNN, LeakyState
from engram.nn.lif import LIFNetwork, LIFState
from engram.nn.memoryless import Memoryless
from engram.nn.mlp import mlp
from engram.nn.ntk import (
    NTKRNN,
    BatchOnlyNorm,
    NTKConv2d,
    NTKLinear,
    WideRNN,
    freeze_norms,
    from_standard,
    standard_rates,
    to_standard,
    wide_cnn,
    wide_mlp,
    wide_rnn,
)
from engram.nn.readout_network import ReadoutNetwork

__all__ = [
    "NTKRNN",
    "BatchOnlyNorm",
    "ConvBody",
    "LIFNetwork",
    "LIFState",
    "LeakyRNN",
    "LeakyState",
    "Memoryless",
    "NTKConv2d",
    "NTKLinear",
    "RandomProjection",
    "ReadoutNetwork",
    "WideRNN",
    "freeze_norms",
    "from_standard",
    "initial",
    "mlp",
    "pixel_encoder",
    "standard_rates",
    "surrogates",
    "to_standard",
    "vector_encoder",
    "wide_cnn",
    "wide_mlp",
    "wide_rnn",
]
