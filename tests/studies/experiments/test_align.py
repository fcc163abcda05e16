import dataclasses

import pytest
import torch

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.nn import wide_cnn, wide_mlp
from engram.rules import train_step
from engram.studies.experiments.align import adding, experiment, photographs
from engram.studies.experiments.align.convergence import Convergence
from engram.studies.experiments.align.digits import (
    FITTED,
    PER_RATE,
    RULES,
    TRAINED,
    FewSamples,
    accuracy,
    digits,
    few_samples,
    fit,
    rule_of,
    targets,
    train,
    widths,
)


def test_targets_sum_to_nothing():
    wanted = targets(torch.arange(10))
    assert wanted.diagonal().tolist() == pytest.approx([0.9] * 10)
    torch.testing.assert_close(wanted.sum(1), torch.zeros(10))


def test_a_step_is_one_on_the_published_loss_at_the_published_rate():
    """The loss is the mean over batch and classes of squared errors, the rate 4."""
    x, classes = digits()
    x, target = x[:20].double(), targets(classes[:20]).double()
    ours, theirs = (
        wide_mlp((64, 8, 10), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for _ in range(2)
    )
    optimizer = torch.optim.SGD(ours.parameters(), lr=4 * PER_RATE)
    train_step(rule_of("backprop"), ours, optimizer, (x, target), None)
    (theirs(x) - target).square().mean().backward()
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.data, other.data - 4 * other.grad, rtol=0, atol=1e-12)


def test_all_rules_start_alike_and_take_the_same_batches():
    seeds, chosen = torch.tensor([1, 2, 3]), torch.arange(40)
    still = [
        train(rule_of(rule), 6, chosen, rate=1e-9, epochs=1, batch=20, seeds=seeds).get_parameter("0.weight")
        for rule in RULES
    ]
    assert all(torch.allclose(weight, still[0], atol=1e-6) for weight in still)
    first, second = (train(rule_of("fa"), 6, chosen, rate=4.0, epochs=1, batch=20, seeds=seeds) for _ in range(2))
    assert torch.equal(first[0].weight, second[0].weight)


def test_accuracies_are_those_of_the_chosen_and_of_the_published_rate(tmp_path, performed):
    config = dataclasses.replace(experiment.arms("smoke")["fa"].config, widths=(16,), rates=(1.0, 4.0), epochs=2)
    result, run = performed(widths, config)
    seeds = torch.randint(2**62, (3,), generator=TrialRun(TrialFolder(tmp_path / "other"), 50).generator)
    options = {"epochs": 2, "batch": 100, "seeds": seeds}
    for key, rate in (("accuracy_16", result["rate_16"]), ("published_accuracy_16", 4.0)):
        model = train(rule_of("fa"), 16, torch.arange(FITTED), rate=rate, **options)
        assert result[key] == pytest.approx(accuracy(model, slice(TRAINED, None)))
    choice = run.choices["rate_16"]
    best = choice["candidates"].index(result["rate_16"])
    model = train(rule_of("fa"), 16, torch.arange(FITTED), rate=result["rate_16"], **options)
    assert choice["scores"][best] == pytest.approx(accuracy(model, slice(FITTED, TRAINED)))


def test_convolutions_of_all_rules_start_alike_and_are_judged_on_other_images(performed):
    small = {"train_images": 100, "validation_images": 50, "test_images": 60, "width": 4, "strides": (4, 2)}
    config = photographs.Photographs(images="digits", **small, rates=(1e-12,), epochs=1, batch_size=50)
    fitted, validated, tested = photographs.data(config)
    assert [len(images) for images, _ in (fitted, validated, tested)] == [100, 50, 60]
    assert not torch.equal(fitted[0][:50], validated[0])
    still = {performed(photographs.trial, dataclasses.replace(config, rule=rule))[0]["accuracy"] for rule in RULES}
    assert len(still) == 1


def test_convolutions_learn_what_they_are_shown():
    config = photographs.Photographs(images="digits", train_images=100, validation_images=10, test_images=10)
    (images, classes), *_ = photographs.data(config)
    net = wide_cnn(8, (4, 2), generator=torch.Generator().manual_seed(0))
    target = targets(classes)
    before = (net(images) - target).square().sum(1).mean().item()
    fit(rule_of("align-zero"), net, (images, target), [torch.Generator()] * 2, rate=2.0, epochs=10, batch=50)
    assert (net(images) - target).square().sum(1).mean().item() <= 0.9 * before
    assert photographs.accuracy(net, (images, net(images).argmax(1))) == 1


def test_each_number_of_images_has_a_rate_of_its_own(performed):
    config = dataclasses.replace(experiment.arms("smoke")["few-fa"].config, sizes=(50, 100), rates=(2.0, 4.0))
    result, run = performed(few_samples, config)
    assert set(run.choices) == {"rate_50", "rate_100"}
    assert {f"accuracy_{size}" for size in (50, 100)} < set(result)


def test_the_error_of_late_sums_is_that_at_the_end_at_a_rate_that_does_not_diverge(performed):
    config = dataclasses.replace(experiment.arms("smoke")["add-backprop-8"].config, rates=(0.001, 100.0), epochs=3)
    result, run = performed(adding.trial, config)
    assert result["rate"] == 0.001
    curve = run.metrics()["value"].to_list()
    assert len(curve) == 3
    assert result["loss"] == curve[-1]


def test_settings_that_leave_nothing_to_learn_or_to_fit_are_refused():
    FewSamples(sizes=(50, FITTED))
    for sizes in ((49,), (50, FITTED + 1)):
        with pytest.raises(ValueError, match=r"sizes = .*: expected numbers from 50, a batch, to 1150"):
            FewSamples(sizes=sizes)
    with pytest.raises(ValueError, match="batch_size = 101: expected at most train_images = 100"):
        photographs.Photographs(train_images=100, batch_size=101)
    for sizes in ((), (16,), (16, 16)):
        with pytest.raises(ValueError, match=r"widths = .*: expected two or more different ones"):
            Convergence(widths=sizes)


def test_functions_are_compared_on_images_that_no_network_has_seen():
    Convergence(samples=TRAINED)
    with pytest.raises(ValueError, match="samples"):
        Convergence(samples=TRAINED + 1)


def test_claims_that_name_a_number_of_epochs_are_judged_after_that_many():
    named = [claim for claim in experiment.claims if "40 epochs" in claim.statement]
    assert len(named) == 3
    judged_at = [(claim, preset) for claim in named for preset in experiment.presets if claim.is_judged_at(preset)]
    assert {claim.id for claim, _ in judged_at} == {claim.id for claim in named}
    for claim, preset in judged_at:
        assert {experiment.arms(preset)[arm].config.epochs for arm in claim.arms} == {40}, (claim.id, preset)


def test_the_training_of_a_candidate_can_be_stopped_at_each_step(new_run, monkeypatch):
    small = {"train_images": 100, "validation_images": 10, "test_images": 10, "width": 2, "strides": (8, 4)}
    config = photographs.Photographs(images="digits", **small, rates=(1.0,), epochs=2, batch_size=50)
    run, beats = new_run(), []
    monkeypatch.setattr(run, "beat", lambda *text: beats.append(text))
    photographs.trial(config, run)
    assert len(beats) == 4
