"""The Penn Treebank as a language-modelling corpus, for users who have its files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from engram import checks
from engram.tasks.data import DataError, cache_folder
from engram.tasks.data.files import data_folder, reading

END = "<eos>"
TYPES = 10_000
MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}


class PennTreebank(NamedTuple):
    """A corpus as numbers of words, and the words in the order of these numbers, of first occurrence in ``train``."""

    train: Int64[Tensor, " tokens"]
    valid: Int64[Tensor, " tokens"]
    test: Int64[Tensor, " tokens"]
    words: tuple[str, ...]


def read_penn_treebank(folder: str | Path | None = None) -> PennTreebank:
    """The Penn Treebank in the preprocessed form of Mikolov, from files that the user has.

    The text is licensed by the Linguistic Data Consortium, so that it is neither shipped nor fetched. The folder has
    ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``, each with one sentence a line and words between spaces;
    each end of a line is the word ``<eos>``. There are 929,589, 73,760 and 82,430 words of 10,000 types.

    Args:
        folder: Folder of the files; by default ``penn-treebank`` in the folder of ``ENGRAM_DATA``, else in the cache.

    Raises:
        DataError: ``ENGRAM_DATA`` is not a folder; a file is absent or cannot be read; or it is not this corpus, by its
            number of words or types, by words that the training part lacks, or by its MD5.

    Source: Marcus et al., "Building a large annotated corpus of English" (1993); Mikolov et al. (2010), the form.

    Examples:
        >>> read_penn_treebank("nowhere")
        Traceback (most recent call last):
        engram.tasks.data.files.DataError: cannot read nowhere/ptb.train.txt as text: ...
    """
    checks.arguments()
    if folder is None:
        folder = (data_folder() or cache_folder()) / "penn-treebank"
    parts, digests = {}, {}
    for part, expected in TOKENS.items():
        path = Path(folder) / f"ptb.{part}.txt"
        with reading(path, "text", UnicodeDecodeError):
            content = path.read_bytes()
            lines = content.decode("utf-8").splitlines()
        digests[part] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        parts[part] = [word for line in lines for word in (*line.split(), END)]
        if len(parts[part]) != expected:
            raise DataError(f"{path} has {len(parts[part])} words, line ends included; expected {expected}")
    numbers = {word: number for number, word in enumerate(dict.fromkeys(parts["train"]))}
    if len(numbers) != TYPES:
        raise DataError(f"{folder}/ptb.train.txt has {len(numbers)} types of words, expected {TYPES}")
    for part, words in parts.items():
        if unknown := set(words) - set(numbers):
            raise DataError(f"{folder}/ptb.{part}.txt has the word {min(unknown)!r}, which ptb.train.txt lacks")
    for part, digest in MD5.items():
        if digests[part] != digest:
            raise DataError(f"{folder}/ptb.{part}.txt has the expected length, but another content: its MD5 differs")
    tokens = {part: torch.tensor([numbers[word] for word in words]) for part, words in parts.items()}
    return PennTreebank(**tokens, words=tuple(numbers))
