"""Folders of runs in which somebody has copied, edited or forged files: each is named, and costs its trial alone."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
import safetensors.torch
import torch
from rich.console import Console

import engram
from engram import cli, registry
from engram.lab import CorruptFileError, Results, load
from engram.lab.engine.stop import stop_file, stoppable
from engram.lab.output.export import export
from engram.lab.output.report import plot
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.memory import AssociativeStore
from engram.storage import checkpoint
from engram.storage.files import read_sealed, write_sealed


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """Fail what waits for ever, as who reads a pipe without a writer does."""

    def fail(*_: object) -> None:
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(runs: Path, **options: object) -> Results:
    given = {"preset": "smoke", "seeds": 2, "jobs": 1, "progress": False, **options}
    return engram.run("toy", runs=runs, **given)


def folders(runs: Path) -> dict[str, Path]:
    return {path.name.rpartition("-")[0]: path for path in (runs / "toy").iterdir() if path.is_dir()}


def edit(path: Path, change: Callable[[dict], object], *, sealed: bool) -> None:
    content = json.loads(path.read_text())
    change(content)
    if sealed:  # by whoever knows how
        content.pop("sha256")
        write_sealed(path, content)
    else:
        path.write_text(json.dumps(content))


@pytest.fixture
def runs(toy, tmp_path, tmp_path_factory) -> Path:
    return shutil.copytree(finished(tmp_path_factory.getbasetemp() / "sealed", 2), tmp_path / "runs")


@cache
def finished(runs: Path, seeds: int, **options: object) -> Path:
    """Return a folder of finished trials, for tests to copy."""
    run(runs, seeds=seeds, **options)
    return runs


@pytest.fixture
def numbers(runs) -> list[dict[str, object]]:
    return [dict(trial.result) for trial in load("toy", runs).trials]


def check_refused_and_rerun(runs: Path, numbers: list[dict[str, object]], wrong: Path) -> None:
    """Check that the trial of a wrong file is refused by that name, and that the next run keeps it aside."""
    (trial,) = (trial for trial in load("toy", runs).trials if Path(trial.folder) == wrong.parent)
    assert (trial.state, dict(trial.result)) == ("failed", {})
    assert str(wrong) in trial.message
    assert [dict(trial.result) for trial in run(runs).trials] == numbers
    assert list(wrong.parent.glob(f"{wrong.name}.corrupt-*"))
    assert [dict(trial.result) for trial in load("toy", runs).trials] == numbers


COPIED = {
    "result.json": (["result.json", "metrics.csv", "state.safetensors"], ["result.json"]),
    "trial.json": (["trial.json"],),
    "metrics.csv": (["metrics.csv"],),
}


@pytest.mark.parametrize(("named", "names"), [(named, names) for named, several in COPIED.items() for names in several])
@pytest.mark.parametrize("other", ["plain-0", "momentum-1", "another config"])
def test_files_of_another_trial_are_found_and_named(runs, numbers, named, names, other):
    own = folders(runs)["momentum-0"]
    if other == "another config":
        run(runs.with_name("other"), learning_rate=0.1)
    from_folder = folders(runs.with_name("other"))["momentum-0"] if other == "another config" else folders(runs)[other]
    for name in names:
        shutil.copy(from_folder / name, own / name)
    check_refused_and_rerun(runs, numbers, own / named)


def test_a_folder_in_place_of_another_is_found_and_named(runs, numbers):
    own, other = (folders(runs)[name] for name in ("momentum-0", "plain-1"))
    shutil.rmtree(own)
    shutil.copytree(other, own)
    (trial, *_) = load("toy", runs).trials
    assert trial.message == f"{own / 'result.json'} is corrupt: it is of another trial, {other.name}"
    check_refused_and_rerun(runs, numbers, own / "result.json")


def test_a_state_of_another_trial_is_found_and_named(runs):
    own, other = (folders(runs)[name] / "state.safetensors" for name in ("momentum-0", "plain-0"))
    shutil.copy(other, own)
    (trial, *_) = load("toy", runs).trials
    with pytest.raises(CorruptFileError, match=r"momentum-0-.*/state\.safetensors is corrupt: its checksum differs"):
        trial.state_dict()


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"arm": "plain"}, {"config": {}}, {"experiment": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_identity_is_found_and_named(runs, numbers, change, sealed):
    own = folders(runs)["momentum-0"]
    edit(own / "trial.json", lambda content: content["identity"].update(change), sealed=sealed)
    check_refused_and_rerun(runs, numbers, own / "trial.json")


def swap_arms(note: dict) -> None:
    for entry in note["trials"]:
        entry["arm"] = {"plain": "momentum", "momentum": "plain"}[entry["arm"]]


def swap_folders(note: dict) -> None:
    first, second = note["trials"][0], note["trials"][-1]
    first["folder"], second["folder"] = second["folder"], first["folder"]


def swap_configs(note: dict) -> None:
    arms = note["arms"]
    arms["plain"], arms["momentum"] = arms["momentum"], arms["plain"]


EDITS = {
    "arms": (swap_arms, "is not a folder of arm plain, seed 0"),
    "folders": (swap_folders, "is not a folder of arm momentum, seed 0"),
    "seed": (lambda note: note["trials"][0].update(seed=5), "is not a folder of arm momentum, seed 5"),
    "outside": (lambda note: note["trials"][0].update(folder="../../outside"), "'../../outside' is not a folder"),
    "configs": (swap_configs, "arm momentum was Config("),
    "config": (lambda note: note["arms"]["plain"].update(episodes=7), "arm plain was Config("),
    "preset": (lambda note: note.update(preset="laptop"), "arm momentum was Config("),
    "changed": (lambda note: note.update(changed={"size": 4}), "arm momentum was Config("),
    "experiment": (lambda note: note.update(experiment="other"), "it is of other"),
    "unknown": (lambda note: note["arms"].pop("plain"), "is not a folder of arm plain"),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(("change", "message"), EDITS.values(), ids=EDITS)
def test_an_edited_list_of_trials_is_found_and_named(runs, numbers, change, message, sealed):
    outside = runs.with_name("outside")
    outside.mkdir()
    edit(runs / "toy" / "last-run.json", change, sealed=sealed)
    with pytest.raises(CorruptFileError, match=r"last-run\.json") as raised:
        load("toy", runs)
    assert (message if sealed else "its checksum differs") in str(raised.value)
    assert cli.run(["report", "toy", "--runs", str(runs)]) == 2
    assert not list(outside.iterdir())
    assert [dict(trial.result) for trial in run(runs).trials] == numbers


def interrupted(runs: Path, **options: object) -> Path:
    """Return the folder of a trial that was killed after its first loop."""
    (trial,) = run(runs, seeds=1, arms=["momentum"], **options).trials
    folder = TrialFolder(Path(trial.folder))
    (folder.path / "result.json").unlink()
    arm = registry.get("experiments", "toy").arms("smoke", options)["momentum"]
    arm.trial(arm.config, TrialRun(folder, 0))
    folder.checkpoint(1).unlink()
    return folder.path


def goes_again(folder: Path, named: str) -> None:
    (trial,) = run(folder.parents[1], seeds=1, arms=["momentum"]).trials
    (expected,) = run(folder.parents[2] / "undisturbed", seeds=1, arms=["momentum"]).trials
    assert (trial.state, trial.result) == ("finished", expected.result), trial.message
    assert list(folder.glob(f"{named}.corrupt-*"))


def test_a_checkpoint_of_another_trial_is_found(toy, tmp_path):
    folder = interrupted(tmp_path / "runs")
    other = interrupted(tmp_path / "other", learning_rate=0.1)
    for name in ("checkpoint-0.safetensors", "metrics.csv"):
        shutil.copy(other / name, folder / name)
    with pytest.raises(CorruptFileError, match=f"it is of another trial, {other.name}"):
        list(TrialRun(TrialFolder(folder), 0).steps(20))
    goes_again(folder, "checkpoint-0.safetensors")


def test_a_checkpoint_of_another_loop_is_found_though_the_loops_be_alike(tmp_path):
    def train() -> None:
        run = TrialRun(TrialFolder(tmp_path), 0)
        for _ in range(2):
            list(run.steps(3, x=torch.zeros(1)))

    train()
    first, second = (tmp_path / f"checkpoint-{loop}.safetensors" for loop in range(2))
    shutil.copy(first, second)
    with pytest.raises(CorruptFileError, match=r"checkpoint-1\.safetensors is corrupt: it is of another loop"):
        train()


@pytest.mark.parametrize(
    "stray",
    ["checkpoint-x", "checkpoint-", "checkpoint-0-1", "checkpoint-00", "checkpoint-²", "checkpoint-999999999999"],
)
def test_a_stray_checkpoint_ends_no_run(toy, tmp_path, stray):
    folder = interrupted(tmp_path / "runs")
    (folder / f"{stray}.safetensors").write_bytes(b"stray")
    (trial,) = run(tmp_path / "runs", seeds=1, arms=["momentum"]).trials
    assert trial.state == "finished"


def forged(path: Path, state: object, **tensors: torch.Tensor) -> None:
    """Write a file that has the right checksum."""
    skeleton = state if isinstance(state, str) else json.dumps(state)
    header = {"state": skeleton, "sha256": checkpoint._digest(skeleton, tensors)}
    path.write_bytes(safetensors.torch.save(tensors, header))


FORGED = {
    "nested": "[" * 100_000,
    "deep": '{"list": [' * 900 + "]}" * 900,
    "no json": "{",
    "lacks": {"tensor": "nothing"},
    "lacks array": {"array": "nothing"},
    "array of": {"array": []},
    "no dict": {"dict": 3},
    "no pair": {"dict": [[1]]},
    "no key": {"dict": [[{}, 1]]},
    "list as a key": {"dict": [[[], 1]]},
    "no list": {"list": 3},
    "no tuple": {"tuple": None},
    "two kinds": {"list": [], "dict": []},
    "no kind": {},
    "another kind": {"object": []},
}


@pytest.mark.parametrize("state", FORGED.values(), ids=FORGED)
def test_a_forged_tree_is_corrupt(toy, tmp_path, state):
    folder = interrupted(tmp_path / "runs")
    path = folder / "checkpoint-0.safetensors"
    forged(path, state, kept=torch.zeros(1))
    with pytest.raises(CorruptFileError, match=r"checkpoint-0\.safetensors is corrupt"):
        checkpoint.load(path)
    with pytest.raises(CorruptFileError, match=r"checkpoint-0\.safetensors is corrupt"):
        AssociativeStore.load(path)
    goes_again(folder, "checkpoint-0.safetensors")


def without(name: str) -> Callable[[dict], object]:
    return lambda content: content.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        *map(
            without, ("trial", "loop", "step", "total", "seconds", "processor_seconds", "metrics", "windows", "state")
        ),
        lambda content: content["state"].update(net={}),
        lambda content: content["state"].update(net=3),
        lambda content: content["state"].update(velocity=torch.zeros(9)),
        lambda content: content["state"].update(velocity="many"),
        lambda content: content["state"].update({"run.rng": {"bit_generator": "MT19937"}}),
        lambda content: content["state"].update({"torch.generators": {"cpu": torch.zeros(3)}}),
        lambda content: content.update(windows={2: (1, {"loss": "much"})}),
        lambda content: content.update(step=-1),
        lambda content: content.update(step=21),
        lambda content: content.update(step="1"),
        lambda content: content.update(metrics={"bytes": "1"}),
    ],
)
def test_a_forged_checkpoint_costs_its_trial_alone(toy, tmp_path, change):
    folder = interrupted(tmp_path / "runs")
    path = folder / "checkpoint-0.safetensors"
    content = checkpoint.load(path)
    change(content)
    checkpoint.save(path, content)
    goes_again(folder, path.name)


def test_a_saved_object_that_lacks_a_part_is_corrupt(tmp_path):
    path = tmp_path / "store.safetensors"
    checkpoint.save(path, {"class": "AssociativeStore", "engram": "0"})
    with pytest.raises(CorruptFileError, match=r"store\.safetensors is corrupt: it holds no AssociativeStore"):
        AssociativeStore.load(path)


NAMES = ["trial.json", "status.json", "result.json", "metrics.csv", "state.safetensors", "checkpoint-0.safetensors"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("done", [False, True])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(toy, tmp_path, name, done):
    folder = interrupted(tmp_path / "runs")
    if done:
        run(tmp_path / "runs", seeds=1, arms=["momentum"])
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (trial,) = load("toy", tmp_path / "runs").trials
    if done and name == "state.safetensors":
        with pytest.raises(CorruptFileError, match=r"state\.safetensors is corrupt: it is not a regular file"):
            trial.state_dict()
    else:
        refused = {"result.json", "trial.json", "metrics.csv"} if done else {"result.json"}
        assert (trial.state == "failed") == (name in refused)
    (trial,) = run(tmp_path / "runs", seeds=1, arms=["momentum"]).trials
    assert trial.state == "finished", trial.message


def test_a_pipe_in_place_of_the_list_is_named(runs):
    note = runs / "toy" / "last-run.json"
    note.unlink()
    os.mkfifo(note)
    with pytest.raises(CorruptFileError, match=r"last-run\.json is corrupt: it is not a regular file"):
        load("toy", runs)
    assert {trial.state for trial in run(runs).trials} == {"finished"}


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_metrics_that_are_a_link_leave_its_target_as_it_is(toy, tmp_path, link):
    folder = interrupted(tmp_path / "runs")
    (folder / "checkpoint-0.safetensors").unlink()
    target = tmp_path / "somebodys.csv"
    target.write_text("somebody's")
    (folder / "metrics.csv").unlink()
    link(target, folder / "metrics.csv")
    (trial,) = run(tmp_path / "runs", seeds=1, arms=["momentum"]).trials
    assert trial.state == "finished"
    assert target.read_text() == "somebody's"


def test_a_lock_that_is_a_link_makes_nothing_outside(toy, tmp_path):
    folder = interrupted(tmp_path / "runs")
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "outside")
    (trial,) = run(tmp_path / "runs", seeds=1, arms=["momentum"]).trials
    assert (trial.state, (tmp_path / "outside").exists()) == ("failed", False)
    assert "cannot lock" in trial.message


def test_a_title_reaches_a_caption_as_text():
    figure = go.Figure(layout={"title": "toy: <script>alert(1)</script>"})
    assert "<script>alert" not in plot(figure).partition("</figcaption>")[0]


def test_each_curve_is_exported_to_a_file_of_its_own(toy, runs, tmp_path):
    results = load("toy", runs)
    loss = results.metrics.filter(pl.col("metric") == "loss")
    curves = pl.concat(
        loss.with_columns(metric=pl.lit(name), arm=pl.format("{} {}", "arm", pl.lit(copy)))
        for name, copy in itertools.product(("a/b", "a-b", "loss-2", "loss"), range(5))  # more arms than colours
    )
    trials = [replace(trial, arm=f"{trial.arm} {copy}") for trial in results.trials for copy in range(5)]
    many = replace(results, metrics=curves, trials=trials)
    paths = export(registry.get("experiments", "toy"), many, tmp_path / "out")
    pages = [path for path in paths if path.name.startswith("curves-")]
    assert len(pages) == len(set(pages)) == len({path.read_bytes() for path in pages}) == 4 * 2


def test_what_killed_runs_left_is_swept_and_what_goes_on_stays(tmp_path):
    (tmp_path / ".dead.run").touch()
    (tmp_path / ".dead.stop").touch()
    quiet = Console(quiet=True)
    first, second = stop_file(tmp_path), stop_file(tmp_path)
    with stoppable(first, quiet), stoppable(second, quiet):
        second.touch()
        assert {path.name for path in tmp_path.iterdir()} == {
            second.name,
            *(stop.with_suffix(".run").name for stop in (first, second)),
        }
        with stoppable(stop_file(tmp_path), quiet):
            assert second.exists()
    assert not list(tmp_path.iterdir())


def test_results_are_sealed_whatever_their_keys_are(tmp_path):
    write_sealed(tmp_path / "f", {"a": {10: 1, 9: (2.5, float("nan"))}})
    assert read_sealed(tmp_path / "f", dict)["a"]["9"][0] == 2.5
    (tmp_path / "g").write_text(json.dumps({**json.loads((tmp_path / "f").read_text()), "b": 1}))
    with pytest.raises(CorruptFileError, match="g is corrupt: its checksum differs"):
        read_sealed(tmp_path / "g", dict)
