"""Data sets by name: fetched from their canonical source, verified by a checksum, stored in a cache.

A file is looked up in the folder ``ENGRAM_DATA``, then in the cache (``ENGRAM_CACHE``, or the user's), and fetched only
if neither has it. To add a set, write its reader in a file next to ``mnist.py`` and list it in ``_SETS``.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from engram.tasks.data.aav import AAV, ScoredSequences
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
    "ScoredSequences",
    "SetStatus",
    "cache_folder",
    "fetch",
    "load",
    "verify",
]

_SETS = (AAV, ACASXU, CIFAR10, CIFAR10_JPEG, MNIST, OMNIGLOT, OMNIGLOT_SMALL)
SETS: dict[str, DataSet] = {dataset.name: dataset for dataset in _SETS}


def load(name: str, **options: Any) -> Any:
    """A data set, read from its files.

    Args:
        name: A key of ``SETS``.
        **options: The part to read, for example ``split="test"``; the set's title lists the choices.

    Returns:
        Arrays of uint8: ``LabelledImages`` for ``"mnist"``, ``ColourImages`` for ``"cifar10"`` and ``"cifar10-jpeg"``,
        ``Characters`` for ``"omniglot"`` and ``"omniglot-small"``; the path of one network for ``"acasxu"``;
        ``ScoredSequences`` for ``"aav"``.

    Raises:
        ValueError: The name, an option or its value is unknown.
        DataError: A file is absent and cannot be fetched, has the wrong checksum, or cannot be parsed.

    Examples:
        >>> load("mnsit", split="test")
        Traceback (most recent call last):
        ValueError: unknown data set 'mnsit'; did you mean 'mnist'?
    """
    dataset = _data_set(name)
    choices = list(inspect.signature(dataset.read).parameters)[1:]
    if unknown := set(options) - set(choices):
        expected = ", ".join(choices) or "none"
        raise ValueError(f"{min(unknown)!r} is not an option of data set {name!r}: expected {expected}")
    files = {file.path: file for file in dataset.files}
    try:
        return dataset.read(lambda path: locate(files[path]), **options)
    except DataError as error:
        if dataset.original:
            raise DataError(f"{error}\nOr take the original, {dataset.original!r}, which can be fetched") from error
        raise


def verify(name: str) -> SetStatus:
    """The paths of the files of a data set, and whether their checksums are right; nothing is fetched.

    Raises:
        DataError: ``ENGRAM_DATA`` is not a folder, or a file cannot be read.

    Examples:
        >>> verify("mnist").files[0].file.path
        'mnist/train-images-idx3-ubyte.gz'
    """
    dataset = _data_set(name)
    return SetStatus(dataset, tuple(examine(file) for file in dataset.files))


def fetch(name: str) -> SetStatus:
    """Fetch the missing files of a data set into the cache; return the status of all files.

    Raises:
        DataError: A file cannot be fetched, or has the wrong checksum.
    """
    for file in _data_set(name).files:
        locate(file)
    return verify(name)


def _data_set(name: str) -> DataSet:
    if name not in SETS:
        nearest = difflib.get_close_matches(name, SETS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(sorted(SETS))}"
        raise ValueError(f"unknown data set {name!r}; {hint}")
    return SETS[name]
