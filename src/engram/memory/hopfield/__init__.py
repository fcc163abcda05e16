"""Hopfield networks that store given patterns."""
