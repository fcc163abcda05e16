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


def test_names_in_fasta_may_have_any_character_but_the_ends_of_lines_of_all_readers(tmp_path):
    others = "".join(c for c in map(chr, range(0x3000)) if len(f"a{c}b".splitlines()) > 1 and c not in "\r\n")
    assert len(others) == 8
    path = written(tmp_path, f">a{others}KK\r\nMKV\r>b\nMRV\n", "a.fasta")
    assert read_fasta(path) == ([f"a{others}KK", "b"], ["MKV", "MRV"])
    table = written(tmp_path, f'note,sequence,score\na{others}b,MKV,1\n"two\nlines",MRV,2\n')
    sequences, scores = read_variants(table)
    assert sequences == ["MKV", "MRV"]
    np.testing.assert_array_equal(scores, [1, 2])


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
        ("score,sequence\n1,MKV\n-2,5,MKV\n", {}, r"row 2 \(line 3\) has 3 cells: expected 2, .*: '-2,5,MKV'"),
        ("sequence;n;score\nMKV;1;0;5\n", {}, r"row 1 \(line 2\) has 4 cells: expected 3"),
        ("sequence;score\nMKV;0,5\n", {}, r"row 1 \(line 2\): score = '0,5': expected a finite number"),
        ("score,sequence\n1,M1A,K2R\n", {"wild_type": "MKV"}, r"row 1 \(line 2\) has 3 cells: expected 2"),
        ("score,sequence\n\n1,M1A\n2\n", {"wild_type": "MKV"}, r"row 2 \(line 4\) has 1 cells: expected 2"),
        ("sequence\tscore\nMKV\n", {}, r"row 1 \(line 2\) has 1 cells: expected 2"),
        ("score,sequence, score\n1,MKV,1\n", {}, "score = 'score': expected a column of .*, which has 2 of this name"),
        ("n,n,n\nM,1,2\n", {"variant": "n"}, "variant = 'n': expected a column of .*, which has 3 of this name"),
        ("sequence,score,note\nMKV,1,\"5' end\nMRV,2,x\n", {}, r"row 1 \(line 3\): unexpected end of data"),
        ("sequence,score\nMKV,1\nWT,2\n", {}, r"row 2 \(line 3\): sequence = 'WT': expected a whole sequence, or give"),
        ("sequence,score\n,2\n", {}, r"row 1 \(line 2\): sequence = '': expected a whole sequence, or give wild_type"),
        (
            "sequence,score\nwt,1\n",
            {"wild_type": "MK"},
            r"row 1 \(line 2\): sequence = 'wt' may be the wild type or two",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_row(tmp_path, text, options, pattern):
    with pytest.raises(ValueError, match=pattern):
        read_variants(written(tmp_path, text), **options)


def test_blank_rows_and_cells_are_no_variants_and_two_letters_may_be_a_sequence(tmp_path):
    path = written(tmp_path, "n,sequence,score,n\n,MK,1,,\n  \n,,,\n,WT,2,,\n")
    assert read_variants(path)[0] == ["MK", "WT"]  # the column n, which occurs twice, is not read
    assert read_variants(path, "WT")[0] == ["MK", "WT"]
    path.write_text("sequence,score\n,1\nWT,2\nM1A,3\n")
    assert read_variants(path, "MKV")[0] == ["MKV", "MKV", "AKV"]
