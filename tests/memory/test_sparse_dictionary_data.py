import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import (
    explained_share,
    make_sparse_dictionary_data,
    match_dictionaries,
    perturb_dictionary,
    turn_dictionary,
)
from engram.memory.sparse_dictionary_data import normalised


@given(
    seed=st.integers(0, 999),
    nonzero=st.integers(1, 12),
    exact=st.booleans(),
    amplitude=st.sampled_from(["constant", "uniform"]),
    coef_min=st.floats(0.1, 10),
)
def test_samples_are_made_as_the_model_says(seed, nonzero, exact, amplitude, coef_min):
    X, dictionary, code = make_sparse_dictionary_data(
        40,
        n_features=7,
        n_components=12,
        n_nonzero=nonzero,
        exact=exact,
        amplitude=amplitude,
        coef_min=coef_min,
        random_state=seed,
    )
    np.testing.assert_allclose(np.linalg.norm(dictionary, axis=1), 1)
    np.testing.assert_allclose(code @ dictionary, X)
    counts = (code != 0).sum(axis=1)
    assert (counts == nonzero).all() if exact else (counts >= 1).all() and (counts <= nonzero).all()
    size = np.abs(code[code != 0])
    assert (size == coef_min).all() if amplitude == "constant" else ((coef_min <= size) & (size <= 2 * coef_min)).all()


def test_atoms_counts_and_signs_are_uniform():
    _, _, code = make_sparse_dictionary_data(20_000, n_features=5, n_components=10, n_nonzero=4, random_state=0)
    counts = np.bincount((code != 0).sum(axis=1), minlength=5) / len(code)
    np.testing.assert_allclose(counts, [0, 0.25, 0.25, 0.25, 0.25], atol=0.015)
    np.testing.assert_allclose((code != 0).mean(axis=0), 0.25, atol=0.015)
    single = code[(code != 0).sum(axis=1) == 1]  # not only the samples with many atoms are spread evenly
    np.testing.assert_allclose((single != 0).mean(axis=0), 0.1, atol=0.02)
    assert abs(np.sign(code).sum() / (code != 0).sum()) < 0.02


def test_noise_has_its_size_and_a_seed_settles_all():
    clean = make_sparse_dictionary_data(500, random_state=3)
    noisy = make_sparse_dictionary_data(500, noise=0.1, random_state=3)
    assert (noisy[0] - clean[0]).std() == pytest.approx(0.1, rel=0.02)
    np.testing.assert_array_equal(noisy[2], clean[2])
    again = make_sparse_dictionary_data(500, dictionary=clean[1], random_state=np.random.default_rng(5))
    assert again[1] is clean[1]


def test_the_start_is_as_far_away_as_said():
    dictionary = make_sparse_dictionary_data(1, random_state=0)[1]
    start = perturb_dictionary(dictionary, random_state=0)  # the seed of the dictionary, which must not matter
    np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1)
    cosine = (start * dictionary).sum(axis=1)
    np.testing.assert_allclose(cosine.mean(), 1 / math.sqrt(1 + (2 / math.log(200)) ** 2), atol=0.005)
    assert np.linalg.norm(start - dictionary) / np.linalg.norm(dictionary) == pytest.approx(0.36, abs=0.01)


@given(seed=st.integers(0, 999), extra=st.integers(0, 4), scale=st.floats(0.1, 10))
def test_a_match_undoes_order_sign_and_size(seed, extra, scale):
    rng = np.random.default_rng(seed)
    true = normalised(rng.normal(size=(6, 9)))
    order, sign = rng.permutation(6), rng.choice([-1.0, 1.0], 6)
    learned = np.concatenate((scale * sign[:, None] * true[order], 1e-3 * rng.normal(size=(extra, 9))))
    match = match_dictionaries(learned, true)
    np.testing.assert_array_equal(order[match.permutation], np.arange(6))
    np.testing.assert_array_equal(match.sign, sign[match.permutation])
    np.testing.assert_allclose(match.cosine, 1)
    assert match.error < 1e-7


def test_rows_of_zeros_stay_and_large_numbers_do_not_overflow():
    rows = np.array([[0.0, 0.0], [3e200, 4e200], [1.0, -1.0]])  # the last one sums to zero
    np.testing.assert_allclose(normalised(rows), [[0, 0], [0.6, 0.8], [math.sqrt(0.5), -math.sqrt(0.5)]])
    single = normalised(np.full((1, 4), 1e30, np.float32))
    assert single.dtype == np.float32
    assert single.tolist() == [[0.5] * 4]


BAD = {
    "n_samples": ({"n_samples": 0}, "n_samples = 0: expected at least 1"),
    "n_features": ({"n_features": 0}, "n_features = 0: expected at least 1"),
    "n_components": ({"n_components": -1}, "n_components = -1: expected at least 1"),
    "n_nonzero": ({"n_nonzero": 251}, "n_nonzero = 251: expected 1 to 250"),
    "amplitude": ({"amplitude": "normal"}, "amplitude = 'normal': expected 'constant' or 'uniform'"),
    "coef_min": ({"coef_min": 0.0}, "coef_min = 0.0: expected a positive number"),
    "noise": ({"noise": -0.1}, "noise = -0.1: expected a number of at least 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make_sparse_dictionary_data(**{"n_samples": 2, **arguments})


def test_what_cannot_be_matched_is_named():
    with pytest.raises(ValueError, match=r"dictionary.shape = \(2, 3\): expected 4 features and at least 2 atoms"):
        match_dictionaries(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"dictionary.shape = \(1, 4\)"):
        match_dictionaries(np.ones((1, 4)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="holds NaN"):
        match_dictionaries(np.full((2, 4), np.nan), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"radius = -1.0"):
        perturb_dictionary(np.eye(2), -1.0)


def test_atoms_turn_by_the_angle():
    rng = np.random.default_rng(0)
    first = normalised(rng.normal(size=(5, 9)))
    turned = turn_dictionary(first, rng.normal(size=(5, 9)), 7.0)
    np.testing.assert_allclose(np.degrees(np.arccos((turned * first).sum(axis=1))), 7.0)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1)


def test_more_atoms_explain_more_and_enough_of_them_all():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 64))
    shares = [explained_share(3 * rng.normal(size=(64, 64)), X, count) for count in (1, 4, 64)]
    assert 0 < shares[0] < shares[1] < shares[2]
    assert shares[2] == pytest.approx(1, abs=1e-6)
