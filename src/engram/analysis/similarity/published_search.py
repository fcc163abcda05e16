"""The published search for an alignment of two operators, for comparison with ours."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks


def published_distance(
    A: Float[np.ndarray, "n n"],
    B: Float[np.ndarray, "n n"],
    generator: torch.Generator,
    *,
    iterations: int = 1500,
    learning_rate: float = 5e-3,
) -> float:
    """Return the angle between two operators as the published optimiser finds it, never below the true one.

        Z = L3 tanh(L2 tanh(L1 X)),  S = Z - Z^T,  C = (I + S)^-1 (I - S)
        minimise ||A - C B C^T||_F^2,  A and B of norm 1, over X (at first I), L1, L2 and L3

    by Adam, once with B and once with the first two of its coordinates swapped, which reaches the reflections. For
    parity only: ``operator_distance`` is faster and finds better alignments.

    Args:
        A: Operator.
        B: Operator of the same size.
        generator: What draws L1, L2 and L3, as ``torch.nn.Linear`` does.
        iterations: Steps of Adam, at least 1.
        learning_rate: Its learning rate.

    Source: Ostrow et al. (2023), and the settings of ``dsa-metric``.

    Examples:
        >>> A = np.diag([1.0, 2.0])
        >>> published_distance(A, A, torch.Generator().manual_seed(0), iterations=100) < 0.3
        True
    """
    A = checks.array("A", A, ("n", len(A)))
    B = checks.array("B", B, A.shape)
    checks.size("iterations", iterations)
    swap = np.arange(len(B))
    swap[:2] = swap[:2][::-1]
    unit_A, unit_B = (torch.from_numpy(M / np.linalg.norm(M)).float() for M in (A, B))
    losses = [
        _minimised(unit_A, M, generator, iterations, learning_rate)
        for M in (unit_B, unit_B[swap][:, swap].contiguous())
    ]
    return float(2 * np.arcsin(min(np.sqrt(min(losses)) / 2, 1)))


def _minimised(A: Tensor, B: Tensor, generator: torch.Generator, iterations: int, learning_rate: float) -> float:
    n = len(A)
    X, identity = nn.Parameter(torch.eye(n)), torch.eye(n)
    maps = [nn.Parameter(torch.empty(n, n).uniform_(-(n**-0.5), n**-0.5, generator=generator)) for _ in range(3)]
    optimizer = torch.optim.Adam([X, *maps], lr=learning_rate)

    def loss() -> Tensor:
        Z = torch.tanh(torch.tanh(X @ maps[0].T) @ maps[1].T) @ maps[2].T
        S = Z - Z.T
        C = torch.linalg.solve(identity + S, identity - S)
        value: Tensor = (A - C @ B @ C.T).square().sum()
        return value

    for _ in range(iterations):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return float(loss())
