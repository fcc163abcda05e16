"""Monte-Carlo tree search under partial observation, for any generative model."""

from engram.spatial.pomcp.planner import POMCP, GenerativeModel, SearchTree

__all__ = ["POMCP", "GenerativeModel", "SearchTree"]
