"""Three convolutional layers in one architecture, and the ways in which they learn from images that pass once."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from engram.lab import Run, setting, settings
from engram.rules import HebbianConv2d, SoftHebbConv2d, triangle
from engram.studies.experiments.small_images import Images, check_counts

FILTERS, KERNELS, FAN_INS = (96, 384, 1536), (5, 3, 3), (None, 9, 18)
SHARPNESS, POWERS = (1.0, 0.65, 0.25), (0.7, 1.4, 1.0)
LAYERS = len(FILTERS)
RATES = {
    "softhebb": (0.08, 0.005, 0.01),
    "hardhebb": (0.05, 0.05, 0.05),
    "instar": (0.078, 0.03, 0.03),
    "backprop": (0.001,),
}
"""The rates of each layer, or of Adam, of which the candidates are multiples."""
BURN_IN = 0.1  # share of the batches in which only the thresholds of instar layers adapt, as in `hebbian-cnn`
EVALUATED = 20  # images in a batch that is only evaluated, so that its maps stay in the cache
MOMENTS = 1000  # the first images, from which the moments of all channels are taken again after learning


@settings
class Config:
    """The settings of a trial."""

    images: Images = setting(
        "cifar10-jpeg", "CIFAR-10, its JPEG-encoded copy, or enlarged digits, which need no download"
    )
    method: Literal["softhebb", "hardhebb", "instar", "random", "backprop", "pixels"] = setting(
        "softhebb", "how filters learn; random: not at all; pixels: no network; set by each arm"
    )
    anti_hebbian: bool = setting(True, "softhebb: whether losers move away from a patch")
    rate_power: float = setting(
        0.5, "softhebb: exponent of the rate of a filter, in the distance of its norm from 1", ge=0
    )
    whitened: bool = setting(False, "whether images are whitened, as Miconi's are")
    width: float = setting(0.25, "number of filters relative to the published 96, 384 and 1536", gt=0, le=1)
    train_images: int = setting(5000, "images for learning, which pass once, and for readouts", ge=20, le=50_000)
    tuning_images: int = setting(2000, "the first of them, with which a rate is chosen", ge=20, le=50_000)
    test_images: int = setting(4000, "test images for readouts", ge=10, le=10_000)
    batch_size: int = setting(10, "images in a batch", ge=2, le=100)
    rates: tuple[float, ...] = setting(
        (0.3, 1.0, 3.0), "candidate rates, as multiples of the published ones, extended if needed; chosen by validation"
    )
    moments: Literal["all", "last"] = setting(
        "all",
        "what normalises after learning: moments of the first 1,000 images or, as published, the last batches",
    )
    dropout_epochs: int = setting(
        0, "epochs of the published readout of all of layer 3, linear with dropout, beside those by ridge", ge=0
    )

    def __post_init__(self) -> None:
        check_counts(self.images, self.test_images, train_images=self.train_images)
        if self.batch_size > min(self.train_images, self.tuning_images):
            expected = f"at most train_images = {self.train_images} and tuning_images = {self.tuning_images}"
            raise ValueError(f"batch_size = {self.batch_size}: expected {expected}, or nothing is learned")


class Triangle(nn.Module):
    """The published activation as a layer.

    Args:
        power: Its power.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def forward(self, u: Tensor) -> Tensor:
        """The activity."""
        return triangle(u, power=self.power)


def build(config: Config, channels: int, rate: float, generator: torch.Generator) -> nn.Sequential:
    """The layers of a trial, each with its pooling.

    Args:
        config: The settings.
        channels: Number of channels of the images.
        rate: Multiple of the published rates.
        generator: Source of the initial weights.
    """
    blocks, batches = [], config.train_images // config.batch_size
    rates = [rate * lr for lr in RATES.get(config.method, (0.0,) * LAYERS)]
    for number, (filters, kernel) in enumerate(zip(FILTERS, KERNELS, strict=True)):
        units, padding, power = max(2, int(filters * config.width)), kernel // 2, POWERS[number]
        pool: nn.Module = nn.MaxPool2d(4, 2, 1) if number + 1 < LAYERS else nn.AvgPool2d(2, 2)
        shape = channels, units, kernel
        if config.method == "instar":
            own: Any = {"lr": rates[number], "fan_in": FAN_INS[number], "burn_in": int(BURN_IN * batches)}
            layer = HebbianConv2d(*shape, **own, generator=generator)
            blocks.append(nn.Sequential(nn.ReflectionPad2d(padding), layer, pool))
        elif config.method == "backprop":
            convolution = nn.Conv2d(*shape, padding=padding, padding_mode="reflect", bias=False)
            nn.init.kaiming_uniform_(convolution.weight, a=5**0.5, generator=generator)  # torch's own
            normalisation = nn.BatchNorm2d(channels, affine=False)
            blocks.append(nn.Sequential(normalisation, convolution, Triangle(power), pool))
        else:
            own = {"lr": rates[number], "padding": padding, "activation_power": power, "generator": generator}
            if config.method == "hardhebb":
                own |= {"temperature": 0.0, "rate_power": 0.0}
            else:
                own |= {"temperature": 1 / SHARPNESS[number]}
            blocks.append(nn.Sequential(SoftHebbConv2d(*shape, anti_hebbian=config.anti_hebbian, **own), pool))
        channels = units
    return nn.Sequential(*blocks)


