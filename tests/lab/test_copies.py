"""Results as other programs keep them: pickled, copied, in other processes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

import engram
from engram.lab import maximum, met, metric, recorded, share
from engram.lab.output.report import write_report
from engram.lab.trial.experiment import find_experiment

OWN = """
from engram.lab import Claim, Experiment, Points, Preset, Study, metric, setting, settings
@settings
class Config:
    x: float = setting(2.0, "x")
def trial(config: Config, run):
    return {"v": config.x}
claims = [Claim("large", "v is large", metric("v")("main") >= 1, "nowhere")]
presets = {"smoke": Preset(1), "laptop": Preset(3)}
experiment = Experiment("own", "Own.", "none", Study(trial, {"main": {}}), presets, claims, Points("v"))
"""
READ = (
    "import pickle, sys; results = pickle.load(sys.stdin.buffer); print(results.claims()[0].verdict, results.configs)"
)


@pytest.fixture(scope="module")
def results():
    return recorded("pattern-completion")


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_same_verdicts(results, copied, tmp_path):
    again = copied(results)
    assert again.to_json() == results.to_json()
    assert again.metrics.equals(results.metrics)
    judged = copied(results.claims())
    assert [(each.verdict, each.claim.statement) for each in judged] == [
        (each.verdict, each.claim.statement) for each in results.claims()
    ]
    page = write_report([(find_experiment("pattern-completion"), again)], tmp_path / "a.html").read_text()
    assert judged[0].claim.statement in page


def test_a_measure_is_copied_with_its_functions():
    measure = maximum(abs(metric("a", 0)("x") - 2), met(share("b")("y") >= 0.5)).median()
    again = pickle.loads(pickle.dumps(measure))
    result = {"x": {"a": [-1.0]}, "y": {"b": 0.25}}
    assert (again(result), again.formula, again.arms, again.form) == (3.0, measure.formula, ("x", "y"), "median")


def test_results_of_a_program_given_by_its_place_are_read_in_another_process(tmp_path, files_forgotten):
    (tmp_path / "own.py").write_text(OWN)
    options = {"jobs": 1, "progress": False, "runs": tmp_path / "runs"}
    results = engram.run(f"{tmp_path / 'own.py'}:experiment", **options)
    command = [sys.executable, "-c", READ]
    read = subprocess.run(command, input=pickle.dumps(results), capture_output=True, check=True, cwd=tmp_path)
    assert read.stdout.decode().strip() == f"{results.claims()[0].verdict} {{'main': Config(x=2.0)}}"
