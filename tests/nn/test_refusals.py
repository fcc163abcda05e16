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


class Reading(nn.Module):
    """A network with a function that may read the weights of its first layer."""

    def __init__(self, kind, read):
        super().__init__()
        self.parts, self.read = nn.Sequential(kind(4, 4), nn.Tanh()), read

    def forward(self, x):
        return self.read(self.parts, self.parts(x))


READS = {
    "product": lambda parts, h: h @ parts[0].weight,
    "all parameters": lambda parts, h: h + next(parts.parameters()).sum(),
    "view": lambda parts, h: nn.functional.linear(h, next(iter(parts.parameters())).t()),
    "bias": lambda parts, h: h - parts[0].bias,
    "branch": lambda parts, h: h @ parts[0].weight if h.sum() > 0 else h,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("convert", "kind"), [(from_standard, nn.Linear), (to_standard, NTKLinear)])
def test_weights_that_are_read_without_a_call_are_not_converted(read, convert, kind):
    with pytest.raises(ValueError, match=r"without calling the layer|cannot be traced .* and reads 'weight' itself"):
        convert(nn.Sequential(Reading(kind, READS[read])))


USES = {
    "call": lambda parts, h: parts(h),
    "branch": lambda parts, h: parts(h) if h.sum() > 0 else h,
    "form": lambda parts, h: parts(h.to(parts[0].weight.dtype)) * next(parts.parameters()).shape[0],
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_networks_that_call_their_layers_are_converted_whatever_else_they_do(use):
    torch.manual_seed(0)
    model, x = Reading(nn.Linear, use), torch.randn(3, 4)
    torch.testing.assert_close(from_standard(model)(x), model(x))


def test_a_layer_with_a_forward_or_weights_of_its_own_is_not_converted():
    replaced, computed = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    replaced[0].forward = torch.tanh
    del computed[0].weight
    computed[0].weight = torch.eye(2)
    for model, reason in ((replaced, "has a forward of its own"), (computed, "computes its weights from others")):
        with pytest.raises(ValueError, match=f"layer '0' {reason}"):
            from_standard(model)


def test_a_norm_that_runs_twice_cannot_be_frozen():
    norm = BatchOnlyNorm()
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm)
    with pytest.raises(ValueError, match="more than once"):
        freeze_norms(model, torch.randn(6, 4))
    assert norm.mean is None
