"""Hooks of parameters run on the gradients of every rule, as they do in a backward pass."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from engram import registry
from engram.nn import LeakyRNN, ReadoutNetwork
from engram.nn.parameter_hooks import suspended_hooks, through_hooks
from engram.optim import AntitheticES
from engram.rules import Backprop, FeedbackAlignment, LastLayerOnly, apply_rule, train_step

RULES = registry.names("learning_rules")
IN_TIME = ("eprop", "rtrl")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def case(name):
    rule = registry.get("learning_rules", name)()
    if name.startswith(IN_TIME):
        net, x = ReadoutNetwork(LeakyRNN(3, 4, generator=seeded()), 2, generator=seeded(1)), torch.ones(5, 6, 3)
        return rule, net, net.readout.weight, (x, torch.arange(6) % 2)
    torch.manual_seed(0)
    activation = nn.Sigmoid if name == "reinforce" else nn.Tanh
    net = nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 2))
    return rule, net, net[2].weight, (torch.randn(6, 3, generator=seeded(2)), torch.arange(6) % 2)


@pytest.mark.parametrize("name", RULES)
def test_each_hook_runs_once_in_order_on_the_gradient_of_every_rule(name):
    rule, net, weight, batch = case(name)
    state = rule.init(net, seeded(3))
    raw = next(value for key, value in apply_rule(rule, net, *batch, state).grads.items() if key.endswith("weight"))
    plain = apply_rule(rule, net, *batch, state).grads
    owner = next(key for key, value in net.named_parameters() if value is weight)
    seen = []
    weight.register_hook(lambda grad: grad.clone().index_fill_(0, torch.tensor([0]), 0.0))
    weight.register_hook(lambda grad: seen.append(grad.clone()))  # returns None: the gradient stays
    weight.register_hook(lambda grad: grad + 2)
    hooked = apply_rule(rule, net, *batch, state).grads
    masked = plain[owner].index_fill(0, torch.tensor([0]), 0.0)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], masked)
    torch.testing.assert_close(hooked[owner], masked + 2)
    for key, grad in hooked.items():
        if key != owner:
            torch.testing.assert_close(grad, plain[key])
    assert raw.any()


@pytest.mark.parametrize("rule", [Backprop(), FeedbackAlignment()], ids=["backprop", "fa"])
def test_a_step_moves_no_masked_weight_and_calls_what_follows_the_accumulation(rule):
    torch.manual_seed(0)
    net, order = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), []
    mask = torch.tensor([0.0, 1.0, 0.0])
    net[0].weight.register_hook(lambda grad: grad * mask)
    net[0].weight.register_post_accumulate_grad_hook(lambda weight: order.append(weight.grad.clone()))
    net[2].bias.register_post_accumulate_grad_hook(lambda bias: setattr(bias, "grad", None))
    before = [parameter.clone() for parameter in net.parameters()]
    sgd, state = torch.optim.SGD(net.parameters(), 0.1), rule.init(net, seeded())
    update = train_step(rule, net, sgd, (torch.ones(5, 3), torch.zeros(5, dtype=torch.int64)), state)
    weight, bias = net[0].weight.detach() - before[0], net[2].bias.detach() - before[3]
    assert not weight[:, ::2].any()
    assert weight[:, 1].any()
    assert not bias.any()  # the hook took its gradient away
    assert len(order) == 1
    assert torch.equal(order[0], update.grads["0.weight"])


def test_hooks_of_what_a_rule_does_not_train_do_not_run():
    net, calls = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), []
    net[0].weight.register_hook(calls.append)
    net[2].bias.register_hook(calls.append)
    net[2].bias.requires_grad_(False)
    apply_rule(LastLayerOnly(), net, torch.ones(5, 3), torch.ones(5, 2), None)
    assert calls == []


def test_hooks_are_back_after_an_error_and_one_that_is_added_meanwhile_stays():
    weight, calls = nn.Parameter(torch.ones(2)), []
    weight.register_hook(lambda grad: calls.append("first"))
    with suppress(KeyError), suspended_hooks([weight, torch.ones(1)]):
        weight.register_hook(lambda grad: calls.append("second"))
        raise KeyError
    torch.autograd.grad(weight.sum(), weight)
    assert calls == ["first", "second"]


def test_a_hook_that_gives_another_shape_is_refused():
    weight = nn.Parameter(torch.ones(2))
    weight.register_hook(lambda grad: grad[:1])
    with pytest.raises(RuntimeError, match="size"):
        through_hooks({"weight": weight}, {"weight": torch.ones(2)})


def test_evolution_moves_no_masked_parameter():
    weight = nn.Parameter(torch.zeros(4))
    weight.register_hook(lambda grad: grad * torch.tensor([0.0, 1.0, 0.0, 1.0]))
    es = AntitheticES([weight], 0.1, torch.optim.SGD([weight], 0.5), population_size=20)
    es.tell(loss=(es.ask()[0] - 1).square().sum(1))
    assert (weight != 0).tolist() == [False, True, False, True]
