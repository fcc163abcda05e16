"""Sums over log-probabilities in which impossible events, of probability 0 and log-probability -inf, count as 0."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def entropy(log_p: Float[Tensor, "*batch events"]) -> Float[Tensor, "*batch"]:
    """The entropy, -sum p log p over the last axis, with 0 log 0 = 0, also in the derivative.

    Args:
        log_p: Log-probabilities, as ``log_softmax`` returns them; -inf for impossible events.

    Examples:
        >>> import torch
        >>> entropy(torch.tensor([0.0, 0.0, -torch.inf]).log_softmax(0))
        tensor(0.6931)
    """
    p = log_p.exp()
    return -(p * log_p.masked_fill(p == 0, 0)).sum(-1)


def mean_divergence(log_p: Float[Tensor, "batch events"], log_q: Float[Tensor, "batch events"]) -> Float[Tensor, ""]:
    """The Kullback-Leibler divergence, sum p (log p - log q), averaged over the batch; events with p = 0 add nothing.

    Args:
        log_p: Log-probabilities.
        log_q: Those of the other distribution; infinite divergence where it rules out what the first does not.

    Examples:
        >>> import torch
        >>> closed = torch.tensor([[0.0, -torch.inf]])
        >>> mean_divergence(closed, closed)
        tensor(0.)
    """
    impossible = log_p.exp() == 0
    p, q = (logarithms.masked_fill(impossible, 0) for logarithms in (log_p, log_q))  # each such term is 0
    return nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
