"""The shipped records are what the code still computes: their first seeds are run again.

`make test` runs a sample of about 15 seconds, of trials in which no training amplifies what another processor rounds
otherwise; `make soak` runs the first seed of every arm of every record, or its first minute.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import engram
from engram import registry
from engram.lab import Results, recorded
from engram.lab.output.record_files import as_record, from_record, record_path, recorded_arms
from engram.lab.trial.experiment import Experiment
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.metrics import read
from engram.studies.recording.add_trials import TOLERANCE, differences, is_among, is_equal, is_same_machine, numbers
from engram.studies.standings.record_comparisons import with_candidates
from engram.tasks.data import DataError

MINUTE = 60.0
SAMPLE = {
    "agents": ("grid-maze-random",),
    "align": ("rho-1",),
    "associative-memories": ("noise-cue",),
    "dhp-softmax": ("exactness",),
    "diffusion-compose": ("overlaps",),
    "dsa": ("order",),
    "expander-memory": ("small-max", "contents-cue"),
    "farmap": ("frontier-taste",),
    "first-order-preconditioning": ("bowl-plain-0.05",),
    "generalization-difficulty": ("published", "digits"),
    "learning-rules": ("random-features",),
    "map-induction": ("landmark-frontier", "same-frontier"),
    "maze": ("random",),
    "meta-task-space": ("greedy-bandit",),
    "noodl": ("mended-64-3",),
    "one-shot-characters": ("blurred-pixels",),
    "optimizers": ("bowl-Adam", "bowl-RMSprop", "noisy-bowl-rmsprop-eps-inside"),
    "property-verification": ("bounds",),
    "qss": ("qsa-cliff", "qsa-cliff-published"),
}
RECORDS = [
    (name, preset)
    for name in engram.experiments()
    for preset in registry.get("experiments", name).presets
    if record_path(registry.get("experiments", name), preset) is not None
]


def first_seed(experiment: Experiment, preset: str, arm: str, runs: Path, at_most: float | None = MINUTE) -> Results:
    """The first seed of an arm, run for at most a minute; without a limit in this process."""
    options = {"preset": preset, "seeds": 1, "arms": [arm], "runs": runs, "jobs": 1, "progress": False}
    try:
        return engram.run(experiment, **options, keep_state=False, device="cpu", at_most=at_most)
    except ValueError as error:
        if isinstance(error.__cause__, DataError) or "ENGRAM_DATA" in str(error):
            pytest.skip(str(error))
        raise


def first_windows(
    results: Results, arm: str, record: Results
) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """By metric: means over windows of an unfinished trial, those of the record, and their range over seeds."""
    (table,) = read(TrialFolder(Path(results.trials[0].folder)).metrics_path)
    means = {}
    of_arm = record.metrics.filter(pl.col("arm") == arm)
    for (metric,), curve in of_arm.filter(pl.col("seed") == 0).group_by("metric", maintain_order=True):
        rows = table.filter(pl.col("metric") == metric)
        ends = [end for end in curve["step"] if end < rows["step"].max()] if len(rows) else []
        now = [
            float(rows.filter((pl.col("step") > begin) & (pl.col("step") <= end))["value"].to_numpy().mean())
            for begin, end in zip([-np.inf, *ends], ends, strict=False)
        ]
        spread = (
            of_arm.filter(pl.col("metric") == metric)
            .group_by("step")
            .agg(range=pl.col("value").max() - pl.col("value").min())
        )
        ranges = dict(spread.iter_rows())
        means[str(metric)] = now, curve["value"].to_list()[: len(ends)], [ranges[end] for end in ends]
    return means


@pytest.mark.parametrize(("name", "arm"), [(name, arm) for name, arms in SAMPLE.items() for arm in arms])
def test_a_sample_of_the_records_is_what_the_code_computes(name, arm, tmp_path):
    experiment, record = registry.get("experiments", name), recorded(name)
    again = first_seed(experiment, "laptop", arm, tmp_path, at_most=None)
    (trial,) = again.trials
    assert trial.state == "finished", trial.message
    before, now = numbers(record)[arm, 0], numbers(from_record(experiment, *as_record(experiment, again)))[arm, 0]
    digits = 0.0 if is_same_machine(record.environment, again.environment) else TOLERANCE
    assert not [key for key in before if "seconds" not in key and not is_equal(before[key], now[key], digits)]


@pytest.mark.soak
@pytest.mark.parametrize(("name", "preset"), RECORDS)
def test_a_record_is_what_the_code_computes(name, preset, tmp_path):
    experiment, record = registry.get("experiments", name), recorded(name, preset)
    different = {}
    for arm in experiment.arms(preset):
        again = first_seed(experiment, preset, arm, tmp_path)
        assert again.trials[0].state in ("finished", "interrupted"), again.trials[0].message
        if again.trials[0].state == "finished":
            different |= differences(experiment, record, again)
            continue
        for metric, (now, before, ranges) in first_windows(again, arm, record).items():
            for value, old, spread in zip(now, before, ranges, strict=True):
                if not is_equal(old, value, TOLERANCE) and abs(value - old) > spread:
                    different[arm, 0] = [f"curve of {metric}"]
    assert not different, f"raise the revision of {name} and record it anew, if this is meant"


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in engram.experiments() if registry.get("experiments", name).tasks])
def test_a_record_of_comparisons_is_what_the_code_computes(name, tmp_path):
    extended, _ = with_candidates(registry.get("experiments", name))
    if (record := recorded_arms(extended, "laptop", "compare")) is None:
        pytest.skip("its own record has all arms")
    different = {}
    for arm in record.arms:
        again = first_seed(extended, "laptop", arm, tmp_path)
        if again.trials[0].state == "finished":  # its first minute shows nothing: its value is the one at the end
            different |= differences(extended, record, again)
    assert not different, f"raise the revision of {name} and record it anew, if this is meant"


def test_a_number_that_moves_is_noticed(tmp_path):
    name, arm = "associative-memories", "families-cue"
    experiment, record = registry.get("experiments", name), recorded(name)
    again = first_seed(experiment, "laptop", arm, tmp_path, at_most=None)
    assert not differences(experiment, record, again)
    values = [value for value in numbers(record)[arm, 0].values() if isinstance(value, float)]
    moved = json.loads(json.dumps(values[0] + 10 * (1 + abs(values[0]))))
    assert not is_equal(values[0], moved, TOLERANCE)
    assert not is_among(moved, values[:1] * 2)
    assert is_among(0.5, [0.0, 1.0])
    assert is_among([0.5, "b"], [[0.0, "a"], [1.0, "b"]])
    assert not is_among([2.5], [[0.0], [1.0]])
    assert not is_among(0.5, [0.0])
