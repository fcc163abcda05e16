import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.memory import explained_share, match_dictionaries
from engram.numeric.unit_rows import unit_rows


@given(seed=st.integers(0, 999), extra=st.integers(0, 4), scale=st.floats(0.1, 10))
def test_a_match_undoes_order_sign_and_size(seed, extra, scale):
    rng = np.random.default_rng(seed)
    true = unit_rows(rng.normal(size=(6, 9)))
    order, sign = rng.permutation(6), rng.choice([-1.0, 1.0], 6)
    learned = np.concatenate((scale * sign[:, None] * true[order], 1e-3 * rng.normal(size=(extra, 9))))
    match = match_dictionaries(learned, true)
    np.testing.assert_array_equal(order[match.permutation], np.arange(6))
    np.testing.assert_array_equal(match.sign, sign[match.permutation])
    np.testing.assert_allclose(match.cosine, 1)
    assert match.error < 1e-7


def test_more_atoms_explain_more_and_enough_of_them_all():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 64))
    shares = [explained_share(3 * rng.normal(size=(64, 64)), X, count) for count in (1, 4, 64)]
    assert 0 < shares[0] < shares[1] < shares[2]
    assert shares[2] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="X is zero: expected at least one sample with a norm"):
        explained_share(np.eye(64), 0 * X, 1)


def test_what_cannot_be_matched_is_named():
    with pytest.raises(ValueError, match=r"dictionary.shape = \(2, 3\): expected 4 features and at least 2 atoms"):
        match_dictionaries(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"dictionary.shape = \(1, 4\)"):
        match_dictionaries(np.ones((1, 4)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"dictionary\[0, 0\] is NaN"):
        match_dictionaries(np.full((2, 4), np.nan), np.ones((2, 4)))
