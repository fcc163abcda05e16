"""MNIST: 70,000 handwritten digits in the IDX format."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from engram import checks
from engram.tasks.data.files import DataError, DataFile, DataSet, Locate, reading

_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_PREFIX = {"train": "train", "test": "t10k"}


class LabelledImages(NamedTuple):
    """Grey images and their classes."""

    images: UInt8[np.ndarray, "n height width"]
    labels: UInt8[np.ndarray, " n"]


def read(locate: Locate, split: str = "train") -> LabelledImages:
    """One split: images of 28 x 28 pixels, 0 (paper) to 255 (ink), and their digits."""
    checks.choice("split", split, _PREFIX)
    image_file = locate(f"mnist/{_PREFIX[split]}-images-idx3-ubyte.gz")
    label_file = locate(f"mnist/{_PREFIX[split]}-labels-idx1-ubyte.gz")
    images, labels = read_idx(image_file, dimensions=3), read_idx(label_file, dimensions=1)
    if len(images) != len(labels):
        raise DataError(f"{image_file} has {len(images)} images, but {label_file} {len(labels)} labels")
    return LabelledImages(images, labels)


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The array in a gzipped IDX file of unsigned bytes; raise DataError unless it has this number of dimensions.

    An IDX file is two zero bytes, one byte for the type (8: unsigned byte), one for the number of dimensions,
    each size as a big-endian 32-bit integer, and the values in row-major order.
    """
    with reading(path, "a gzip file"), gzip.open(path) as stream:
        content = stream.read()
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise DataError(f"{path} starts with {content[:4].hex()}, expected the IDX magic number {magic.hex()}")
    header = 4 + 4 * dimensions
    shape = [int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        expected = f"a header of {header} and {' x '.join(map(str, shape))} values"
        raise DataError(f"{path} holds {len(content)} bytes, expected {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


def _file(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(f"mnist/{name}", _SOURCE + name, f"sha256:{sha256}", size)


MNIST = DataSet(
    name="mnist",
    title="MNIST: 70,000 handwritten digits, 28 x 28, grey; split='train' (60,000) or 'test' (10,000)",
    licence="CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)",
    citation="LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document "
    "recognition, Proceedings of the IEEE 86(11):2278-2324",
    files=(
        _file(
            "train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422
        ),
        _file("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
        _file("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
        _file("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
    ),
    read=read,
)
