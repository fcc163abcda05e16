"""The activities of one layer, checked against its weights."""

from __future__ import annotations

from torch import Tensor

from engram import checks
from engram.nn.sequence import autocast


def check_activities(pre: Tensor, post: Tensor, weight: Tensor) -> None:
    """Raise an error unless activities fit each other and the weights, and autocast is off.

    Args:
        pre: Presynaptic activity, (batch, pre).
        post: Postsynaptic activity, (batch, post).
        weight: W, (post, pre).

    Raises:
        TypeError: An argument is not a tensor, or the weights are complex.
        ValueError: A shape, dtype or device is wrong, or the batch is empty.
    """
    if isinstance(weight, Tensor) and autocast(weight.device):
        raise ValueError("torch.autocast is on: expected it off, as changes are computed in the weights' precision")
    checks.tensor("weight", weight, ("post", "pre"), weight)
    if weight.is_complex():
        raise TypeError(f"weight is complex ({weight.dtype}): expected real weights")
    checks.tensor("pre", pre, ("batch", weight.shape[1]), weight)
    if not len(pre):
        raise ValueError(f"pre.shape = {tuple(pre.shape)}: expected a batch of at least 1")
    checks.tensor("post", post, (len(pre), weight.shape[0]), weight)
