"""Layers whose weights are drawn from a generator of one's own, by Kaiming's normal distribution."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def kaiming(kind: type[Layer], *sizes: int, generator: torch.Generator, **options: int) -> Layer:
    """Return a layer with weights from Kaiming's normal distribution, variance 2 / fan-in, and biases of 0.

    Args:
        kind: A layer with ``weight`` and ``bias``, as ``nn.Linear`` or ``nn.Conv2d``.
        sizes: What it is made of, as (inputs, outputs).
        generator: Source of the weights.
        **options: Further arguments of the layer, as ``padding``.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), section 2.2.

    Examples:
        >>> kaiming(nn.Linear, 4, 2, generator=torch.Generator().manual_seed(0)).bias.tolist()
        [0.0, 0.0]
    """
    layer: Layer = nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
    nn.init.kaiming_normal_(layer.get_parameter("weight"), generator=generator)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
