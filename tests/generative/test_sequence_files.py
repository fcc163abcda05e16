"""Readers of FASTA and of tables of variants."""

import numpy as np
import pytest

from engram.generative.design import measurements, mutated, read_fasta, read_variants


def written(folder, text, name="table.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fasta_of_several_lines(tmp_path, end):
    lines = ["\ufeff; old comment", ">one some text", "MKV", "LA", "", "> two", "MKILA", ""]
    path = written(tmp_path, end.join(lines), "a.fasta")
    for given in (path, str(path)):
        names, sequences = read_fasta(given)
        assert names == ["one some text", "two"]
        assert sequences == ["MKVLA", "MKILA"]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "expected at least one record"),
        ("MKV\n", r"line 1 = 'MKV': expected '>'"),
        (">a\nMKV\n>b\nMK\n", r"record 2 \('b', line 3\) has 2 letters: expected 3, as the first has"),
        (">a\nMK\nV-\n>b\nMKVA", r"record 1 \('a', line 1\) has a gap, '-', at letter 4"),
        (">a\n.MK\n>b\nMKVA", r"record 1 \('a', line 1\) has a gap, '.', at letter 1"),
        (">a\nMK\n>b\n>c\nMK", r"record 2 \('b', line 3\) is empty"),
        (b">a\nM\xff\n", "expected text in UTF-8"),
    ],
)
def test_fasta_that_cannot_be_used_is_told_by_record(tmp_path, text, pattern):
    with pytest.raises(ValueError, match=pattern):
        read_fasta(written(tmp_path, text))


def test_mutations_of_a_wild_type():
    assert mutated("MKVLA", ["M1A:A5G", "k2r", "", "wt", "V3V", "K2R;V3I", "K2R V3I"]) == [
        "AKVLG", "MrVLA", "MKVLA", "MKVLA", "MKVLA", "MRILA", "MRILA",
    ]  # fmt: skip
    assert mutated("MKVLA", ["A24G:V22I"], first=20) == ["MKILG"]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("A2R", r"mutations\[1\] = 'A2R': expected 'K' at 2"),
        ("K2R:K2A", "expected one mutation at 2, not two"),
        ("K9R", "expected positions 1 to 5, not 9"),
        ("K2-", "expected mutations such as A24G:T30K, not 'K2-'"),
        ("K2RA", "expected mutations such as A24G:T30K, not 'K2RA'"),
        ("Lys2Arg", "expected mutations such as A24G:T30K"),
    ],
)
def test_mutations_that_do_not_fit_are_told_by_row(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        mutated("MKVLA", ["M1A", text])


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_table_of_mutations_and_whole_sequences(tmp_path, separator):
    rows = [["mutant", "n", "DMS_score"], ["M1A:A5G", "1", "1.5"], ["MKILA", "2", ""], ["WT", "3", "-2e-1"]]
    path = written(tmp_path, "\ufeff" + "\n".join(separator.join(row) for row in rows))
    if separator != ";":
        path.write_text(path.read_text().replace("M1A:A5G", '"M1A:A5G"'))
    sequences, scores = read_variants(str(path), "MKVLA", variant="mutant", score="DMS_score")
    assert sequences == ["AKVLG", "MKILA", "MKVLA"]
    np.testing.assert_array_equal(scores, [1.5, np.nan, -0.2])
    with pytest.warns(UserWarning, match="scores: 1 of 3 are NaN"):
        assert len(measurements(sequences, scores).scores) == 2


@pytest.mark.parametrize(
    ("text", "options", "pattern"),
    [
        ("", {}, "variant = 'sequence': expected a column of .*, which has none"),
        ("sequence,y\nMKV,1\n", {}, "score = 'score': expected a column of .*, which has sequence, y"),
        ("sequence,score\n", {}, "expected at least one row after the header"),
        ("sequence,score\nMKV,1\nMK,2\n", {}, r"row 2 \(line 3\) has 2 letters: expected 3, as the first has"),
        ("sequence,score\nMKV,1\n\nMK,2\n", {}, r"row 2 \(line 4\) has 2 letters"),
        ("sequence,score\nMKVA,1\n", {"wild_type": "MKV"}, r"row 1 \(line 2\) has 4 letters: expected 3, as wild_type"),
        ("sequence,score\nMKV,1\nM-V,2\n", {}, r"row 2 \(line 3\) has a gap, '-', at letter 2"),
        ("sequence,score\nMKV,high\n", {}, r"row 1 \(line 2\): score = 'high': expected a finite number"),
        ("sequence,score\nMKV,-inf\n", {}, r"row 1 \(line 2\): score = '-inf': expected a finite number"),
        ("sequence,score\nMKV,1_0\n", {}, r"row 1 \(line 2\): score = '1_0': expected a finite number"),
        ("sequence,score\nM1A,1\n", {}, r"row 1 \(line 2\): sequence = 'M1A': expected a whole sequence, or give wild"),
        ("sequence,score\nA1M,1\n", {"wild_type": "MKV"}, r"row 1 \(line 2\): sequence = 'A1M': expected 'M' at 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_row(tmp_path, text, options, pattern):
    with pytest.raises(ValueError, match=pattern):
        read_variants(written(tmp_path, text), **options)
