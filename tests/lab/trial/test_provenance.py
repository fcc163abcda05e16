"""What a result was made by: files of a user, and of a copy of the library, are edited one after another."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import engram
from engram import registry
from engram.lab.output.report import write_report
from engram.lab.trial import job
from engram.lab.trial.job import prepare
from engram.lab.trial.provenance import Provenance, Use, difference, digests
from engram.lab.trial.trial import check_source, trials
from engram.run_options import RunOptions
from engram.storage import checkpoint

SOURCE = Path(__file__).parents[3] / "src"
FILES = {
    "helper.py": "VALUE = 1\nRATE = 0.5\n",
    "plugin.py": "VALUE = 1\n",
    "mine/__init__.py": "VALUE = 1\nfrom mine import setup\n",
    "mine/setup.py": "import helper\nhelper.SETUP = 1\n",
    "mine/late.py": "VALUE = 1\n",
    "mine/literal.py": "VALUE = 1\n",
    "mine/parts.py": "first, second = 1, 2\n",
    "mine/other.py": "VALUE = 1\n",
    "mine/table.csv": "1\n",
    "mine/constants.csv": "1\n",
    "mine-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n",
    "mine-0.1.dist-info/entry_points.txt": "[engram.tasks]\nmine = mine.parts:first\n",
    "mine/experiment.py": """
import importlib
from pathlib import Path

import numpy as np

import helper
import mine
from engram import registry
from engram.studies.experiments import pattern_completion
from engram.lab import Experiment, Preset, Study
from helper import RATE

HERE = Path(__file__).parent
CONSTANT = float((HERE / "constants.csv").read_text())


def trial(config, run):
    from mine import late

    parts = [late.VALUE, helper.VALUE, helper.SETUP, mine.VALUE, CONSTANT, registry.get("tasks", "mine")]
    parts += [importlib.import_module(f"mine.{'literal'}").VALUE, np.loadtxt(run.uses(HERE / "table.csv"))]
    result = pattern_completion.trial(config, run)
    return {**result, "parts": [float(part) for part in parts]}


presets = {name: Preset(1, {"bits": 10, "hidden_size": 11, "episodes": 20}) for name in ("smoke", "laptop")}
study = Study(trial, {"lstm": {"network": "lstm"}}, pattern_completion.Config)
experiment = Experiment("mine", "It.", "None", study, presets, (), lambda results: None, uses=["constants.csv"])
""",
    "mine/read-setting.csv": "1\n",
    "mine/pieces/1.csv": "1\n",
    "mine/readers.py": """
from pathlib import Path

from engram.lab import Experiment, Preset, Study, setting, settings

HERE = Path(__file__).parent


@settings
class Config:
    path: str = setting("", "a file; empty: all pieces")


def trial(config: Config, run):
    paths = [config.path] if config.path else run.uses(HERE / "pieces").glob("*.csv")
    return {"value": sum(float(Path(path).read_text()) for path in paths)}


presets = {name: Preset(1) for name in ("smoke", "laptop")}
arms = {"pieces": {}, "setting": {"path": str(HERE / ("read-" + "setting.csv"))}}
experiment = Experiment("mine", "It.", "None", Study(trial, arms), presets, (), lambda results: None)
""",
    "mine/dynamic.py": """
from engram.lab import Experiment, Preset, Study, setting, settings

PLUGIN = __import__("plug" + "in")


@settings
class Config:
    units: int = setting(1, "units", ge=1)


def trial(config: Config, run):
    return {"plugin": PLUGIN.VALUE}


