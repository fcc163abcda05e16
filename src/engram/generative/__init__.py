"""Models that generate: images by diffusion, sequences by search."""
