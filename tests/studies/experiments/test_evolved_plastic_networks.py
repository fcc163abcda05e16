from dataclasses import replace

import pytest
import torch

from engram.studies.experiments.evolved_plastic_networks import evolution, experiment, gru


def test_an_arm_differs_by_what_it_is_named_after_and_in_what_is_tested_after_it():
    tested_less = {"decoded_lives": 0, "controls": False}
    for preset, arm, difference in (
        ("laptop", "no-plasticity", {"plastic": False}),
        ("published", "withhold-nand", {"withheld": "nand"}),
    ):
        arms = {name: vars(one.config) for name, one in experiment.arms(preset).items()}
        assert arms[arm] == arms["evolved"] | difference | tested_less
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
        ({"decoded_lives": 8}, "decoded_lives = 8: expected 0, or at least 24"),
    ],
)
def test_configs_that_make_no_evolution_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        evolution.Config(**changes)


def test_too_few_trials_to_learn_in_are_warned_of():
    with pytest.warns(RuntimeWarning, match="trials - scored = 50: less than 60"):
        evolution.Config(trials=100, scored=50)


def test_the_gru_is_trained_at_the_rate_that_pays_most_in_the_trained_tasks(monkeypatch, new_run):
    trained = []

    class Training(gru.Training):
        def __init__(self, rate, config, run, iterations):
            super().__init__(rate, config, run, iterations)
            trained.append((self.optimizer.param_groups[0]["lr"], iterations))

        def step(self, iteration):
            super().step(iteration)
            return -abs(self.settings.learning_rate - 0.01)

    monkeypatch.setattr(gru, "Training", Training)
    run = new_run()
    config = replace(experiment.arms("smoke")["gru"].config, iterations=3)
    result = gru.trial(config, run)
    assert trained == [*((rate, 2) for rate in config.rates), (0.01, 3)]
    assert run.choices["learning_rate"]["chosen"] == 0.01
    assert set(result) == {"accuracy", "withheld_accuracy"}
