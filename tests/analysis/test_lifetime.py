from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engram.analysis import cumulative_regret, normalized_return, stay_probabilities, within_lifetime_gain

NUMBERS = st.floats(-5, 5, width=32)


@given(arrays(np.float64, (3, 7), elements=NUMBERS), arrays(np.float64, (3,), elements=NUMBERS))
def test_regret_ends_at_what_was_missed(rewards, best):
    regret = cumulative_regret(rewards, best)
    np.testing.assert_allclose(regret[:, -1], 7 * best - rewards.sum(1), atol=1e-9)
    np.testing.assert_allclose(np.diff(regret), best[:, None] - rewards[:, 1:], atol=1e-9)
    np.testing.assert_allclose(cumulative_regret(rewards, np.repeat(best[:, None], 7, 1)), regret)


@given(NUMBERS, st.floats(0.1, 5), st.floats(0, 1))
def test_a_normalised_return_is_0_by_chance_and_1_for_the_oracle(random, span, share):
    assert normalized_return(random + share * span, random, random + span) == pytest.approx(share, abs=1e-6)


def test_a_normalised_return_where_nothing_can_be_gained_is_no_number():
    assert np.isnan(normalized_return(1.0, 1.0, 1.0))
    np.testing.assert_array_equal(normalized_return(np.array([1.0, 2.0]), 1.0, np.array([1.0, 3.0])), [np.nan, 0.5])


def test_stay_probabilities_of_known_choosers():
    rng = np.random.default_rng(0)
    rewarded, common = rng.random((2, 500, 40)) < 0.5
    model_free, model_based = (np.zeros((500, 40), dtype=np.int64) for _ in range(2))
    for t in range(1, 40):
        model_free[:, t] = model_free[:, t - 1] ^ ~rewarded[:, t - 1]
        model_based[:, t] = model_based[:, t - 1] ^ (rewarded ^ common)[:, t - 1]
    assert stay_probabilities(model_free, rewarded, common).tolist() == [[0, 0], [1, 1]]
    assert stay_probabilities(model_based, rewarded, common).tolist() == [[1, 0], [0, 1]]
    assert np.isnan(stay_probabilities(model_free, rewarded, np.ones_like(common))[:, 0]).all()
    with pytest.raises(ValueError, match=r"expected those of choices, \(500, 40\)"):
        stay_probabilities(model_free, rewarded[:, 1:], common)


def test_gain_is_what_the_end_has_more_than_the_beginning():
    rewards = np.arange(100.0)
    assert within_lifetime_gain(rewards) == 75
    assert within_lifetime_gain(np.stack([rewards, -rewards]), 0.5).tolist() == [50, -50]
    for share in (0.0, 0.6, 0.001):
        with pytest.raises(ValueError, match=f"share = {share}: expected"):
            within_lifetime_gain(rewards, share)


def test_regret_of_bytes_may_be_negative():
    rewards, best = np.array([0, 1, 0], np.uint8), np.zeros(3, np.uint8)
    assert cumulative_regret(rewards, best).tolist() == [0.0, -1.0, -1.0]
