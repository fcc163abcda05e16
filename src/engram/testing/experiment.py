"""The promises of an experiment, checked on its smoke preset."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import json
import multiprocessing
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, get_origin

from engram import registry
from engram.lab import config as configs
from engram.lab import load, run
from engram.lab.experiment import Experiment
from engram.lab.laboratory import run as run_signature
from engram.lab.report import write_report
from engram.lab.results import Results
from engram.lab.trial import trials

SMOKE_SECONDS = 30.0


def check_experiment(name: str, folder: Path | None = None) -> Path:
    """Check that a registered experiment keeps the experiment contract.

    Its smoke preset is said to take seconds; the same seed gives the same metrics, whatever the number of workers and
    whatever the global generators held before; a run that is killed goes on to the same metrics; every config field
    refuses values outside its range, naming field, value and range; claims, figure and report can be made of its
    results.

    Args:
        name: Its name in the registry.
        folder: Where to run it (default: a temporary folder).

    Returns:
        The path of its report, for a check in a browser; gone when ``folder`` is not given.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    experiment: Experiment = registry.get("experiments", name)
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # A warning, as of a network that is too small, breaks no promise, even where tests turn warnings into errors.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        assert experiment.name == name, f"it is registered as {name!r} and calls itself {experiment.name!r}"
        _check_config(experiment)
        results = run(experiment, preset="smoke", jobs=1, runs=root / "one", progress=False)
        _check_results(results)
        whole = _metrics(root / "one" / name)
        _check_two_workers(experiment, root / "two", whole)
        _check_kill_and_resume(experiment, root / "killed", whole)
        report = write_report([load(experiment, root / "one")], root / "report.html")
        assert "</html>" in report.read_text(), "its report is cut off"
    return report


def bad_values(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (field, value) pairs that a config class must refuse, from the types and ranges that it declares."""
    for field in configs.fields(cls):
        kind, limits = configs.annotation(cls, field)
        for limit in limits:
            sign, _, bound = limit.partition(" ")
            beyond = {">": -1, ">=": -1, "<": 1, "<=": 1}[sign]
            yield field, (float(bound) + beyond if kind is float else int(bound) + beyond)
        if get_origin(kind) is Literal:
            yield field, "no such choice"
        elif kind in (int, float, bool):
            yield field, "a string"
        if kind is float:
            yield field, float("nan")


def _check_config(experiment: Experiment) -> None:
    cls = type(experiment.presets["smoke"].config)
    assert dataclasses.is_dataclass(cls), "its config is no dataclass"
    assert vars(cls)["__dataclass_params__"].frozen, "its config can be changed after it was checked: make it frozen"
    options = set(inspect.signature(run_signature).parameters) | {"names", "json"}
    taken = sorted(options & {field.name for field in dataclasses.fields(cls)})
    assert not taken, f"its config fields {taken} are options of every run: choose other names"
    smoke = trials(experiment, experiment.presets["smoke"].config, seeds=experiment.presets["smoke"].seeds)
    seconds = sum(trial.seconds for trial in smoke)
    assert seconds <= SMOKE_SECONDS, f"its smoke preset is said to take {seconds:.0f} s, expected seconds"
    for (name, preset), claim in itertools.product(experiment.presets.items(), experiment.claims):
        assert configs.from_dict(cls, configs.to_dict(preset.config)) == preset.config, (
            f"preset {name} is altered by JSON"
        )
        if name in claim.presets:
            assert preset.seeds >= claim.seeds, f"preset {name} has fewer seeds than claim {claim.id!r} needs"
    for field, value in bad_values(cls):
        try:
            configs.override(experiment.presets["smoke"].config, {field: value})
        except ValueError as error:
            message = str(error)
            named = f"{field} = {value!r}" in message and configs.allowed(cls, field) in message
            assert named, f"the error for {field} = {value!r} does not name field, value and range: {message}"
        else:
            raise AssertionError(f"its config accepts {field} = {value!r}")


def _check_results(results: Results) -> None:
    experiment = results.experiment
    broken = [
        f"{trial.arm}, seed {trial.seed}: {trial.message}" for trial in results.trials if trial.state != "finished"
    ]
    assert not broken, f"trials did not finish: {broken}"
    logged = set(results.metrics["metric"])
    assert experiment.headline in logged, (
        f"its headline {experiment.headline!r} is not among its metrics {sorted(logged)}"
    )
    for trial in results.trials:
        assert json.loads(json.dumps(dict(trial.result))) == trial.result, "a result is not made of JSON values"
    judged = {judgement.claim.id: judgement.ours for judgement in results.claims()}
    assert all(isinstance(ours, float) for ours in judged.values()), f"a claim gives no number: {judged}"
    assert experiment.figure(results).data, "its figure is empty"
    record = json.loads(json.dumps(results.record()))
    assert experiment.figure(Results.from_record(experiment, record)).data, "its figure cannot be drawn from a record"


def _check_two_workers(experiment: Experiment, runs: Path, whole: dict[str, bytes]) -> None:
    import numpy as np
    import torch

    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    run(experiment, preset="smoke", jobs=2, runs=runs, progress=False)
    assert _metrics(runs / experiment.name) == whole, "two workers give other metrics than one"


def _check_kill_and_resume(experiment: Experiment, runs: Path, whole: dict[str, bytes]) -> None:
    # Processes are forked from a server that has imported what a new one would take seconds for.
    context = multiprocessing.get_context("forkserver")
    arms = experiment.arms(experiment.presets["smoke"].config).values()
    context.set_forkserver_preload([__name__, *(arm.trial.__module__ for arm in arms)])

    def start() -> BaseProcess:
        process = context.Process(target=_run_smoke, args=(experiment.name, runs))
        process.start()
        return process

    folder, kills = runs / experiment.name, 0
    for wait in (0.0, 0.05):
        before = _progress(folder)
        process = start()
        while process.is_alive() and _progress(folder) == before:
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills, "it finished before it could be killed: let its smoke preset log and step more"
    last = start()
    last.join()
    assert last.exitcode == 0, f"after a kill it ended with {last.exitcode}"
    assert _metrics(folder) == whole, "after a kill it ends in other metrics"


def _run_smoke(name: str, runs: Path) -> None:
    """Run the smoke preset, with a checkpoint at every step."""
    run(name, preset="smoke", jobs=1, runs=runs, checkpoint_seconds=0, progress=False)


def _progress(root: Path) -> set[tuple[str, int]]:
    """Return what distinguishes one moment of a run from a later one: its checkpoints and when they were written."""
    found = set()
    for path in root.glob("*/checkpoint-*"):
        with contextlib.suppress(FileNotFoundError):
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def _metrics(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(root.glob("*/metrics.csv"))}
