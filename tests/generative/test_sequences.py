import itertools
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from engram.generative.design import (
    NK,
    Ehrlich,
    LookupTable,
    Measurements,
    RoughMountFuji,
    SigmoidEpistasis,
    decode,
    diversity,
    edits_to,
    encode,
    fitness,
    measurements,
    mutants_of,
    novelty,
    split,
)
from engram.tasks.data import load


def edits(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[0], table[:, 0] = np.arange(len(b) + 1), np.arange(len(a) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            changed = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(changed, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return table[-1, -1]


def test_letters_and_back():
    assert encode(["ARNDC ", "VYWTS"]).tolist() == [[0, 1, 2, 3, 4], [19, 18, 17, 16, 15]]
    assert decode(encode(["ACGT", "TTTT"], "ACGT"), "ACGT") == ["ACGT", "TTTT"]
    with pytest.warns(UserWarning, match="lower-case"):
        assert encode(["aR"]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("sequences", "pattern"),
    [
        (["AR", "ARN"], r"sequences\[1\] has length 3: expected 2"),
        (["AR", "A*"], r"sequences\[1\] has '\*' at position 1"),
        (["AB"], r"sequences\[0\] has 'B' at position 1"),
        ([], "sequences"),
        ([""], "at least one letter"),
    ],
)
def test_bad_sequences_are_named(sequences, pattern):
    with pytest.raises(ValueError, match=pattern):
        encode(sequences)


def test_a_single_string_is_not_read_as_sequences_of_one_letter():
    with pytest.raises(TypeError, match="sequences = 'AR': expected a list of strings"):
        encode("AR")


def test_rows_without_a_score_are_dropped_and_duplicates_as_asked():
    with pytest.warns(UserWarning, match="1 of 4 are NaN"):
        known = measurements(["NN", "AR", "RR", "AR"], [1.0, 2.0, np.nan, 4.0])
    assert known.scores.tolist() == [1, 2, 4]
    assert measurements(["NN", "AR", "AR"], [1, 2, 4], duplicates="mean").scores.tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"sequences\[1\] and \[2\] are equal, with scores 2, 4: expected one"):
        measurements(["NN", "AR", "AR"], [1, 2, 4], duplicates="error")
    rows, scores = ["NN", "AR", "RR", "AR", "NN", "RR", "NA"], [1, 2, np.nan, 4, 1, 0, 0]
    with (
        pytest.warns(UserWarning, match=r"sequences\[1\] and \[3\] are equal, with scores 2, 4: all rows are kept"),
        pytest.warns(UserWarning, match="1 of 7 are NaN"),
    ):
        assert measurements(rows, scores, duplicates="warn").scores.tolist() == [1, 2, 4, 1, 0, 0]
    with pytest.warns(UserWarning, match="and 2 other sequences have several scores"):
        measurements([*rows, "NN", "NA"], [1, 2, 5, 4, 1, 5, 0, 3, 3], duplicates="warn")
    assert measurements(["NN", "NN"], [1, 1], duplicates="error").scores.tolist() == [1]
    assert measurements(["NN", "NN"], [1, 1], duplicates="warn").scores.tolist() == [1, 1]
    with pytest.raises(ValueError, match="scores"):
        measurements(["NN"], [np.inf])
    with pytest.raises(ValueError, match=r"scores.shape = \(1,\)"):
        measurements(["NN", "AR"], [1.0])


@pytest.mark.parametrize("length", [1, 5, pytest.param(28, marks=pytest.mark.soak)])
def test_edits_are_those_of_the_whole_table(length):
    rng = np.random.default_rng(length)
    tokens, others = (rng.integers(3, size=(40, length)).astype(np.uint8) for _ in range(2))
    others[:20] = np.roll(tokens[:20], 1, axis=1)
    true = np.array([[edits(a, b) for b in others] for a in tokens])
    np.testing.assert_array_equal(edits_to(tokens, others), true.min(1))
    for most in (0, 1, 2, 5, 9, 100):
        np.testing.assert_array_equal(edits_to(tokens, others[:1], most), true[:, 0].clip(max=most))
    pairs = [edits(a, b) for a in tokens for b in tokens]
    assert diversity(tokens) == pytest.approx(sum(pairs) / (40 * 39))


def test_measures():
    a, b = np.zeros((1, 4), np.uint8), np.array([[0, 1, 2, 3]], np.uint8)
    assert diversity(np.concatenate([a, b])) == 3
    assert diversity(np.concatenate([a, a, a])) == 0
    assert novelty(b, np.concatenate([a, b])) == 0
    assert fitness(np.array([0.0, 5.0]), np.array([0.0, 10.0])) == (0.25, 0.25, 0.5, 0.25)
    with pytest.raises(ValueError, match="known: expected different numbers"):
        fitness(np.ones(2), np.ones(3))


def test_a_split_has_its_bounds_and_its_gap():
    known = Measurements(np.eye(11, dtype=np.uint8), np.arange(11.0))
    for distance in ("levenshtein", "hamming"):
        with pytest.warns(UserWarning, match="gap = 0: the start may hold the best: one is 2 edits away"):
            assert split(known, (0.2, 0.4), gap=0, distance=distance).tolist() == [2, 3, 4]
    assert split(known, (0.2, 0.4), gap=2, distance="hamming").tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match=r"gap = 4: no row .* 0: 3, 1: 3, 2: 3, 3: 0, 4: 0"):
        split(known, (0.2, 0.4), gap=4)
    with pytest.raises(ValueError, match="is already among the best"):
        split(known, (0.2, 0.95), gap=0, top=0.95)
    with pytest.raises(ValueError, match="percentile"):
        split(known, (0.4, 0.2))


@pytest.mark.needs_data("aav/ground_truth.csv")
@pytest.mark.parametrize(
    ("percentile", "gap", "rows", "by_hamming"),
    [
        ((0.5, 0.6), 0, 4413, 4413), ((0.0, 0.1), 13, 476, 479),
        pytest.param((0.2, 0.4), 6, 2139, 2145, marks=pytest.mark.soak),
        pytest.param((0.0, 0.3), 7, 3448, 3453, marks=pytest.mark.soak),
    ],
)  # fmt: skip
def test_splits_of_aav_have_the_published_counts(percentile, gap, rows, by_hamming):
    known = measurements(*load("aav"))
    with nullcontext() if gap else pytest.warns(UserWarning, match="gap = 0"):
        assert len(split(known, percentile, gap)) == rows
        assert len(split(known, percentile, gap, distance="hamming")) == by_hamming


@pytest.mark.needs_data("aav/ground_truth.csv")
def test_aav_is_as_counted():
    known = measurements(*load("aav"))
    assert known.tokens.shape == (44128, 28)
    assert len(np.unique(known.tokens, axis=0)) == 42340
    bounds = [4.780029, 5.642863, 6.432348, 7.487550, 9.108194, 10.344795, 14.83314]
    np.testing.assert_allclose(np.quantile(known.scores, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.99]), bounds, atol=1e-5)
    wild_type = (known.tokens == encode(["DEEEIRTTNPVATEQYGSVSTNLQRGNR"])).all(1)
    assert known.scores[wild_type].round(4).tolist() == [9.0818]


