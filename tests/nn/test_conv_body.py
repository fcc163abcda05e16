"""The body calls its layers where they do more than their weights say."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from engram.nn import ConvBody


@pytest.mark.parametrize("layer", [0, 1])
def test_a_pruned_body_is_that_of_its_layers(layer):
    body, x = ConvBody(4, generator=torch.Generator().manual_seed(0)), torch.rand(2, 1, 24, 24)
    prune.random_unstructured(body[layer], "weight", 0.5)
    with torch.no_grad():
        body[layer].weight_orig.mul_(-2)
    torch.testing.assert_close(body(x), nn.Sequential(*body)(x))
    optimizer = torch.optim.SGD(body.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        body(x).sum().backward()
        optimizer.step()


class Halved(nn.Conv2d):
    def forward(self, input):
        return super().forward(input / 2)


@pytest.mark.parametrize(
    ("index", "layer"),
    [
        (0, Halved(1, 4, 3)),
        (0, nn.Conv2d(1, 4, 3, padding=1)),
        (0, nn.Conv2d(1, 4, 3, stride=2)),
        (0, nn.Sequential(nn.Conv2d(1, 4, 3))),
        (1, nn.Identity()),
        (1, nn.InstanceNorm2d(4)),
        (1, nn.InstanceNorm2d(4, eps=0.1, affine=True)),
        (2, nn.LeakyReLU(0.5)),
        (3, nn.AvgPool2d(2)),
        (3, nn.MaxPool2d(3, stride=2)),
    ],
)
def test_a_layer_that_was_replaced_is_called(index, layer):
    body, x = ConvBody(4, generator=torch.Generator().manual_seed(0)), torch.rand(2, 1, 50, 50)
    body[index] = layer
    torch.testing.assert_close(body(x), nn.Sequential(*body)(x))


def test_a_slice_is_a_plain_sequence():
    body = ConvBody(4)
    assert type(body[:3]) is nn.Sequential
    assert body[:3][0] is body[0]
    assert [name for name, _ in body[1:3].named_children()] == [
        name for name, _ in nn.Sequential(*body)[1:3].named_children()
    ]


def test_all_parameters_have_a_gradient():
    body, x = ConvBody(4, generator=torch.Generator().manual_seed(0)), torch.rand(2, 1, 24, 24)
    gradients, wanted = (
        torch.autograd.grad(model(x).square().sum(), list(body.parameters())) for model in (body, nn.Sequential(*body))
    )
    for gradient, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)
