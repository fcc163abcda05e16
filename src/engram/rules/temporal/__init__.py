"""Learning in time: rules that train recurrent networks of rates or spikes forward in time."""

from engram.rules.temporal.eprop import EProp
from engram.rules.temporal.rtrl import RTRL

__all__ = [
    "RTRL",
    "EProp",
]
