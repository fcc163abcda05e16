import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.tasks import PatternCompletion


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


SHAPE = {
    "patterns": st.integers(1, 4),
    "cycles": st.integers(1, 3),
    "presentation_steps": st.integers(1, 3),
    "blank_steps": st.integers(0, 2),
}
TASKS = st.one_of(
    st.builds(PatternCompletion, bits=st.integers(1, 6).map(lambda half: 2 * half), balanced=st.just(True), **SHAPE),
    st.builds(PatternCompletion, bits=st.integers(1, 9), balanced=st.just(False), **SHAPE),
)


@settings(deadline=None)
@given(task=TASKS, batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_an_episode_is_what_the_specification_says(task, batch, seed):
    bits, balanced, presentation = task.bits, task.balanced, task.presentation_steps
    inputs, targets, mask = task.sample(batch, seeded(seed))
    assert inputs.shape == targets.shape == (*mask.shape, bits)
    assert torch.equal(mask, (torch.arange(len(mask)) == len(mask) - 1)[:, None].expand(-1, batch))
    assert torch.equal(targets, targets[-1].expand_as(targets))

    shown, probe = inputs[:-presentation], inputs[-presentation:]
    slots = shown.view(task.cycles, task.patterns, presentation + task.blank_steps, batch, bits)
    assert not slots[:, :, presentation:].any()
    assert torch.equal(slots[:, :, :presentation], slots[:, :, :1].expand(-1, -1, presentation, -1, -1))
    target = targets[0]
    for b in range(batch):
        rounds = [sorted(pattern.tolist() for pattern in round_) for round_ in slots[:, :, 0, b]]
        assert all(r == rounds[0] for r in rounds), "every pattern is shown once in every round"
        assert target[b].tolist() in rounds[0], "the target was shown"
        assert all(abs(bit) == 1 for pattern in rounds[0] for bit in pattern)
        assert not balanced or all(sum(pattern) == 0 for pattern in rounds[0])

    hidden = probe[0] == 0
    assert torch.equal(probe, target.masked_fill(hidden, 0).expand_as(probe))
    assert not balanced or (hidden.sum(1) == bits // 2).all()


@pytest.mark.parametrize(("task", "length"), [(PatternCompletion(), 11), (PatternCompletion(1000, 5, 2, 6, 4), 106)])
def test_the_published_settings_have_the_published_length(task, length):
    assert len(task.sample(1, seeded()).inputs) == length


@pytest.mark.parametrize("balanced", [True, False])
def test_bits_places_and_orders_are_drawn_evenly(balanced):
    task = PatternCompletion(bits=10, patterns=3, cycles=2, presentation_steps=1, blank_steps=0, balanced=balanced)
    inputs, targets, _ = task.sample(20000, seeded())
    near = {"atol": 0.015, "rtol": 0}
    torch.testing.assert_close(targets[0].mean(0), torch.zeros(10), atol=0.03, rtol=0)
    torch.testing.assert_close((inputs[-1] == 0).float().mean(0), torch.full((10,), 0.5), **near)
    place = (inputs[:-1] == targets[:1]).all(2).float().mean(1)
    chance_match = place.sum() / 2 - 1  # another pattern may equal the target
    torch.testing.assert_close(place, ((1 + chance_match) / 3).expand(6), **near)
    first, second = inputs[:3], inputs[3:6]
    same_order = (first == second).all(2).all(0).float().mean()
    assert same_order == pytest.approx(1 / 6, abs=0.02)


def test_balanced_patterns_have_no_more_structure_than_balance():
    task = PatternCompletion(bits=4, patterns=1)
    _, targets, _ = task.sample(12000, seeded())
    kinds, counts = targets[0].unique(dim=0, return_counts=True)
    assert len(kinds) == 6
    torch.testing.assert_close(counts / 12000, torch.full((6,), 1 / 6), atol=0.015, rtol=0)


BAD = [
    ({"bits": 51}, ValueError, "bits = 51: expected an even number"),
]


@pytest.mark.parametrize(("fields", "expected", "message"), BAD)
def test_bad_fields_are_refused(fields, expected, message):
    with pytest.raises(expected, match=message):
        PatternCompletion(**fields)
