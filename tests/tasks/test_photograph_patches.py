import numpy as np
import pytest

from engram.tasks import photograph_patches


def test_held_out_patches_are_others_and_all_have_no_mean():
    training, test = (photograph_patches(200, 8, part, np.random.default_rng(0)) for part in ("train", "test"))
    assert training.shape == test.shape == (200, 64)
    np.testing.assert_allclose(training.mean(axis=1), 0, atol=1e-12)
    assert np.linalg.norm(training, axis=1).mean() == pytest.approx(1)
    assert not any((np.abs(training - patch).max(axis=1) < 1e-9).any() for patch in test)
