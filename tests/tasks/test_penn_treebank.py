"""The reader, on a corpus that has the numbers of the Penn Treebank and none of its words."""

import hashlib
import itertools

import pytest
import torch

from engram.tasks import penn_treebank, read_penn_treebank
from engram.tasks.data import DataError

PARTS = {"train": 929_589, "valid": 73_760, "test": 82_430}
SENTENCE = 20


@pytest.fixture(scope="module")
def corpus():
    """Sentences of 20 words and an end each, one short sentence at the end: part -> lines."""
    lines = {}
    for part, tokens in PARTS.items():
        words = (f"w{number % 9999}" for number in itertools.count())
        whole, rest = divmod(tokens, SENTENCE + 1)
        lengths = [SENTENCE] * whole + ([rest - 1] if rest else [])
        lines[part] = [" " + " ".join(itertools.islice(words, length)) + " " for length in lengths]
    return lines


def write(folder, corpus):
    for part, lines in corpus.items():
        (folder / f"ptb.{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_corpus_of_the_right_size_is_read_if_its_content_is_right(corpus, tmp_path, monkeypatch):
    folder = tmp_path / "penn-treebank"
    folder.mkdir()
    write(folder, corpus)
    monkeypatch.setenv("ENGRAM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"ptb.train.txt has the expected length, but another content"):
        read_penn_treebank()
    for part in PARTS:
        content = (folder / f"ptb.{part}.txt").read_bytes()
        monkeypatch.setitem(penn_treebank.MD5, part, hashlib.md5(content, usedforsecurity=False).hexdigest())
    read = read_penn_treebank()
    for part, tokens in PARTS.items():
        numbers = getattr(read, part)
        assert numbers.shape == (tokens,)
        assert [read.words[n] for n in numbers[:21]] == [f"w{n}" for n in range(20)] + ["<eos>"]
        assert (numbers == read.words.index("<eos>")).sum() == len(corpus[part])
    assert len(read.words) == 10_000
    assert torch.equal(read.train.unique(), torch.arange(10_000))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", lambda lines: lines[1:], r"ptb.train.txt has 929568 words, line ends included; expected 929589"),
        ("valid", lambda lines: [*lines, ""], r"ptb.valid.txt has 73761 words, .*; expected 73760"),
        ("train", lambda lines: [" novel" + lines[0][3:], *lines[1:]], "10001 types of words, expected 10000"),
        ("test", lambda lines: [" novel" + lines[0][3:], *lines[1:]], "test.txt has the word 'novel', which .* lacks"),
    ],
    ids=["a line less", "an empty line more", "a type more", "an unknown word"],
)
def test_another_corpus_is_refused(corpus, tmp_path, part, change, message):
    with pytest.raises(DataError, match=message):
        read_penn_treebank(write(tmp_path, {**corpus, part: change(corpus[part])}))


def test_an_absent_or_binary_file_is_named(corpus, tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*ptb.train.txt"):
        read_penn_treebank(tmp_path)
    write(tmp_path, corpus)
    (tmp_path / "ptb.valid.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*ptb.valid.txt.*utf-8"):
        read_penn_treebank(tmp_path)
