"""Rules that send errors back through a wide network as it was at first."""

from engram.rules.align.align_ada import AlignAda
from engram.rules.align.align_prop import AlignProp
from engram.rules.align.align_zero import AlignZero

__all__ = ["AlignAda", "AlignProp", "AlignZero"]
