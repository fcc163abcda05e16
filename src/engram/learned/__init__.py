"""Rules that were learned themselves: by remembering, by evolution, and by what becomes of old tasks."""

from engram.learned import blur, remember, updates

__all__ = ["blur", "remember", "updates"]
