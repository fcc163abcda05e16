"""Omniglot: handwritten characters of fifty alphabets, each drawn once by each of twenty people."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from engram import checks
from engram.tasks.data.files import DataError, DataFile, DataSet, Locate, reading

DRAWERS = 20
_SIDE = 105
_SOURCE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_MIRROR = "https://github.com/brendenlake/omniglot/raw/master/python/"
_ARCHIVES = {part: f"omniglot/images_{part}.zip" for part in ("background", "evaluation")}
_SMALL = "omniglot-small.zip"
_ALPHABETS = frozenset(
    ("Balinese", "Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit", "Tagalog")
)


class Characters(NamedTuple):
    """Drawings of characters, 0 (ink) to 255 (paper), and their names, as in ``"Greek/character07"``."""

    images: UInt8[np.ndarray, "classes drawings height width"]
    names: tuple[str, ...]


def read(locate: Locate, split: str = "all", size: int = _SIDE) -> Characters:
    """Twenty drawings of each character, sorted by the names of archive, alphabet and character, then by drawer.

    Args:
        locate: Maps the path of a file in the data set to its path on disk.
        split: ``"background"``, 964 characters, ``"evaluation"``, 659, or ``"all"``.
        size: Side of a drawing in pixels; drawings are reduced with antialiasing if it is below 105.
    """
    checks.choice("split", split, (*_ARCHIVES, "all"))
    return _read([path for part, path in _ARCHIVES.items() if split in (part, "all")], locate, size)


def read_small(locate: Locate, size: int = _SIDE) -> Characters:
    """Twenty drawings of each character of eight alphabets, from their own archive or from that of all of them."""
    return _read([_SMALL], locate, size, _ALPHABETS)


def _read(paths: Sequence[str], locate: Locate, size: int, names: frozenset[str] | None = None) -> Characters:
    checks.size("size", size, 1, _SIDE)
    alphabets = [_read_archive(locate(path), size, names) for path in paths]
    return Characters(
        np.concatenate([part.images for part in alphabets]), tuple(n for part in alphabets for n in part.names)
    )


def _read_archive(path: Path, size: int, alphabets: frozenset[str] | None) -> Characters:
    """The drawings of an archive of the form ``<folder>/<alphabet>/<character>/<id>_<drawer>.png``, or of some."""
    with reading(path, "a zip archive of PNG images", zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        drawings: dict[str, list[str]] = {}
        for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
            if alphabets is not None and name.split("/")[-3] not in alphabets:
                continue
            drawings.setdefault("/".join(name.split("/")[-3:-1]), []).append(name)
        if not drawings:
            raise DataError(f"{path} has no images")
        images = np.empty((len(drawings), DRAWERS, size, size), dtype=np.uint8)
        for number, (character, names) in enumerate(drawings.items()):
            if len(names) != DRAWERS:
                raise DataError(f"{path} has {len(names)} drawings of {character}, expected {DRAWERS}")
            images[number] = [_drawing(archive, name, size) for name in names]
    return Characters(images, tuple(drawings))


def _drawing(archive: zipfile.ZipFile, name: str, size: int) -> UInt8[np.ndarray, "height width"]:
    with archive.open(name) as stream, Image.open(stream, formats=["PNG"]) as image:
        if image.size != (_SIDE, _SIDE):
            raise DataError(f"{name} in {archive.filename} has size {image.size}, expected {(_SIDE, _SIDE)}")
        grey = image.convert("L")  # the images have 1 bit; here 0 and 255
        return np.asarray(grey if size == _SIDE else grey.resize((size, size), Image.Resampling.BILINEAR))


def _file(part: str, sha256: str, size: int) -> DataFile:
    name = f"images_{part}.zip"
    return DataFile(_ARCHIVES[part], _SOURCE + name, f"sha256:{sha256}", size, (_MIRROR + name,))


_SMALL_SHA256 = "6782a6ba3a02b39188b0b0628a84da63a6d67b6d0e9c51a9e6da170dae63f28e"
_CITATION = (
    "Lake, Salakhutdinov and Tenenbaum (2015), Human-level concept learning through probabilistic program "
    "induction, Science 350(6266):1332-1338"
)

# Characters of each set and of the split for evaluation, and drawings of each character.
CHARACTERS, EVALUATION, DRAWINGS = {"omniglot": 1623, "omniglot-small": 242}, 659, 20

_BACKGROUND = _file("background", "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640", 9464212)

OMNIGLOT = DataSet(
    name="omniglot",
    title="Omniglot: 1623 characters of 50 alphabets, 20 drawings of each, 105 x 105, ink on paper; "
    "split='background' (964), 'evaluation' (659) or 'all', size=31 to have them reduced",
    licence="MIT",
    citation=_CITATION,
    files=(
        _BACKGROUND,
        _file("evaluation", "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee", 6462886),
    ),
    read=read,
)

OMNIGLOT_SMALL = DataSet(
    name="omniglot-small",
    title="The union of Omniglot's two small background sets: 242 characters of 8 alphabets, 20 drawings of each, "
    "105 x 105, ink on paper; size=31 to have them reduced",
    licence="MIT",
    citation=_CITATION,
    files=(DataFile(_SMALL, None, f"sha256:{_SMALL_SHA256}", 2064558, instead=_BACKGROUND),),
    read=read_small,
)