presets = {name: Preset(1) for name in ("smoke", "laptop")}
experiment = Experiment("mine", "It.", "None", Study(trial, {"dynamic": {}}), presets, (), lambda results: None)
""",
}
USED = [
    "src/engram/plasticity/hebb.py",
    "src/engram/studies/experiments/maze.py",
    "helper.py",
    *(f"mine/{name}" for name in ("__init__.py", "setup.py", "late.py", "literal.py", "parts.py")),
    *("mine/table.csv", "mine/constants.csv", "mine-0.1.dist-info/entry_points.txt"),
]
UNUSED = ["src/engram/lab/output/report.css", "mine/other.py", "mine/read-setting.csv"]
# One process imports what others have made, and forks those that import the copy.
SERVER = """
import gc, json, os, sys
import beartype.door, filelock, gymnasium, joblib, jaxtyping, numba, numpy, plotly.graph_objects, plotly.subplots
import polars, psutil, pydantic.dataclasses, rich.progress, safetensors.torch, scipy.special, threadpoolctl
import torch._dynamo  # which an optimiser loads
gc.freeze()
for line in sys.stdin:
    if os.fork():
        os.wait()
        continue
    call = json.loads(line)
    os.chdir(call["tree"])
    sys.path[:0] = [call["tree"] + "/src", call["tree"]]
    exec(call["code"], {**call, "__name__": "__main__"})
    sys.stdout.flush()
    os._exit(0)
"""
VERSION = """
import json
from engram.lab.trial import provenance
assert provenance.__file__.startswith(tree)
print("answer" + json.dumps(provenance.computing_versions()["engram"]))
"""
ASK = """
import importlib, json, traceback
from pathlib import Path
try:
    import engram
    from engram.lab.trial.job import prepare
    from engram.lab.trial.trial import trials
    assert engram.__file__.startswith(tree)
    experiment = importlib.import_module(module).experiment
    arms = experiment.arms("smoke")
    (trial,) = trials(experiment, arms, seeds=1, arms=[arm or next(iter(arms))])
    job = prepare(trial, Path(runs, "mine"), Path(runs, "stop"))
    reused = job.folder.path.exists() and job.folder.result() is not None
    answer = {"reused": reused, "differs": getattr(job, "differs", "")}
    if run == "anyway" or run and reused:
        options = dict(preset="smoke", jobs=1, device="cpu", progress=False, arms=[trial.arm])
        (done,) = engram.run(experiment, runs=runs if run == "anyway" else run, **options).trials
        answer |= {"state": done.state, "result": dict(done.result), "message": done.message}
except Exception:
    answer = {"state": "broken", "reused": False, "differs": traceback.format_exc()}
print("answer" + json.dumps(answer))
"""
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library, with somebody's experiment beside."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(SOURCE, tree / "src")  # with what is compiled
    for name, content in FILES.items():
        (tree / name).parent.mkdir(exist_ok=True, parents=True)
        (tree / name).write_text(content)
    return tree


@pytest.fixture(scope="module")
def answer_of() -> Iterator[Callable[..., Any]]:
    """The answer of some code in a new process, with a copy of the library and other variables."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def answer_of(code: str, tree: Path, **variables: str) -> Any:
            print(json.dumps({"code": code, "tree": str(tree), **variables}), file=server.stdin, flush=True)
            while not (line := server.stdout.readline()).startswith("answer"):
                assert line, "the server died"
            return json.loads(line.removeprefix("answer"))

        yield answer_of
        server.stdin.close()


@pytest.fixture(scope="module")
def ask(tree: Path, answer_of: Callable[..., Any]) -> Ask:
    """Ask a new process whether a result is reused, or let it run."""

    def ask(run: str = "", module: str = "mine.experiment", arm: str = "", runs: str = "runs") -> dict[str, Any]:
        return answer_of(ASK, tree, runs=str(tree / runs), run=run, module=module, arm=arm)

    return ask


@pytest.fixture(scope="module")
def first(ask: Ask) -> dict[str, Any]:
    """What the trial gives before anything is edited."""
    answer = ask("anyway")
    assert answer["state"] == "finished", answer
    assert answer["result"]["parts"] == [1] * 8
    assert ask()["reused"]
    return answer["result"]


