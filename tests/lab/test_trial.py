from __future__ import annotations

import importlib
import sys
from dataclasses import replace

import pytest

from engram import registry
from engram.lab import Experiment, Preset, Study, code, setting, settings
from engram.lab.code import code_digest
from engram.lab.folder import name_of
from engram.lab.trial import trials


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
    config = experiment.arms("smoke")
    first, *others = (
        trials(experiment, config, seeds=2, arms=["momentum"])
        + trials(experiment, config, seeds=1, arms=["plain"])
        + trials(experiment, config, seeds=1, arms=["momentum"], device="cuda")
    )
    names = {name_of(trial.identity()) for trial in (first, *others)}
    assert len(names) == 4
    assert name_of(first.identity()) == name_of(first.identity())


def test_layers_of_changes_go_from_the_outside_to_the_inside():
    arms = {"plain": {}, "wide": {"size": 9, "limit": lambda arm: arm.size + 1}, "slow": {"rate": 0.01}}
    presets = {
        "smoke": Preset(1, {"size": 2, "slow": {"rate": 0.02}}),
        "laptop": Preset(1),
        "paper": Preset(1, {"wide.size": 90}, arms=["plain", "wide"]),
    }
    made = Experiment("made", "It.", "None", Study(trial, arms), presets, (), lambda results: None)
    values = {preset: {arm: vars(of.config) for arm, of in made.arms(preset).items()} for preset in presets}
    assert values["laptop"]["wide"] == {"size": 9, "limit": 10, "rate": 0.1}
    assert [values["smoke"][arm]["size"] for arm in arms] == [2, 9, 2]
    assert values["smoke"]["slow"]["rate"] == 0.02
    assert list(values["paper"]) == ["plain", "wide"]
    assert values["paper"]["wide"]["limit"] == 91
    changed = made.arms("laptop", {"size": 3, "wide": {"limit": 5}})
    assert [arm.config.size for arm in changed.values()] == [3, 9, 3]
    assert changed["wide"].config.limit == 5
    assert made.changed("laptop", {"size": 3, "rate": 0.1}) == {"size": 3}
    with pytest.raises(ValueError, match=r"wide\.size = 0: expected int >= 1"):
        made.arms("laptop", {"wide": {"size": 0}})
    with pytest.raises(ValueError, match="unknown field 'narrow'"):
        made.arms("laptop", {"narrow": {"size": 3}})
    only = {name: Preset(1) for name in presets}
    with pytest.raises(ValueError, match=r"rate = 0\.5: no arm of made depends on it"):
        replace(made, studies=Study(trial, {"slow": {"rate": 0.01}}), presets=only).changed("laptop", {"rate": 0.5})


def test_studies_have_settings_and_loops_of_their_own():
    studies = {"first": Study(trial, {"a": {}, "b": {"size": 7}}), "second": Study(trial, {"c": {}})}
    presets = {name: Preset(1, {"first": {"size": 2}}) for name in ("smoke", "laptop", "paper")}
    made = Experiment("made", "It.", "None", studies, presets, (), lambda results: None)
    assert {arm: of.config.size for arm, of in made.arms("smoke", {"second.size": 3}).items()} == {
        "a": 2,
        "b": 7,
        "c": 3,
    }
    with pytest.raises(ValueError, match=r"unknown field 'size'; did you mean '(first|second)\.size'"):
        made.arms("smoke", {"size": 3})
    with pytest.raises(ValueError, match="has two arms with the same name"):
        replace(made, studies={**studies, "third": Study(trial, {"c": {}})})


def test_expected_times_come_from_records_and_are_scaled():
    experiment = registry.get("experiments", "pattern-completion")
    laptop = experiment.arms("laptop")["plastic"].seconds
    assert experiment.arms("laptop", {"episodes": 12000})["plastic"].seconds == pytest.approx(2 * laptop)


@settings
class Config:
    size: int = setting(4, "units", ge=1)
    limit: int = setting(5, "the most that there may be", ge=0)
    rate: float = setting(0.1, "of learning", gt=0, le=1)


def trial(config: Config, run):
    return {}
