"""Optimisers: evolution by ask and tell, over the parameters of any module."""

from engram.optim.antithetic_es import AntitheticES
from engram.optim.cma_es import CMAES
from engram.optim.evaluate import evaluate
from engram.optim.fitness import checked_loss, shaped

__all__ = ["CMAES", "AntitheticES", "checked_loss", "evaluate", "shaped"]
