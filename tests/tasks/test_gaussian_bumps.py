import numpy as np
import pytest
import torch

from engram.tasks import GaussianBumps


@pytest.mark.parametrize(
    ("bumps", "count"),
    [
        (GaussianBumps(32), 1024),
        (GaussianBumps(32, 0.1, 1.0), 320 * 32),
        (GaussianBumps(16, 0.5, 0.5, margin=0.0), 961),
        (GaussianBumps(16, 0.1, 1.0, margin=0.0), 151 * 16),
        (GaussianBumps(16, 0.5, 0.5, margin=0.0, holdout=("square", 5.0, 10.0)), 961 - 81),
        (GaussianBumps(16, 0.5, 0.5, margin=0.0, holdout=("band", 0, 5.0, 10.0)), 682),
        (GaussianBumps(16, margin=0.0, kind="stripe_x"), 16),
    ],
)
def test_sizes(bumps, count):
    assert len(bumps) == len(bumps.labels) == len(bumps.images) == count


def test_a_bump_is_a_product_and_its_label_is_column_and_row():
    bumps = GaussianBumps(8, sigma=(1.0, 2.0))
    image = (bumps.render(torch.tensor([[2.0, 5.0]]))[0, 0] + 1) / 2
    assert image[5, 2] == 1
    assert image[5, 4].item() == pytest.approx(np.exp(-2))  # two widths along x
    assert image[3, 2].item() == pytest.approx(np.exp(-0.5))  # one along y
    dark = GaussianBumps(8, invert=True).render(torch.tensor([[2.0, 5.0]]))
    assert torch.equal(dark, -GaussianBumps(8).render(torch.tensor([[2.0, 5.0]])))


def test_an_absent_factor_leaves_a_stripe_and_two_leave_nothing():
    bumps = GaussianBumps(8)
    stripe, nothing = (bumps.render(torch.tensor([[3.0, bumps.off], [bumps.off] * 2])) + 1) / 2
    assert torch.equal(stripe[0], stripe[0, :1].expand(8, 8))
    assert stripe[0, 0].argmax() == 3
    assert not nothing.any()
    assert torch.equal(GaussianBumps(8, kind="stripe_y").render(torch.tensor([[12.0, 3.0]]))[0, 0].T, 2 * stripe[0] - 1)
    sums = (GaussianBumps(8, kind="sos").render(torch.tensor([[3.0, 5.0]]))[0, 0] + 1) / 2
    assert sums[5, 3] == 1
    assert sums[0, 3].item() == pytest.approx(0.5, abs=1e-4)


def test_what_is_kept_is_drawn_from_the_seed():
    labels = [GaussianBumps(16, keep=0.3, seed=seed).labels for seed in (0, 0, 1)]
    assert torch.equal(labels[0], labels[1])
    assert labels[0].tolist() != labels[2].tolist()
    assert 0.2 < len(labels[0]) / 256 < 0.4
    assert len({tuple(place) for place in labels[0].tolist()}) == len(labels[0])


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"dx": 0.0}, "dx = 0.0: expected a number above 0"),
        ({"dy": 40.0}, "dy = 40.0"),
        ({"sigma": -1.0}, "sigma = -1.0"),
        ({"margin": 9.0, "size": 16}, "margin = 9.0"),
        ({"holdout": ("square", 5.0, 5.0)}, "expected low < high"),
        ({"holdout": ("band", 2, 1.0, 5.0)}, "axis of holdout = 2: expected 0 to 1"),
        ({"holdout": ("square", -1.0, 99.0)}, "expected at least one position, but none is left"),
        ({"keep": 0.0}, "keep = 0.0"),
    ],
)
def test_bad_settings_are_named(options, pattern):
    with pytest.raises(ValueError, match=pattern):
        GaussianBumps(**options)


def test_a_label_outside_the_canvas_is_refused():
    with pytest.raises(ValueError, match="labels: 16 is outside the canvas: expected 0 to below 16, or 24"):
        GaussianBumps(16).render(torch.tensor([[1.0, 2.0], [16.0, 3.0]]))
