"""Optimisers of the parameters of any module: torch optimisers, and evolution strategies with ask and tell."""

from engram.optim.antithetic_es import AntitheticES
from engram.optim.cma_es import CMAES
from engram.optim.fop import FOP, apply_preconditioner, auto_groups, block_view, hypergradient
from engram.optim.population import evaluate
from engram.optim.rmsprop_eps_inside import RMSpropEpsInside
from engram.optim.strategy import checked_loss, shaped

__all__ = [
    "CMAES",
    "FOP",
    "AntitheticES",
    "RMSpropEpsInside",
    "apply_preconditioner",
    "auto_groups",
    "block_view",
    "checked_loss",
    "evaluate",
    "hypergradient",
    "shaped",
]