@pytest.fixture
def edited(tree: Path) -> Iterator[Callable[[str, str], Path]]:
    """A function that edits a file; it is as it was afterwards."""
    before: dict[Path, bytes] = {}

    def edit(name: str, more: str) -> Path:
        path = tree / name
        before[path] = path.read_bytes()
        path.write_text(
            before[path].decode() + more if more else before[path].decode().replace("1", "2").replace("first", "second")
        )
        return path

    yield edit
    for path, content in before.items():
        path.write_bytes(content)
        # Python takes what it compiled of an edit for this, if both fall within a second and are of one size.
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


@pytest.mark.parametrize("name", USED)
def test_a_result_is_not_reused_once_a_file_that_it_rests_on_is_edited(first, ask, edited, name):
    edited(name, "# edited\n" if "engram" in name else "")
    answer = ask()
    assert not answer["reused"]
    said = "engram was edited" if "engram" in name else f"{name} was edited"
    expected = "tasks mine is mine.parts:second (mine 0.1), and was mine.parts:first (mine 0.1)"
    assert answer["differs"].endswith(expected if "entry_points" in name else said)


def test_a_result_is_reused_where_what_is_edited_cannot_matter(first, ask, edited):
    for name in UNUSED:
        edited(name, "\n")
    answer = ask()
    assert answer["reused"], answer["differs"]


def test_a_module_whose_name_is_not_in_the_source_counts(ask, edited):
    answer = ask("anyway", "mine.dynamic")
    assert answer.get("result") == {"plugin": 1}, answer
    assert ask("", "mine.dynamic")["reused"]
    edited("plugin.py", "")
    assert ask("anyway", "mine.dynamic")["result"] == {"plugin": 2}


@pytest.mark.parametrize(("reader", "name"), [("setting", "mine/read-setting.csv"), ("pieces", "mine/pieces")])
def test_a_file_that_a_setting_names_or_that_is_declared_counts(ask, tree, reader, name):
    path = tree / name
    answer = ask("anyway", "mine.readers", reader)
    assert answer.get("result") == {"value": 1}, answer
    assert ask("", "mine.readers", reader)["reused"]
    if reader == "pieces":
        (path / "2.csv").write_text("1\n")
    else:
        path.write_text("2\n")
    again = ask("anyway", "mine.readers", reader)
    assert again["differs"] == f"{path} was edited"
    assert again["result"] == {"value": 2}


def test_of_an_installed_library_the_version_counts(tree, answer_of, tmp_path):
    installed = shutil.copytree(tree / "src" / "engram", tmp_path / "site-packages" / "engram")
    assert re.fullmatch(r"[\d.]+", answer_of(VERSION, installed.parent))
    assert re.fullmatch(r"[\d.]+\+[0-9a-f]{12}", answer_of(VERSION, tree))


def test_what_an_edit_left_behind_is_reused_when_it_is_taken_back(first, ask, edited, tree):
    ask_there = partial(ask, runs="left-behind")
    assert ask_there("anyway")["result"] == first
    path = edited("helper.py", "")
    again = ask_there("anyway")
    assert (again["differs"], again["result"]["parts"][1]) == ("helper.py was edited", 2)
    assert ask_there()["reused"]
    path.write_text(FILES["helper.py"])
    assert ask_there("anyway")["result"] == first
    assert len(list(tree.glob("left-behind/mine/lstm-0-*"))) == 2


def test_the_reason_is_what_differs_from_the_result_used_last(ask, edited):
    ask_there = partial(ask, runs="used-last")
    assert ask_there("anyway")["state"] == "finished"
    path = edited("mine/late.py", "")
    assert ask_there("anyway")["differs"] == "mine/late.py was edited"
    path.write_text(FILES["mine/late.py"])
    assert ask_there("anyway")["reused"]


def test_a_run_beside_stale_results_is_loaded_like_any_other(toy, tmp_path, monkeypatch):
    options = {"preset": "smoke", "seeds": 1, "jobs": 1, "runs": tmp_path, "progress": False}
    engram.run(toy, **options)
    with monkeypatch.context() as patch:
        patch.setattr(job, "difference", lambda made_by, loaded: "helper.py was edited")
        beside = engram.run(toy, **options)
    assert {Path(trial.folder).suffix for trial in beside.trials} == {".2"}
    loaded = engram.load(toy, tmp_path)
    assert [trial.state for trial in loaded.trials] == ["finished", "finished"]