def test_the_sigmoid_landscape_is_its_formula():
    landscape = SigmoidEpistasis(np.random.default_rng(0), stability=0.0)
    assert landscape(landscape.wild_type[None]) == pytest.approx(5)
    single = np.repeat(landscape.wild_type[None], 20, axis=0)
    single[:, 3] = np.arange(20)
    np.testing.assert_allclose(landscape(single), 10 / (1 + np.exp(-landscape.sites[3] / 1.5)))
    two = landscape.wild_type[None].copy()
    i, j = landscape.pairs[0]
    two[0, [i, j]] = (two[0, [i, j]] + 1) % 20
    both = (landscape.pairs == (i, j)).all(1)
    phi = landscape.sites[[i, j], two[0, [i, j]]].sum() + landscape.effects[both, two[0, i], two[0, j]].sum()
    assert landscape(two) == pytest.approx(10 / (1 + np.exp(-phi / 1.5)))


def test_other_landscapes():
    rng = np.random.default_rng(1)
    flat = NK(rng, 6, 3, k=0)
    x = rng.integers(3, size=(4, 6)).astype(np.uint8)
    np.testing.assert_allclose(flat(x), flat.shares[np.arange(6), x].mean(1))
    rough = NK(rng, 6, 3, k=2)
    assert rough(x)[0] == pytest.approx(
        np.mean([rough.shares[i, 9 * x[0, i] + 3 * x[0, (i + 1) % 6] + x[0, (i + 2) % 6]] for i in range(6)])
    )
    fuji = RoughMountFuji(rng, 8, 4)
    many = rng.integers(4, size=(4000, 8)).astype(np.uint8)
    noise = fuji(many) + 0.5 * (many != fuji.wild_type).sum(1)
    assert abs(noise[np.unique(many, axis=0, return_index=True)[1]].std() - 1) < 0.05
    np.testing.assert_array_equal(fuji(many), fuji(many))
    table = LookupTable({"AB": 1.0, "BA": 2.0}, "AB", missing=-1.0)
    assert table(encode(["BB", "BA"], "AB")).tolist() == [-1, 2]
    with pytest.raises(ValueError, match=r"tokens\[0\]: expected a sequence of the table"):
        LookupTable({"AB": 1.0}, "AB")(encode(["BB"], "AB"))
    with pytest.raises(ValueError, match=r"tokens.shape"):
        table(encode(["BBB"], "AB"))


