"""Forgetting in the features of a network, measured apart from that of its read-out."""
