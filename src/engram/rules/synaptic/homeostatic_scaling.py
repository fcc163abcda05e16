"""Homeostatic scaling: a unit scales all its weights to approach its target rate of activity."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks


@torch.no_grad()
def homeostatic_scaling(
    weight: Annotated[Tensor, "post pre"], rate: Annotated[Tensor, "post"], target: float, exponent: float = 0.1
) -> Float[Tensor, "post pre"]:
    """The weights, scaled so that each unit moves towards its target rate; their proportions stay the same.

        w[j] := w[j] (target / rate[j])^exponent

    Args:
        weight: W.
        rate: Mean activity of each unit, (post,), positive: a silent unit does not show how far off it is.
        target: Target of this mean, positive.
        exponent: Share of the correction that is made at once; 1 makes all of it, if rates are proportional to weights.

    Raises:
        ValueError: A rate or the target is not positive, or the shapes do not match.

    Source: Turrigiano et al., "Activity-dependent scaling of quantal amplitude in neocortical neurons" (1998); the form
    is ours.

    Examples:
        >>> import torch
        >>> homeostatic_scaling(torch.ones(2, 1), torch.tensor([4.0, 1.0]), target=1.0, exponent=0.5)
        tensor([[0.5000],
                [1.0000]])
    """
    checks.tensor("weight", weight, ("post", "pre"), weight)
    checks.tensor("rate", rate, (len(weight),), weight)
    checks.number("target", target, above=0)
    checks.number("exponent", exponent)
    silent = (~(rate > 0)).nonzero()
    if len(silent):
        unit = int(silent[0])
        raise ValueError(f"rate[{unit}] = {float(rate[unit])}: expected a positive number")
    return weight * (target / rate).pow(exponent)[:, None]
