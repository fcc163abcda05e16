"""Hebbian convolutional networks (Miconi, 2021; Journé et al., 2023): layers that learn without labels or gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engram.numeric.imports import deferred
from engram.rules.hebbian_conv.competition import k_winners, per_sample_standardize, triangle
from engram.rules.hebbian_conv.layer import AdaptiveThreshold, HebbianConv2d, HebbianLinear, fixed_fan_in
from engram.rules.hebbian_conv.soft_layer import SoftHebbConv2d
from engram.rules.hebbian_conv.soft_winners import soft_hebb_update, soft_winners
from engram.rules.hebbian_conv.update import hebbian_loss, hebbian_update

if TYPE_CHECKING:  # scikit-learn takes nearly as long to import as torch, and few parts need it
    from engram.rules.hebbian_conv.features import HebbianFeatures, layer_features, quadrants
    from engram.rules.hebbian_conv.whitening import ZCAWhitening

__all__ = [
    "AdaptiveThreshold",
    "HebbianConv2d",
    "HebbianFeatures",
    "HebbianLinear",
    "SoftHebbConv2d",
    "ZCAWhitening",
    "fixed_fan_in",
    "hebbian_loss",
    "hebbian_update",
    "k_winners",
    "layer_features",
    "per_sample_standardize",
    "quadrants",
    "soft_hebb_update",
    "soft_winners",
    "triangle",
]

__getattr__, __dir__ = deferred(
    __name__,
    {
        "engram.rules.hebbian_conv.features": ["HebbianFeatures", "layer_features", "quadrants"],
        "engram.rules.hebbian_conv.whitening": ["ZCAWhitening"],
    },
)
