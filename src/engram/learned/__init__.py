"""Learning rules that are themselves learned: to remember, by evolution, or not to forget old tasks."""

from engram.learned import blur, learning_to_remember, updates

__all__ = ["blur", "learning_to_remember", "updates"]
