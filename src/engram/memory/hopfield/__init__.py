"""Hopfield networks that store the patterns that they are given."""
