"""Associative memories as one contract: patterns of signs are stored, and come back from noisy ones."""
