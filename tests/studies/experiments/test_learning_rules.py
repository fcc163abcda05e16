from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from engram import registry
from engram.studies.experiments import learning_rules
from engram.studies.experiments.learning_rules import experiment, features, networks, training

CONFIGS = {name: arm.config for name, arm in experiment.arms("laptop").items()}


def test_every_rule_that_fits_is_an_arm():
    for name in registry.names("learning_rules"):
        assert (name in CONFIGS) == (f"{name}-wide" in CONFIGS) == learning_rules.fits(name, "narrow")
    assert not {"eprop", "rtrl", "rtrl-in-time", "dfa-in-time", "ep"} & set(CONFIGS)
    assert {"ep-clipped", "fa-in-time", "fa-thin", "fa-deep", "last-layer-deep"} <= set(CONFIGS)


def test_a_rule_that_is_not_registered_is_refused():
    for arm, expected in (("fa", "a learning rule; did you mean 'dfa'"), ("sanger-features", "one of")):
        with pytest.raises(ValueError, match=rf"{arm}.rule = 'dfs': expected {expected}"):
            experiment.arms("laptop", {f"{arm}.rule": "dfs"})


def test_the_readout_alone_is_trained_only_where_there_is_a_core():
    with pytest.raises(ValueError, match="network = 'narrow': expected recurrent or adding, with rule"):
        training.Training(rule=training.READOUT_ONLY)
    for network in training.IN_TIME:
        training.Training(rule=training.READOUT_ONLY, network=network)


MINE = """
from engram.rules import Backprop
class Flipped(Backprop):
    def update(self, model, x, target, state):
        update = super().update(model, x, target, state)
        return update._replace(grads={name: FACTOR * grad for name, grad in update.grads.items()})
"""


def test_a_rule_of_another_package_is_an_arm(tmp_path, monkeypatch, performed):
    (tmp_path / "my_rules.py").write_text("FACTOR = -1.0" + MINE)
    info = tmp_path / "my_rules-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rules\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[engram.learning_rules]\nflipped = my_rules:Flipped\n")
    monkeypatch.syspath_prepend(tmp_path)
    studies = {name: dataclasses.replace(study) for name, study in learning_rules.studies.items()}
    extended = dataclasses.replace(experiment, studies=studies)
    assert extended.arms("laptop").keys() - CONFIGS.keys() == {"flipped", "flipped-wide", "flipped-in-time"}
    config = extended.arms("laptop", {"networks.epochs": 1})["flipped"].config
    returned, run = performed(training.trial, config)
    assert returned["accuracy"] < 0.2
    assert returned["least_cosine"] == pytest.approx(-1)
    assert run.metrics()["step"].max() == 1


def test_images_are_held_out_and_centred():
    rows, images = networks.digits(True), networks.digits(False)
    torch.testing.assert_close(rows.x.transpose(0, 1).flatten(1), 2 * images.x)
    assert images.x[: networks.TRAINED].mean(0).abs().max() < 1e-6
    assert rows.of(slice(3)).x.shape == (8, 3, 8)
    assert len(images.of(slice(networks.TRAINED, None)).y) == 360


def test_other_tasks_are_as_large_and_standardised():
    taught, sums, maps = (networks.samples_for(name) for name in ("student", "adding", "convolutional"))
    assert (taught.x.shape, taught.y.shape) == ((1797, 16), (1797, 4))
    torch.testing.assert_close(taught.y.std(0), torch.ones(4))
    assert sums.of(slice(3)).y.shape == (12, 3, 1)
    assert maps.x.shape == (1797, 1, 8, 8)
    assert training.measure_of("adding") == "explained"


def test_what_is_explained_is_nothing_at_the_mean(performed):
    returned, _ = performed(training.trial, dataclasses.replace(CONFIGS["backprop"], network="student", epochs=3))
    assert 0.2 < returned["explained"] < 1
    assert training.score(
        training.rule_of("backprop"),
        torch.nn.Identity(),
        networks.Samples(torch.zeros(4, 2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]] * 2)),
    ) == pytest.approx(0.125)


