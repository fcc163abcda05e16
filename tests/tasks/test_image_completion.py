import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from engram.tasks import ImageCompletion, natural_crops, standardise


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, height, width, seed=0):
    return torch.rand((n, height, width), generator=seeded(seed)) * 2 - 1


TASKS = st.builds(
    ImageCompletion,
    st.tuples(st.integers(1, 6), st.integers(1, 3).map(lambda half: 2 * half), st.integers(1, 4)).map(
        lambda shape: pictures(*shape)
    ),
    patterns=st.integers(1, 4),
    cycles=st.integers(1, 3),
    presentation_steps=st.integers(1, 3),
    blank_steps=st.integers(0, 2),
    probe_steps=st.integers(1, 3),
)


@settings(deadline=None)
@given(task=TASKS, batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_an_episode_is_what_the_specification_says(task, batch, seed):
    inputs, targets, mask, clamp = task.sample(batch, seeded(seed))
    pixels, known = task.pixels, {tuple(image.tolist()) for image in task.images.flatten(1)}
    assert inputs.shape == targets.shape == clamp.shape == (*mask.shape, pixels)
    assert torch.equal(mask, (torch.arange(len(mask)) == len(mask) - 1)[:, None].expand(-1, batch))
    assert torch.equal(targets, targets[-1].expand_as(targets))
    assert not inputs[~clamp].any(), "what is not given is zero"

    probes = task.probe_steps
    slots = (task.cycles, task.patterns, task.presentation_steps + task.blank_steps, batch, pixels)
    shown, given = inputs[:-probes].view(slots), clamp[:-probes].view(slots)
    assert given[:, :, : task.presentation_steps].all()
    assert not given[:, :, task.presentation_steps :].any()
    assert torch.equal(
        shown[:, :, : task.presentation_steps], shown[:, :, :1].expand(-1, -1, task.presentation_steps, -1, -1)
    )
    for b in range(batch):
        rounds = [sorted(tuple(image.tolist()) for image in round_) for round_ in shown[:, :, 0, b]]
        assert all(r == rounds[0] for r in rounds), "every image is shown once in every round"
        assert set(rounds[0]) <= known
        assert tuple(targets[-1, b].tolist()) in rounds[0], "the target was shown"

    visible = clamp[-probes:]
    assert torch.equal(visible, visible[:1].expand_as(visible))
    half = pixels // 2
    upper = visible[0, :, :half].all(1) & ~visible[0, :, half:].any(1)
    lower = visible[0, :, half:].all(1) & ~visible[0, :, :half].any(1)
    assert (upper ^ lower).all(), "exactly the upper or the lower half is given"
    assert torch.equal(inputs[-probes:][visible], targets[-probes:][visible])


def test_halves_images_and_orders_are_drawn_evenly():
    task = ImageCompletion(pictures(5, 2, 1), patterns=2, cycles=1, presentation_steps=1, blank_steps=0)
    inputs, targets, _, clamp = task.sample(20000, seeded())
    assert clamp[-1, :, 0].float().mean() == pytest.approx(0.5, abs=0.015)
    _, counts = targets[0].unique(dim=0, return_counts=True)
    torch.testing.assert_close(counts / 20000, torch.full((5,), 0.2), atol=0.015, rtol=0)
    first = (inputs[0] == targets[0]).all(1).float().mean()
    assert first == pytest.approx(0.5 + 0.5 / 5, abs=0.015), (
        "the target is first in half of the episodes, or drawn twice"
    )


def test_the_published_setting_has_the_published_length():
    assert len(ImageCompletion(pictures(3, 32, 32), 3, 3, 20, 2, 3).sample(1, seeded()).inputs) == 201
    assert len(ImageCompletion(pictures(3, 8, 8)).sample(1, seeded()).inputs) == 63


def test_a_given_zero_is_clamped():
    task = ImageCompletion(torch.zeros(1, 2, 2), patterns=1)
    assert task.sample(1, seeded()).clamp[0].all()


@pytest.fixture(scope="module")
def blocks():
    """The two photographs by the recipe, written as slowly and plainly as it reads: (213, 320) each."""
    images = []
    for photograph in load_sample_images().images:
        assert photograph.shape == (427, 640, 3)
        grey = photograph.astype(float).sum(2)
        images.append((grey[0:426:2, 0::2] + grey[1:426:2, 0::2] + grey[0:426:2, 1::2] + grey[1:426:2, 1::2]) / 4)
    return images


def by_recipe(part, size):
    for row in range(part.shape[0] - size + 1):
        for column in range(part.shape[1] - size + 1):
            crop = part[row : row + size, column : column + size]
            if crop.std() >= 15:
                centred = crop - crop.mean()
                yield centred / abs(centred).max()


def test_held_out_crops_follow_the_recipe(blocks):
    expected = np.stack([crop for photograph in blocks for crop in by_recipe(photograph[:, 256:], 8)])
    crops = natural_crops(8, "test")
    assert len(crops) == len(expected) == 7383
    np.testing.assert_allclose(crops, expected, atol=1e-5)


@pytest.mark.parametrize("size", [8, 16])
def test_training_crops_follow_the_recipe_and_keep_off_the_held_out_columns(blocks, size):
    crops = natural_crops(size)
    positions = 2 * (213 - size + 1) * (256 - size + 1)
    assert {8: 56390, 16: 67313}[size] == len(crops) < positions
    assert torch.equal(crops.abs().amax((1, 2)), torch.ones(len(crops)))
    torch.testing.assert_close(crops.mean((1, 2)), torch.zeros(len(crops)), atol=1e-5, rtol=0)
    last = list(by_recipe(blocks[1][-size:, :256], size))[-1]
    np.testing.assert_allclose(crops[-1], last, atol=1e-5)


def test_standardise_keeps_values_in_range_and_leaves_a_plain_image_at_zero():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)
    images[0] = 77
    grey = standardise(images)
    assert grey.shape == (4, 3, 5)
    assert not grey[0].any()
    torch.testing.assert_close(grey[1:].mean((1, 2)), torch.zeros(3), atol=1e-6, rtol=0)
    assert (grey[1:].abs().amax((1, 2)) == 1).all()
    summed = torch.from_numpy(images[1].astype(np.float32)).sum(2)
    correlation = torch.corrcoef(torch.stack((grey[1].flatten(), summed.flatten())))[0, 1]
    assert correlation == pytest.approx(1, abs=1e-6)


GOOD = torch.zeros(2, 4, 4)
BAD = [
    ({"images": GOOD[0]}, ValueError, r"images.shape = \(4, 4\)"),
    ({"images": GOOD[:0]}, ValueError, r"images.shape = \(0, 4, 4\)"),
    ({"images": torch.zeros(2, 3, 3)}, ValueError, "even number of pixels"),
    ({"images": GOOD.long()}, ValueError, r"images.dtype = torch.int64"),
    ({"images": GOOD + 2}, ValueError, "images has values from 2.0 to 2.0"),
    ({"images": GOOD / 0}, ValueError, "images has values from nan"),
]


@pytest.mark.parametrize(("fields", "expected", "message"), BAD)
def test_bad_fields_are_refused(fields, expected, message):
    with pytest.raises(expected, match=message):
        ImageCompletion(**fields)
