"""What a result rests on: of a copy of the library, files are edited one after another."""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import engram
from engram import registry
from engram.lab import loaded
from engram.lab.job import prepare
from engram.lab.loaded import check_source
from engram.lab.manifest import Manifest, Present, Use
from engram.lab.reach import DECLARING, reach, uncompiled
from engram.lab.trial import trials
from engram.storage import checkpoint

SOURCE = Path(__file__).parents[2] / "src"
FILES = {
    "helper.py": "VALUE = 1\n",
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
import sys
import threading
from pathlib import Path

import numpy as np

import helper
import mine
from engram import registry
from engram.experiments import pattern_completion
from engram.lab import Experiment, Preset, Study

HERE = Path(__file__).parent
CONSTANT = float((HERE / "constants.csv").read_text())


def trial(config, run):
    sys.touched, sys.trial = False, threading.get_ident()
    from mine import late

    parts = [late.VALUE, helper.VALUE, helper.SETUP, mine.VALUE, CONSTANT, registry.get("tasks", "mine")]
    parts += [importlib.import_module("mine.literal").VALUE, np.loadtxt(HERE / "table.csv")]
    result = pattern_completion.trial(config, run)
    return {**result, "parts": [float(part) for part in parts], "touched": sys.touched}


presets = {name: Preset(1, {"bits": 10, "hidden_size": 11, "episodes": 20}) for name in ("smoke", "laptop", "paper")}
study = Study(trial, {"plastic": {"network": "plastic"}}, pattern_completion.Config)
experiment = Experiment("mine", "It.", "None", study, presets, (), lambda results: None)
""",
    "mine/read-csv.csv": "a\n1\n",
    "mine/read-sql.db": "",
    "mine/read-tool.txt": "1",
    "mine/read-setting.csv": "a\n1\n",
    "mine/pieces/1.csv": "a\n1\n",
    "mine/readers.py": """
import sqlite3
import subprocess
from pathlib import Path

import polars
from engram.lab import Experiment, Preset, Study, setting, settings

HERE = Path(__file__).parent


@settings
class Config:
    reader: str = setting("csv", "how a file is read")
    path: str = setting("", "a file")


def first(path):
    return polars.read_csv(path)["a"][0]


def trial(config: Config, run):
    reader = config.reader
    if reader == "csv":
        value = first(HERE / f"read-{reader}.csv")
    elif reader == "sql":
        with sqlite3.connect(HERE / ("read-" + reader + ".d" + "b")) as base:
            value = base.execute("pragma user_version").fetchone()[0]
    elif reader == "tool":
        value = subprocess.check_output(["cat", "read-" + reader + ".tx" + "t"], cwd=HERE)
    elif reader == "pieces":
        value = sum(first(path) for path in (HERE / reader).glob("*." + "csv"))
    else:
        value = first(config.path)
    return {"value": float(value)}


presets = {name: Preset(1) for name in ("smoke", "laptop", "paper")}
arms = {name: {"reader": name} for name in ("csv", "sql", "tool", "pieces")}
arms["setting"] = {"reader": "setting", "path": str(HERE / ("read-" + "setting.csv"))}
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


presets = {name: Preset(1) for name in ("smoke", "laptop", "paper")}
experiment = Experiment("mine", "It.", "None", Study(trial, {"dynamic": {}}), presets, (), lambda results: None)
""",
}
USED = [
    "src/engram/plasticity/kernels/rnn/cpu.py",
    "src/engram/plasticity/hebb.py",
    "src/engram/plasticity/__init__.py",
    "src/engram/__init__.py",
    *(f"src/engram/lab/{name}.py" for name in ("job", "loop", "metrics", "trial", "config")),
    "src/engram/storage/checkpoint.py",
    "helper.py",
    *(f"mine/{name}" for name in ("__init__.py", "setup.py", "late.py", "literal.py", "parts.py")),
    *("mine/table.csv", "mine/constants.csv", "mine-0.1.dist-info/entry_points.txt"),
]
UNUSED = [
    *(f"src/engram/lab/{name}" for name in ("report.py", "report.css", "monitor.py", "sweeps.py", "figures.py")),
    *("src/engram/cli/looking.py", "src/engram/experiments/maze.py", "src/engram/tasks/meta/draw.py", "mine/other.py"),
]
# What is called of an edited module shows in the result, and numbers in it are others.
TOUCH = """
def _touch():
    import functools, sys, threading, types

    def touched(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            sys.touched = getattr(sys, "touched", False) or threading.get_ident() == getattr(sys, "trial", 0)
            return function(*args, **kwargs)
        return call

    for name, thing in list(globals().items()):
        if isinstance(thing, types.FunctionType) and thing.__module__ == __name__ and name != "_touch":
            globals()[name] = touched(thing)
        elif isinstance(thing, float):
            globals()[name] = 1.5 * thing
        elif isinstance(thing, type) and thing.__module__ == __name__:
            for key, method in list(vars(thing).items()):
                if isinstance(method, types.FunctionType) and not key.startswith("__"):
                    setattr(thing, key, touched(method))
_touch()
"""
# One process imports what others have made, and forks those that import the copy.
SERVER = """
import gc, json, os, sys
import gymnasium, joblib, jaxtyping, numba, numpy, plotly.graph_objects, polars, psutil, pydantic, torch, rich.progress
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
ASK = """
import importlib, json, traceback
from pathlib import Path
try:
    import engram
    from engram.lab.job import prepare
    from engram.lab.trial import trials
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
def ask(tree: Path) -> Iterator[Ask]:
    """Ask a new process whether a result is reused, or let it run."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def ask(run: str = "", module: str = "mine.experiment", arm: str = "", runs: str = "runs") -> dict[str, Any]:
            call = {"tree": str(tree), "runs": str(tree / runs), "run": run, "module": module, "code": ASK}
            call["arm"] = arm
            print(json.dumps(call), file=server.stdin, flush=True)
            while not (line := server.stdout.readline()).startswith("answer"):
                assert line, "the server died"
            return json.loads(line.removeprefix("answer"))

        yield ask
        server.stdin.close()


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
    said = "tasks mine is mine.parts:second" if "entry_points" in name else f"{name.removeprefix('src/')} was edited"
    assert said in answer["differs"]


@pytest.mark.parametrize("name", UNUSED)
def test_a_result_is_reused_where_what_is_edited_cannot_matter(first, ask, edited, name):
    edited(name, "\n")
    assert ask()["reused"]


def test_a_module_whose_name_is_not_in_the_source_counts(ask, edited):
    answer = ask("anyway", "mine.dynamic")
    assert answer.get("result") == {"plugin": 1}, answer
    assert ask("", "mine.dynamic")["reused"]
    edited("plugin.py", "")
    assert ask("anyway", "mine.dynamic")["result"] == {"plugin": 2}


def of_version(path: Path, version: int) -> None:
    with sqlite3.connect(path) as base:
        base.execute(f"pragma user_version = {version}")
    base.close()


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("csv", "mine/read-csv.csv"),
        ("sql", "mine/read-sql.db"),
        ("tool", "mine/read-tool.txt"),
        ("setting", "mine/read-setting.csv"),
        ("pieces", "mine/pieces/"),
    ],
)
def test_a_file_that_is_read_without_python_counts(ask, tree, reader, name):
    path = tree / name
    if reader == "sql":
        of_version(path, 1)
    answer = ask("anyway", "mine.readers", reader)
    assert answer.get("result") == {"value": 1}, answer
    assert ask("", "mine.readers", reader)["reused"]
    if reader == "sql":
        of_version(path, 2)
    elif reader == "pieces":
        (path / "2.csv").write_text("a\n1\n")
    else:
        path.write_text(path.read_text().replace("1", "2"))
    again = ask("anyway", "mine.readers", reader)
    assert again["differs"] == f"{name} was edited"
    assert again["result"] == {"value": 2}


