"""Associative memories under one contract: they store patterns of signs and complete noisy ones."""
