"""Dictionaries and sparse codes, learned from a stream."""
