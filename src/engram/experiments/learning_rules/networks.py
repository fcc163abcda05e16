"""The networks that are trained, and what they are trained on."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engram.nn import LeakyRNN, ReadoutNetwork
from engram.nn.initial import lecun

FITTED, TRAINED = 1150, 1437  # of 1797 images: those between are to choose rates by, the last to judge by
Network = Literal["narrow", "wide", "thin", "deep", "clipped", "recurrent"]
HIDDEN: dict[Network, tuple[int, ...]] = {
    "narrow": (32, 16), "wide": (128, 64), "thin": (16, 8), "deep": (16, 16, 16, 16), "clipped": (64,),
    "recurrent": (32,),
}  # fmt: skip


class Images(NamedTuple):
    """Images or sequences, time first in these, and their classes."""

    x: Tensor
    y: Tensor

    def of(self, chosen: Any) -> Images:
        """Some of them."""
        return Images(self.x[:, chosen] if self.x.ndim == 3 else self.x[chosen], self.y[chosen])


@cache
def digits(in_time: bool) -> Images:
    """The digits, centred on the training set; in time as 8 rows of 8, doubled."""
    images, order = load_digits(), np.random.default_rng(0).permutation(1797)
    x, y = torch.from_numpy(images.data / 16).float()[order], torch.from_numpy(images.target)[order]
    x -= x[:TRAINED].mean(0)
    return Images(2 * x.reshape(-1, 8, 8).transpose(0, 1).contiguous() if in_time else x, y)


def build(network: Network, generator: torch.Generator) -> nn.Module:
    """A network with weights of variance 1 / fan-in and biases of 0."""
    if network == "recurrent":
        core = LeakyRNN(8, *HIDDEN[network], alpha=0.5, gain=0.9, generator=generator)
        return ReadoutNetwork(core, 10, generator=generator)
    layers: list[nn.Module] = []
    sizes = (64, *HIDDEN[network], 10)
    for before, after in pairwise(sizes):
        layer = lecun(nn.Linear, before, after, generator=generator)
        layers += [layer, nn.Hardtanh(0, 1) if network == "clipped" else nn.Tanh()]
    return nn.Sequential(*(layers if network == "clipped" else layers[:-1]))


def targets(data: Images, network: Network) -> tuple[Tensor, Tensor]:
    """Inputs and targets: classes, or for clipped outputs what they should be."""
    return data.x, one_hot(data.y, 10).to(data.x) if network == "clipped" else data.y