def test_all_rules_of_a_seed_begin_with_the_same_network(performed):
    """At epoch 0 the accuracy of networks that rules are to train is the same."""
    first = set()
    for name in ("fa", "dfa"):
        _, run = performed(training.trial, dataclasses.replace(CONFIGS[name], epochs=1))
        curves = run.metrics()
        first.add(curves.filter((curves["metric"] == "accuracy") & (curves["step"] == 0))["value"].item())
    assert len(first) == 1


def test_fixed_predictions_are_the_gradient(performed):
    result, _ = performed(training.trial, dataclasses.replace(CONFIGS["pc-fixed"], epochs=1))
    assert result["gap"] < 1e-6
    assert result["least_cosine"] > 1 - 1e-6
    assert result["rate"] >= max(training.RATES)  # a single epoch is short


def test_a_rate_that_is_too_high_is_not_chosen(performed):
    config = dataclasses.replace(CONFIGS["backprop"], rates=(1e30, 0.1), epochs=1)
    result, run = performed(training.trial, config)
    choice = run.choices["learning_rate"]
    assert result["rate"] == choice["chosen"] == 0.1
    assert choice["candidates"][-1] == 1e30
    assert choice["scores"][-1] < max(choice["scores"]) - 0.1


def test_equilibrium_propagation_has_settled(performed):
    result, _ = performed(training.trial, dataclasses.replace(CONFIGS["ep-clipped"], epochs=1, rates=(0.03,)))
    assert 0 < result["residual"] <= 1e-3


def test_what_is_judged_is_what_was_validated_at_the_chosen_rate(performed):
    """A trial with one candidate, that which another chose, comes to the same."""
    config = dataclasses.replace(CONFIGS["fa"], epochs=2)
    result, run = performed(training.trial, config)
    again, _ = performed(training.trial, dataclasses.replace(config, rates=(result["rate"],)))
    del result["seconds"], again["seconds"]
    assert result == again
    assert len(run.choices["learning_rate"]["candidates"]) >= 3


def test_radii_are_certified(performed):
    config = dataclasses.replace(CONFIGS["backprop"], network="rectified", rates=(0.1,), epochs=2)
    result, _ = performed(training.trial, config)
    assert 0.005 < result["radius"] < 0.5
    untrained = networks.build("rectified", torch.Generator().manual_seed(0))
    assert training.certify(untrained, networks.digits(in_time=False)) < result["radius"] / 2


def test_telling_digits_apart_takes_bits():
    assert 25 < networks.bits_of_digits() < 35  # 29.2, of log10 8.8


def test_the_readout_alone_leaves_the_core(performed):
    config = dataclasses.replace(CONFIGS["readout-in-time"], epochs=1, rates=(0.1,))
    result, _ = performed(training.trial, config)
    assert result["cosine_1"] == 0
    rule, model = training.rule_of(config.rule), networks.build("recurrent", torch.Generator())
    model.core.requires_grad_(False)
    grads = rule.update(model, *networks.digits(True).of(slice(4)), None).grads
    assert list(grads) == ["readout.weight", "readout.bias"]


def test_components_carry_more_than_random_features(performed):
    accuracies = [
        performed(features.trial, dataclasses.replace(CONFIGS[name], epochs=4, rates=(0.03,)))[0]["accuracy"]
        for name in ("sanger-features", "random-features")
    ]
    assert accuracies[0] > accuracies[1] + 0.05


def test_activity_that_changes_in_one_direction_or_not_at_all_has_no_operator():
    once = np.random.default_rng(0).normal(size=(6, 8))
    assert not any(training.dynamics_of([once] * 30))
    assert not any(training.dynamics_of([step * once for step in range(30)]))
    assert any(training.dynamics_of([once + np.random.default_rng(step).normal(size=(6, 8)) for step in range(30)]))
