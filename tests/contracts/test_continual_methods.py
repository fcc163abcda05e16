"""Every registered continual method keeps the contract, and so do the variants of penalties."""

import pytest
import torch
from torch import nn

from engram import registry
from engram.continual import ContinualMethod, TaskData
from engram.testing import check_continual_method

GRADIENT, LOSS = ({"applied": way, "strength": 0.3} for way in ("gradient", "loss"))
VARIANTS = [
    *((name, {}) for name in registry.names("continual_methods")),
    *((name, GRADIENT) for name in ("ewc", "si")),
    *((name, LOSS) for name in ("l2", "mas")),
    *(pytest.param(name, GRADIENT, marks=pytest.mark.soak) for name in ("l2", "mas")),
    pytest.param("online-ewc", LOSS, marks=pytest.mark.soak),
    ("ewc", {"fisher": "sample", "strength": 10.0}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_method_keeps_its_promises(name, options):
    check_continual_method(registry.get("continual_methods", name), **options)


@pytest.mark.parametrize("name", registry.names("continual_methods"))
def test_a_method_follows_its_network_to_another_dtype(name):
    _go_on_after_a_move(name, torch.float64)


# Replay asks which tasks its samples are of, and a tensor on "meta", a device on any machine, has no values.
@pytest.mark.parametrize("name", sorted({*registry.names("continual_methods")} - {"replay"}))
def test_a_method_follows_its_network_to_another_device(name):
    _go_on_after_a_move(name, torch.device("meta"))


def _go_on_after_a_move(name, target):
    net, x, y = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4)), torch.ones(8, 3), torch.arange(8) % 4
    optimizer, method = torch.optim.SGD(net.parameters(), lr=0.1), registry.get("continual_methods", name)(net)
    method.attach(optimizer)

    def step(x, y):
        logits = net(x)
        loss = nn.functional.cross_entropy(logits, y) + method.loss(x, y, logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step(x, y)
    method.end_task(TaskData((x, y), classes=range(4)))
    weight = net.to(target)[1].weight
    loss = step(x.to(weight), y.to(weight.device))
    assert (loss.dtype, loss.device) == (weight.dtype, weight.device)


def test_fine_tuning_is_the_method_that_does_nothing():
    assert registry.get("continual_methods", "finetune") is ContinualMethod
