from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from engram import registry
from engram.lab.trial import code_digest, key, trials


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of somebody's own: an experiment that imports a module, which imports another; and one beside."""
    folder = tmp_path / "somebodys"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "experiment.py").write_text(
        "import torch\nfrom somebodys import learner\nfrom engram.plasticity import Oja\n"
    )
    (folder / "learner.py").write_text("def learn():\n    from .rates import RATE\n    return RATE\n")
    (folder / "rates.py").write_text("RATE = 1\n")
    (folder / "beside.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("somebodys")]:
        del sys.modules[name]


def digest() -> str:
    code_digest.cache_clear()
    importlib.import_module("somebodys.experiment")
    return code_digest("somebodys.experiment")


@pytest.mark.parametrize("changed", ["experiment.py", "learner.py", "rates.py"])
def test_a_change_to_any_code_that_a_trial_reaches_gives_it_another_name(package, changed):
    before = digest()
    with (package / changed).open("a") as file:
        file.write("# changed\n")
    assert digest() != before


def test_a_change_to_other_code_does_not(package):
    before = digest()
    (package / "beside.py").write_text("# changed\n")
    assert digest() == before


def test_a_trial_of_a_folder_reaches_its_study_and_not_the_studies_beside_it(package):
    (package / "__init__.py").write_text("from somebodys import beside, experiment\n")
    (package / "experiment.py").write_text("from somebodys.learner import learn\n")
    before = digest()
    for other in ("__init__.py", "beside.py"):
        with (package / other).open("a") as file:
            file.write("# changed\n")
    assert digest() == before
    (package / "rates.py").write_text("RATE = 2\n")
    assert digest() != before


def test_the_rules_and_the_loop_are_reached_and_the_reports_are_not(monkeypatch):
    reached: list[Path] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reached.append(path) or read(path))
    registry.get("experiments", "pattern-completion")
    code_digest.cache_clear()
    code_digest("engram.experiments.pattern_completion")
    names = {path.name for path in reached}
    assert {"pattern_completion.py", "plastic_rnn.py", "rule.py", "loop.py"} <= names
    assert not {"report.py", "monitor.py", "cli.py"} & names


def test_code_without_a_file_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    code_digest.cache_clear()
    with pytest.raises(ValueError, match="'__main__' has no source file: write it into one"):
        code_digest("__main__")


def test_all_that_determines_a_result_is_in_its_name(toy):
    experiment = registry.get("experiments", toy)
    config = experiment.presets["smoke"].config
    first, *others = (
        trials(experiment, config, seeds=2, arms=["momentum"])
        + trials(experiment, config, seeds=1, arms=["plain"])
        + trials(experiment, config, seeds=1, arms=["momentum"], device="cuda")
    )
    names = {key(trial.identity()) for trial in (first, *others)}
    assert len(names) == 4
    assert key(first.identity()) == key(first.identity())


def test_an_arm_out_of_range_is_refused(toy):
    import dataclasses

    experiment = registry.get("experiments", toy)
    (arm, *_) = experiment.arms(experiment.presets["smoke"].config).values()
    bad = dataclasses.replace(arm, config=dataclasses.replace(arm.config, size=0))
    broken = dataclasses.replace(experiment, arms=lambda config: {"a": bad}, claims=())
    with pytest.raises(ValueError, match="size = 0: expected int >= 1"):
        trials(broken, broken.presets["smoke"].config, seeds=1)
