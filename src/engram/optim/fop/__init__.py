"""First-order preconditioning by hypergradient descent (Moskovitz et al., 2019)."""

from engram.optim.fop.functional import apply_preconditioner, block_view, hypergradient
from engram.optim.fop.optimizer import FOP, auto_groups

__all__ = ["FOP", "apply_preconditioner", "auto_groups", "block_view", "hypergradient"]
