import pytest
import torch

from engram.experiments.evolved_plastic_networks import evolution, experiment


def test_the_arm_without_plasticity_differs_by_it_and_in_what_is_tested_after_it():
    for preset in ("laptop", "paper"):
        arms = {name: vars(arm.config) for name, arm in experiment.arms(preset).items()}
        assert arms["no-plasticity"] == arms["evolved"] | {"plastic": False, "decoded_lives": 0, "controls": False}
    without = experiment.arms("laptop")["no-plasticity"].config
    assert evolution.build(without, torch.Generator()).eta == 0


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
        evolution.Config(**changes)


def test_too_few_trials_to_learn_in_are_warned_of():
    with pytest.warns(RuntimeWarning, match="trials - scored = 50: less than 60"):
        evolution.Config(trials=100, scored=50)
