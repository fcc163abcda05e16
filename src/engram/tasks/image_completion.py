"""Image completion, and the images that it draws from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from engram import checks
from engram.tasks.episode import at_the_end, presentations

TRAINING_SHARE = 0.8  # share of each photograph's columns, from the left, for training crops
MINIMUM_DEVIATION = 15.0  # crops whose summed channels (0 to 765) vary less are left out


class ClampedEpisode(NamedTuple):
    """An ``Episode`` with the units to clamp to their input: the features that are shown at each step."""

    inputs: Float[Tensor, "time batch features"]
    targets: Float[Tensor, "time batch answers"]
    mask: Bool[Tensor, "time batch"]
    clamp: Bool[Tensor, "time batch features"]


@dataclass(frozen=True, eq=False)
class ImageCompletion:
    """Image completion: see a few images, then restore one of them from half of its pixels.

    An episode draws ``patterns`` images. They are shown in ``cycles`` rounds, each round in a new random order, each
    image for ``presentation_steps`` steps followed by ``blank_steps`` steps without input. At the end the upper or
    the lower half of one of the images, each with probability 1/2, is shown for ``probe_steps`` steps, and at the
    last step the output should be the whole image. ``clamp`` marks the shown pixels, to which units can be clamped.

    Args:
        images: The images, floats in [-1, 1], height times width even; ``natural_crops()`` by default.
        patterns: Number of images in an episode, drawn independently.
        cycles: Number of rounds of presentation.
        presentation_steps: Number of steps for which an image is shown.
        blank_steps: Number of steps without input after each image.
        probe_steps: Number of steps for which the probe is shown.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the image experiment, whose settings with
    CIFAR-10 are ``ImageCompletion(images, 3, 3, 20, 2, 3)``; the defaults are our smaller protocol.

    Examples:
        >>> episode = ImageCompletion(torch.rand(10, 4, 4), blank_steps=0).sample(5, torch.Generator().manual_seed(0))
        >>> episode.inputs.shape, episode.clamp[-1].sum(1).tolist()
        (torch.Size([51, 5, 16]), [8, 8, 8, 8, 8])
    """

    images: Annotated[Tensor, "n height width"] = field(default_factory=lambda: natural_crops(), repr=False)  # noqa: PLW0108
    patterns: int = 3
    cycles: int = 2
    presentation_steps: int = 8
    blank_steps: int = 2
    probe_steps: int = 3

    def __post_init__(self) -> None:
        for name in ("patterns", "cycles", "presentation_steps", "probe_steps"):
            checks.size(name, getattr(self, name))
        checks.size("blank_steps", self.blank_steps, minimum=0)
        images = checks.instance("images", self.images, Tensor)
        if images.dim() != 3 or 0 in images.shape or images[0].numel() % 2:
            expected_shape = "(n, height, width), none of them 0, and an even number of pixels"
            raise ValueError(f"images.shape = {tuple(images.shape)}: expected {expected_shape}")
        if not images.is_floating_point():
            raise ValueError(f"images.dtype = {images.dtype}: expected floating point")
        low, high = images.min().item(), images.max().item()
        if not (low >= -1 and high <= 1):
            raise ValueError(f"images has values from {low} to {high}: expected -1 to 1")

    @property
    def pixels(self) -> int:
        """Number of pixels in an image, which is the number of features."""
        return self.images[0].numel()

    def sample(self, batch_size: int, generator: torch.Generator) -> ClampedEpisode:
        """Episodes whose inputs are 0 where ``clamp`` is False, and whose target is the whole image."""
        checks.size("batch_size", batch_size)
        checks.generator(generator)
        device = self.images.device
        rows = torch.randint(len(self.images), (batch_size, self.patterns), generator=generator, device=device)
        images = self.images.flatten(1)[rows]
        shown_images = presentations(images, generator, self.cycles, self.presentation_steps, self.blank_steps)
        step = torch.arange(len(shown_images), device=device)
        is_presented = step % (self.presentation_steps + self.blank_steps) < self.presentation_steps
        # The images are drawn independently and shown in random order, so that the first is a random one.
        target = images[:, 0]
        lower = torch.rand((batch_size, 1), generator=generator, device=device) < 0.5
        visible = (torch.arange(self.pixels, device=device) >= self.pixels // 2) == lower
        probe = target.where(visible, 0.0)

        inputs = torch.cat((shown_images, probe.expand(self.probe_steps, *probe.shape)))
        clamp = torch.cat(
            (is_presented[:, None, None].expand_as(shown_images), visible.expand(self.probe_steps, *probe.shape))
        )
        return ClampedEpisode(inputs, target.expand_as(inputs), at_the_end(inputs), clamp)


def natural_crops(size: int = 8, split: str = "train") -> Float[Tensor, "n size size"]:
    """All square crops of two photographs that need no download, with values in [-1, 1].

    The photographs are the two of scikit-learn (427 x 640 pixels). Their channels are summed and their pixels averaged
    in blocks of 2 x 2, which leaves 213 x 320. Training crops lie wholly in the left 80 % of the columns, test crops
    wholly in the right 20 %. Crops of little contrast (standard deviation below 15 in units of the summed channels)
    are left out; the others are standardised by ``standardise``.

    Args:
        size: Side of a crop, in pixels, 2 to 64.
        split: ``"train"`` or ``"test"``.

    Raises:
        ValueError: ``size`` is not from 2 to 64, or ``split`` is unknown.

    Source: our own stand-in for CIFAR-10 in the image experiment of Miconi, Clune and Stanley (2018).

    Examples:
        >>> natural_crops(8, "test").abs().amax((1, 2)).unique()
        tensor([1.])
    """
    from sklearn.datasets import load_sample_images

    checks.size("size", size, 2, 64)
    checks.choice("split", split, ("train", "test"))
    crops_of_each = []
    for photograph in load_sample_images().images:
        grey = photograph.sum(axis=2, dtype=np.float32)
        height, width = grey.shape[0] // 2, grey.shape[1] // 2
        blocks = grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
        border = round(TRAINING_SHARE * width)
        region = blocks[:, :border] if split == "train" else blocks[:, border:]
        windows = np.lib.stride_tricks.sliding_window_view(region, (size, size)).reshape(-1, size, size)
        crops_of_each.append(windows[windows.std(axis=(1, 2)) >= MINIMUM_DEVIATION])
    return _standardised(torch.from_numpy(np.concatenate(crops_of_each)))


def standardise(images: UInt8[np.ndarray, "n height width channels"]) -> Float[Tensor, "n height width"]:
    """Grey images with values in [-1, 1] from colour images.

    The channels are summed; each image minus its mean is divided by its largest absolute value, if that is not zero.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the image experiment.

    Examples:
        >>> standardise(np.array([[[[0, 0, 0], [10, 20, 30]]]], dtype=np.uint8))
        tensor([[[-1.,  1.]]])
    """
    checks.arguments()
    return _standardised(torch.from_numpy(images.sum(axis=3, dtype=np.float32)))


def _standardised(grey: Float[Tensor, "n height width"]) -> Float[Tensor, "n height width"]:
    centred = grey - grey.mean((1, 2), keepdim=True)
    maximum = centred.abs().amax((1, 2), keepdim=True)
    return torch.where(maximum > 0, centred / maximum, 0.0)
