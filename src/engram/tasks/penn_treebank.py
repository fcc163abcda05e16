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
    """A corpus as indices of words, and the words in the order of their indices: by first occurrence in ``train``."""

    train: Int64[Tensor, " tokens"]
    valid: Int64[Tensor, " tokens"]
    test: Int64[Tensor, " tokens"]
    words: tuple[str, ...]


def read_penn_treebank(folder: str | Path | None = None) -> PennTreebank:
    """The Penn Treebank in the preprocessed form of Mikolov, from files that the user has.

    The text is licensed by the Linguistic Data Consortium, so that it is neither shipped nor fetched. The folder has
    ``ptb.train.txt``, ``ptb.valid.txt`` and ``ptb.test.txt``, each with one sentence a line and words between spaces;
    the end of each line is the word ``<eos>``. There are 929,589, 73,760 and 82,430 words of 10,000 types.

    Args:
        folder: Folder of the files; by default ``penn-treebank`` in the folder of ``ENGRAM_DATA``, else in the cache.

    Raises:
        DataError: ``ENGRAM_DATA`` is not a folder; a file is absent or cannot be read; or it is not this corpus: its
            number of words or types or its MD5 is wrong, or it has words that the training part lacks.

    Source: Marcus et al., "Building a large annotated corpus of English" (1993); Mikolov et al. (2010), the form.

    Examples:
        >>> read_penn_treebank("nowhere")
        Traceback (most recent call last):
        engram.tasks.data.files.DataError: cannot read nowhere/ptb.train.txt as text: ...
    """
    checks.arguments()
    if folder is None:
        folder = (data_folder() or cache_folder()) / "penn-treebank"
    words_of, digests = {}, {}
    for split, expected in TOKENS.items():
        path = Path(folder) / f"ptb.{split}.txt"
        with reading(path, "text", UnicodeDecodeError):
            content = path.read_bytes()
            lines = content.decode("utf-8").splitlines()
        digests[split] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        words_of[split] = [word for line in lines for word in (*line.split(), END)]
        if len(words_of[split]) != expected:
            raise DataError(f"{path} has {len(words_of[split])} words, line ends included; expected {expected}")
    index_of = {word: index for index, word in enumerate(dict.fromkeys(words_of["train"]))}
    if len(index_of) != TYPES:
        raise DataError(f"{folder}/ptb.train.txt has {len(index_of)} types of words, expected {TYPES}")
    for split, words in words_of.items():
        if unknown := set(words) - set(index_of):
            raise DataError(f"{folder}/ptb.{split}.txt has the word {min(unknown)!r}, which ptb.train.txt lacks")
    for split, digest in MD5.items():
        if digests[split] != digest:
            raise DataError(f"{folder}/ptb.{split}.txt has the expected length, but another content: its MD5 differs")
    tokens = {split: torch.tensor([index_of[word] for word in words]) for split, words in words_of.items()}
    return PennTreebank(**tokens, words=tuple(index_of))
