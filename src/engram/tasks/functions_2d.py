"""Functions of the plane, learned from points: small tasks for meta-learning and comparing learning rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engram import checks

Points = Float[Tensor, "points 2"]
Classes = Int[Tensor, " points"]
Regions = Callable[[Tensor, Tensor], Bool[Tensor, " points"]]

REGIONS: dict[str, Regions] = {
    "xor": lambda x, y: x * y > 0,
    "nxor": lambda x, y: x * y <= 0,
    "and": lambda x, y: (x > 0) & (y > 0),
    "or": lambda x, y: (x > 0) | (y > 0),
    "qand": lambda x, y: (x < 0) & (y > 0),
    "central-circle": lambda x, y: x.square() + y.square() < 0.8**2,
    "small-central-circle": lambda x, y: x.square() + y.square() < 0.4**2,
    "slice": lambda x, y: torch.atan2(y, x).abs() <= 0.78,
    "square": lambda x, y: (x.abs() < 0.5) & (y.abs() < 0.5),
    "cross": lambda x, y: (x.abs() < 0.3) | (y.abs() < 0.3),
    "triangle": lambda x, y: (x + y < 1) & (y - x < 1) & (y > -0.5),
}
FUNCTIONS = (*REGIONS, "circle", "random-xor", "two-moon", "rotated-two-moon", "blobs", "random-labels")
TRAINING = ("xor", "and", "two-moon", "central-circle", "small-central-circle", "slice")
BLOBS, BLOB_STD = 5, 0.1


@dataclass(frozen=True)
class Function2D:
    """A function from the square [-1, 1]^2 to classes.

    Args:
        name: Its name, one of ``FUNCTIONS``.
        n_classes: Number of its classes.
        draw: Maps a number of points and a generator to random points and their classes.

    Source: Sandler et al., "Meta-learning bidirectional update rules" (2021), section 4.1. The radii of the central
    circles and the size of the square are ours.

    Examples:
        >>> x, y = function_2d("cross").sample((10, 64), torch.Generator().manual_seed(0))
        >>> x.shape, y.shape, y[0, 0].tolist()
        (torch.Size([10, 64, 2]), torch.Size([10, 64, 2]), [-1.0, 1.0])
    """

    name: str
    n_classes: int
    draw: Callable[[int, torch.Generator], tuple[Points, Classes]]

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Float[Tensor, "*shape 2"], Float[Tensor, "*shape classes"]]:
        """Random points, and for each class +1 where they belong to it and -1 elsewhere.

        Args:
            shape: Leading axes, for example (batches, points of each).
            generator: Source of all randomness.

        Raises:
            ValueError: An axis is shorter than 1.
        """
        checks.arguments()
        for axis, size in enumerate(shape):
            checks.size(f"shape[{axis}]", size)
        with checks.noted(draw=self.draw):
            points, classes = self.draw(math.prod(shape), checks.generator(generator))
        targets = 2.0 * torch.nn.functional.one_hot(classes, self.n_classes).to(points) - 1.0
        return points.reshape(*shape, 2), targets.reshape(*shape, -1)


def function_2d(name: str, generator: torch.Generator | None = None) -> Function2D:
    """A function of the plane, with random parameters if it has any.

    Args:
        name: One of ``FUNCTIONS``; points are uniform except in ``"two-moon"``, ``"rotated-two-moon"`` and ``"blobs"``.
        generator: Draws centre and radius of a ``"circle"``, the projection of ``"random-xor"`` and the centres of the
            five ``"blobs"``; None: a generator of seed 0.

    Raises:
        ValueError: The name is unknown.

    Examples:
        >>> function_2d("xor").sample((1,), torch.Generator().manual_seed(0))
        (tensor([[-0.0075,  0.5364]]), tensor([[ 1., -1.]]))
    """
    checks.arguments()
    checks.choice("name", name, FUNCTIONS)
    generator = torch.Generator().manual_seed(0) if generator is None else checks.generator(generator)
    if name in REGIONS:
        return Function2D(name, 2, partial(_uniform, partial(_region, name)))
    if name == "circle":
        *centre, size = torch.rand(3, generator=generator, device=generator.device).tolist()
        inside = partial(_inside, (2 * centre[0] - 1, 2 * centre[1] - 1), 0.2 + 0.5 * size)
        return Function2D(name, 2, partial(_uniform, inside))
    if name == "random-xor":
        projection = torch.randn(2, 3, generator=generator, device=generator.device)
        return Function2D(name, 2, partial(_uniform, partial(_projected_xor, projection)))
    if name == "random-labels":
        return Function2D(name, 2, _unrelated)
    if name == "blobs":
        centres = 2 * torch.rand(BLOBS, 2, generator=generator, device=generator.device) - 1
        return Function2D(name, BLOBS, partial(_blobs, centres))
    return Function2D(name, 2, partial(_moons, name == "rotated-two-moon"))


def _points(count: int, generator: torch.Generator) -> Points:
    return 2 * torch.rand(count, 2, generator=generator, device=generator.device) - 1


def _region(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The points of a region, looked up by name, so that a ``Function2D`` can be pickled."""
    return REGIONS[name](x, y)


def _uniform(region: Regions, count: int, generator: torch.Generator) -> tuple[Points, Classes]:
    points = _points(count, generator)
    return points, region(*points.unbind(1)).long()


def _inside(centre: tuple[float, float], radius: float, x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x - centre[0], y - centre[1]) < radius


def _projected_xor(projection: Tensor, x: Tensor, y: Tensor) -> Tensor:
    u, v = (projection.to(x) @ torch.stack([x, y, torch.ones_like(x)])).unbind()
    return u * v > 0


def _unrelated(count: int, generator: torch.Generator) -> tuple[Points, Classes]:
    return _points(count, generator), torch.randint(2, (count,), generator=generator, device=generator.device)


def _moons(rotated: bool, count: int, generator: torch.Generator) -> tuple[Points, Classes]:
    from sklearn.datasets import make_moons  # takes as long to import as torch

    # A third of the points, as published: on each moon the points are evenly spaced.
    points, classes = make_moons(3 * count, noise=0.1, random_state=_seed(generator))
    x, y = torch.from_numpy(points[:count].T).to(generator.device, torch.get_default_dtype())
    x, y = (x + 1) * 2 / 3 - 1, (y + 0.5) * 2 / 1.5 - 1
    return torch.stack([-y, x] if rotated else [x, y], 1), torch.from_numpy(classes[:count]).to(generator.device)


def _blobs(centres: Tensor, count: int, generator: torch.Generator) -> tuple[Points, Classes]:
    from sklearn.datasets import make_blobs

    sample = make_blobs(count, centers=centres.numpy(force=True), cluster_std=BLOB_STD, random_state=_seed(generator))
    points = torch.from_numpy(sample[0]).to(generator.device, torch.get_default_dtype())
    return points, torch.from_numpy(sample[1]).to(generator.device, torch.long)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))