def of_its_definition(landscape, row):
    if any(not landscape.allowed[pair] for pair in itertools.pairwise(row)):
        return 0.0
    product, q, k = 1.0, landscape.quantization, landscape.motifs.shape[1]
    for motif, spacing in zip(landscape.motifs.tolist(), landscape.spacings.tolist(), strict=True):
        counts = [
            sum(row[start + place] == letter for place, letter in zip(spacing, motif, strict=True))
            for start in range(len(row) - spacing[-1])
        ]
        product *= max(int(q * count / k) for count in counts) / q
    return product


@pytest.mark.parametrize(
    ("length", "vocab", "options", "levels"),
    [
        (6, 4, {"n_motifs": 2, "motif_length": 2, "banned": 0.5}, {0, 0.25, 0.5, 1}),
        (6, 5, {"n_motifs": 2, "motif_length": 3, "banned": 0.5}, {n * m / 9 for n in range(4) for m in range(4)}),
        (8, 3, {"n_motifs": 1, "motif_length": 3, "quantization": 2, "banned": 1.0}, {0, 0.5, 1}),
        (5, 6, {"n_motifs": 1, "motif_length": 4, "quantization": 1}, {0, 1}),
    ],
)
def test_ehrlichs_function_is_its_definition_on_all_sequences(length, vocab, options, levels):
    landscape = Ehrlich(np.random.default_rng(length), length, vocab, **options)
    rows = list(itertools.product(range(vocab), repeat=length))
    values = landscape(np.array(rows, dtype=np.uint8))
    np.testing.assert_allclose(values, [of_its_definition(landscape, row) for row in rows], rtol=1e-12)
    assert set(values.round(9)) <= {round(level, 9) for level in levels}
    assert landscape(np.stack([landscape.optimum, landscape.wild_type]))[0] == values.max() == 1
    paths = np.linalg.matrix_power(landscape.allowed.astype(int), length - 1).sum()
    assert landscape.feasible(np.array(rows, dtype=np.uint8)).sum() == paths < len(rows)
    assert landscape.feasible(landscape.wild_type[None]).all()


