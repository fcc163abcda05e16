"""Environments of Gymnasium, batched; importing a file registers its own."""
