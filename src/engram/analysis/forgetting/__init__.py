"""Forgetting of features, apart from that of the read-out."""