def test_what_an_edit_left_behind_is_reused_when_it_is_taken_back(first, ask, edited, tree):
    ask_there = partial(ask, runs="left-behind")
    assert ask_there("anyway")["result"] == first
    path = edited("helper.py", "")
    again = ask_there("anyway")
    assert (again["differs"], again["result"]["parts"][1]) == ("helper.py was edited", 2)
    assert ask_there()["reused"]
    path.write_text(FILES["helper.py"])
    assert ask_there("anyway")["result"] == first
    assert len(list(tree.glob("left-behind/mine/plastic-0-*"))) == 2


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
        patch.setattr(Present, "differs", lambda present, manifest: "helper.py was edited")
        beside = engram.run(toy, **options)
    assert {Path(trial.folder).suffix for trial in beside.trials} == {".2"}
    loaded = engram.load(toy, tmp_path)
    assert [trial.state for trial in loaded.trials] == ["finished", "finished"]


def test_no_edit_of_the_library_leaves_a_result_that_it_makes_another(  # noqa: PLR0917
    first, ask, edited, tree, effort, record_property
):
    names = sorted(str(path.relative_to(tree)) for path in tree.glob("src/engram/**/*.py"))
    chosen = random.Random(0).sample(names, 3 if effort == 1 else 200)
    reused = 0
    for number, name in enumerate(chosen):
        before = (tree / name).read_bytes()
        path = edited(name, TOUCH)
        answer = ask(str(tree / f"runs-{number}"))
        assert answer.get("result", first) == first, (name, answer)
        reused += answer["reused"]
        path.write_bytes(before)
    assert reused
    record_property("edits", len(chosen))
    record_property("reused", reused)


