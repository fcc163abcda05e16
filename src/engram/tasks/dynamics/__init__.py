"""Trajectories of small dynamical systems and of networks in training."""
