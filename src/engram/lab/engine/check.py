"""The promises of an experiment, checked on its smoke preset."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin

import torch

from engram import registry
from engram.lab.engine.laboratory import run
from engram.lab.engine.plan import device_of
from engram.lab.output.read_runs import load
from engram.lab.output.record_files import as_record, as_text, from_record
from engram.lab.output.report import write_report
from engram.lab.output.results import Results
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Arm, Experiment, find_experiment
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.job import perform, prepare, token
from engram.lab.trial.trial import trials
from engram.run_options import RunOptions
from engram.storage import checkpoint

SMOKE_SECONDS = 120.0  # of which a minute may be that of compiling kernels
KILLED_OF_STEPS = 20  # the trial with the nearest number of steps is killed: it writes a checkpoint at every step


def check_experiment(name: str | Experiment, folder: Path | None = None, *, killed: bool = True) -> Path:
    """Check an experiment against its contract.

    Its smoke preset is expected to take seconds. The same seed gives the same metrics, for any number of workers, any
    order of the trials and any state of the global generators, and also if a trial is killed and resumed; trials that
    write no checkpoint, since their loop has a single step, are only repeated. Every setting is documented, and
    values outside its range are refused by an error that names field, value and range. Its results are enough for its
    claims, figure and report.

    Args:
        name: The experiment, its name in the registry, or its place, as ``"file.py:experiment"``.
        folder: Where to run it (default: a temporary folder).
        killed: Run it a second time, and kill and resume one of its trials, in processes that look it up again: by
            its place, or in the registry.

    Returns:
        The path of its report; deleted if ``folder`` is not given.

    Raises:
        ValueError, TypeError: There is no such experiment, or other processes could not find it.
        AssertionError: It breaks a promise; the message says which.
    """
    experiment = find_experiment(name)
    where = experiment.name if isinstance(name, Experiment) else name
    if killed and isinstance(name, Experiment) and where not in registry.names("experiments"):
        raise ValueError(
            f"name: the experiment {where!r} is not registered, so other processes cannot find it: expected its place, "
            "as 'file.py:experiment', or killed=False"
        )
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # A warning, as about a network that is too small, breaks no promise, even if tests turn warnings into errors.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        _check_config(experiment)
        results = run(experiment, preset="smoke", jobs=1, runs=root / "one", progress=False)
        _check_results(experiment, results)
        if killed:
            _check_another_run(experiment, where, results, root / "other")
        report = write_report([(experiment, load(experiment, root / "one"))], root / "report.html")
        assert "</html>" in report.read_text(), "its report is cut off"
    return report


def bad_values(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (field, value) pairs that a config class must refuse according to its declared types and ranges."""
    for field, (kind, limits, *_) in configs.fields(cls).items():
        for limit in limits:
            sign, _, bound = limit.partition(" ")
            offset = {">": -1, ">=": -1, "<": 1, "<=": 1}[sign]
            yield field, (float(bound) + offset if kind is float else int(bound) + offset)
        if get_origin(kind) is Literal:
            yield field, "no such choice"
        elif kind in (int, float, bool):
            yield field, "a string"
        if kind is float:
            yield field, float("nan")


def _check_config(experiment: Experiment) -> None:
    for study, loop in experiment.by_name.items():
        kind: Any = loop.settings
        assert hasattr(kind, "__dataclass_fields__"), f"its config {kind.__name__} is not a dataclass"
        frozen = vars(kind)["__dataclass_params__"].frozen
        assert frozen, f"its config {kind.__name__} can be changed after it was checked: make it frozen"
        silent = [name for name, field in configs.fields(kind).items() if not field.meaning]
        assert not silent, f"its config fields {silent} have no description"
        _check_refusals(experiment, study)
    for (name, preset), claim in itertools.product(experiment.presets.items(), experiment.claims):
        if claim.is_judged_at(name):
            assert preset.seeds >= claim.seeds, f"preset {name} has fewer seeds than claim {claim.id!r} needs"
    for name in experiment.presets:
        for arm in experiment.arms(name).values():
            reloaded = configs.from_dict(type(arm.config), configs.to_dict(arm.config))
            assert reloaded == arm.config, f"preset {name} is altered by JSON"


def _check_refusals(experiment: Experiment, study: str) -> None:
    """Check that invalid values of settings are refused by errors that name field, value and range."""
    kind = experiment.by_name[study].settings
    for field, value in bad_values(kind):
        name = f"{study}.{field}".lstrip(".")
        try:
            experiment.changed("smoke", {name: value})
        except ValueError as error:
            message = str(error)
            is_complete = f"{field} = {value!r}" in message and configs.fields(kind)[field].allowed in message
            # If every arm has its own value of a field, a change of the common one is refused for that reason.
            unused = f"{name} = {value!r}: no arm" in message
            assert is_complete or unused, (
                f"the error for {name} = {value!r} does not name field, value and range: {message}"
            )
        else:
            raise AssertionError(f"its config accepts {name} = {value!r}")


