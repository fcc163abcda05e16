from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engram.experiments.one_shot_characters import (
    Classifier,
    Config,
    blurred,
    experiment,
    nearest_logits,
    query_logits,
    tasks_of,
)
from engram.plasticity import Hebb, Oja, PlasticLinear
from engram.tasks import OneShotCharacters

PAPER = experiment.arms("paper")["connection"].config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_network_has_the_published_size_and_length():
    net = Classifier(PAPER, seeded())
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 112_065
    task = OneShotCharacters(torch.rand(6, 2, 31, 31))
    images, labels = task.split(task.sample(3, seeded()).inputs)
    assert len(images) == 6
    assert net(images, labels).shape == (3, 5)
    assert (PAPER.rule, PAPER.learning_rate, PAPER.updates, PAPER.withheld) == ("oja", 3e-5, 5_000_000, 100)


@given(
    rule=st.sampled_from([Oja, Hebb]),
    alpha=st.sampled_from(["connection", "post", "homogeneous"]),
    eta=st.floats(0.001, 0.999),
    sizes=st.tuples(st.integers(2, 6), st.integers(1, 8), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_the_closed_form_equals_the_published_loop(rule, alpha, eta, sizes, seed):
    ways, features, batch = sizes
    head = PlasticLinear(
        features,
        ways,
        rule=rule(eta),
        alpha=alpha,
        bias=False,
        nonlinearity="softmax",
        backend="eager",
        generator=seeded(seed),
    )
    with torch.no_grad():
        head.alpha.mul_(100)
    seen = torch.tanh(torch.randn((ways + 1, batch, features), generator=seeded(seed)))
    order = torch.rand((batch, ways), generator=seeded(seed)).argsort().t()
    labels = functional.one_hot(torch.cat((order, order[:1])), ways).float()
    shown = labels.clone()
    shown[-1] = 0

    def gradients(answer):
        loss = functional.binary_cross_entropy(answer, labels[-1])
        return torch.autograd.grad(loss, [head.weight, head.alpha, head.rule.eta])

    looped = head(seen, drive=1000 * shown)[0][-1]
    closed = query_logits(head, seen, shown).softmax(1)
    torch.testing.assert_close(closed, looped, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients(closed), gradients(looped), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("ways", "chance"), [(5, 0.50040), (3, 0.63651)])
def test_chance_loss(ways, chance):
    """Without plasticity and with weights of nothing the answer is uniform."""
    net = Classifier(Config(network="non-plastic", ways=ways, withheld=ways), seeded())
    with torch.no_grad():
        net.head.weight.zero_()
    task = OneShotCharacters(torch.rand(6, 2, 16, 16), ways)
    inputs, targets, _ = task.sample(4, seeded())
    loss = functional.binary_cross_entropy(net(*task.split(inputs)).softmax(1), targets[-1])
    assert loss.item() == pytest.approx(chance, abs=5e-6)


def test_without_plasticity_nothing_shown_before_matters():
    net = Classifier(Config(network="non-plastic"), seeded())
    task = OneShotCharacters(torch.rand(6, 2, 16, 16))
    images, labels = task.split(task.sample(3, seeded()).inputs)
    other = torch.cat((torch.rand_like(images[:-1]), images[-1:]))
    torch.testing.assert_close(net(images, labels), net(other, labels.flip(2)), atol=1e-5, rtol=0)
    assert sorted(name for name, p in net.named_parameters() if not p.requires_grad) == ["head.alpha", "head.rule.eta"]


def test_withheld_characters_are_none_of_the_others():
    training, test = tasks_of(Config(classes=30, withheld=8, drawings=2), seeded())
    assert (len(training.images), len(test.images)) == (22, 8)
    everything = torch.cat((training.images, test.images)).flatten(1)
    assert len(everything.unique(dim=0)) == 30


def test_initial_values_are_as_published_and_come_from_the_generator():
    one, same, other = (Classifier(replace(PAPER, encoder="dense"), seeded(seed)) for seed in (0, 0, 1))
    for (name, value), again, different in zip(
        one.state_dict().items(), same.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(value, again), name
        assert torch.equal(value, different) == (name == "head.rule.eta"), name
    alpha = one.head.alpha
    assert 0 <= alpha.min() < alpha.max() < 0.01
    assert Classifier(Config(network="homogeneous"), seeded()).head.alpha.item() == 1


def test_the_nearest_drawing_is_found_also_where_it_is_blurred():
    task = OneShotCharacters(torch.rand(8, 1, 16, 16))  # one drawing of each: it comes back
    for width in (0.0, 1.0):
        inputs, targets, _ = blurred(task, width).sample(50, seeded())
        logits = nearest_logits(*task.split(inputs))
        assert torch.equal(logits.argmax(1), targets[-1].argmax(1))
        assert (logits.amax(1) == 0).all()
    assert blurred(task, 1.0).images.var() < 0.2 * task.images.var()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "convolution"}, "size = 16: expected 31, because encoder = 'convolution'"),
        ({"withheld": 4}, "withheld = 4: expected at least ways = 5"),
        ({"classes": 44}, r"classes = 44: expected at least withheld \+ ways = 45"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
