"""Streams of images of one class at a time, with images of all classes to remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks


class ClassStream(NamedTuple):
    """Images ``x`` of one class ``y``, to be learned in this order, and images of any class, not to be forgotten."""

    x: Float[Tensor, "steps 1 height width"]
    y: Int[Tensor, " steps"]
    remember_x: Float[Tensor, "others 1 height width"]
    remember_y: Int[Tensor, " others"]


@dataclass(frozen=True, eq=False)
class ClassStreams:
    """A distribution of streams for a continual meta-learner: images of a random class, and images of all classes.

    Args:
        images: The images, floats.
        steps: Number of images of the class, drawn without replacement.
        remember: Number of images of all classes (including that one), drawn without replacement; some may be in both.

    Raises:
        TypeError: ``images`` is not a tensor.
        ValueError: ``images`` is not of this form, or has fewer than ``steps`` of a class or ``remember`` in all.

    Source: Beaulieu et al., "Learning to continually learn" (2020), algorithm 1.

    Examples:
        >>> streams = ClassStreams(torch.rand(5, 20, 28, 28), remember=64)
        >>> [tuple(part.shape) for part in streams.sample(torch.Generator().manual_seed(0))]
        [(20, 1, 28, 28), (20,), (64, 1, 28, 28), (64,)]
    """

    images: Annotated[Tensor, "classes drawings height width"] = field(repr=False)
    steps: int = 20
    remember: int = 64

    def __post_init__(self) -> None:
        images = checks.instance("images", self.images, Tensor)
        if images.dim() != 4 or 0 in images.shape or not images.is_floating_point():
            expected = "expected floats, (classes, drawings, height, width), none of them 0"
            raise ValueError(f"images is a {images.dtype} of shape {tuple(images.shape)}: {expected}")
        classes, drawings = images.shape[:2]
        if checks.size("steps", self.steps) > drawings:
            raise ValueError(f"steps = {self.steps}: expected at most {drawings}, the images of a class")
        if checks.size("remember", self.remember) > classes * drawings:
            raise ValueError(f"remember = {self.remember}: expected at most {classes * drawings}, the images of all")

    def sample(self, generator: torch.Generator) -> ClassStream:
        """Draw a class, images of it, and images to remember."""
        classes, drawings = self.images.shape[:2]
        device = checks.generator(generator).device

        def random_indices(stop: int, count: int) -> Tensor:
            return torch.randperm(stop, generator=generator, device=device)[:count].to(self.images.device)

        label = random_indices(classes, 1)
        remembered = random_indices(classes * drawings, self.remember)
        images = self.images.flatten(0, 1)
        learned = label * drawings + random_indices(drawings, self.steps)
        return ClassStream(
            images[learned].unsqueeze(1), learned // drawings, images[remembered].unsqueeze(1), remembered // drawings
        )
