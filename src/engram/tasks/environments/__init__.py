"""Batched Gymnasium environments; importing a module registers its environments."""
