"""Faster forms of what ``engram.memory`` defines in plain NumPy: they differ by speed only."""
