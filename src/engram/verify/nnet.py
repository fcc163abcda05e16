"""Networks in the NNet text format, and the ten properties of the ACAS Xu networks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.verify.network import AffineReLU
from engram.verify.onnx import unpacked
from engram.verify.specification import AllOf, AnyOf, Box, LinearProperty, Property

CLEAR, WEAK_LEFT, WEAK_RIGHT, STRONG_LEFT, STRONG_RIGHT = range(5)
PI = 3.141593
SCALE, OFFSET = 373.94992, 7.5188840201005975  # of the networks' scores
Ends = tuple[int | float, int | float]
EVERYWHERE: dict[str, Ends] = {
    "rho": (0, 60760), "theta": (-PI, PI), "psi": (-PI, PI), "own": (100, 1200), "intruder": (0, 1200)
}  # fmt: skip


class Normalisation(NamedTuple):
    """How a network's inputs and outputs are scaled.

    Inputs are clipped to ``low`` and ``high``. ``mean`` and ``scale`` have one entry for each input, then one for all
    outputs.
    """

    low: Float[np.ndarray, " inputs"]
    high: Float[np.ndarray, " inputs"]
    mean: Float[np.ndarray, " inputs_and_output"]
    scale: Float[np.ndarray, " inputs_and_output"]

    def box(self, box: Box) -> Box:
        """A box of physical inputs as a box of the network's inputs, with ends rounded to 64 bits."""
        checks.arguments()
        checks.has_shape("box.low", box.low.shape, self.low.shape)
        ends = (np.clip(bound, self.low, self.high) for bound in (box.low, box.high))
        return Box(*((bound - self.mean[:-1]) / self.scale[:-1] for bound in ends))

    def physical(self, x: Float[np.ndarray, "*batch inputs"]) -> Float[np.ndarray, "*batch inputs"]:
        """Inputs of the network, (..., inputs), in physical units."""
        checks.arguments()
        if x.shape[-1:] != self.low.shape:
            raise ValueError(f"x.shape = {x.shape}: expected (..., {len(self.low)}), as the network has inputs")
        return np.asarray(x * self.scale[:-1] + self.mean[:-1])


def read_nnet(path: str | Path) -> tuple[AffineReLU, Normalisation]:
    """The network of a file in the NNet format, which has scaled inputs and outputs, and their normalisation.

    The format is: comments that begin with ``//``; the numbers of layers, inputs, outputs and units of the widest
    layer; all sizes; an unused line; minima and maxima of the inputs; means and ranges of the inputs and of the
    outputs; then, for each layer, the rows of the weights and one bias on each line. Some of the first release of the
    ACAS Xu networks also list two inputs that each network fixes; these ends, means and ranges are left out. The file
    may be packed by gzip. Any other file raises a ValueError.
    """
    checks.arguments()

    def numbers(line: str) -> list[float]:
        return [float(cell) for cell in line.split(",") if cell.strip()]

    content = unpacked(path)
    try:
        every = (line.decode() for line in content.splitlines())  # text would also end at others
        lines = [line for line in every if line.strip() and not line.startswith("//")]
        if not all(size.is_integer() for size in numbers(lines[1])):
            raise ValueError(f"sizes of layers are {lines[1].strip()}: expected integers")
        sizes = [int(size) for size in numbers(lines[1])]
        low, high, mean, scale = (np.array(numbers(line)) for line in lines[3:7])
        remaining, weights, biases = lines[7:], [], []
        for fan_in, fan_out in itertools.pairwise(sizes):
            weights.append(np.array([numbers(line) for line in remaining[:fan_out]]).reshape(fan_out, fan_in))
            biases.append(np.array([numbers(line) for line in remaining[fan_out : 2 * fan_out]]).reshape(fan_out))
            remaining = remaining[2 * fan_out :]
        inputs, listed = sizes[0], len(low)
        is_whole = not remaining and listed == len(high) >= inputs and len(mean) == len(scale)
        if not is_whole or len(mean) not in (inputs + 1, listed + 1):
            raise ValueError("its parts do not fit each other")
        low, high = low[:inputs], high[:inputs]
        mean, scale = (np.append(values[:inputs], values[-1]) for values in (mean, scale))  # the last: of the output
        if not all(np.isfinite(values).all() for values in (low, high, mean, scale)) or (low > high).any():
            raise ValueError("expected finite means and ranges, and minima of inputs that are not above their maxima")
        return AffineReLU(tuple(weights), tuple(biases)), Normalisation(low, high, mean, scale)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is not a network in the NNet format: {error}") from error


