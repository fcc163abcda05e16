from typing import get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from engram.tasks import SnippetStream
from engram.testing.module import without_type_checks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


STREAMS = st.builds(
    SnippetStream,
    bits=st.integers(4, 9),
    snippets=st.integers(1, 5),
    mode=st.sampled_from(["sequence", "paired", "completion"]),
    length=st.integers(3, 4),
    cue=st.integers(1, 2),
    gap=st.integers(0, 3),
    correlation=st.floats(0, 0.5),
    flag=st.booleans(),
)


@settings(deadline=None)
@given(stream=STREAMS, batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_window_shows_snippets_and_then_asks_for_them(stream, batch, seed):
    window = stream.sample(batch, seeded(seed))
    count, frames, features = window.snippets.shape[1:]
    assert (frames, features) == {
        "sequence": (stream.length, stream.bits),
        "paired": (1, 2 * stream.bits),
        "completion": (1, stream.bits),
    }[stream.mode]
    shown, filler, queries = window.inputs[..., :features].split([count * frames, stream.gap, count * frames])
    if stream.flag:
        said = window.inputs[..., features]
        assert (said[: len(shown) + stream.gap] == -1).all()
        assert (said[len(shown) + stream.gap :] == 1).all()
    assert (shown.abs() == 1).all()
    assert (filler.abs() == 1).all()
    assert not window.targets[: len(shown) + stream.gap].any()
    assert torch.equal(window.mask, (window.targets != 0).any(2))
    assert not window.age.any()
    asked = window.targets[-len(queries) :]
    whole = queries.clone()
    whole[..., features - stream.bits :] += asked  # a query and its target complete each other
    assert (whole.abs() == 1).all()
    for b in range(batch):
        made = sorted(window.snippets[b].flatten(1).tolist())
        assert sorted(shown[:, b].reshape(count, -1).tolist()) == made
        assert sorted(whole[:, b].reshape(count, -1).tolist()) == made
        cues = {tuple(s) for s in window.snippets[b, :, : stream.cue, : stream.bits].flatten(1).tolist()}
        assert len(cues) == count
    hidden = (asked != 0).view(count, frames, batch, stream.bits)
    if stream.mode == "sequence":
        assert not hidden[:, : stream.cue].any()
        assert hidden[:, stream.cue :].all()
    else:
        assert (hidden.sum(3) == (stream.bits if stream.mode == "paired" else stream.bits // 2)).all()


def test_old_snippets_are_asked_for_as_often_as_said_and_all_ages_alike():
    stream, generator = SnippetStream(bits=10, snippets=4, old=0.3), seeded()
    past = [stream.sample(500, generator).snippets for _ in range(3)]
    window = stream.sample(500, generator, past)
    ages = window.age[window.mask]
    assert float((ages > 0).float().mean()) == pytest.approx(0.3, abs=0.04)
    counts = [int((ages == age).sum()) for age in (1, 2, 3)]
    assert min(counts) > 0.7 * max(counts)
    cues, answers = window.inputs[8::2], window.targets[9::2]
    everything = [window.snippets, *past]
    for query, b in ((0, 0), (1, 7), (3, 499)):
        wanted = torch.stack((cues[query, b], answers[query, b]))
        known = everything[int(window.age[9 + 2 * query, b])][b]
        assert (known == wanted).flatten(1).all(1).any()
    assert not stream.sample(5, seeded()).age.any()


def test_bits_are_as_correlated_as_said_and_cues_as_noisy():
    window = SnippetStream(bits=40, snippets=3, correlation=0.6, flip=0.1).sample(500, seeded())
    first, second = window.snippets[:, 0, 0], window.snippets[:, 1, 0]
    assert float((first * second).mean()) == pytest.approx(0.6**2, abs=0.02)
    cues = window.inputs[6::2].transpose(0, 1)
    agree = (cues[:, :, None] == window.snippets[:, None, :, 0]).float().mean(3).max(2).values
    assert float(agree.mean()) == pytest.approx(0.9, abs=0.01)


def test_frames_are_of_so_many_symbols():
    snippets = SnippetStream(bits=16, snippets=6, symbols=8, length=4).sample(20, seeded()).snippets
    kinds = [len({tuple(frame) for frame in stream}) for stream in snippets.flatten(1, 2).tolist()]
    assert max(kinds) == 8
    twice = SnippetStream(bits=1, snippets=5, duplicates=True).sample(3, seeded())
    assert twice.snippets.shape == (3, 5, 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snippets": 0}, "snippets = 0"),
        ({"length": 1}, "length = 1: expected at least 2"),
        ({"cue": 0}, "cue = 0"),
        ({"gap": -1}, "gap = -1"),
        ({"correlation": 1.0}, "correlation = 1.0"),
        ({"old": 1.5}, "old = 1.5"),
        ({"bits": 2, "snippets": 5}, "snippets = 5: expected at most 4, the number of cues"),
        ({"bits": 8, "snippets": 5, "symbols": 3}, "snippets = 5: expected at most 3"),
        ({"mode": "pairs"}, "mode = 'pairs'"),
        ({"mode": "completion", "bits": 1, "snippets": 1}, "bits = 1"),
    ],
)
def test_what_makes_no_stream_is_named(options, message):
    with without_type_checks(), pytest.raises(ValueError, match=message):
        SnippetStream(**options)


def test_cues_that_cannot_differ_are_named():
    with pytest.raises(ValueError, match=r"found no different cues, with bits = 8, correlation = 0\.9999"):
        SnippetStream(bits=8, snippets=3, correlation=0.9999).sample(2, seeded())


@pytest.mark.parametrize("flag", [False, True])
def test_a_window_has_the_shapes_of_its_annotations(flag):
    window = SnippetStream(flag=flag).sample(2, seeded())
    with jaxtyped("context"):
        for name, hint in get_type_hints(type(window)).items():
            assert isinstance(getattr(window, name), hint), name
