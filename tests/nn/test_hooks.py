"""What a call of a module does beside its class's forward is seen, and nothing else is."""

import pytest
import torch
from torch import nn

from engram.nn import ConvBody, LeakyRNN, NTKConv2d, mlp
from engram.nn.hooks import alteration


class Doubled(nn.Tanh):
    def __call__(self, x):
        return 2 * super().__call__(x)


def with_attribute(name, value):
    layer = nn.Linear(2, 2)
    vars(layer)[name] = value
    return layer


def hooked(register):
    layer = nn.Linear(2, 2)
    getattr(layer, register)(lambda *args: None)
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: with_attribute("forward", torch.tanh), "has a forward of its own"),
        (lambda: with_attribute("_call_impl", torch.tanh), "has a __call__ of its own"),
        (lambda: with_attribute("weight", torch.eye(2)), "has an attribute that hides its parameter 'weight'"),
        (Doubled, "has a __call__ of its own"),
        (lambda: hooked("register_forward_pre_hook"), "has hooks"),
        (lambda: hooked("register_full_backward_hook"), "has hooks"),
    ],
)
def test_what_is_other_than_the_class_is_described(make, reason):
    assert alteration(nn.ReLU(), make()) == reason


@pytest.mark.parametrize("forward", [lambda self, x: x, nn.Sigmoid.forward])
def test_a_forward_in_place_of_that_of_a_class_is_seen(monkeypatch, forward):
    monkeypatch.setattr(nn.SELU, "forward", forward)
    assert alteration(nn.SELU()) == "has a forward that was put in place of its class's"


@pytest.mark.parametrize("register", ["forward_hook", "forward_pre_hook", "full_backward_hook"])
def test_hooks_of_all_modules_are_seen_while_they_are_there(register):
    handle = getattr(nn.modules.module, f"register_module_{register}")(lambda *args: None)
    found = alteration(nn.ReLU()), alteration(nn.ReLU(), backward=False)
    handle.remove()
    assert found == ("is called with hooks of all modules", "" if "backward" in register else found[0])
    assert alteration(nn.ReLU()) == ""


def test_modules_as_they_are_made_are_not_altered():
    containers = nn.Sequential(), nn.ModuleList(), ConvBody(2), mlp(2, (), 1)
    plain = *containers, nn.LSTM(2, 3), LeakyRNN(2, 3), NTKConv2d(1, 2, 3)
    assert alteration(*plain) == ""
    assert alteration(*nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8), 1).modules()) == ""


def test_the_body_calls_a_layer_that_does_something_else():
    body, x = ConvBody(4), torch.randn(2, 1, 28, 28)
    plain = body[1].forward
    body[1].forward = lambda z: plain(z).tanh() + 1
    assert torch.allclose(body(x), nn.Sequential(*body)(x))
    assert not body.is_as_made()
