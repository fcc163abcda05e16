"""Learning in time: recurrent networks of rates and of spikes, and rules that train them forward in time."""

from engram import arguments
from engram.rules.temporal import surrogates
from engram.rules.temporal.eprop import EProp
from engram.rules.temporal.leaky_rnn import LeakyRNN, LeakyState
from engram.rules.temporal.lif import LIFNetwork, LIFState
from engram.rules.temporal.readout_network import ReadoutNetwork
from engram.rules.temporal.rtrl import RTRL

__all__ = [
    "RTRL",
    "EProp",
    "LIFNetwork",
    "LIFState",
    "LeakyRNN",
    "LeakyState",
    "ReadoutNetwork",
    "surrogates",
]

arguments.noted_in(__name__)
