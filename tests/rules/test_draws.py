"""All passes of an update draw the same random numbers."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from engram.rules import Backprop, NodePerturbation, WeightPerturbation, train_step
from engram.rules.align import AlignZero
from engram.rules.draws import record_draws


class Noisy(nn.Module):
    """A module that multiplies by random numbers of any source."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.torch, self.numpy, self.python = torch.Generator(), np.random.default_rng(0), random.Random(0)

    def forward(self, h):
        match self.kind:
            case "function":
                return functional.dropout(h, 0.5, self.training)
            case "rows":
                return h * torch.bernoulli(torch.full((len(h), 1), 0.5))
            case "generator":
                return h * (1 + torch.randn(h.shape, generator=self.torch).to(h))
            case "numpy's generator":
                return h * torch.from_numpy(self.numpy.normal(1, 1, h.shape))
            case "python's generator":
                return h * self.python.gauss(1, 1)
            case "numpy":
                return h * torch.from_numpy(np.random.normal(1, 1, h.shape))  # noqa: NPY002
            case "python":
                return h * random.gauss(1, 1)


# Python's global generator is drawn from between the passes too, by checks of arguments.
KINDS = ("function", "rows", "generator", "numpy's generator", "python's generator", "numpy")
OF_TORCH = {"dropout": nn.Dropout(0.5), "slopes": nn.RReLU(0.1, 2.0)}
X, TARGET = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double(), torch.arange(6) % 2


def network(between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), between, nn.Linear(5, 2)).double()


def agreement(rule, net):
    """The cosine of a rule's pseudo-gradient and the gradient under the same random numbers, and their lengths."""
    state, repeat = rule.init(net, torch.Generator().manual_seed(2)), record_draws(net)
    ours = rule.update(net, X, TARGET, state).grads
    repeat()
    exact = Backprop().update(net, X, TARGET, None).grads
    a, b = (torch.cat([grads[name].flatten() for name in exact]) for grads in (ours, exact))
    return torch.cosine_similarity(a, b, dim=0).item(), (a.norm() / b.norm()).item()


@pytest.mark.parametrize("kind", [*KINDS, *OF_TORCH])
def test_perturbed_weights_follow_the_gradient_under_the_same_draws(kind):
    cosine, ratio = agreement(WeightPerturbation(1e-4, pairs=600), network(OF_TORCH.get(kind) or Noisy(kind)))
    assert cosine > 0.93
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_perturbed_nodes_follow_the_gradient_under_the_same_draws(kind):
    cosine, ratio = agreement(NodePerturbation(1e-4, draws=600), network(Noisy(kind)))
    assert cosine > 0.93
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["function", "rows", "numpy", "dropout", "slopes"])
def test_the_first_step_of_align_zero_is_backpropagation_under_the_same_draws(kind):
    cosine, ratio = agreement(AlignZero(), network(OF_TORCH.get(kind) or Noisy(kind)))
    assert (cosine, ratio) == (pytest.approx(1), pytest.approx(1))


def test_the_next_update_draws_others_and_as_many_as_one_pass():
    net, rule = network(nn.Dropout(0.5)), WeightPerturbation(pairs=3)
    sgd, state = torch.optim.SGD(net.parameters(), 0.1), rule.init(net, torch.Generator())
    torch.manual_seed(3)
    train_step(rule, net, sgd, (X, TARGET), state)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    begin = torch.get_rng_state()
    net(X)
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(begin, after)


@pytest.mark.parametrize("kind", [*KINDS, "python", *OF_TORCH])
def test_what_is_repeated_is_the_same_and_goes_on_differently(kind):
    net = network(OF_TORCH.get(kind) or Noisy(kind))
    repeat = record_draws(net)
    first = net(X)
    repeat()
    assert torch.equal(net(X), first)
    assert not torch.equal(net(X), first)


def test_in_a_recurrent_network_of_torch_dropout_is_the_same_too():
    torch.manual_seed(0)
    net, rule = nn.GRU(3, 4, 2, dropout=0.5), WeightPerturbation()
    repeat = record_draws(net)
    first = net(X[None].float())[0]
    repeat()
    assert torch.equal(net(X[None].float())[0], first)
    rule.init(net, torch.Generator())
