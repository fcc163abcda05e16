"""One-shot classification of characters, and characters that need no download."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.tasks.episode import Episode, at_the_end

STROKES = (2, 4)
POINTS = 24
BLOB = 0.7


@dataclass(frozen=True, eq=False)
class OneShotCharacters:
    """One-shot classification of characters: see one drawing of each of a few characters, then name another.

    An episode draws ``ways`` characters, turns each of them by 0, 90, 180 or 270 degrees, gives them labels at
    random, and shows one drawing of each, together with its label, for one step. At the last step a drawing of one
    of the characters is shown without label, turned as before, and its label is the answer. The two drawings of that
    character are chosen independently, so that they can be the same, unless ``distinct``.

    Args:
        images: The drawings, floats; by default ``synthetic_glyphs(240, 10)`` of a fixed generator.
        ways: Number of characters in an episode.
        rotations: Whether the characters are turned.
        distinct: Whether the last drawing differs from the one shown before; a character then needs two or more.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the Omniglot experiment.

    Examples:
        >>> task = OneShotCharacters(torch.rand(20, 3, 4, 4))
        >>> images, labels = task.split(task.sample(7, torch.Generator().manual_seed(0)).inputs)
        >>> images.shape, labels.shape
        (torch.Size([6, 7, 4, 4]), torch.Size([6, 7, 5]))
    """

    images: Annotated[Tensor, "characters drawings size size"] = field(
        default_factory=lambda: synthetic_glyphs(240, 10, torch.Generator().manual_seed(0)), repr=False
    )
    ways: int = 5
    rotations: bool = True
    distinct: bool = False

    def __post_init__(self) -> None:
        checks.size("ways", self.ways, minimum=2)
        images = checks.instance("images", self.images, Tensor)
        if images.dim() != 4 or images.shape[2] != images.shape[3] or 0 in images.shape:
            expected_shape = "(characters, drawings, size, size), none of them 0"
            raise ValueError(f"images.shape = {tuple(images.shape)}: expected {expected_shape}")
        if not images.is_floating_point():
            raise ValueError(f"images.dtype = {images.dtype}: expected floating point")
        checks.finite("images", images)
        if len(images) < self.ways:
            raise ValueError(f"images has {len(images)} characters: expected at least ways = {self.ways}")
        if self.distinct and images.shape[1] < 2:
            raise ValueError(f"images has {images.shape[1]} drawings of each: expected 2, because distinct = True")

    def sample(self, batch_size: int, generator: torch.Generator) -> Episode:
        """Random episodes.

        The inputs are the pixels row by row followed by the label, one-hot and all zero at the last step, (time, batch,
        size * size + ways); the targets are the label of the drawing that is shown, also at the last step.
        """
        checks.size("batch_size", batch_size)
        checks.generator(generator)
        device = self.images.device

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=generator, device=device)

        characters, drawings = self.images.shape[:2]
        character_of = torch.rand((batch_size, characters), generator=generator, device=device).topk(self.ways).indices
        labels = torch.rand((batch_size, self.ways), generator=generator, device=device).argsort()
        turns = integers(4, batch_size, self.ways) * self.rotations
        drawing_of = integers(drawings, batch_size, self.ways)
        queried_way = integers(self.ways, batch_size, 1)
        queried = integers(drawings - self.distinct, batch_size, 1)
        if self.distinct:  # any drawing but the one that was shown
            queried = queried + (queried >= drawing_of.gather(1, queried_way))

        def with_query(per_way: Tensor, query: Tensor | None = None) -> Tensor:
            return torch.cat((per_way, per_way.gather(1, queried_way) if query is None else query), dim=1).t()

        images = self.images[with_query(character_of), with_query(drawing_of, queried)]
        turn = with_query(turns)[..., None, None]
        turned = torch.where(turn % 2 == 1, images.rot90(1, (2, 3)), images)
        images = torch.where(turn >= 2, turned.flip(2, 3), turned)
        targets = functional.one_hot(with_query(labels), self.ways).to(images.dtype)
        label_inputs = targets.clone()
        label_inputs[-1] = 0
        return Episode(torch.cat((images.flatten(2), label_inputs), dim=2), targets, at_the_end(targets))

    def split(
        self, inputs: Float[Tensor, "time batch features"]
    ) -> tuple[Float[Tensor, "time batch size size"], Float[Tensor, "time batch ways"]]:
        """The images and the labels in the ``inputs`` of an episode."""
        checks.arguments()
        size = self.images.shape[2]
        pixels = inputs[..., : -self.ways]
        return pixels.reshape(*pixels.shape[:2], size, size), inputs[..., -self.ways :]


def synthetic_glyphs(
    classes: int, drawings: int, generator: torch.Generator, size: int = 16, variability: float = 1.0
) -> Float[Tensor, "classes drawings size size"]:
    """Several drawings of each of some random characters, 0 (paper) to 1 (ink).

    A character is 2 to 4 strokes, each a quadratic Bezier curve whose control points are uniform in [0.12, 0.88]^2.
    A drawing of it has noise on its control points (standard deviation 0.03), is turned (0.12 rad), scaled (by 1 +
    0.06 times a normal number) and shifted (0.03), all of it times ``variability``. A stroke is the maximum of 24
    Gaussian blobs 0.7 pixels wide.

    Args:
        classes: Number of characters.
        drawings: Number of drawings of each.
        generator: Source of all randomness; the images are on its device.
        size: Side of the images, in pixels.
        variability: Scale of the differences between drawings of a character, at least 0. The nearest of five drawings,
            by pixels, is the right one in .87 of cases at 1, and in .51 at 2, where two drawings have as much in common
            as those of Omniglot.

    Raises:
        ValueError: A number is below 1, or ``variability`` is negative.

    Source: our own stand-in for Omniglot in Miconi, Clune and Stanley, "Differentiable plasticity" (2018).

    Examples:
        >>> synthetic_glyphs(3, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2, 16, 16])
    """
    for name, value in {"classes": classes, "drawings": drawings, "size": size}.items():
        checks.size(name, value)
    checks.number("variability", variability, minimum=0)
    device = checks.generator(generator).device

    def normal(*shape: int) -> Tensor:
        return variability * torch.randn(shape, generator=generator, device=device)

    minimum, maximum = STROKES
    strokes = torch.randint(minimum, maximum + 1, (classes,), generator=generator, device=device)
    control = 0.12 + 0.76 * torch.rand((classes, 1, maximum, 3, 2), generator=generator, device=device)
    control = control + 0.03 * normal(classes, drawings, maximum, 3, 2)
    angle, scale = 0.12 * normal(classes, drawings), 1 + 0.06 * normal(classes, drawings)
    sine, cosine = scale * angle.sin(), scale * angle.cos()
    turn = torch.stack((cosine, -sine, sine, cosine), dim=2).view(classes, drawings, 2, 2)
    shift = 0.03 * normal(classes, drawings, 1, 2)

    along = torch.linspace(0, 1, POINTS, device=device)
    bezier = torch.stack(((1 - along) ** 2, 2 * along * (1 - along), along**2))
    points = torch.einsum("kp,cdskx->cdspx", bezier, control).flatten(2, 3)
    points = ((points - 0.5) @ turn.transpose(2, 3) + 0.5 + shift) * size

    centres = torch.arange(size, device=device) + 0.5
    blobs = (-0.5 * ((points.unsqueeze(4) - centres) / BLOB).square()).exp()
    is_drawn = torch.arange(maximum, device=device) < strokes[:, None]
    rows = blobs[..., 1, :] * is_drawn.repeat_interleave(POINTS, dim=1)[:, None, :, None]
    # One character at a time, since pictures of all points need a gigabyte.
    images = [(y.unsqueeze(3) * x.unsqueeze(2)).amax(1) for y, x in zip(rows, blobs[..., 0, :], strict=True)]
    return torch.stack(images)
