"""The classic Hopfield network: one symmetric weight matrix, about 0.14 patterns per neuron."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from engram import checks
from engram.memory.hopfield.recall import HopfieldRecall, make_room, settle, signs
from engram.nn.sequence import full_precision
from engram.storage.saveable import Saveable

ROUNDING = 1e-10  # far above the rounding errors of a projection in 64 bits, far below its smallest entries


class HebbHopfield(Saveable, nn.Module):
    """A network of N nodes that stores patterns in the weights between them, ``weight``, (nodes, nodes), 32-bit.

        W = sum over patterns of p p^T / N, without its diagonal           Hebb's rule
        W = P^T (P P^T)^+ P, without its diagonal                          the pseudo-inverse rule
        x_i <- sign(sum_j W_ij x_j), one node after another in random order; no change where the sum is 0

    Args:
        n_nodes: Number of nodes, N, at least 2.
        rule: ``"hebb"``, or ``"pseudo-inverse"``, which stores up to N linearly independent patterns, but corrects only
            a little noise if there are many.

    Sums are added up in the precision of ``weight``. Unless N is a power of 2, a sum that ought to be 0 may be a
    rounding error, whose sign the node then takes.

    Source: Hopfield, "Neural networks and physical systems with emergent collective computational abilities" (1982);
    Personnaz, Guyon and Dreyfus, "Information storage and retrieval in spin-glass like neural networks" (1985).

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> memory = HebbHopfield(6)
        >>> memory.store(torch.tensor([[1, 1, 1, -1, -1, -1]]))
        >>> memory.recall(torch.tensor([[1, 1, -1, -1, -1, -1]])).x.tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    weight: Tensor
    stored: Tensor

    _made_of, _learned = ("n_nodes", "rule"), ("weight", "stored")

    def __init__(self, n_nodes: int, rule: str = "hebb") -> None:
        super().__init__()
        self.n_nodes = checks.size("n_nodes", n_nodes, minimum=2)
        self.rule = checks.choice("rule", rule, ("hebb", "pseudo-inverse"))
        self.register_buffer("weight", torch.zeros(n_nodes, n_nodes))
        self.register_buffer("stored", torch.zeros(0, n_nodes, dtype=torch.int8))
        self.register_load_state_dict_pre_hook(make_room)  # type: ignore[no-untyped-call]

    @property
    def n_weights(self) -> int:
        """The number of weights; each pair of nodes counts once."""
        return self.n_nodes * (self.n_nodes - 1) // 2

    def store(self, X: Annotated[Tensor, "patterns nodes"]) -> None:
        """Store patterns of +1 and -1, (patterns, nodes), in addition to earlier ones."""
        checks.arguments()
        if self.weight.dtype not in (torch.float32, torch.float64):
            lost = "float32 or float64, as half precision loses what a pattern adds"
            raise ValueError(f"weight.dtype = {self.weight.dtype}: expected {lost}")
        patterns = signs("X", X, self.n_nodes)
        if self.rule == "hebb":
            with full_precision(patterns.device):
                self.weight += patterns.T @ patterns / self.n_nodes
        else:
            self.stored = torch.cat((self.stored, patterns.to(torch.int8)))
            all_patterns = self.stored.double()
            projection = torch.linalg.pinv(all_patterns) @ all_patterns
            # For N independent patterns this is the identity; recall would follow the signs of rounding errors.
            self.weight.copy_(torch.where(projection.abs() < ROUNDING, 0.0, projection))
        self.weight.fill_diagonal_(0)

    def recall(
        self, x: Annotated[Tensor, "batch nodes"], max_iter: int = 100, generator: torch.Generator | None = None
    ) -> HopfieldRecall:
        """The states in which the network settles from noisy patterns.

        Args:
            x: Patterns of +1 and -1, (batch, nodes).
            max_iter: Maximum number of sweeps through all nodes.
            generator: Source of the order of nodes; torch's global one if None.

        Raises:
            ValueError: ``x`` is not a batch of +1 and -1, one for each node, or ``max_iter`` is below 1.
        """
        checks.arguments()
        from engram.memory.hopfield import kernels

        start = signs("x", x, self.n_nodes)
        return settle(kernels.sweeps, start, x, max_iter, generator, checks.widened(self.weight).numpy(force=True))
