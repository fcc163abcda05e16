"""Associative memories under one contract: they store sign patterns and complete noisy ones."""
