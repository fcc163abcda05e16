"""Learning in time: recurrent networks of rates and of spikes, and rules that train them forward in time."""

from engram.rules.temporal.eprop import EProp
from engram.rules.temporal.rtrl import RTRL

__all__ = [
    "RTRL",
    "EProp",
]