@pytest.fixture
def package(tmp_path, monkeypatch, files_forgotten):
    """A package of somebody's own, whose experiment imports a module, which imports another when it is called."""
    folder = tmp_path / "somebodys"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "experiment.py").write_text("import torch\nfrom somebodys import learner\n")
    (folder / "learner.py").write_text("def learn():\n    from .rates import RATE\n    return RATE\n")
    (folder / "rates.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "resolved", {})
    importlib.import_module("somebodys.experiment")
    yield folder
    for name in [name for name in sys.modules if name.startswith("somebodys")]:
        del sys.modules[name]


def use() -> Use:
    return Use(["somebodys.experiment"])


def of_somebody(manifest: Manifest) -> set[str]:
    return {Path(name).name for name in manifest["files"] if "somebodys" in name}


def test_what_comes_while_a_trial_runs_counts(package):
    uncompiled(frozenset({"engram.plasticity"}))  # lists folders and opens files, by which no trial computes
    using = use()
    assert of_somebody(using.manifest()) == {"__init__.py", "experiment.py", "learner.py"}
    assert not [name for name in using.manifest()["files"] if re.search("(^|/src/)engram/(.*/)?$", name)]
    sys.modules["somebodys.learner"].learn()
    (package / "data.txt").write_text("1")
    before = (package / "old.txt").write_text("1")  # written by this trial, so it is no input
    assert before == int((package / "old.txt").read_text())
    subprocess.run(["cp", package / "rates.py", package / "data.csv"], check=True)
    assert (package / "data.csv").read_text()
    expected = {"__init__.py", "experiment.py", "learner.py", "rates.py", "data.csv"}
    assert of_somebody(using.manifest()) == expected
    subprocess.run(["cp", package / "learner.py", package / "data.csv"], check=True)
    assert Present().differs(using.manifest()) == f"{package / 'data.csv'} was edited", "while it was in use"
    later = use()
    assert of_somebody(later.manifest()) >= {"rates.py"}, "it is in use still, though this trial did not load it"
    assert (package / "old.txt").read_text()
    assert "old.txt" in of_somebody(later.manifest()), "an earlier trial wrote it"


def test_an_edit_counts_once_it_is_loaded_and_not_before(package):
    before = use().manifest()
    (package / "learner.py").write_text("def learn():\n    return 3\n")
    assert use().manifest() == before, "the old source is what would run"
    assert not Present().differs(before)
    importlib.reload(sys.modules["somebodys.learner"])
    assert use().manifest() != before
    assert Present().differs(before) == "somebodys/learner.py was edited"


@pytest.mark.parametrize("line", ["gymnasium.make(name)", "'engram.tasks.environments.grid_maze:GridMaze'"])
def test_what_a_trial_makes_by_name_counts(package, line):
    importlib.import_module("engram.tasks")
    name = "engram/tasks/environments/grid_maze.py"
    assert name not in use().manifest()["files"]
    (package / "learner.py").write_text(f"def learn(name):\n    {line}\n")
    importlib.reload(sys.modules["somebodys.learner"])
    assert name in use().manifest()["files"]


def test_a_registered_part_counts_where_it_was_asked_for(package, toy):
    (package / "learner.py").write_text("from engram import registry\ntoy = registry.get('experiments', 'toy')\n")
    importlib.reload(sys.modules["somebodys.learner"])
    manifest = use().manifest()
    assert manifest["parts"] == {"experiments toy": "toy_experiments:experiment"}
    assert "toy_experiments.py" in manifest["files"]
    manifest["parts"]["experiments toy"] = "elsewhere:experiment"
    assert Present().differs(manifest) == (
        "experiments toy is toy_experiments:experiment, and was elsewhere:experiment"
    )


def test_another_version_of_a_package_counts(package):
    manifest = use().manifest()
    manifest["packages"]["torch"] = "1.0"
    assert re.fullmatch(r"torch is 2\S*, and was 1\.0", Present().differs(manifest))


def test_code_without_a_file_is_refused(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(ValueError, match="'__main__' has no source file: save it to a file"):
        check_source("__main__")


def test_a_checkpoint_of_other_code_is_left_for_that_code(toy, tmp_path):
    options = {"preset": "smoke", "seeds": 1, "arms": ["momentum"], "jobs": 1, "runs": tmp_path, "progress": False}
    experiment = registry.get("experiments", toy)
    (trial,) = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["momentum"])
    done = Path(engram.run(toy, **options).trials[0].folder)
    content = {"manifest": {"files": {"toy_experiments.py": "0" * 64}, "parts": {}, "packages": {}}}
    (done / "result.json").unlink()
    checkpoint.save(done / "checkpoint-0.safetensors", content)
    job = prepare(trial, done.parent, tmp_path / "stop")
    assert job.folder.path.name == f"{done.name}.2"
    assert job.differs == "toy_experiments.py was edited"
    (done / "checkpoint-0.safetensors").unlink()
    assert prepare(trial, done.parent, tmp_path / "stop").folder.path == done


def test_an_output_of_a_fixed_name_is_no_input_of_the_next_trial(package):
    output = package / "output.txt"
    (package / "learner.py").write_text(
        f"def learn():\n    with open({str(output)!r}, 'w') as file:\n        file.write('1')\n"
    )
    importlib.reload(sys.modules["somebodys.learner"])
    for _ in range(2):
        using = use()
        sys.modules["somebodys.learner"].learn()
        assert "output.txt" not in of_somebody(using.manifest())
    assert "output.txt" in of_somebody(use().manifest()), "a string names it, and it may be read unnoticed"


@pytest.mark.parametrize("name", engram.experiments())
def test_what_an_experiment_imports_counts(name):
    experiment = registry.get("experiments", name)
    roots = frozenset(study.trial.__module__ for study in experiment.by_name.values())
    modules = reach(roots, loaded.state(), frozenset()).modules
    imported = {
        part.__module__
        for root in roots
        for part in vars(sys.modules[root]).values()
        if (inspect.isfunction(part) or inspect.isclass(part)) and part.__module__.startswith("engram.")
    }
    assert imported - DECLARING <= modules
