import dataclasses

import pytest
import torch

from engram import registry
from engram.continual import ContinualMethod
from engram.studies.experiments import continual_learners as experiment
from engram.studies.experiments.continual_learners.learners import (
    LEARNERS,
    STRENGTHS,
    learn_in_order,
    method_of,
    new_net,
)

SMOKE = experiment.experiment.arms("smoke")["permuted-finetune"].config
CONFIG = dataclasses.replace(SMOKE, tasks=5, units=8, features=8, train_images=200, steps=15)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


MNIST = pytest.mark.needs_data("mnist/t10k-images-idx3-ubyte.gz")
CIFAR = pytest.mark.needs_data("cifar10-jpeg/train.parquet")


@pytest.mark.parametrize(
    "benchmark",
    [
        "split",
        "permuted",
        "imbalanced",
        "classes",
        pytest.param("permuted-mnist", marks=MNIST),
        pytest.param("split-cifar10", marks=[CIFAR, pytest.mark.soak]),
    ],
)
def test_what_is_chosen_by_is_not_what_is_tested(benchmark):
    config = dataclasses.replace(CONFIG, benchmark=benchmark)
    tested, chosen = (experiment.draw_tasks(config, seeded(), held_out=held_out) for held_out in (True, False))
    assert len(tested) == len(chosen) == 5

    def images(part):  # whatever the order of their pixels
        return {tuple(sorted(image.tolist())) for image in part.inputs}

    for one, other in zip(tested, chosen, strict=True):
        assert one.classes == other.classes
        assert images(one.test).isdisjoint(images(one.train) | images(other.train) | images(other.test))
        assert images(other.test).isdisjoint(images(other.train))
        if benchmark != "imbalanced":  # which trains on few of some classes
            assert images(other.test) <= images(one.train)
    if benchmark == "split":
        assert sorted(sum((task.classes for task in tested), ())) == list(range(10))


@pytest.mark.parametrize(
    "learner",
    # To compile the kernel of Oja's rule takes seconds, and modulated-rnn differs from plastic-rnn in its rule alone.
    [pytest.param(name, marks=[pytest.mark.soak] * (name == "plastic-rnn")) for name in LEARNERS],
)
def test_learners_do_what_their_names_say(learner):
    config = dataclasses.replace(CONFIG, benchmark="split", learner=learner)
    tasks = experiment.draw_tasks(config, seeded(), held_out=True)[:2]
    moved = {}
    for strength in (0.0, 1e4):
        net = new_net(learner, 8, 8, seeded(1))
        options = {"steps": config.steps, "batch_size": 8, "generator": seeded(2)}
        method = method_of(learner, net, strength, None, options["generator"])
        stages = learn_in_order(net, tasks, method, **options)
        assert len(stages) == 3
        bodies = stages[1].body.parameters(), stages[2].body.parameters()
        moved[strength] = sum(float((a - b).detach().abs().sum()) for a, b in zip(*bodies, strict=True))
    assert (moved[0.0] == 0) == (learner == "frozen")
    if learner in STRENGTHS:
        assert moved[1e4] != moved[0.0]
    if learner in ("l2", "ewc", "online-ewc", "mas"):
        assert moved[1e4] < moved[0.0]
    else:
        assert (moved[1e4] == moved[0.0]) == (learner not in ("lwf", "si"))
    if learner == "dhp-control":
        assert not stages[2].head.alpha.any()
    if learner == "dhp":
        assert stages[2].head.alpha.any()
        assert stages[2].head.trace.any()


def test_heads_of_split_tasks_have_the_outputs_of_their_classes():
    config = dataclasses.replace(CONFIG, benchmark="split", learner="finetune", steps=60)
    tasks = experiment.draw_tasks(config, seeded(), held_out=True)
    net = new_net("finetune", 16, 16, seeded(1))
    stages = learn_in_order(net, tasks, ContinualMethod(net), steps=60, batch_size=32, generator=seeded(2))
    report = experiment.report_forgetting(config, tasks, stages)
    assert report.output.shape == (6, 5)
    assert report.output.diagonal(-1).min() > 0.7  # each task just after it was learned
    measures = experiment.measure(report)
    assert measures["output_new"] == report.output[-1, -1]
    assert measures["probe_random"] == pytest.approx(report.probed()[0, :-1].mean())


def test_class_by_class_an_unprotected_head_answers_with_the_last_classes():
    config = dataclasses.replace(CONFIG, benchmark="classes", learner="finetune", steps=60)
    tasks = experiment.draw_tasks(config, seeded(), held_out=True)
    assert all(task.classes == tuple(range(10)) and len(set(task.train.labels.tolist())) == 2 for task in tasks)
    net = new_net("finetune", 16, 16, seeded(1))
    stages = learn_in_order(net, tasks, ContinualMethod(net), steps=60, batch_size=32, generator=seeded(2))
    report = experiment.report_forgetting(config, tasks, stages)
    assert report.output[-1, -1] > 0.7
    assert report.output[-1, :-1].max() < 0.1  # at 1/2 with the outputs of each pair alone
    assert report.output[-1].mean() == pytest.approx(experiment.accuracy(tasks, stages))


@pytest.mark.parametrize(
    ("benchmark", "numbers"),
    [pytest.param("permuted-mnist", 28, marks=MNIST), pytest.param("split-cifar10", 96, marks=CIFAR)],
)
def test_a_recurrent_network_reads_larger_images_row_by_row(benchmark, numbers):
    images, labels = experiment.images_of(benchmark)
    assert (len(images), images.shape[1]) == (1797, experiment.SHAPES[benchmark][0] * numbers)
    assert images.min() == 0
    assert 0.99 < images.max() <= 1
    assert labels.unique().tolist() == list(range(10))
    net = new_net("rnn", 8, 8, seeded(), experiment.SHAPES[benchmark])
    assert net(images[:3]).shape == (3, 10)


def test_a_method_of_another_package_has_arms(monkeypatch):
    class Mine(ContinualMethod):
        pass

    names, get = registry.names, registry.get
    monkeypatch.setattr(
        registry, "names", lambda kind: [*names(kind), "mine"] if kind == "continual_methods" else names(kind)
    )
    monkeypatch.setattr(registry, "get", lambda kind, name: Mine if name == "mine" else get(kind, name))
    assert {"split-mine", "permuted-mine"} < set(experiment.arms())
    net = new_net("mine", 8, 8, seeded())
    assert isinstance(method_of("mine", net, 0.0, None, seeded()), Mine)


def test_a_learner_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="learner = 'mine'"):
        experiment.Config(learner="mine")