def test_a_stale_result_is_taken_if_asked_and_the_report_says_so(toy, tmp_path, monkeypatch):
    options = {"preset": "smoke", "seeds": 1, "jobs": 1, "runs": tmp_path, "progress": False}
    first = engram.run(toy, **options)
    assert not first.reused
    monkeypatch.setattr(job, "difference", lambda made_by, loaded: "helper.py was edited")
    again = engram.run(toy, **options, reuse=True)
    assert [trial.folder for trial in again.trials] == [trial.folder for trial in first.trials]
    assert again.reused == {"helper.py was edited": 2}
    experiment = registry.get("experiments", toy)
    page = write_report([(experiment, engram.load(toy, tmp_path))], tmp_path / "report.html").read_text()
    assert "2 trials were made before helper.py was edited" in " ".join(page.split())


def test_another_revision_is_another_trial(toy):
    experiment = registry.get("experiments", toy)
    (before,) = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["momentum"])
    revised = replace(experiment, revision=2)
    (after,) = trials(revised, revised.arms("smoke"), seeds=1, arms=["momentum"])
    assert {name for name in before.identity() if before.identity()[name] != after.identity()[name]} == {"revision"}
    with pytest.raises(ValueError, match="revision = 0: expected at least 1"):
        replace(experiment, revision=0)
    with pytest.raises(ValueError, match=r"uses = '.*absent\.csv' in experiment 'toy': expected a file or a folder"):
        replace(experiment, uses=["absent.csv"])


@pytest.fixture
def package(tmp_path, monkeypatch, files_forgotten):
    """A package of somebody's own, whose experiment imports a module, which imports another when it is called."""
    folder = tmp_path / "somebodys"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (tmp_path / "plots_for_somebodys.py").write_text("import somebodys.learner\nSTYLE = 'dark'\n")
    (folder / "rate.py").write_text("RATE = 0.25\n")
    (folder / "experiment.py").write_text(
        "import torch\nfrom somebodys import learner\nfrom somebodys.rate import RATE\n"
    )
    (folder / "learner.py").write_text("def learn():\n    from .late import VALUE\n    return VALUE\n")
    (folder / "late.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.import_module("plots_for_somebodys")  # as a notebook does
    importlib.import_module("somebodys.experiment")
    yield folder
    for name in [name for name in sys.modules if "somebodys" in name]:
        del sys.modules[name]


def use() -> Use:
    return Use(["somebodys.experiment"])


def of_somebody(made_by: Provenance) -> set[str]:
    return {Path(name).name for name in made_by["files"] if "somebodys" in name}


def test_what_the_modules_of_a_trial_name_counts_and_what_is_loaded_while_it_runs(package):
    using = use()
    expected = {"__init__.py", "experiment.py", "learner.py", "rate.py"}
    assert of_somebody(using.provenance()) == expected, "what was loaded for other purposes does not count"
    sys.modules["somebodys.learner"].learn()
    assert of_somebody(using.provenance()) == {*expected, "late.py"}
    assert of_somebody(use().provenance()) >= {"late.py"}, "it is in use still, though this trial did not load it"


def test_a_stand_in_for_a_missing_package_is_passed_over(package):
    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError(f"{name} requires a package that is not installed")

    sys.modules["somebodys.experiment"].charts = Missing()
    assert "learner.py" in of_somebody(use().provenance())


def test_what_a_function_imports_counts_also_if_it_was_loaded_before(package):
    importlib.import_module("somebodys.late")  # as a script does that uses it too
    assert of_somebody(use().provenance()) == {"__init__.py", "experiment.py", "learner.py", "rate.py", "late.py"}


def test_a_declared_file_counts_as_it_was_when_it_was_declared(package):
    using = use()
    (package / "data.csv").write_text("1")
    using.declare(package / "data.csv")
    (package / "data.csv").write_text("12")
    using.declare(package / "data.csv")
    assert difference(using.provenance(), digests()) == f"{package / 'data.csv'} was edited", "while it was in use"
    (package / "data.csv").unlink()
    assert difference(using.provenance(), digests()) == f"{package / 'data.csv'} is gone"


def test_an_edit_counts_once_it_is_loaded_and_not_before(package):
    before = use().provenance()
    (package / "learner.py").write_text("def learn():\n    return 3\n")
    assert use().provenance() == before, "the old source is what would run"
    assert not difference(before, digests())
    importlib.reload(sys.modules["somebodys.learner"])
    assert use().provenance() != before
    assert difference(before, digests()) == "somebodys/learner.py was edited"


def test_a_module_that_was_edited_before_it_was_first_looked_at_is_not_known(package):
    (package / "learner.py").write_text("def learn():\n    return 3\n")  # after it was loaded
    made_by = use().provenance()
    assert made_by["files"]["somebodys/learner.py"] == ""
    assert difference(made_by, digests()) == "somebodys/learner.py was edited"


def test_a_module_whose_file_was_deleted_once_it_was_loaded_is_not_known(package):
    using = use()
    (package / "rate.py").unlink()
    made_by = using.provenance()
    assert made_by["files"]["somebodys/rate.py"] == ""
    assert difference(made_by, digests()) == "somebodys/rate.py was edited"


def test_another_version_of_a_package_counts(package):
    made_by = use().provenance()
    made_by["versions"]["torch"] = "1.0"
    assert re.fullmatch(r"torch is 2\S*, and was 1\.0", difference(made_by, digests()))


def test_a_worker_with_another_version_is_refused(toy, tmp_path):
    experiment = registry.get("experiments", toy)
    (trial,) = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["momentum"])
    prepared = prepare(trial, tmp_path, tmp_path / "a.stop")
    job.token(prepared.stop).touch()
    made_by = {**prepared.made_by, "versions": {**prepared.made_by["versions"], "torch": "1.0"}}
    status = job.perform(replace(prepared, made_by=made_by))
    assert status.state == "failed"
    assert re.fullmatch(r"torch is 2\S* on \S+, and 1\.0 where the run was started", status.message)