def new_layers(config: Config, images: Tensor, rate: float, run: Run) -> nn.Sequential:
    """The layers of a trial for some images, on the device and in the layout of these."""
    net = build(config, images.shape[1], rate, run.generator).to(run.device)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train_layers(config: Config, images: Tensor, labels: Tensor, rate: float, run: Run) -> nn.Sequential:
    """Layers that have seen all images once, in eval mode.

    Args:
        config: The settings.
        images: The training images.
        labels: Their classes, of which only backpropagation knows.
        rate: Multiple of the published rates.
        run: The run.
    """
    net = new_layers(config, images, rate, run)
    if config.method == "backprop":
        learn_by_backprop(config, net, (images, labels), rate, run)
    elif config.method != "random":
        learn(config, net, images, run)
    if config.moments == "all":
        for layer in filters_of(net):
            layer.lr = 0.0
        update_bn(torch.split(images[:MOMENTS], EVALUATED), net.train())
    net.eval()
    return net


def learn(config: Config, net: nn.Sequential, images: Tensor, run: Run) -> None:
    """Show all images once to layers that learn by themselves; the rates of HardHebb fall linearly."""
    order, layers = run.rng.permutation(len(images)), filters_of(net)
    total, rates = len(images) // config.batch_size, [layer.lr for layer in layers]
    net.train()
    for step in run.steps(total, net=net, order=order):
        if config.method == "hardhebb":
            for layer, rate in zip(layers, rates, strict=True):
                layer.lr = rate * (1 - step / total)
        net(images[order[step * config.batch_size : (step + 1) * config.batch_size]])
        norms = {f"norm_{number}": norms_of(layer).median() for number, layer in enumerate(layers, 1)}
        run.log(step + 1, every=max(1, total // 50), **norms)


def learn_by_backprop(
    config: Config, net: nn.Sequential, samples: tuple[Tensor, Tensor], rate: float, run: Run
) -> None:
    """Train the layers and a linear output by Adam, whose rate falls linearly, for one pass over the images."""
    images, labels = samples
    order, total = run.rng.permutation(len(images)), len(images) // config.batch_size
    with torch.no_grad():
        size = net.eval()(images[:1]).numel()
    head = nn.Linear(size, 10).to(run.device)
    nn.init.uniform_(head.weight, -(size**-0.5), size**-0.5, generator=run.generator)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=rate * RATES["backprop"][0])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / total, total)
    net.train()
    for step in run.steps(total, net=net, head=head, optimizer=optimizer, schedule=schedule, order=order):
        batch = order[step * config.batch_size : (step + 1) * config.batch_size]
        loss = functional.cross_entropy(head(net(images[batch]).flatten(1)), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        run.log(step + 1, every=max(1, total // 50), loss=loss)


def filters_of(net: nn.Sequential) -> list[Any]:
    """The layer of each block that has filters."""
    kinds = (HebbianConv2d, SoftHebbConv2d, nn.Conv2d)
    return [next(layer for layer in block.children() if isinstance(layer, kinds)) for block in net]


def norms_of(layer: Any) -> Float[Tensor, " units"]:
    """The norm of each filter."""
    norms: Tensor = layer.weight.detach().flatten(1).norm(dim=1)
    return norms


@torch.no_grad()
def state_of(net: nn.Sequential, images: Tensor) -> dict[str, float]:
    """What became of the filters of each layer: their norm, their likeness, and how many are never the most excited.

    Args:
        net: The layers.
        images: Images on which filters compete.
    """
    result = {}
    for number, (block, layer) in enumerate(zip(net, filters_of(net), strict=True), 1):
        activity = block[:-1](images)  # type: ignore[index]
        used = activity.argmax(1).unique().numel()
        directions = functional.normalize(layer.weight.flatten(1))
        likeness = (directions @ directions.T).abs().fill_diagonal_(0)
        result[f"norm_{number}"] = float(norms_of(layer).median())
        result[f"unused_{number}"] = 1 - used / len(directions)
        result[f"cosine_{number}"] = float(likeness.sum() / (len(directions) * (len(directions) - 1)))
        images = block[-1](activity)  # type: ignore[index]
    return result


def in_layout(images: np.ndarray, run: Run) -> Tensor:
    """Images on the device, with channels last in memory, which is several times as fast for pooling."""
    return torch.from_numpy(images).to(run.device).contiguous(memory_format=torch.channels_last)
