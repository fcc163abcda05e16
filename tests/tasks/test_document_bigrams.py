import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.tasks import DocumentBigrams
from engram.testing.module import without_type_checks
from engram.testing.promises import default_dtype


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


TASKS = st.builds(
    lambda names, others, length, rate, gap: DocumentBigrams(2 * names + others, names, length, rate, gap),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(2, 40),
    st.floats(0.05, 0.95),
    st.integers(0, 3),
)


@settings(deadline=None)
@given(task=TASKS, batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_document_is_what_the_specification_says(task, batch, seed):
    inputs, targets, mask = task.sample(batch, seeded(seed))
    assert inputs.shape == targets.shape == (task.document_length - 1, batch, task.words)
    assert torch.equal(inputs[1:], targets[:-1])
    assert torch.equal(inputs.sum(2), torch.ones(inputs.shape[:2]))
    possible = task.transitions() > 0
    for b in range(batch):
        words = [*inputs[:, b].argmax(1).tolist(), int(targets[-1, b].argmax())]
        mapping, name, due = {}, None, None
        for step in range(len(words) - 1):
            word, following = words[step], words[step + 1]
            if word < task.names:
                name, due = word, step + task.gap
            counts = False
            if due == step:
                assert task.names <= following < 2 * task.names, "an attribute follows a name"
                counts = name in mapping
                assert mapping.setdefault(name, following) == following, "it is always the same one"
            elif due is not None and step < due:
                assert following == 2 * task.names, "the words between are always the same"
            else:
                assert possible[word, following]
            assert bool(mask[step, b]) == counts, "it counts once it has occurred"
        assert len(set(mapping.values())) == len(mapping), "no attribute has two names"


def test_the_statistics_are_those_of_the_chain():
    task = DocumentBigrams()
    inputs, targets, mask = task.sample(2000, seeded())
    before, after = inputs.argmax(2).flatten(), targets.argmax(2).flatten()
    chained = before >= task.names
    counts = torch.zeros(task.words, task.words).index_put((before[chained], after[chained]), torch.tensor(1.0), True)
    frequent = counts.sum(1) > 2000
    assert frequent[: task.names].sum() == 0
    assert frequent[task.names :].sum() > 20
    rows = (counts / counts.sum(1, keepdim=True))[frequent]
    torch.testing.assert_close(rows, task.transitions().float()[frequent], atol=0.04, rtol=0)
    names = (after[chained] < task.names).float().mean()
    assert names == pytest.approx(task.name_rate, abs=0.005)
    # Of the 200 words, one in five is a name, and each of the ten names is met for the first time once.
    assert mask.float().sum(0).mean() == pytest.approx(200 / 5 - 10, abs=1)


def test_a_name_tells_nothing_of_its_attribute_across_documents():
    task = DocumentBigrams()
    inputs, targets, _ = task.sample(3000, seeded())
    names, attributes = slice(task.names), slice(task.names, 2 * task.names)
    pairs = torch.einsum("tbn,tba->na", inputs[..., names], targets[..., attributes])
    joint = pairs / pairs.sum()
    information = (joint * (joint / (joint.sum(0) * joint.sum(1, keepdim=True))).log()).sum()
    assert information < 0.005
    marginal = joint.sum(0)
    assert -(marginal * marginal.log()).sum() == pytest.approx(math.log(10), abs=0.005)


def test_words_have_the_default_dtype():
    with default_dtype(torch.float64):
        episode = DocumentBigrams().sample(2, seeded())
    assert episode.inputs.dtype == episode.targets.dtype == torch.float64


def test_small_integer_types_do_not_overflow():
    with without_type_checks():
        task = DocumentBigrams(np.uint8(200), np.int8(90), np.int16(300))
    assert repr(task) == repr(DocumentBigrams(200, 90, 300))


def test_the_chain_is_fixed():
    assert torch.equal(DocumentBigrams().transitions(), DocumentBigrams(document_length=7).transitions())
    rows = DocumentBigrams().transitions()
    torch.testing.assert_close(rows.sum(1), torch.tensor([0.0] * 10 + [1.0] * 40, dtype=torch.float64))
    assert not rows[:, 10:20].any(), "an attribute follows nothing but its name"


BAD = [
    ({"words": 20}, ValueError, r"words = 20: expected more than 2 \* names = 20"),
]


@pytest.mark.parametrize(("fields", "expected", "message"), BAD)
def test_bad_fields_are_refused(fields, expected, message):
    with pytest.raises(expected, match=message):
        DocumentBigrams(**fields)


def test_changing_the_returned_transitions_changes_no_document():
    task = DocumentBigrams(words=9, names=3)
    before = task.transitions().clone()
    task.transitions().zero_()
    assert torch.equal(task.transitions(), before)
