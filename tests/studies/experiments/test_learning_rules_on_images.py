from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from engram import registry
from engram.rules import AlignProp, Backprop
from engram.studies.experiments import learning_rules_on_images as on_images
from engram.studies.experiments.learning_rules_on_images import networks, rates, training
from engram.studies.experiments.learning_rules_on_images.training import Training

SMALL = {"images": "digits", "train_images": 128, "test_images": 100}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=4, channels=3):
    x = torch.randn(count, channels, 32, 32, generator=seeded())
    return x.contiguous(memory_format=torch.channels_last), torch.arange(count) % 10


@pytest.mark.parametrize(("network", "weights"), [("residual", 78_042), ("chain", 75_290)])
def test_networks_have_the_weights_that_they_are_said_to_have(network, weights):
    model = networks.build(network, 3, seeded())
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    maps = [module for module in model.modules() if isinstance(module, nn.Conv2d) and networks.is_3x3(module.weight)]
    assert [(module.out_channels, module.stride[0]) for module in maps] == list(networks.CONVOLUTIONS)
    assert [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)].count(10) == 0
    twin = networks.build(network, 3, seeded())
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True))
    assert not torch.equal(model[0][0].weight, networks.build(network, 3, seeded(1))[0][0].weight)
    bound = 1 / 27**0.5  # the initial weights of torch
    assert bound * 0.95 < model[0][0].weight.abs().max() <= bound


def test_feedback_in_branches_alone_leaves_head_and_shortcuts_exact():
    model, (x, y) = networks.build("residual", 3, seeded()), batch()
    exact = Backprop().update(copy.deepcopy(model), x, y, None).grads
    for random in (False, True):
        rule = networks.BranchFeedback(random)
        state = rule.init(model, seeded(1))
        assert {tuple(B.shape[2:]) for B in state.values()} == {(3, 3)}
        assert len(state) == 7
        assert all(B.any() == random for B in state.values())
        grads = rule.update(copy.deepcopy(model), x, y, state).grads
        for name in ("6.weight", "3.branch.3.weight", "3.shortcut.0.weight"):
            assert torch.equal(grads[name], exact[name])
        assert not torch.equal(grads["3.branch.0.weight"], exact["3.branch.0.weight"])
        assert bool(grads["3.branch.0.weight"].any()) == random


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_zero():
    shares = [training.cycle(step, 200) for step in range(200)]
    assert max(shares) == shares[19] == 1
    assert shares[:20] == sorted(shares[:20])
    assert shares[19:] == sorted(shares[19:], reverse=True)
    assert 0 <= shares[-1] < 1e-4
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)
    assert training.cycle(0, 1) == 1


def test_images_are_held_out_and_normalised():
    train, validation, test = (training.samples("digits", part) for part in ("train", "validation", "test"))
    assert (len(train.images), len(validation.images), len(test.images)) == (1168, 129, 500)
    whole, _ = train.batch(np.arange(1168))
    assert whole.mean() == pytest.approx(0, abs=0.05)
    assert whole.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(test.mean, train.mean)
    some = np.arange(3)
    plain, mirrored = train.batch(some)[0], train.batch(some, np.array([True, False, True]))[0]
    assert torch.equal(mirrored[[0, 2]], plain[[0, 2]].flip(3))
    assert torch.equal(mirrored[1], plain[1])


