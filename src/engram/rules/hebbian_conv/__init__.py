"""Hebbian convolutional networks (Miconi, 2021): layers that learn by themselves, without labels or gradients."""

from engram.rules.hebbian_conv.competition import k_winners, per_sample_standardize, triangle
from engram.rules.hebbian_conv.features import HebbianFeatures, layer_features, quadrants
from engram.rules.hebbian_conv.layer import HebbianConv2d, HebbianLinear, fixed_fan_in
from engram.rules.hebbian_conv.threshold import AdaptiveThreshold
from engram.rules.hebbian_conv.update import hebbian_loss, hebbian_update
from engram.rules.hebbian_conv.whitening import ZCAWhitening

__all__ = [
    "AdaptiveThreshold",
    "HebbianConv2d",
    "HebbianFeatures",
    "HebbianLinear",
    "ZCAWhitening",
    "fixed_fan_in",
    "hebbian_loss",
    "hebbian_update",
    "k_winners",
    "layer_features",
    "per_sample_standardize",
    "quadrants",
    "triangle",
]
