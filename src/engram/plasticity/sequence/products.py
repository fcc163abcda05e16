"""Products of decay factors between the steps of a chunk, and the writes of a rule that corrects its own recall.

Rows are the steps of a chunk. What a rule with decay a(t) writes, a sum of u(j) k(j)' with a coefficient D[t, j] for
each earlier step j, is recalled at step t through the same coefficients; so the u of a chunk are the solution of a
triangular system, and all else is products of matrices.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def decay_between(log_decay: Float[Tensor, "... size"]) -> Float[Tensor, "... size size"]:
    """The product of the factors after step j up to step t, at [t, j]; 0 where j > t.

    It is the exponential of a sum over just these steps, so that nothing is divided by a product that underflowed, and
    a factor of 0 is allowed.
    """
    size = log_decay.shape[-1]
    later = torch.ones(size, size, dtype=torch.bool, device=log_decay.device).tril()
    steps = log_decay.unsqueeze(-1).expand(*log_decay.shape, size)
    sums = steps.masked_fill(~later.tril(-1), 0.0).cumsum(-2)
    return sums.masked_fill(~later, -torch.inf).exp()


def corrected(
    key: Float[Tensor, "... size key"],
    beta: Float[Tensor, "... size"],
    coefficients: Float[Tensor, "... size size"] | None,
    *columns: Float[Tensor, "... size _"],
) -> tuple[Tensor, ...]:
    """The columns X of (I + diag(beta) tril(D * K K', -1)) X = diag(beta) Y.

    Args:
        key: K, the keys of a chunk as rows.
        beta: The strengths of the writes.
        coefficients: D, of which only what is below the diagonal counts; None: 1.
        *columns: Y.
    """
    overlap = key @ key.transpose(-1, -2)
    below = (overlap if coefficients is None else overlap * coefficients).tril(-1) * beta.unsqueeze(-1)
    identity = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device)
    rows = torch.cat(columns, -1) * beta.unsqueeze(-1)
    solved = torch.linalg.solve_triangular(below + identity, rows, upper=False, unitriangular=True)
    return torch.split(solved, [part.shape[-1] for part in columns], -1)


def attention(
    query: Float[Tensor, "... size key"],
    key: Float[Tensor, "... size key"],
    coefficients: Float[Tensor, "... size size"] | None = None,
) -> Float[Tensor, "... size size"]:
    """The overlap of each query with the keys up to its step, times the coefficients."""
    overlap = query @ key.transpose(-1, -2)
    return overlap.tril() if coefficients is None else overlap * coefficients
