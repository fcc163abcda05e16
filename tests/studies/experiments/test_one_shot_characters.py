from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engram.plasticity import Hebb, Oja, PlasticLinear
from engram.studies.experiments.one_shot_characters import experiment
from engram.studies.experiments.one_shot_characters.classifiers import (
    Classifier,
    discriminants,
    gaussian_logits,
    nearest_logits,
    query_logits,
    stepwise_logits,
)
from engram.studies.experiments.one_shot_characters.config import Config
from engram.studies.experiments.one_shot_characters.training import blurred, tasks_of
from engram.tasks import OneShotCharacters

PAPER = experiment.arms("published")["connection"].config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_network_has_the_published_size_and_length():
    net = Classifier(PAPER, seeded())
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 112_065
    task = OneShotCharacters(torch.rand(6, 2, 31, 31))
    images, labels = task.split(task.sample(3, seeded()).inputs)
    assert len(images) == 6
    assert net(images, labels).shape == (3, 5)
    assert (PAPER.rule, PAPER.rates, PAPER.updates, PAPER.withheld) == ("oja", (3e-5,), 5_000_000, 100)


def test_a_rival_at_the_published_size_has_a_choice_of_rates():
    rival = experiment.arms("published")["matching"].config
    assert rival.rates[0] in PAPER.rates
    assert len(rival.rates) >= 4
    assert rival.tried_updates * rival.batch_size >= Config().tried_updates * Config().batch_size


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
    stepwise = stepwise_logits(head, seen, shown).softmax(1)
    torch.testing.assert_close(stepwise, looped, atol=1e-6, rtol=0)
    expected = gradients(looped)
    torch.testing.assert_close(gradients(closed), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(stepwise), expected, atol=1e-5, rtol=1e-4)


def test_only_a_stepwise_network_takes_any_rule():
    assert Config(network="stepwise", rule="instar").rule == "instar"
    with pytest.raises(ValueError, match="rule = 'instar': expected 'oja' or 'hebb', because network = 'connection'"):
        Config(rule="instar")


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


def test_withheld_and_validating_characters_are_none_of_the_others():
    parts = tasks_of(Config(classes=30, withheld=8, validation=6, drawings=2), seeded())
    assert [len(part.images) for part in parts] == [16, 6, 8]
    everything = torch.cat([part.images for part in parts]).flatten(1)
    assert len(everything.unique(dim=0)) == 30


def test_initial_values_are_as_published_and_come_from_the_generator():
    classifier, same, other = (Classifier(replace(PAPER, encoder="dense"), seeded(seed)) for seed in (0, 0, 1))
    for (name, value), again, different in zip(
        classifier.state_dict().items(), same.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(value, again), name
        assert torch.equal(value, different) == (name == "head.rule.eta"), name
    alpha = classifier.head.alpha
    assert 0 <= alpha.min() < alpha.max() < 0.01
    assert Classifier(Config(network="homogeneous"), seeded()).head.alpha.item() == 1


def test_the_nearest_drawing_is_found_also_where_it_is_blurred():
    task = OneShotCharacters(torch.rand(8, 1, 16, 16))  # one drawing of each: it comes back
    images, labels = task.split(task.sample(50, seeded()).inputs)
    targets = task.sample(50, seeded()).targets[-1]
    for width in (0.0, 1.0):
        logits = nearest_logits(blurred(images, width), labels)
        assert torch.equal(logits.argmax(1), targets.argmax(1))
        assert (logits.amax(1) == 0).all()
    assert blurred(task.images, 1.0).var() < 0.2 * task.images.var()


def test_a_matching_network_answers_as_the_nearest_in_its_features():
    net = Classifier(Config(network="matching"), seeded())
    task = OneShotCharacters(torch.rand(6, 2, 16, 16))
    images, labels = task.split(task.sample(9, seeded()).inputs)
    distances = (net.encoder(images[:-1].flatten(0, 1)).view(5, 9, -1) - net.encoder(images[-1])).norm(dim=2)
    nearest = labels[:-1].argmax(2).gather(0, distances.argmin(0, keepdim=True))[0]
    assert torch.equal(net(images, labels).argmax(1), nearest)
    assert all(p.requires_grad and "head" not in name for name, p in net.named_parameters())


def drawn(characters, drawings, spread, rotation, generator):
    """Features of which ``spread`` says how much characters differ, where each varies by 1, in other coordinates."""
    means = torch.randn((characters, 1, len(spread)), generator=generator) * spread.sqrt()
    return (means + torch.randn((characters, drawings, len(spread)), generator=generator)) @ rotation


def test_discriminants_find_how_characters_were_drawn():
    spread = torch.tensor([30.0, 4.0, 0.0, 0.0, 0.0])
    rotation = 3 * torch.randn((5, 5), generator=seeded()) + 4 * torch.eye(5)
    model = discriminants(drawn(2000, 20, spread, rotation, seeded(1)), shrinkage=0.0)
    # A mean of 20 drawings varies by 1 / 20 more than what is drawn.
    torch.testing.assert_close(model.variances, spread + 1 / 20, rtol=0.1, atol=0.01)
    along = (rotation @ model.directions).abs()
    torch.testing.assert_close(along[:2, :2], torch.eye(2), rtol=0.1, atol=0.1)


def test_gaussian_logits_are_log_likelihoods():
    """The last drawing given another one of the same character, by the joint Gaussian of both."""
    spread = torch.tensor([3.0, 0.5, 0.1])
    model = discriminants(drawn(50, 8, spread, torch.eye(3), seeded()), shrinkage=0.0)
    features = torch.randn((3, 4, 3), generator=seeded(1))
    labels = functional.one_hot(torch.tensor([[0, 1]] * 4), 2).float().transpose(0, 1)
    logits = gaussian_logits(model, features, torch.cat((labels, 0 * labels[:1])))
    between = torch.diag(model.variances)
    both = torch.cat((torch.cat((between + torch.eye(3), between)), torch.cat((between, between + torch.eye(3)))), 1)
    y = (features - model.mean) @ model.directions
    joint, alone = (
        torch.distributions.MultivariateNormal(torch.zeros(n), covariance)
        for n, covariance in ((6, both), (3, between + torch.eye(3)))
    )
    expected = torch.stack([joint.log_prob(torch.cat((shot, y[2]), 1)) - alone.log_prob(shot) for shot in y[:2]], 1)
    torch.testing.assert_close(logits - logits[:, :1], expected - expected[:, :1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "convolution"}, "size = 16: expected 31, because encoder = 'convolution'"),
        ({"withheld": 4}, "withheld = 4: expected at least ways = 5"),
        ({"validation": 4}, "validation = 4: expected at least ways = 5"),
        ({"classes": 84}, r"classes = 84: expected at least withheld \+ validation \+ ways = 85"),
        ({"rates": (0.1, 2.0)}, r"rates = \(0.1, 2.0\): expected numbers above 0 and at most 1"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
