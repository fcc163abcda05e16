import dataclasses

import pytest
import torch

from engram.experiments import evolved_plastic_networks as experiment
from engram.experiments.evolved_plastic_networks import evolution


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in experiment.arms(config).items()}


LAPTOP, HOUR, PAPER = (experiment.experiment.presets[name].config for name in ("laptop", "hour", "paper"))
EVOLUTION = LAPTOP.evolution


def test_the_paper_s_settings_are_the_published_ones():
    published = {"population": 500, "generations": 1000, "trials": 400, "scored": 100, "units": 70, "dt": 20.0}
    assert {name: getattr(PAPER.evolution, name) for name in published} == published
    assert (PAPER.evolution.sigma, PAPER.evolution.learning_rate, PAPER.evolution.weight_decay) == (0.03, 0.01, 3e-4)


def test_the_arms():
    laptop = configs(LAPTOP)
    assert list(laptop) == ["first-rung", "evolved", "no-plasticity", "gru"]
    rung = laptop["first-rung"]
    assert (rung.population, rung.trials, rung.scored, rung.generations) == (100, 150, 50, 250)
    assert (rung.units, rung.dt) == (70, 20.0), "the settings of the publication otherwise"
    assert laptop["evolved"].population == 200
    assert (laptop["evolved"].trials, laptop["evolved"].scored) == (250, 80)
    assert list(configs(PAPER)) == ["evolved", "no-plasticity", "withhold-nand", "gru"]
    assert configs(HOUR).items() >= {"evolved": configs(PAPER)["evolved"], "gru": laptop["gru"]}.items()
    assert len(configs(HOUR)) == 2
    for arms in (laptop, configs(PAPER)):
        same = {"plastic": True, "decoded_lives": 0, "controls": True}
        evolved, without = (dataclasses.replace(arms[arm], **same) for arm in ("evolved", "no-plasticity"))
        assert evolved == without, "they differ by plasticity, and in what is tested after it"
        assert evolution.build(arms["no-plasticity"], torch.Generator()).eta == 0


def test_the_withheld_task_and_its_negation_are_never_trained():
    for withheld, both in (("dms", {"dms", "dnms"}), ("nand", {"nand", "and"})):
        halves = [evolution.training_tasks(withheld, parity) for parity in (0, 1)]
        assert not both & {*halves[0], *halves[1]}
        assert len(halves[0]) + len(halves[1]) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": 201}, "population = 201: expected an even number"),
        ({"scored": 300}, "scored = 300: expected at most trials = 250"),
    ],
)
def test_configs_that_make_no_evolution_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EVOLUTION, **changes)


def test_too_few_trials_to_learn_in_are_warned_of():
    with pytest.warns(RuntimeWarning, match="trials - scored = 50: less than 60"):
        dataclasses.replace(EVOLUTION, trials=100, scored=50)
