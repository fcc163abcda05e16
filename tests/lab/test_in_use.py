"""What is in use now is compared with what a result was made by: copies, other folders, links, outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

import engram
from engram import references
from engram.lab.trial import provenance
from engram.lab.trial.digest import digest_on_disk, leave_out, name_of_file, path_of_file
from engram.lab.trial.provenance import difference, strangeness

CODE = '''"""A reader."""
import os
from pathlib import Path
from engram.lab import Experiment, Points, Preset, Study, setting, settings
HERE = Path(__file__).parent
@settings
class Config:
    path: str = setting("", "what is read")
    out: str = setting("", "what is written")
def read(path):
    return sum(read(each) for each in path.iterdir()) if path.is_dir() else float(path.read_text())
def trial(config: Config, run):
    if config.out:
        Path(config.out).write_text(f"{run.rng.random()}")
    if not config.path:
        return {"value": READ}
    path = Path(os.path.expandvars(config.path)).expanduser()
    return {"value": read(path if path.exists() else HERE / path)}
presets = {name: Preset(1) for name in ("smoke", "laptop")}
experiment = Experiment("reader", __doc__, "none", Study(trial, {"main": {}}), presets, [], Points("value"))
'''


@pytest.fixture
def program(tmp_path, files_forgotten):
    """A function that makes a program in a folder, whose trial returns what an expression gives."""

    def program(folder: str, read: str = "1.0"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "reader.py").write_text(CODE.replace("READ", read))
        return references.load(f"{tmp_path / folder / 'reader.py'}:experiment")

    return program


@pytest.fixture
def result(tmp_path):
    """A function that runs an experiment and returns its value, and whether it was computed again."""
    folders = set()

    def result(experiment, **settings):
        options = {"preset": "smoke", "jobs": 1, "progress": False, "runs": tmp_path / "runs"}
        (trial,) = engram.run(experiment, **options, **settings).trials
        assert trial.state == "finished", trial.message
        is_new = trial.folder not in folders
        folders.add(trial.folder)
        return trial.result["value"], is_new

    return result


def test_the_result_of_a_copied_program_is_not_that_of_the_copy(program, result):
    assert result(program("first", "1.0")) == (1.0, True)
    assert result(program("second", "2.0")) == (2.0, True)
    assert result(program("first", "1.0")) == (1.0, False)


def test_a_relative_path_means_the_file_in_the_folder_of_now(program, result, tmp_path, monkeypatch):
    declared = program("declared", 'float(run.uses("rates.txt").read_text())')
    named = program("named")
    for place, value in (("one", 1.0), ("two", 2.0)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "rates.txt").write_text(str(value))
        monkeypatch.chdir(tmp_path / place)
        assert result(declared) == (value, True)
        assert result(named, path="rates.txt") == (value, True)
        assert result(named, path="rates.txt") == (value, False)


@pytest.mark.parametrize("text", ["$DISK/rates.txt", "${DISK}", "~/rates.txt", "beside.txt"])
def test_an_edit_counts_of_what_a_setting_names_in_any_way(program, result, tmp_path, monkeypatch, text):
    experiment = program("named")
    for variable in ("DISK", "HOME"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.chdir(tmp_path / "HOME")
    for value in (1.0, 2.0):
        for place in ("DISK/rates.txt", "HOME/rates.txt", "named/beside.txt"):
            (tmp_path / place).write_text(str(value))
        assert result(experiment, path=text) == (value, True)
        assert result(experiment, path=text) == (value, False)


def test_what_a_trial_writes_itself_is_no_reason_to_run_it_again(program, result, tmp_path):
    experiment = program("writer")
    out = str(tmp_path / "written.txt")
    assert result(experiment, out=out)[1]
    (tmp_path / "written.txt").write_text("by another trial")
    assert not result(experiment, out=out)[1]


def test_a_folder_holds_what_is_linked_into_it_and_not_what_runs_write(tmp_path):
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.mkdir()
    (disk / "deep").mkdir(parents=True)
    (data / "linked").symlink_to(disk)
    (disk / "deep" / "around").symlink_to(data)  # a circle
    digests = [digest_on_disk(data)]
    (disk / "deep" / "rates.txt").write_text("1")
    digests.append(digest_on_disk(data))
    (data / "linked").unlink()
    (data / "linked").symlink_to(disk / "deep")  # it is moved
    digests.append(digest_on_disk(data))
    assert len(set(digests)) == 3
    leave_out(data / "runs")
    (data / "runs").mkdir()
    (data / "runs" / "result.json").write_text("{}")
    assert digest_on_disk(data) == digests[-1]


def test_a_file_beside_a_copied_package_is_that_of_the_copy(tmp_path):
    for place, value in (("old", "1"), ("new", "2")):
        (tmp_path / place / "mine").mkdir(parents=True)
        (tmp_path / place / "mine" / "rates.txt").write_text(value)
    used = str(tmp_path / "old" / "mine" / "rates.txt")
    made_by = {"versions": {}, "parts": {}, "files": {used: digest_on_disk(used)}}
    made_by["places"] = {"mine.experiment": str(tmp_path / "old" / "mine")}
    now = {"versions": {}, "parts": {}, "files": {}}
    there = {"mine.experiment": str(tmp_path / "new" / "mine")}
    assert not difference(made_by, {})
    assert not strangeness(made_by, {**now, "places": made_by["places"]})
    assert strangeness(made_by, {**now, "places": there}) == f"{tmp_path / 'new/mine/rates.txt'} is in use now"
    Path(there["mine.experiment"], "rates.txt").write_text("1")
    assert not strangeness(made_by, {**now, "places": there})


def test_a_relative_name_stays_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_of_file("a/b.csv") == "./a/b.csv"
    assert path_of_file("./../b.csv") == str(tmp_path.parent / "b.csv")
    assert name_of_file(str(tmp_path / "b.csv")) == str(tmp_path / "b.csv")


def test_a_package_that_is_installed_again_counts(tmp_path, monkeypatch, files_forgotten):
    site = tmp_path / "site-packages"
    (site / "helpful").mkdir(parents=True)
    (site / "helpful" / "__init__.py").write_text("VALUE = 1\n")
    (tmp_path / "uses_helpful.py").write_text("import helpful\n")
    monkeypatch.setattr(provenance, "_installed", {})
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("uses_helpful")
    made_by = provenance.Use(["uses_helpful"]).provenance()
    assert "helpful/" in made_by["files"]
    assert not {"torch/", "numpy/"} & made_by["files"].keys()
    monkeypatch.setattr(provenance, "_installed", {})  # as in another process
    assert not difference(made_by, {})
    (site / "helpful" / "__init__.py").write_text("VALUE = 2\n")
    assert difference(made_by, {}) == "helpful/ was edited"


APPENDS = '''"""A writer."""
from pathlib import Path
from engram.lab import Experiment, Points, Preset, Study, setting, settings
@settings
class Config:
    out: str = setting("", "where to write")
    stops: bool = setting(False, "whether it fails half-way, once")
def trial(config: Config, run):
    log = Path(config.out) / "log.txt"
    for step in run.steps(4):
        with log.open("a") as file:
            file.write(f"{step}\\n")
        if config.stops and step == 2 and not (Path(config.out) / "again").exists():
            (Path(config.out) / "again").touch()
            raise OSError("an accident")
    return {"value": float(len(log.read_text().splitlines()))}
presets = {name: Preset(1) for name in ("smoke", "laptop")}
experiment = Experiment("writer", __doc__, "none", Study(trial, {"main": {}}), presets, [], Points("value"))
'''


@pytest.fixture
def appends(tmp_path, files_forgotten, monkeypatch):
    """A function that runs trials that append to a file in a folder, which is there, and returns the file's lines."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.txt").write_text("of somebody")
    (tmp_path / "writer.py").write_text(APPENDS)
    monkeypatch.chdir(tmp_path)

    def appends(**settings):
        options = {"preset": "smoke", "jobs": 1, "progress": False, "runs": tmp_path / "runs", "out": "out"}
        engram.run(references.load(f"{tmp_path / 'writer.py'}:experiment"), **options, **settings)
        return (tmp_path / "out" / "log.txt").read_text().split()

    return appends


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_folder_that_trials_write_to_is_no_reason_to_run_them_again(appends, seeds):
    assert [len(appends(seeds=seeds)) for _ in range(3)] == [4 * seeds] * 3


def test_a_trial_that_failed_goes_on_although_it_has_written_to_a_folder(appends, tmp_path):
    for expected in (["0", "1", "2"], ["0", "1", "2", "2", "3"], ["0", "1", "2", "2", "3"]):
        assert appends(stops=True, checkpoint_seconds=0) == expected
