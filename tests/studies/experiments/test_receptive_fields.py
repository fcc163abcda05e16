"""Sizes and simplicity of receptive fields that are known."""

import numpy as np
import pytest

from engram.studies.experiments.receptive_fields import explained_by_one, feature_size


def gabor(side, *, x, y, cycles=0, angle=0, phase=0, width):
    """A Gabor function; lengths are in pixels."""
    ticks = np.arange(side)
    x, y = ticks - x, ticks[:, None] - y
    along = x * np.cos(angle) + y * np.sin(angle)
    return np.exp(-(x**2 + y**2) / 2 / width**2) * np.cos(2 * np.pi * cycles * along / side + phase)


@pytest.mark.parametrize(("side", "width"), [(24, 2.0), (24, 3.5), (40, 5.0)])
def test_the_size_of_a_blob_is_its_width(side, width):
    blob = gabor(side, x=(side - 1) / 2, y=(side - 1) / 2, width=width)
    colours = np.stack([blob, -2 * blob])
    np.testing.assert_allclose(feature_size(np.stack([colours, 9 * colours])), [width] * 2, rtol=0.02)


def test_waves_and_noise_are_smaller_than_the_blob_that_they_fill():
    rng = np.random.default_rng(0)
    wave = gabor(24, x=11.5, y=11.5, cycles=4, angle=0.5, width=3.5)
    period = 24 / 4 / (2 * np.pi)
    assert feature_size(wave[None, None])[0] == pytest.approx((1 / period**2 + 1 / 3.5**2) ** -0.5, rel=0.05)
    assert feature_size(rng.normal(size=(1, 3, 24, 24)))[0] == pytest.approx(0.5, rel=0.05)  # |f| / 2 |f|


def test_one_gabor_is_simple_and_two_or_noise_are_not():
    rng = np.random.default_rng(0)
    one = gabor(20, x=9.3, y=8.1, cycles=1.3, angle=0.9, phase=2.0, width=3.7)
    other = gabor(20, x=15, y=15, cycles=2.1, angle=2.2, phase=0.4, width=2)
    two = one / np.linalg.norm(one) + other / np.linalg.norm(other)
    fields = np.stack([one, two, rng.normal(size=(20, 20))])[:, None]
    simple, halved, noise = explained_by_one(fields)
    assert simple >= 0.9
    assert halved == pytest.approx(0.5, abs=0.1)
    assert noise <= 0.15
    colours = np.stack([one, 0.5 * one, -one])  # one function in one colour
    different = np.stack([one, other, 0 * one])
    assert explained_by_one(colours[None])[0] == pytest.approx(simple)
    assert explained_by_one(different[None])[0] <= 0.8
