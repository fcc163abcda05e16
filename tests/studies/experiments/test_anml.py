from dataclasses import replace

import pytest
import torch

from engram.continual.anml import Remembered
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments import anml
from engram.studies.experiments.anml import build, characters, classify, experiment, gating, trial

SMALL = experiment.arms("smoke")["anml"].config


def test_the_paper_is_at_its_size():
    config = experiment.arms("published")["anml"].config
    net = build(config, torch.Generator())
    assert sum(parameter.numel() for parameter in net.parameters()) == 6_041_800
    assert (config.steps, config.trajectory, config.remember, config.inner_lr, config.outer_lr) == (
        20_000, 20, 64, 0.1, 1e-3,
    )  # fmt: skip
    assert (len(config.lrs), config.lengths[-1]) == (14, config.judged)


def test_characters_of_streams_are_none_that_were_learned_from():
    known, new = characters(SMALL, torch.Generator().manual_seed(0))
    assert (known.shape, new.shape) == ((7, 20, 28, 28), (5, 20, 28, 28))
    assert known.median() == pytest.approx(1, abs=0.01), "paper"
    flat = [part.flatten(2) for part in (known, new)]
    assert min((image - other).abs().max() for image in flat[0][:, 0] for other in flat[1][:, 0]) > 0.1


def test_in_a_trial_only_what_is_said_to_learn_does(new_run):
    for network in ("anml", "oml"):
        result = trial(replace(SMALL, network=network), new_run())
        assert {"held_out", "seen", "held_out_oracle", "first", "last", "drop", "held_out_5", "seen_oracle"} <= {
            *result
        }
        assert result["held_out"] == result["held_out_3"]
        assert ("gate_neighbours" in result) == (network == "anml")
    run = new_run()
    untrained = trial(replace(SMALL, learning="none", learns="everything", lengths=(3,), lrs=(1e-3, 3e-3)), run)
    assert untrained["drop"] == pytest.approx(1 - untrained["held_out"] / max(untrained["held_out_oracle"], 1e-9))
    assert set(run.choices) == {"rate_3", "rate_oracle_3"}


def test_of_a_head_of_two_layers_both_learn_or_the_last_alone(new_run, monkeypatch):
    learned = []
    evaluate = anml.evaluate_lengths
    monkeypatch.setattr(
        anml,
        "evaluate_lengths",
        lambda *args, **options: learned.append(options["train"]) or evaluate(*args, **options),
    )
    run = new_run()
    result = trial(replace(SMALL, network="oml", hidden=4, lengths=(3,)), run)
    assert {"held_out", "last_layer_held_out", "last_layer_drop"} <= set(result)
    assert set(learned) == {("head",), ("head.2",)}
    assert set(run.choices) == {"rate_3", "rate_oracle_3", "rate_last_layer_3", "rate_last_layer_oracle_3"}


def test_pretraining_learns_and_draws_its_last_layer_anew_after_each_pass(monkeypatch, new_run):
    config = replace(SMALL, channels=8, steps=60, network="sanml", learning="iid")
    known, _ = characters(config, torch.Generator().manual_seed(0))
    losses = []
    monkeypatch.setattr(
        TrialRun, "log", lambda run, step, /, **values: losses[-1].append(float(values["loss"].detach()))
    )
    for learning in ("iid", "iid-zapped"):
        losses.append([])
        run = new_run()
        classify(build(config, run.generator), known, replace(config, learning=learning), run)
    pass_ = 7 * 20 // 10
    assert sum(losses[0][-10:]) < 0.5 * sum(losses[0][:10])
    assert losses[1][pass_] > losses[1][pass_ - 1] + 0.1 or losses[1][2 * pass_] > losses[1][2 * pass_ - 1] + 0.1


def test_neighbours_by_the_gate_tell_classes_that_the_gate_tells(monkeypatch):
    net = build(SMALL, torch.Generator().manual_seed(0))
    new = torch.zeros(5, 20, 28, 28)
    for label in range(5):
        new[label, :, 5 * label : 5 * label + 4] = 1.0
    shares = gating(net, new)
    assert shares["gate_neighbours"] == 1.0
    assert 0 < shares["active_after"] <= shares["active_before"] < 1
    assert gating(build(replace(SMALL, network="sanml"), torch.Generator()), new) == {}
    monkeypatch.setattr(anml, "ACTIVE", -1.0)
    assert gating(net, new)["active_after"] == 1.0


def test_lengths_that_are_not_run_cannot_be_judged():
    with pytest.raises(ValueError, match=r"judged = 7: expected one of lengths = \(3, 5\)"):
        replace(SMALL, judged=7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"withheld": 12}, "withheld = 12: expected fewer than the 12 characters"),
        ({"lengths": (3, 6)}, r"lengths = \(3, 6\): expected different numbers from 1 to 5, the characters kept"),
        ({"lengths": (3, 3)}, r"lengths = \(3, 3\): expected different numbers"),
        ({"lengths": (0, 3)}, r"lengths = \(0, 3\): expected different numbers"),
        ({"outputs": 6}, "outputs = 6: expected at least 7, one for each character to learn"),
        ({"characters": "omniglot-small", "withheld": 100, "outputs": 141}, "outputs = 141: expected at least 142"),
        ({"characters": "omniglot", "lengths": (3, 660), "outputs": 1000}, "from 1 to 659, the characters kept"),
    ],
)
def test_streams_that_cannot_be_drawn_are_refused_before_meta_training(changes, expected):
    with pytest.raises(ValueError, match=expected):
        replace(SMALL, **changes)


def test_the_first_and_last_classes_are_those_of_the_longest_stream(new_run, monkeypatch):
    lengths = {}

    def streams_of(net, pool, name, length, *args):
        lengths[name] = [*lengths.get(name, []), length]
        return Remembered(length, 0.001, (0.0,), (0.0,), torch.arange(float(length))[None])

    monkeypatch.setattr(anml, "streams_of", streams_of)
    result = trial(replace(SMALL, network="sanml", learning="none", lengths=(5, 3)), new_run())
    assert lengths[""] == [5, 3]
    assert result["last"] == 4
