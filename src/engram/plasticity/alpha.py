"""The plasticity coefficients alpha: how much of its trace a connection uses."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.nn.sequence import full_precision

KINDS = ("connection", "post", "homogeneous")


class LowRank(nn.Module):
    """Plasticity coefficients as the product of two thin factors, one coefficient for each connection.

        alpha[j, i] = sum_r P[r, j] Q[r, i]

    Args:
        rank: Rank of the product.
        post_size: Number of receiving units.
        pre_size: Number of sending units.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Attributes:
        post: P, (rank, post); 0 until a layer draws it.
        pre: Q, (rank, pre); likewise.

    Examples:
        >>> LowRank(2, 3, 4).dense().shape
        torch.Size([3, 4])
    """

    def __init__(
        self, rank: int, post_size: int, pre_size: int, *, device: Device = None, dtype: torch.dtype | None = None
    ) -> None:
        checks.arguments()
        super().__init__()
        for name, size in (("rank", rank), ("post_size", post_size), ("pre_size", pre_size)):
            checks.size(name, size)
        self.post = nn.Parameter(torch.zeros(rank, post_size, device=device, dtype=dtype))
        self.pre = nn.Parameter(torch.zeros(rank, pre_size, device=device, dtype=dtype))

    def dense(self) -> Float[Tensor, "post pre"]:
        """The coefficient of every connection."""
        with full_precision(self.post.device):
            return self.post.t() @ self.pre

    def extra_repr(self) -> str:
        """The sizes as ``repr`` shows them."""
        return ", ".join(map(str, (len(self.post), self.post.shape[1], self.pre.shape[1])))


Alpha = nn.Parameter | LowRank


def make_alpha(alpha: str | int, post_size: int, pre_size: int, **factory: Any) -> Alpha:
    """Plasticity coefficients, all zero, of a kind that ``PlasticRNN`` takes as ``alpha``.

    Args:
        alpha: One of ``KINDS``, or the rank of a ``LowRank`` product.
        post_size: Number of receiving units.
        pre_size: Number of sending units.
        **factory: ``device`` and ``dtype``.

    Raises:
        ValueError: Unknown kind, or a rank of less than one.
    """
    if isinstance(alpha, int):
        checks.size("alpha", alpha)
        return LowRank(alpha, post_size, pre_size, **factory)
    checks.choice("alpha", alpha, KINDS)
    shape = (post_size, pre_size)[: 2 - KINDS.index(alpha)]
    return nn.Parameter(torch.zeros(shape, **factory))


@torch.no_grad()
def draw(alpha: Alpha, scale: float, generator: torch.Generator | None, *, normal: bool = False) -> None:
    """Draw coefficients in place, uniformly from [0, scale); a single one for the whole layer is set to ``scale``.

    With ``normal`` they come from N(0, scale^2). The factors of a product are scaled so that the product stays in this
    range, or has this standard deviation.

    Args:
        alpha: The coefficients.
        scale: Upper limit or standard deviation.
        generator: Source of the numbers; torch's global one if None.
        normal: Whether to draw from N(0, scale^2).
    """
    if not isinstance(alpha, LowRank) and alpha.dim() == 0:
        alpha.fill_(scale)
        return
    for values in (alpha.post, alpha.pre) if isinstance(alpha, LowRank) else (alpha,):
        if normal:
            std = (scale / len(values) ** 0.5) ** 0.5 if isinstance(alpha, LowRank) else scale
            values.normal_(std=std, generator=generator)
        else:
            high = (scale / len(values)) ** 0.5 if isinstance(alpha, LowRank) else scale
            values.uniform_(0, high, generator=generator)


def kind(alpha: Alpha | None) -> str | int | None:
    """The argument with which ``make_alpha`` makes such coefficients; None if there are none.

    Examples:
        >>> kind(make_alpha("post", 3, 4)), kind(make_alpha(2, 3, 4)), kind(None)
        ('post', 2, None)
    """
    if isinstance(alpha, LowRank):
        return len(alpha.post)
    return None if alpha is None else KINDS[2 - alpha.dim()]
