"""A copy of a module computes with its own weights, or is refused."""

import functools
import types
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from engram import copying
from engram.continual import LwF, TaskData
from engram.copying import copied

held = nn.Linear(2, 2)


class Tied(nn.Module):
    """A module whose class reads a layer by a name of this file."""

    def __init__(self):
        super().__init__()
        self.layer = held

    def forward(self, x):
        return functional.linear(x, held.weight)


class Up(nn.Module):
    """A module that holds the one around it, which is no submodule."""

    def __init__(self, around):
        super().__init__()
        self.around = weakref.ref(around)

    def forward(self, x):
        return x @ self.around()[0].weight


def replaced(make):
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    make(net)
    return net


def closure(net):
    plain = net.forward
    net.forward = lambda x: plain(2 * x)


def default(net):
    net[1].forward = lambda x, layer=net[0]: layer(x)


def view(net):
    weight = net[0].weight.detach().t()
    net[1].forward = lambda x: x @ weight


def nested(net):
    def inner(x):
        return parts["first"](x)

    parts = {"first": net[0]}

    @functools.wraps(inner)
    def outer(x, scale):
        return scale * inner(x)

    net.forward = functools.partial(outer, scale=2)


def hook(net):
    net[1].register_forward_hook(lambda module, inputs, output: output + net[0].bias)


@pytest.mark.parametrize("make", [closure, default, view, nested, hook, lambda net: net.append(Up(net))])
def test_a_function_that_holds_a_part_of_the_original_is_named(make):
    with pytest.raises(TypeError, match=r"Sequential cannot be copied: '(forward|_forward_hooks|around)' of "):
        copied(replaced(make))


def test_a_class_that_reads_a_layer_by_a_global_name_is_named():
    with pytest.raises(TypeError, match="Tied cannot be copied: 'forward' of the module itself"):
        copied(Tied())


def test_functions_that_hold_nothing_of_it_are_copied_along():
    def scaled(self, x):
        return nn.Sequential.forward(self, x) * 3

    net, seen = nn.Sequential(nn.Linear(2, 2), nn.Tanh()), []
    net.forward = types.MethodType(scaled, net)
    net[1].forward = lambda x: x.abs()
    net[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    twin, x = copied(net), torch.randn(3, 2)
    assert torch.equal(twin(x), net(x))
    with torch.no_grad():
        twin[0].weight.zero_()
        twin[0].bias.fill_(1)
    assert (twin(x) == 3).all()
    assert not (net(x) == 3).all()
    assert len(seen) == 4


def test_activity_that_is_kept_is_copied_without_its_graph():
    net = nn.Linear(2, 2)
    net.kept = net(torch.ones(1, 2))
    assert copied(net).kept.grad_fn is None


def test_a_teacher_that_would_change_with_the_network_is_refused():
    method = LwF(replaced(closure))
    with pytest.raises(TypeError, match="cannot be copied"):
        method.end_task(TaskData(None))
    assert method.teacher is None
    assert method.groups == []


class Around(nn.Module):
    """A recurrent layer within a module."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_copied(kind):
    layer, x = kind(2, 2), torch.randn(3, 1, 2)
    for module in (layer, Around(layer)):
        twin = copied(module)
        expected = Around(layer)(x)
        assert torch.equal(twin(x) if module is not layer else twin(x)[0], expected)
        with torch.no_grad():
            for weight in twin.parameters():
                weight.zero_()
        assert not torch.equal(twin(x) if module is not layer else twin(x)[0], expected)
        assert torch.equal(Around(layer)(x), expected)


def test_layers_without_weights_yet_are_copied():
    net = nn.Sequential(nn.LazyLinear(3), nn.Tanh())
    twin = copied(net)
    assert twin(torch.randn(4, 2)).shape == (4, 3)
    assert isinstance(net[0].weight, nn.UninitializedParameter)


def test_a_weak_reference_is_called_so():
    with pytest.raises(TypeError, match="'around' of layer '2', a Up, is a weak reference to a part of it"):
        copied(replaced(lambda net: net.append(Up(net))))


trainer = types.SimpleNamespace(model=None, x=3)


class Logging(nn.Module):
    """A module with methods that read a global object, which holds it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def report(self):
        return trainer.x

    def hidden(self, x):
        return trainer.model.layer(x)

    def forward(self, x):
        return self.layer(x)


class Calling(Logging):
    def forward(self, x):
        return sum(part(x) for part in [lambda x: 2 * self.hidden(x)])


class Other(nn.Sequential):
    def forward(self, x):
        return self[0].hidden(x)


def test_a_method_counts_if_the_forward_calls_it(monkeypatch):
    net = Logging()
    monkeypatch.setattr(trainer, "model", net)
    assert torch.equal(copied(net)(torch.ones(1, 2)), net(torch.ones(1, 2)))
    for module in (Calling(), Other(net)):
        monkeypatch.setattr(trainer, "model", module)
        with pytest.raises(TypeError, match="'hidden' of "):
            copied(module)


def test_a_function_of_many_layers_is_looked_through_once(monkeypatch):
    looked = []
    plain = copying._holds
    monkeypatch.setattr(copying, "_holds", lambda function, *where: looked.append(function) or plain(function, *where))
    copied(nn.Sequential(*(Logging() for _ in range(5))))
    assert looked == [Logging.forward]