def test_a_checkpoint_holds_what_the_process_that_started_the_run_has_found(toy, tmp_path):
    experiment = registry.get("experiments", toy)
    settings = {"misbehave": "raise"}
    (trial,) = trials(experiment, experiment.arms("smoke", settings), seeds=1, arms=["momentum"])
    prepared = prepare(trial, tmp_path, tmp_path / "a.stop", RunOptions(checkpoint_seconds=0.0))
    job.token(prepared.stop).touch()
    made_by = {**prepared.made_by, "files": {**prepared.made_by["files"], "/script.py": "0" * 64}}
    assert job.perform(replace(prepared, made_by=made_by)).state == "failed"
    assert prepared.folder.made_by()["files"]["/script.py"] == "0" * 64, "a worker does not load the script"


def test_code_without_a_file_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(ValueError, match="'__main__' has no source file: save it to a file"):
        check_source("__main__")


def test_a_checkpoint_of_other_code_is_left_for_that_code(toy, tmp_path):
    options = {"preset": "smoke", "seeds": 1, "arms": ["momentum"], "jobs": 1, "runs": tmp_path, "progress": False}
    experiment = registry.get("experiments", toy)
    (trial,) = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["momentum"])
    done = Path(engram.run(toy, **options).trials[0].folder)
    content = {"made_by": {"versions": {}, "parts": {}, "files": {"toy_experiments.py": "0" * 64}}}
    (done / "result.json").unlink()
    checkpoint.save(done / "checkpoint-0.safetensors", content)
    prepared = prepare(trial, done.parent, tmp_path / "stop")
    assert prepared.folder.path.name == f"{done.name}.2"
    assert prepared.differs == "toy_experiments.py was edited"
    (done / "checkpoint-0.safetensors").unlink()
    assert prepare(trial, done.parent, tmp_path / "stop").folder.path == done