class AcasProperty(NamedTuple):
    """One of the ten properties.

    It concerns ``networks``, such as ``"1_1"``, for all inputs in ``boxes``: distance in feet, angle to the intruder
    and its heading in radians, own speed and the intruder's in feet per second. ``claim`` should hold for the scores of
    clear of conflict, weak left, weak right, strong left, strong right; the network advises the action of lowest score.
    """

    networks: tuple[str, ...]
    boxes: tuple[Box, ...]
    claim: Property


def acasxu_property(number: int) -> AcasProperty:
    """One of the properties 1 to 10 of the ACAS Xu networks.

    Source: Katz et al., "Reluplex: an efficient SMT solver for verifying deep neural networks" (2017), appendix VI.

    Examples:
        >>> len(acasxu_property(3).networks), acasxu_property(3).boxes[0].low.tolist()
        (42, [1500.0, -0.06, 3.1, 980.0, 960.0])
    """
    every = tuple(f"{a}_{b}" for a in range(1, 6) for b in range(1, 10))
    close = tuple(name for name in every if name not in ("1_7", "1_8", "1_9"))
    far = _box(rho=(55947.691, 60760), own=(1145, 1200), intruder=(0, 60))
    near_ranges: dict[str, Ends] = {"rho": (1500.0, 1800.0), "theta": (-0.06, 0.06)}
    behind, abeam = (-PI, -PI + 0.005), (-PI, -PI + 0.01)
    distant_ranges: dict[str, Ends] = {"rho": (12000, 62000), "psi": behind}
    match checks.size("number", number, 1, 10):
        case 1:
            limit = LinearProperty(np.eye(5)[[CLEAR]], np.array([(1500 - OFFSET) / SCALE]))
            return AcasProperty(every, (far,), limit)
        case 2:
            return AcasProperty(every[9:], (far,), AnyOf(tuple(_below(CLEAR, i) for i in range(5) if i != CLEAR)))
        case 3:
            box = _box(psi=(3.1, PI), own=(980, 1200), intruder=(960, 1200), **near_ranges)
            return AcasProperty(close, (box,), _never(CLEAR))
        case 4:
            box = _box(psi=(0, 0), own=(1000, 1200), intruder=(700, 800), **near_ranges)
            return AcasProperty(close, (box,), _never(CLEAR))
        case 5:
            box = _box(rho=(250, 400), theta=(0.2, 0.4), psi=behind, own=(100, 400), intruder=(0, 400))
            return AcasProperty(("1_1",), (box,), _lowest(STRONG_RIGHT))
        case 6:
            boxes = tuple(_box(theta=theta, **distant_ranges) for theta in ((0.7, PI), (-PI, -0.7)))
            return AcasProperty(("1_1",), boxes, _lowest(CLEAR))
        case 7:
            return AcasProperty(("1_9",), (_box(),), AllOf((_never(STRONG_LEFT), _never(STRONG_RIGHT))))
        case 8:
            box = _box(theta=(-PI, -0.75 * PI), psi=(-0.1, 0.1), own=(600, 1200), intruder=(600, 1200))
            turns = (WEAK_RIGHT, STRONG_LEFT, STRONG_RIGHT)
            alternatives = (AnyOf((_below(CLEAR, turn), _below(WEAK_LEFT, turn))) for turn in turns)
            return AcasProperty(("2_9",), (box,), AllOf(tuple(alternatives)))
        case 9:
            box = _box(rho=(2000, 7000), theta=(-0.4, -0.14), psi=abeam, own=(100, 150), intruder=(0, 150))
            return AcasProperty(("3_3",), (box,), _lowest(STRONG_LEFT))
        case _:
            box = _box(rho=(36000, 60760), theta=(0.7, PI), psi=abeam, own=(900, 1200), intruder=(600, 1200))
            return AcasProperty(("4_5",), (box,), _lowest(CLEAR))


def _box(**ends: Ends) -> Box:
    """A box with these ends, and with the full range of all other inputs."""
    low, high = zip(*(EVERYWHERE | ends).values(), strict=True)
    return Box(np.array(low, dtype=float), np.array(high, dtype=float))


def _below(lower: int, upper: int) -> LinearProperty:
    """The property that one score is not above another."""
    return LinearProperty(np.eye(5)[[lower]] - np.eye(5)[[upper]], np.zeros(1))


def _lowest(label: int) -> Property:
    return LinearProperty(np.vstack([_below(label, i).C for i in range(5) if i != label]), np.zeros(4))


def _never(label: int) -> Property:
    return AnyOf(tuple(_below(i, label) for i in range(5) if i != label))