def _check_results(experiment: Experiment, results: Results) -> None:
    unfinished = [f"{t.arm}, seed {t.seed}: {t.message}" for t in results.trials if t.state != "finished"]
    assert not unfinished, f"trials did not finish: {unfinished}"
    assert results.seconds <= SMOKE_SECONDS, f"its smoke preset takes {results.seconds:.0f} s, expected a few seconds"
    logged = set(results.metrics["metric"])
    headline = experiment.headline
    assert not headline or headline in logged, f"its headline {headline!r} is not among its metrics {sorted(logged)}"
    for trial in results.trials:
        assert json.loads(json.dumps(dict(trial.result))) == trial.result, "a result is not made of JSON values"
    values = {judged.claim.id: judged.ours for judged in results.claims()}
    assert all(isinstance(ours, float) for ours in values.values()), f"a claim gives no number: {values}"
    assert experiment.figure(results).data, "its figure is empty"
    record, curves = as_record(experiment, results)
    from_own_record = from_record(experiment, json.loads(as_text(record)), curves)
    assert experiment.figure(from_own_record).data, "its figure cannot be drawn from a record"


def _check_another_run(experiment: Experiment, where: str, first_run: Results, runs: Path) -> None:
    """Repeat all trials in two processes, one of which is killed, and compare the metrics with the first run's."""
    folders = [Path(trial.folder) for trial in first_run.trials]
    steps = [TrialFolder(folder).status().total for folder in folders]
    with_checkpoint = [n for n, total in enumerate(steps) if total > 1]
    victims = sorted(with_checkpoint, key=lambda n: abs(steps[n] - KILLED_OF_STEPS))[:1]
    other_numbers = [n for n in reversed(range(len(folders))) if n not in victims]
    # Processes are forked from a server that has done the imports, which would take seconds in each of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *(arm.trial.__module__ for arm in _arms(experiment))])
    killed = context.Process(target=_perform, args=(where, runs, victims, True))
    killed.start()
    resumed = [TrialFolder(runs / folders[n].name) for n in victims]
    while killed.is_alive() and not all(folder.status().attempts for folder in resumed):
        time.sleep(0.01)
    last = context.Process(target=_perform, args=(where, runs, [*other_numbers, *victims], False))
    last.start()
    for process in (killed, last):
        process.join()
    expected_exit = -signal.SIGKILL if victims else 0
    assert killed.exitcode == expected_exit, f"a trial ended with {killed.exitcode} before it was killed"
    assert last.exitcode == 0, f"after a kill its trials ended with {last.exitcode}"
    assert all(folder.status().attempts == 2 for folder in resumed), "a trial was not resumed after a kill"
    assert not list(runs.glob("*/state.safetensors")), "a trial saved a state although keep_state was False"
    contents = {path.name: (runs / path.name / "metrics.csv").read_bytes() for path in folders}
    differ = [path.name for path in folders if contents[path.name] != (path / "metrics.csv").read_bytes()]
    victim_name = ", ".join(folder.path.name for folder in resumed) or "none"
    run_name = f"another run, in other processes, in another order, in which a trial was killed ({victim_name})"
    assert not differ, f"{run_name}, gives other metrics: {differ}"


def _perform(where: str, runs: Path, numbers: Sequence[int], killed: bool) -> None:
    """Perform some trials of the smoke preset; with ``killed``, die in the middle."""
    import numpy as np

    gc.freeze()  # exempt imported objects, which a collection after the fork would copy
    torch.manual_seed(os.getpid())
    np.random.seed(os.getpid() % 2**32)  # noqa: NPY002
    experiment = find_experiment(where)
    seeds = experiment.presets["smoke"].seeds
    todo = trials(experiment, experiment.arms("smoke"), seeds=seeds, device=device_of("auto"))
    stop = runs / "never.stop"
    runs.mkdir(parents=True, exist_ok=True)
    token(stop).touch()
    if killed:
        _die_in_the_middle()
    for number in numbers:
        options = RunOptions(checkpoint_seconds=0.0 if killed else 10.0, keep_state=False)
        job = prepare(todo[number], runs, stop, options)
        while (status := perform(job)).state == "elsewhere":  # until the process that is killed is gone
            time.sleep(0.01)
        assert status.state == "finished", status.message


def _die_in_the_middle() -> None:
    """Make this process die at the second checkpoint that is due in the second half of a loop."""
    saved_paths: list[Path] = []
    save = checkpoint.save

    def save_or_die(path: Path, state: Any) -> None:
        if saved_paths and state["step"] > state["total"] // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        save(path, state)
        saved_paths.append(path)

    checkpoint.save = save_or_die


def _arms(experiment: Experiment) -> list[Arm]:
    return list(experiment.arms("smoke").values())
