"""Faster forms of the plain definitions in ``engram.memory.expander``, with the same results."""
