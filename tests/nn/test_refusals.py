"""A call that is refused changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from engram.nn import BatchOnlyNorm, ConvBody, NTKLinear, freeze_norms, from_standard, standard_rates, to_standard


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


def test_layers_that_are_more_than_their_weights_are_not_converted():
    hooked, pruned = nn.Sequential(NTKLinear(4, 2)), nn.Sequential(nn.Linear(4, 2))
    hooked[0].register_forward_hook(lambda module, inputs, output: output + 1)
    prune.l1_unstructured(pruned[0], "weight", 0.5)
    for convert, net in [
        (to_standard, hooked),
        (lambda net: standard_rates(net, 0.1), hooked),
        (from_standard, pruned),
        (from_standard, nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 2)))),
    ]:
        with pytest.raises(ValueError, match="layer '0' has hooks or a parametrisation"):
            convert(net)
    with pytest.raises(TypeError, match="'0' is a TransformerEncoderLayer"):
        from_standard(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16)))


def test_a_norm_that_runs_twice_cannot_be_frozen():
    norm = BatchOnlyNorm()
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm)
    with pytest.raises(ValueError, match="more than once"):
        freeze_norms(model, torch.randn(6, 4))
    assert norm.mean is None
