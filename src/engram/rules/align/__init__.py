"""Learning rules that send errors back through the initial weights of a wide network."""

from engram.rules.align.align_ada import AlignAda
from engram.rules.align.align_prop import AlignProp
from engram.rules.align.align_zero import AlignZero

__all__ = ["AlignAda", "AlignProp", "AlignZero"]
