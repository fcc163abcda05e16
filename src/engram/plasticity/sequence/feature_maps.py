"""Maps of queries and keys to the features by which a memory compares them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6  # of the square of a length; inside the root, so that the gradient at 0 is finite


def unit_silu(features: Tensor) -> Tensor:
    """SiLU, then unit length."""
    features = functional.silu(features)
    return features * features.square().sum(-1, keepdim=True).add_(EPS).rsqrt_()


def elu_plus_one(features: Tensor) -> Tensor:
    """ELU + 1, which is positive."""
    return functional.elu(features) + 1


def softmax(features: Tensor) -> Tensor:
    """Softmax over the features."""
    return torch.softmax(features, -1)


def identity(features: Tensor) -> Tensor:
    """The features themselves."""
    return features


FEATURE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "l2-silu": unit_silu,
    "elu+1": elu_plus_one,
    "softmax": softmax,
    "identity": identity,
}
