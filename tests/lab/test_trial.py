from __future__ import annotations

import importlib
import sys

import pytest

from engram import registry
from engram.lab import code
from engram.lab.code import code_digest
from engram.lab.trial import key, trials


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
    """Return the digest of the code as a new process would load it."""
    for name in [name for name in sys.modules if name.startswith("somebodys")]:
        del sys.modules[name]
    importlib.invalidate_caches()
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


def test_an_edit_counts_once_it_is_loaded_and_not_before(package):
    before = digest()
    (package / "rates.py").write_text("RATE = 2\n")
    assert code_digest("somebodys.experiment") != before, "rates is not loaded yet, so a trial would load the new one"
    before = digest()
    module = importlib.import_module("somebodys.learner")
    (package / "learner.py").write_text("def learn():\n    return 3\n")
    assert code_digest("somebodys.experiment") == before, "the old source is what would run"
    known = len(code.reloaded)
    importlib.reload(module)
    assert code_digest("somebodys.experiment") != before
    assert code.reloaded[known:] == ["somebodys.learner"]


@pytest.mark.parametrize(
    "line",
    [
        "env = gymnasium.make('engram/GridMaze-v0')",
        "parts = registry.names('environments')",
        "gymnasium.register('a/B-v0', 'engram.tasks.environments.grid_maze:GridMaze')",
    ],
)
def test_what_a_trial_makes_by_name_is_code_that_it_reaches(package, monkeypatch, line):
    before = digest()
    (package / "rates.py").write_text(f"RATE = 1\ndef later():\n    {line}\n")
    with_line = digest()
    assert with_line != before
    name = "engram.tasks.environments.grid_maze"
    importlib.import_module(name)
    monkeypatch.setitem(code._loaded, name, code._source(name) + b"# changed")
    assert digest() != with_line


def test_a_part_of_another_package_counts_where_it_is_named(package, toy, monkeypatch):
    (package / "rates.py").write_text("from engram import registry\nPARTS = registry.names('experiments')\n")
    without, named = digest(), code_digest("somebodys.experiment", {"toy"})
    assert named != without
    importlib.import_module("toy_experiments")
    monkeypatch.setitem(code._loaded, "toy_experiments", b"# changed")
    assert code_digest("somebodys.experiment") == without
    assert code_digest("somebodys.experiment", {"toy"}) != named


def test_the_rules_and_the_loop_are_reached_and_the_reports_are_not(monkeypatch):
    registry.get("experiments", "pattern-completion")
    of_trial = "engram.experiments.pattern_completion"
    before = code_digest(of_trial)
    for name in ("engram.lab.report", "engram.lab.monitor", "engram.cli", "engram.plasticity.rule", "engram.lab.loop"):
        source = code._source(name) or b""
        with monkeypatch.context() as changed:
            changed.setitem(code._loaded, name, source + b"# changed")
            importlib.import_module(name)
            assert (code_digest(of_trial) != before) == (name in ("engram.plasticity.rule", "engram.lab.loop")), name


def test_code_without_a_file_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.delitem(code._loaded, "__main__", raising=False)
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
