"""Lifetimes of networks that learn by node perturbation: a numba kernel for the CPU."""