def test_motifs_of_ehrlichs_function_fit_and_all_letters_can_be_reached():
    for seed in range(20):
        landscape = Ehrlich(np.random.default_rng(seed), 32, 20, n_motifs=4, motif_length=4, banned=0.9)
        assert landscape.spacings[:, -1].max() < 8
        assert (np.diff(landscape.spacings) > 0).all()
        assert landscape.feasible(landscape.optimum[None]).all()
        assert (np.linalg.matrix_power(landscape.allowed.astype(float), 19) > 0).all()
    assert not np.array_equal(landscape.motifs, Ehrlich(np.random.default_rng(0), n_motifs=4).motifs)
    for options, pattern in (
        ({"n_motifs": 9, "motif_length": 4}, "motif_length = 4: expected 1 to 3"),
        ({"quantization": 5}, "quantization = 5: expected 1 to 4"),
        ({"banned": 1.5}, "banned = 1.5"),
    ):
        with pytest.raises(ValueError, match=pattern):
            Ehrlich(np.random.default_rng(0), **options)


def test_measured_mutants_are_different_and_noisy():
    rng = np.random.default_rng(2)
    landscape = SigmoidEpistasis(rng)
    tokens, scores = mutants_of(landscape, 2000, rng)
    assert len(np.unique(tokens, axis=0)) == 2000
    assert (tokens != landscape.wild_type).sum(1).max() <= 15
    assert (scores - landscape(tokens)).std() == pytest.approx(1.5, rel=0.1)
    with pytest.raises(ValueError, match="n = 30"):
        mutants_of(NK(rng, 6, 2), 30, rng, mutations=0.0)


def test_small_differences_are_differences():
    for scores in ([1e-9, 5e-9], [100000.0, 100000.5]):
        with pytest.raises(ValueError, match="are equal, with scores"):
            measurements(["AR", "AR"], scores, duplicates="error")


def test_sequences_may_be_an_array_or_a_column():
    plain = encode(["AR", "NA"])
    np.testing.assert_array_equal(encode(np.array(["AR", "NA"])), plain)
    measured = measurements(pd.Series(["AR", "NA"]), pd.Series([1.0, 2.0]))
    np.testing.assert_array_equal(measured.tokens, plain)
    with pytest.raises(TypeError, match="sequences"):
        encode(pd.Series(["AR", 3]))


def test_two_keys_for_one_sequence_are_refused():
    with pytest.warns(UserWarning, match="lower-case"), pytest.raises(ValueError, match="two keys for one sequence"):
        LookupTable({"AA": 1.0, "aa": 3.0}, "AB")


def test_masked_scores_are_missing():
    masked = np.ma.masked_array([3, 999, 1], [0, 1, 0])
    for scores in (masked, masked.astype(float), [3.0, np.nan, 1.0]):
        with pytest.warns(UserWarning, match="scores: 1 of 3 are NaN, and their rows dropped"):
            found = measurements(["AC", "CA", "CC"], scores, "AC")
        assert found.scores.tolist() == [3, 1]
        assert found.tokens.tolist() == [[0, 1], [1, 1]]
    with pytest.raises(ValueError, match="values is a masked array"):
        fitness(masked.astype(float), np.array([0.0, 1.0]))


def test_scores_that_differ_by_rounding_are_one_score():
    sequences = ["AC", "AC", "CC"]
    for scores in (
        [0.1 + 0.2, 0.3, 1.0],
        np.float32([0.7, 0.7000001, 1.5]),
        np.float32([0.7, 0.7000001, 1.5]).tolist(),
    ):
        assert len(measurements(sequences, scores, "AC", "error").scores) == 2
    with pytest.raises(ValueError, match="expected one score of a sequence"):
        measurements(sequences, [0.3, 0.3001, 1.0], "AC", "error")
    with pytest.raises(ValueError, match="known: expected different numbers"):
        fitness(np.array([1.0]), np.float32([0.7, 0.7000001]).astype(float))
