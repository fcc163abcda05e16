"""Layers whose initial values come from a given generator; torch's global one is then not used."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def uniform(
    kind: type[Layer], *sizes: int, generator: torch.Generator | None, bound: float | None = None, **options: Any
) -> Layer:
    """A layer with torch's initial values: weights and biases uniform within 1 / sqrt(fan-in), or ``bound``.

    Args:
        kind: A layer class with ``weight`` and optionally ``bias``, such as ``nn.Linear`` or ``nn.Conv2d``.
        *sizes: Sizes of the layer, such as inputs and outputs.
        generator: Source of weights and biases; torch's global one if None.
        bound: Largest magnitude of the values; required for layers with several weights, such as ``nn.LSTM``.
        **options: Further arguments of the layer, such as ``padding``.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), section 4.6, at a third of its variance.

    Examples:
        >>> bool((uniform(nn.Linear, 4, 2, generator=torch.Generator().manual_seed(0)).weight.abs() <= 0.5).all())
        True
    """
    layer = _empty(kind, *sizes, **options)
    within = layer.get_parameter("weight")[0].numel() ** -0.5 if bound is None else bound
    for values in layer.parameters():
        nn.init.uniform_(values, -within, within, generator=generator)
    return layer


def lecun(kind: type[Layer], *sizes: int, generator: torch.Generator | None, **options: Any) -> Layer:
    """A layer with weights from LeCun's normal distribution, variance 1 / fan-in, and biases of 0.

    Args:
        kind: A layer class with ``weight`` and optionally ``bias``, such as ``nn.Linear`` or ``nn.Conv2d``.
        *sizes: Sizes of the layer, such as inputs and outputs.
        generator: Source of the weights; torch's global one if None.
        **options: Further arguments of the layer, such as ``padding``.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp" (1998), equation 16.

    Examples:
        >>> lecun(nn.Linear, 4, 2, generator=torch.Generator().manual_seed(0)).bias.tolist()
        [0.0, 0.0]
    """
    layer = _empty(kind, *sizes, **options)
    weight = layer.get_parameter("weight")
    nn.init.normal_(weight, std=weight[0].numel() ** -0.5, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def kaiming(kind: type[Layer], *sizes: int, generator: torch.Generator | None, **options: Any) -> Layer:
    """A layer with weights from Kaiming's normal distribution, variance 2 / fan-in, and biases of 0.

    Args:
        kind: A layer class with ``weight`` and optionally ``bias``, such as ``nn.Linear`` or ``nn.Conv2d``.
        *sizes: Sizes of the layer, such as inputs and outputs.
        generator: Source of the weights; torch's global one if None.
        **options: Further arguments of the layer, such as ``padding``.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), section 2.2.

    Examples:
        >>> kaiming(nn.Linear, 4, 2, generator=torch.Generator().manual_seed(0)).bias.tolist()
        [0.0, 0.0]
    """
    layer = _empty(kind, *sizes, **options)
    nn.init.kaiming_normal_(layer.get_parameter("weight"), generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def _empty(kind: type[Layer], *sizes: int, **options: Any) -> Layer:
    device = options.pop("device", None) or torch.get_default_device()
    return kind(*sizes, device="meta", **options).to_empty(device=device)  # so that torch draws nothing
