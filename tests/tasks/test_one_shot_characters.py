import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.tasks import OneShotCharacters, synthetic_glyphs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(characters, drawings, size=2):
    """Images that say what they are: pixel by pixel character, drawing, and which corner it is."""
    images = torch.empty(characters, drawings, size, size)
    for c in range(characters):
        for d in range(drawings):
            images[c, d] = torch.arange(size**2).view(size, size) + 100 * d + 10000 * c
    return images


def decoded(image):
    """Return character, drawing and number of quarter turns of an image of ``numbered``."""
    low = int(image.min())
    upright = torch.arange(4).view(2, 2)
    (turn,) = [k for k in range(4) if torch.equal(image.int() - low, upright.rot90(k))]
    return low // 10000, low % 10000 // 100, turn


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(2, 8), st.integers(2, 4)),
    ways=st.integers(2, 8),
    options=st.tuples(st.booleans(), st.booleans()),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_an_episode_is_what_the_specification_says(shape, ways, options, batch, seed):
    ways, (rotations, distinct) = min(ways, shape[0]), options
    task = OneShotCharacters(numbered(*shape), ways, rotations, distinct)
    inputs, targets, mask = task.sample(batch, seeded(seed))
    assert inputs.shape == (ways + 1, batch, 4 + ways)
    assert torch.equal(mask, (torch.arange(ways + 1) == ways)[:, None].expand_as(mask))
    images, labels = task.split(inputs)
    assert torch.equal(labels[:-1], targets[:-1])
    assert not labels[-1].any(), "the label of the last drawing is not shown"
    for b in range(batch):
        *shown, query = [decoded(image) for image in images[:, b]]
        named = targets[:, b].argmax(1).tolist()
        assert torch.equal(targets[:, b].sum(1), torch.ones(ways + 1))
        assert sorted(named[:-1]) == list(range(ways)), "each label is shown once"
        assert len({character for character, _, _ in shown}) == ways, "the characters are different"
        (same,) = [s for s in range(ways) if shown[s][0] == query[0]]
        assert named[same] == named[-1], "the answer is the label that was shown with this character"
        assert shown[same][2] == query[2], "a character is turned alike in all of an episode"
        assert rotations or all(turn == 0 for _, _, turn in shown)
        assert not distinct or shown[same][1] != query[1]


def test_characters_drawings_turns_labels_and_places_are_drawn_evenly():
    batch = 20000
    task = OneShotCharacters(numbered(4, 3), ways=2)
    inputs, targets, _ = task.sample(batch, seeded())
    images, _ = task.split(inputs)
    low = images.amin((2, 3))
    turn = (images[..., 0, 0] - low).long()  # which corner came to the upper left

    def even(values, kinds):
        _, counts = values.unique(return_counts=True)
        torch.testing.assert_close(counts / len(values), torch.full((kinds,), 1 / kinds), atol=0.015, rtol=0)

    for step in range(3):
        even(low[step] // 10000, 4)
        even(low[step] % 10000, 3)
        even(turn[step], 4)
        even(targets[step].argmax(1), 2)
    same_drawing = (low[:2] == low[2]).any(0).float().mean()
    assert same_drawing == pytest.approx(1 / 3, abs=0.015)
    asked_first = (targets[0] == targets[2]).all(1).float()
    assert asked_first.mean() == pytest.approx(0.5, abs=0.015)
    independent = torch.corrcoef(torch.stack((targets[0, :, 0], asked_first)))[0, 1]
    assert independent == pytest.approx(0, abs=0.03), "the label does not tell the place"


def test_glyphs_are_determined_by_the_generator_and_are_all_different():
    glyphs = synthetic_glyphs(6, 4, seeded())
    assert torch.equal(glyphs, synthetic_glyphs(6, 4, seeded()))
    assert not torch.equal(glyphs, synthetic_glyphs(6, 4, seeded(1)))
    assert len(glyphs.flatten(0, 1).flatten(1).unique(dim=0)) == 24


def test_glyphs_are_ink_on_paper():
    glyphs = synthetic_glyphs(200, 2, seeded(), size=32)
    assert glyphs.shape == (200, 2, 32, 32)
    assert glyphs.min() >= 0
    assert glyphs.max() <= 1
    ink = glyphs.amax((2, 3))
    assert (ink > 0.9).float().mean() > 0.99, "a blob lies within half a pixel of a pixel's centre"
    border = torch.cat((glyphs[..., 0, :], glyphs[..., -1, :], glyphs[..., 0], glyphs[..., -1]), dim=2)
    assert border.mean() < 0.1 * glyphs.mean(), "characters keep to the middle"


def test_two_drawings_of_a_character_are_more_alike_than_those_of_two_characters():
    glyphs = synthetic_glyphs(60, 2, seeded()).flatten(2)
    distance = torch.cdist(glyphs[:, 0], glyphs[:, 1])
    assert (distance.argmin(1) == torch.arange(60)).float().mean() > 0.5  # by chance 1 / 60
    ratio = distance.diagonal().mean() / distance.mean()
    assert 0.5 < ratio < 0.75, "but they are not copies"


def test_glyphs_vary_as_much_as_said():
    still, little, much = (synthetic_glyphs(60, 2, seeded(), variability=v) for v in (0.0, 1.0, 2.0))
    assert torch.equal(still[:, 0], still[:, 1])
    apart = [(glyphs[:, 0] - glyphs[:, 1]).square().mean() for glyphs in (little, much)]
    assert 0 < 1.2 * apart[0] < apart[1]
    assert torch.equal(little, synthetic_glyphs(60, 2, seeded()))


def test_a_single_stroke_point_is_a_gaussian_blob():
    """All noise and strokes taken as they come: a pixel's value is that of its nearest point of all strokes."""
    glyph = synthetic_glyphs(1, 1, seeded(3), size=64)[0, 0]
    distance = (-2 * 0.7**2 * glyph[glyph > 1e-6].double().log()).sqrt()
    assert distance.min() < 0.75
    # Consecutive points are less than 64 * 0.76 * 2 / 23 pixels apart: ink is a band around a curve, not scattered.
    peaks = (glyph > 0.5).sum()
    assert 20 < peaks < 400


BAD = [
    ({"images": torch.zeros(5, 2, 3, 4)}, ValueError, r"images.shape = \(5, 2, 3, 4\)"),
    ({"images": torch.zeros(5, 0, 3, 3)}, ValueError, "none of them 0"),
    ({"images": torch.zeros(5, 2, 3, 3).long()}, ValueError, "images.dtype = torch.int64"),
    ({"images": torch.full((5, 2, 3, 3), torch.nan)}, ValueError, "is NaN: expected finite"),
    ({"images": torch.zeros(4, 2, 3, 3)}, ValueError, "4 characters: expected at least ways = 5"),
    ({"images": torch.zeros(5, 1, 3, 3), "distinct": True}, ValueError, "1 drawings"),
]


@pytest.mark.parametrize(("fields", "expected", "message"), BAD)
def test_bad_fields_are_refused(fields, expected, message):
    with pytest.raises(expected, match=message):
        OneShotCharacters(**fields)
