"""Streams of images of one class at a time, with images of all classes to remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks


class ClassStream(NamedTuple):
    """Images ``x`` of one class ``y`` to learn in this order, and images of any class not to be forgotten."""

    x: Float[Tensor, "steps 1 height width"]
    y: Int[Tensor, " steps"]
    remember_x: Float[Tensor, "others 1 height width"]
    remember_y: Int[Tensor, " others"]


@dataclass(frozen=True, eq=False)
class ClassStreams:
    """A distribution of streams for a continual meta-learner: images of a random class, and images of all classes.

    Args:
        images: The images, floats.
        steps: Images of the class, drawn without replacement.
        remember: Images of all classes, that class too, drawn without replacement; some may be in both.

    Raises:
        TypeError: ``images`` is not a tensor.
        ValueError: ``images`` is not of this form, or has less than ``steps`` of a class, or than ``remember`` in all.

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
        """Draw a class, its images and the others."""
        classes, drawings = self.images.shape[:2]
        device = checks.generator(generator).device

        def some(of: int, number: int) -> Tensor:
            return torch.randperm(of, generator=generator, device=device)[:number].to(self.images.device)

        label = some(classes, 1)
        remembered = some(classes * drawings, self.remember)
        images = self.images.flatten(0, 1)
        own = label * drawings + some(drawings, self.steps)
        return ClassStream(
            images[own].unsqueeze(1), own // drawings, images[remembered].unsqueeze(1), remembered // drawings
        )
