"""A call that is refused changes nothing."""

import pytest
import torch
from torch import nn

from engram.nn import BatchOnlyNorm, ConvBody, freeze_norms


def test_a_refused_call_keeps_the_statistics_of_norms():
    model = nn.Sequential(nn.Linear(2, 3), BatchOnlyNorm())
    freeze_norms(model, torch.randn(8, 2))
    before = model[1].mean
    with pytest.raises(RuntimeError):
        freeze_norms(model, torch.randn(8, 5))
    assert model[1].mean is before
    model.forward = lambda x: x  # runs no norm
    with pytest.raises(ValueError, match="0 of its 1 norms"):
        freeze_norms(model, torch.randn(8, 2))
    assert model[1].mean is before


@pytest.mark.parametrize("shape", [(2, 3, 22, 22), (0, 1, 22, 22)])
def test_the_body_refuses_images_of_other_channels_or_none(shape):
    with pytest.raises(ValueError, match=r"input.shape = .* expected \(batch, 1, height, width\)"):
        ConvBody(4)(torch.zeros(shape))
