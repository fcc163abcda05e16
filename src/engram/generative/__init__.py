"""Generative models: images by diffusion, sequences by search."""
