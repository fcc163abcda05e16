"""Bounded tables of keys and values, the policies by which they forget, and online k-means."""
