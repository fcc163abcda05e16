from dataclasses import replace

import numpy as np
import pytest

from engram.generative.design import SigmoidEpistasis, mutants_of, split
from engram.studies.experiments import protein_design, protein_design_aav

SMALL = protein_design.experiment.arms("smoke")["smoothed"].config


def test_arms_differ_in_what_they_say_alone():
    arms = protein_design.experiment.arms("laptop")
    base = arms["smoothed"].config
    assert (base.gamma, base.temperature, base.accept, base.search) == (1.0, 0.1, "balanced", "gibbs")
    assert arms["refit"].config == replace(base, gamma=0.0)
    assert arms["noisy"].config == replace(base, labels="measured")
    assert arms["adalead-refit"].config == replace(base, gamma=0.0, search="adalead")
    paper = protein_design.experiment.arms("large")
    assert paper["few-nodes"].config.nodes == 100_000
    assert paper["smoothed"].config.channels == 256


def test_all_arms_of_a_seed_have_the_same_start_and_consensus(performed):
    results = [
        performed(protein_design.trial, replace(SMALL, **change))[0]
        for change in ({}, {"labels": "measured"}, {"gamma": 0.0}, {"search": "cbas"}, {"search": "hill-climb"})
    ]
    for key in ("consensus", "start"):
        assert len({result[key] for result in results}) == 1
    assert len({result["fitness"] for result in results}) == len(results)
    assert all(0 <= result["accepted"] <= 1 for result in results)


def test_what_is_designed_is_judged_by_the_landscape(performed, monkeypatch):
    chosen = []
    climbed = protein_design.climb

    def noted(*arguments):
        chosen.append(climbed(*arguments))
        return chosen[-1]

    monkeypatch.setattr(protein_design, "climb", noted)
    result, _ = performed(protein_design.trial, SMALL, seed=2001)
    words = np.random.SeedSequence(2001).generate_state(3)
    rng = np.random.default_rng(int(words[1]))
    landscape = SigmoidEpistasis(rng)
    known = mutants_of(landscape, SMALL.variants, rng)
    truth = landscape(known.tokens)
    values = (landscape(chosen[0][0].tokens) - truth.min()) / np.ptp(truth)
    assert result["fitness"] == pytest.approx(np.median(values))
    start = known.tokens[split(known, (0.0, 0.3), SMALL.gap, distance="hamming")]
    assert (start[:, None] != chosen[0][0].tokens).any(2).all()


def test_the_judge_is_judged_by_what_it_did_not_see(performed):
    config = protein_design_aav.experiment.arms("smoke")["hard-smoothed"].config
    result, _ = performed(protein_design_aav.trial, replace(config, judge_epochs=30, judge_channels=16))
    assert 0.3 < result["judge"] < 1
    assert result["rows"] > 100


@pytest.mark.needs_data("aav/ground_truth.csv")
@pytest.mark.parametrize("task", ["medium", pytest.param("hard", marks=pytest.mark.soak)])
def test_the_start_has_as_many_rows_as_published(task):
    config = protein_design_aav.experiment.arms("laptop")[f"{task}-smoothed"].config
    _, rows = protein_design_aav.table(config, np.random.default_rng(0))
    assert len(rows) == protein_design_aav.TASKS[task][2]
