"""Steps that do not count, such as those that restart an episode: what they hold must not reach any other number."""

from __future__ import annotations

from jaxtyping import Bool, Shaped
from torch import Tensor


def without_ignored(
    values: Shaped[Tensor, "time batch *features"], ignored: Bool[Tensor, "time batch"]
) -> Shaped[Tensor, "time batch *features"]:
    """The values, with 0 for those of ignored steps that are not finite: a factor of 0 would leave NaN.

    Examples:
        >>> import torch
        >>> rows = torch.tensor([[1.0], [torch.nan]])
        >>> without_ignored(rows, rows.isnan()).flatten()
        tensor([1., 0.])
    """
    if not values.is_floating_point() or values[ignored].isfinite().all():
        return values
    rows = ignored.reshape(*ignored.shape, *[1] * (values.ndim - ignored.ndim))
    return values.masked_fill(rows & ~values.isfinite(), 0)
