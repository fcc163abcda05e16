import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.numeric.unit_rows import unit_rows
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary, turn_dictionary


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
    np.testing.assert_array_equal(again[1], clean[1])
    assert again[1] is not clean[1]


def test_the_start_is_as_far_away_as_said():
    dictionary = make_sparse_dictionary_data(1, random_state=0)[1]
    start = perturb_dictionary(dictionary, random_state=0)  # the seed of the dictionary, which must not matter
    np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1)
    cosine = (start * dictionary).sum(axis=1)
    np.testing.assert_allclose(cosine.mean(), 1 / math.sqrt(1 + (2 / math.log(200)) ** 2), atol=0.005)
    assert np.linalg.norm(start - dictionary) / np.linalg.norm(dictionary) == pytest.approx(0.36, abs=0.01)


def test_atoms_turn_by_the_angle():
    rng = np.random.default_rng(0)
    first = unit_rows(rng.normal(size=(5, 9)))
    turned = turn_dictionary(first, rng.normal(size=(5, 9)), 7.0)
    np.testing.assert_allclose(np.degrees(np.arccos((turned * first).sum(axis=1))), 7.0)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_atom_does_not_turn_towards_itself(dtype):
    dictionary = unit_rows(np.random.default_rng(0).normal(size=(5, 9))).astype(dtype)
    towards = np.random.default_rng(1).normal(size=(5, 9)).astype(dtype)
    towards[3] = 7.3 * dictionary[3]  # what is left of it sideways is rounding
    with pytest.raises(ValueError, match=r"towards\[3\] is parallel to dictionary\[3\]"):
        turn_dictionary(dictionary, towards, 7.0)
    np.testing.assert_array_equal(turn_dictionary(dictionary, towards, 0.0), dictionary)
