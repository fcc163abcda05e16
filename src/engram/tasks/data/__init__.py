"""Data sets by name: fetched from their canonical source, held to a checksum, kept in a cache.

A file is looked for in the folder that ``ENGRAM_DATA`` names, then in the cache (``ENGRAM_CACHE``, or the user's), and
is fetched only if neither has it. To add a set, write its reader in a file beside ``mnist.py`` and list it in ``SETS``.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from engram.tasks.data.acasxu import ACASXU
from engram.tasks.data.cifar10 import CIFAR10, CIFAR10_JPEG, ColourImages
from engram.tasks.data.files import DataError, DataFile, DataSet, FileStatus, SetStatus, cache_folder, examine, locate
from engram.tasks.data.mnist import MNIST, LabelledImages
from engram.tasks.data.omniglot import OMNIGLOT, OMNIGLOT_SMALL, Characters

__all__ = [
    "SETS",
    "Characters",
    "ColourImages",
    "DataError",
    "DataFile",
    "DataSet",
    "FileStatus",
    "LabelledImages",
    "SetStatus",
    "cache_folder",
    "fetch",
    "load",
    "verify",
]

SETS: dict[str, DataSet] = {one.name: one for one in (ACASXU, CIFAR10, CIFAR10_JPEG, MNIST, OMNIGLOT, OMNIGLOT_SMALL)}


def load(name: str, **options: Any) -> Any:
    """Load a data set.

    Args:
        name: One of ``SETS``.
        **options: What to read of it, such as ``split="test"``; the set's title lists the choices.

    Returns:
        Arrays of uint8: ``LabelledImages`` for ``"mnist"``, ``ColourImages`` for ``"cifar10"`` and ``"cifar10-jpeg"``,
        ``Characters`` for ``"omniglot"`` and ``"omniglot-small"``; the path of one network for ``"acasxu"``.

    Raises:
        ValueError: The name, an option or its value is unknown.
        DataError: A file is absent and cannot be fetched, has the wrong checksum, or cannot be parsed.

    Examples:
        >>> load("mnsit", split="test")
        Traceback (most recent call last):
        ValueError: unknown data set 'mnsit'; did you mean 'mnist'?
    """
    dataset = _known(name)
    choices = list(inspect.signature(dataset.read).parameters)[1:]
    if unknown := set(options) - set(choices):
        expected = ", ".join(choices) or "none"
        raise ValueError(f"{min(unknown)!r} is no option of data set {name!r}: expected {expected}")
    files = {file.path: file for file in dataset.files}
    return dataset.read(lambda path: locate(files[path]), **options)


def verify(name: str) -> SetStatus:
    """Where the files of a data set lie, and whether their checksums are right; fetch nothing.

    Raises:
        DataError: ``ENGRAM_DATA`` names no folder, or a file cannot be read.

    Examples:
        >>> verify("mnist").files[0].file.path
        'mnist/train-images-idx3-ubyte.gz'
    """
    dataset = _known(name)
    return SetStatus(dataset, tuple(examine(file) for file in dataset.files))


def fetch(name: str) -> SetStatus:
    """Fetch the missing files of a data set into the cache; as ``verify``, with the errors of ``load``."""
    for file in _known(name).files:
        locate(file)
    return verify(name)


def _known(name: str) -> DataSet:
    if name not in SETS:
        nearest = difflib.get_close_matches(name, SETS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(sorted(SETS))}"
        raise ValueError(f"unknown data set {name!r}; {hint}")
    return SETS[name]
