"""Everything one learns from: episodes, environments and data sets."""

from engram.tasks.episode import Episode
from engram.tasks.pattern_completion import PatternCompletion

__all__ = ["Episode", "PatternCompletion"]
