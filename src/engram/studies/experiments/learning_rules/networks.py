"""The networks and the data that they are trained on."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engram.analysis import classification_difficulty
from engram.nn import LeakyRNN, ReadoutNetwork
from engram.nn.initial import lecun
from engram.tasks import DelayedAdd

FITTED, TRAINED = 1150, 1437  # of 1797 samples; those between choose learning rates, the rest is for the test
Network = Literal[
    "narrow", "wide", "thin", "deep", "clipped", "rectified", "recurrent", "convolutional", "student", "adding"
]  # fmt: skip
HIDDEN: dict[Network, tuple[int, ...]] = {
    "narrow": (32, 16), "wide": (128, 64), "thin": (16, 8), "deep": (16, 16, 16, 16), "clipped": (64,),
    "rectified": (64,), "recurrent": (32,), "convolutional": (8, 16), "student": (32, 32), "adding": (32,),
}  # fmt: skip
VALUED = ("student", "adding")  # networks trained on regression; the others classify images of digits
INPUTS, TEACHER, TAUGHT = 16, (16, 8), 4  # inputs, hidden units and outputs of the teacher


class Samples(NamedTuple):
    """Images, vectors or time-first sequences, and their classes or target values."""

    x: Tensor
    y: Tensor

    def of(self, chosen: Any) -> Samples:
        """The samples at some indices."""
        return Samples(*(part[:, chosen] if part.ndim == 3 else part[chosen] for part in self))


def samples_for(network: Network) -> Samples:
    """The data for a network."""
    if network == "student":
        return make_student_data()
    if network == "adding":
        return sums()
    images = digits(network == "recurrent")
    return Samples(images.x.view(-1, 1, 8, 8), images.y) if network == "convolutional" else images


@cache
def digits(in_time: bool) -> Samples:
    """The digits, centred on the training set; in time as sequences of 8 rows, scaled by 2."""
    images, order = load_digits(), np.random.default_rng(0).permutation(1797)
    x, y = torch.from_numpy(images.data / 16).float()[order], torch.from_numpy(images.target)[order]
    x -= x[:TRAINED].mean(0)
    return Samples(2 * x.reshape(-1, 8, 8).transpose(0, 1).contiguous() if in_time else x, y)


@cache
def make_student_data() -> Samples:
    """Normal inputs, and the outputs of a fixed tanh network, normalised to mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1797, INPUTS, generator=generator)
    with torch.no_grad():
        y = 2 * x
        for fan_in, fan_out in pairwise((INPUTS, *TEACHER, TAUGHT)):
            y = 2 * lecun(nn.Linear, fan_in, fan_out, generator=generator)(y).tanh()
    return Samples(x, (y - y.mean(0)) / y.std(0))


@cache
def sums() -> Samples:
    """Sequences of bits, with a centred sum of earlier bits as the target at each step."""
    x, y, _ = DelayedAdd(length=12).sample(1797, torch.Generator().manual_seed(0))
    return Samples(x - 0.5, y - y.mean())


def build(network: Network, generator: torch.Generator) -> nn.Module:
    """A network with weights of variance 1 / fan-in and zero biases."""
    if network in ("recurrent", "adding"):
        inputs, outputs = (8, 10) if network == "recurrent" else (1, 1)
        core = LeakyRNN(inputs, *HIDDEN[network], alpha=0.5, gain=0.9, generator=generator)
        return ReadoutNetwork(core, outputs, every_step=network == "adding", generator=generator)
    layers: list[nn.Module] = []
    if network == "convolutional":
        first_channels, second_channels = HIDDEN[network]
        conv1 = lecun(nn.Conv2d, 1, first_channels, 3, generator=generator, padding=1)
        conv2 = lecun(nn.Conv2d, first_channels, second_channels, 3, generator=generator, padding=1)
        layers = [conv1, nn.Tanh(), nn.AvgPool2d(2), conv2, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
        return nn.Sequential(*layers, lecun(nn.Linear, 4 * second_channels, 10, generator=generator))
    sizes = (INPUTS, *HIDDEN[network], TAUGHT) if network == "student" else (64, *HIDDEN[network], 10)
    for fan_in, fan_out in pairwise(sizes):
        layer = lecun(nn.Linear, fan_in, fan_out, generator=generator)
        layers += [layer, activation_of(network)]
    return nn.Sequential(*(layers if network == "clipped" else layers[:-1]))


def activation_of(network: Network) -> nn.Module:
    """The activation function of a network."""
    return nn.Hardtanh(0, 1) if network == "clipped" else nn.ReLU() if network == "rectified" else nn.Tanh()


@cache
def bits_of_digits() -> float:
    """The base-2 logarithm of the bits of inductive bias needed to classify 99 % of new digits correctly."""
    x, y = digits(in_time=False).of(slice(TRAINED))
    measured = classification_difficulty(x.double().numpy(), y.numpy(), error=0.01, resolution="exact")
    return float(measured.difficulty.log2_bits)


def targets(data: Samples, network: Network) -> tuple[Tensor, Tensor]:
    """The inputs and targets: classes or values, or one-hot vectors of classes for clipped outputs."""
    return data.x, one_hot(data.y, 10).to(data.x) if network == "clipped" else data.y
