"""Associative recall: what is asked, when, and what the answer is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.tasks import AssociativeRecall


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_the_answer_is_the_last_value_of_the_key_that_is_asked(pairs, bindings, noise, seed):
    task = AssociativeRecall(pairs, bindings, noise, keys=12, values=5, length=32)
    inputs, targets, mask = task.sample(3, seeded(seed))
    assert mask.sum(0).tolist() == [pairs] * 3
    for episode in range(3):
        value_of, shown, asked = {}, [], []
        for step in range(32):
            key, value = (
                inputs[step, episode, :12].nonzero().flatten(),
                inputs[step, episode, 12:17].nonzero().flatten(),
            )
            if len(value):
                assert len(key) == len(value) == 1
                value_of[int(key)] = int(value)
                shown.append(int(key))
                assert step < task.shown
            elif len(key):
                assert mask[step, episode]
                assert int(targets[step, episode].argmax()) == value_of[int(key)]
                asked.append(int(key))
            else:
                assert not mask[step, episode]
        assert sorted(asked) == sorted(set(shown[noise:]))
        assert not set(asked) & set(shown[:noise])
        assert all(shown[noise:].count(key) == bindings for key in asked)
    assert inputs[:, :, -1].sum(0).tolist() == [float(noise > 0)] * 3
    assert not inputs[:noise, :, -1].any()


def test_questions_come_early_by_the_power_law_and_in_random_order():
    _, _, mask = AssociativeRecall(pairs=1, length=33, power=0.01).sample(20_000, seeded())
    first = mask[1:].float().mean(1)
    distance = torch.arange(1, 33)
    expected = distance.double() ** -0.99
    torch.testing.assert_close(first.double(), expected / expected.sum(), rtol=0, atol=0.015)
    inputs, _, mask = AssociativeRecall(pairs=2, keys=2, values=2, length=4).sample(2000, seeded())
    shown, asked = inputs[0, :, :2].argmax(1), inputs[2, :, :2].argmax(1)
    assert 0.45 < (shown == asked).double().mean() < 0.55


def test_values_are_bound_anew_in_every_round():
    inputs, _, _ = AssociativeRecall(pairs=1, bindings=2, keys=1, values=64, length=4).sample(1000, seeded())
    assert (inputs[0, :, 1:].argmax(1) == inputs[1, :, 1:].argmax(1)).double().mean() < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0}, "pairs = 0"),
        ({"noise": -1}, "noise = -1"),
        ({"power": 0.0}, "power = 0"),
        ({"pairs": 9, "keys": 8}, "keys = 8: expected at least 9"),
        ({"pairs": 8, "noise": 2, "length": 18}, "length = 18: expected at least 19"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AssociativeRecall(**arguments)
