"""Learning rules that are themselves learned: by evolution, for remembering, or for not forgetting old tasks."""

from engram.learned import blur, learning_to_remember, updates

__all__ = ["blur", "learning_to_remember", "updates"]
