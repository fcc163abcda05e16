"""The three-factor update: weights change by a modulatory signal times their eligibility traces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks


def three_factor(
    eligibility: Float[Tensor, "*batch post pre"], modulator: Float[Tensor, "*batch"], clip: float | None = None
) -> Float[Tensor, "*batch post pre"]:
    """Return the three-factor change of the weights, the modulatory signal times the eligibility trace, bounded.

    dP = clip(m E, -c, c)

    Args:
        eligibility: Eligibility traces E, (post, pre), with any batch before.
        modulator: The third factor m, one number for each element of the batch; for node perturbation of a loss L that
            is expected to be b, m = -eta b (L - b).
        clip: The bound c of each element; None: none.

    Raises:
        ValueError: ``clip`` is no positive number.

    Source: Miconi, "Biologically plausible learning in recurrent neural networks" (eLife 2017), equation 5; the bound
    is that of his published code.

    Examples:
        >>> three_factor(torch.tensor([[1.0, 100.0]]), torch.tensor(-0.0018), clip=0.01)
        tensor([[-0.0018, -0.0100]])
    """
    bound = None if clip is None else checks.number("clip", clip, above=0)
    change = modulator[..., None, None] * eligibility
    return change if bound is None else torch.clamp(change, -bound, bound)
