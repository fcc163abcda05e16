"""The contract of experiments, for those that are not registered."""

from dataclasses import replace

import pytest

from engram import registry
from engram.testing import check_experiment

FILE = '''
"""Whether a drawn number is positive."""

import torch

from engram.lab import Experiment, Points, Preset, Study, claims_from, metric, setting, settings


@settings
class Config:
    """A trial."""

    steps: int = setting(4, "numbers that are drawn", ge=2)


def trial(config: Config, run):
    """Draw numbers; the result is their mean size."""
    total = torch.zeros(1)
    for step in run.steps(config.steps, total=total):
        total += torch.randn(1, generator=run.generator).abs()
        run.log(step, total=total)
    return {"size": float(total) / config.steps}


claim = claims_from("a question of our own")
experiment = Experiment(
    name="sizes",
    about=__doc__,
    paper="ours",
    studies=Study(trial, {"drawn": {}}),
    presets={"smoke": Preset(seeds=1), "laptop": Preset(seeds=5)},
    claims=[claim("above", "Numbers have a size", metric("size")("drawn") >= 0.1)],
    figure=Points("size", "Sizes", "size"),
    headline="total",
)
'''


def test_an_experiment_in_a_file_is_killed_and_resumed(tmp_path, monkeypatch):
    (tmp_path / "sizes.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert check_experiment("sizes.py:experiment", tmp_path / "runs").is_file()


def test_an_experiment_that_other_processes_cannot_find_is_refused(tmp_path):
    unknown = replace(registry.get("experiments", "pattern-completion"), name="unknown")
    with pytest.raises(ValueError, match=r"name: the experiment 'unknown' is not registered.*file\.py:experiment"):
        check_experiment(unknown, tmp_path)