def test_all_rules_begin_alike_and_align_prop_with_backpropagation(performed):
    probe = training.samples("digits", "train").batch(np.arange(64))
    model = networks.build("residual", 1, seeded())
    rule = AlignProp()
    before = copy.deepcopy(model.state_dict())
    aligned = training.alignment(rule, model, probe, rule.init(model, seeded()))
    assert all(value == pytest.approx(1, abs=1e-5) for value in aligned.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "it was only probed"
    assert sorted(aligned) == sorted(f"{kind}_{n}" for kind in ("cosine", "norms") for n in range(1, 8))


def test_a_trial_chooses_its_rate_as_the_stored_ones_were_chosen(performed, monkeypatch):
    learn, trained = training.learn, []

    def counted(config, run, **options):
        trained.append((config.rate, run.generator.initial_seed(), config.epochs))
        return learn(config, run, **options)

    monkeypatch.setattr(training, "learn", counted)
    monkeypatch.setattr(training, "accuracy", lambda rule, model, data, *count: -abs(np.log(trained[-1][0] / 0.1)))
    training.score.cache_clear()
    result, run = performed(training.trial, Training(rule="backprop", rates=(0.03, 0.1, 0.3), **SMALL))
    assert run.choices["learning_rate"]["chosen"] == 0.1
    choosing, (rate, _, epochs) = trained[:-1], trained[-1]
    assert choosing == [(rate, seed, 2) for rate in (0.03, 0.1, 0.3) for seed in (500, 501)]
    assert (rate, epochs) == (0.1, 1)
    assert result["mean_cosine"] == pytest.approx(1)
    performed(training.trial, Training(rule="backprop", rates=(0.03, 0.1, 0.3), **SMALL), seed=51)
    assert len(trained) == 8, "another seed does not choose again"
    training.score.cache_clear()


def test_random_features_tell_digits_apart(performed):
    result, run = performed(training.trial, Training(rule="random-features", **SMALL))
    assert result["accuracy"] > 0.4
    assert run.choices["ridge"]["candidates"][0] >= 1


def test_random_features_are_of_all_images_if_there_are_fewer_than_asked_for(performed, monkeypatch):
    few = training.samples("digits", "train")
    few = few._replace(images=few.images[:70], labels=few.labels[:70])
    monkeypatch.setattr(training, "samples", lambda images, part: few)
    assert performed(training.trial, Training(rule="random-features", images="digits"))[0]["accuracy"] > 0.9


def test_a_rule_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="rule = 'fb': expected a learning rule"):
        Training(rule="fb")


def test_rates_are_the_best_of_their_grid_and_inside_it():
    stored = rates.read_choices()
    assert {network: set(choices) for network, choices in stored.items()} == {
        network: set(rules) for network, rules in rates.RULES.items()
    }
    for network, choices in stored.items():
        for rule, choice in choices.items():
            place = int(np.argmax(choice["scores"]))
            assert choice["chosen"] == choice["candidates"][place]
            assert set(rates.GRIDS.get(rule, rates.USUAL)) <= set(choice["candidates"])
            assert 0 < place < len(choice["scores"]) - 1, f"{rule} on {network}: a choice at an end is no tuning"
    arms = on_images.experiment.arms("laptop")
    assert arms["fa"].config.rate == stored["residual"]["fa"]["chosen"]
    assert arms["fa-chain"].config.rate == stored["chain"]["fa"]["chosen"]


def test_a_grid_goes_on_as_long_as_the_best_is_at_its_end(monkeypatch):
    best = {"fa": 1.5, "dfa": 0.0001, "usf": 0.1}

    def score(config):
        if config.rule == "usf" and config.rate > 0.2:
            raise FloatingPointError
        return 1 / (1 + abs(np.log(config.rate / best[config.rule])))

    monkeypatch.setattr(rates, "score", score)
    assert rates.choose("fa", "residual")["candidates"] == [0.03, 0.1, 0.3, 0.9, 3.0]
    assert rates.choose("dfa", "residual")["candidates"][0] <= 0.0001
    choice = rates.choose("usf", "residual")
    assert (choice["candidates"], choice["chosen"], choice["scores"][-1]) == ([0.03, 0.1, 0.3], 0.1, 0.0)


def test_every_rule_that_can_is_compared_and_images_are_not_mixed():
    (task,) = on_images.experiment.tasks
    fitting = {name for name in registry.names("learning_rules") if task.changes(name)}
    assert fitting >= {"fa", "dfa", "usf", "frsf", "brsf", "kolen-pollack", "weight-mirror", "align-prop", "last-layer"}
    assert not {"local-error", "dtp", "ep", "eprop"} & fitting
    assert set(rates.RULES["residual"]) - {"skips", "fa-in-branches"} <= fitting
    arms = on_images.experiment.arms("laptop")
    assert task.changes("fa") == {"rule": "fa", "rate": arms["fa"].config.rate}, "the record's own trials"
    assert arms["fa"].config.images == "cifar10-jpeg", "images that were not re-encoded are of other settings"
