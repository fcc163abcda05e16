"""Runs an experiment: resolves the request, performs the trials that are not done yet, and judges the claims."""

from __future__ import annotations

import importlib.util
import math
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import torch
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.text import Text

from engram import checks, extras
from engram.lab.claim import Claim, JudgedClaim, judge
from engram.lab.experiment import Arm, Experiment, find_experiment
from engram.lab.folder import Status
from engram.lab.job import Job, begin, prepare, token
from engram.lab.machine import cores
from engram.lab.manifest import Present
from engram.lab.monitor import Monitor, duration
from engram.lab.parallel import perform_all
from engram.lab.reach import uncompiled
from engram.lab.records import read_back, write_note
from engram.lab.results import Results
from engram.lab.trial import trials
from engram.numeric.parallel import Backend, check_backend
from engram.storage.files import CorruptFileError, runs_folder, writing

COLORS = {
    "reproduced": "green",
    "reproduced at laptop scale": "green",
    "holds": "green",
    "not reproduced": "red",
    "fails": "red",
    "undecided": "yellow",
    "identity": "cyan",
    "not testable here": "dim",
}

WORKER_SECONDS = 5.0  # time a worker needs for its imports


def run(
    experiment: str | Experiment,
    *,
    preset: str = "laptop",
    seeds: int | None = None,
    arms: Sequence[str] | None = None,
    jobs: int | None = None,
    engine: Backend = "loky",
    address: str | None = None,
    runs: str | Path | None = None,
    device: str = "auto",
    tensorboard: bool = False,
    keep_state: bool = True,
    checkpoint_seconds: float = 10.0,
    progress: bool = True,
    until_decided: bool = False,
    at_most: float | None = None,
    **changes: Any,
) -> Results:
    """Run an experiment and judge its claims; finished trials are reused, interrupted ones resume.

    With ``until_decided`` the claims are judged after 5, 10, 20 and 40 seeds (the preset's ``looks``), and only arms
    that undecided claims read are run with more seeds. The error over all looks is still 5 %.

    Args:
        experiment: The experiment, or its name in the registry.
        preset: ``"smoke"``, ``"laptop"`` or ``"paper"``.
        seeds: Number of seeds (default: the preset's).
        arms: Only these arms (default: all).
        jobs: Number of trials at once (default: as many as fit on the cores, if workers are worth starting); 1: all
            run in this process.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        address: Address of an existing Ray cluster.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
        device: ``"cpu"``, ``"cuda"`` or ``"auto"`` (CUDA if available); experiments whose networks are too small for a
            GPU compute on the CPU all the same.
        tensorboard: Write event files as well.
        keep_state: Save the objects that each finished trial trained, for ``TrialResult.load``.
        checkpoint_seconds: Time between checkpoints.
        progress: Show the progress on the standard error stream.
        until_decided: Whether to run more seeds until every claim is decided.
        at_most: Seconds after which running trials are stopped; looks completed by then are judged.
        **changes: Settings to change from the preset; those of one arm or study as a mapping, ``lstm={"steps": 50}``.

    Returns:
        The results, even if some trials failed or the run was interrupted; each trial has its state.

    Raises:
        ValueError, CannotWriteError: An argument is not as described, or the folder of runs cannot be written.

    Examples:
        >>> results = run("pattern-completion", preset="smoke", seeds=1, arms=["plastic"], jobs=1, progress=False)
        >>> results.claims()[0].verdict, results.claims()[0].why
        ('not testable here', 'needs preset laptop or paper')
    """
    experiment = find_experiment(experiment)
    console = Console(stderr=True, quiet=not progress)
    if jobs is not None:
        checks.size("jobs", jobs)
    checks.number("checkpoint_seconds", checkpoint_seconds, minimum=0)
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError(f"tensorboard = True: it is not installed: {extras.install('tensorboard')}")
    check_backend(engine, "engine")
    if address is not None and engine != "ray":
        raise ValueError(f"address = {address!r}: expected only with engine 'ray'")
    selected_preset = experiment.presets[checks.choice("preset", preset, experiment.presets)]
    changed = experiment.changed(preset, changes, arms)
    compared = experiment.arms(preset, changed)
    say_own_values(experiment, compared, changed, arms, console)
    if until_decided and seeds is not None:
        raise ValueError(f"seeds = {seeds}: expected None with until_decided, which looks at {selected_preset.looks}")
    if at_most is not None:
        checks.number("at_most", at_most, above=0)
    looks = [int(look) for look in selected_preset.looks] if until_decided else []
    counts = looks or [selected_preset.seeds if seeds is None else seeds]
    announced = [] if changed else [claim for claim in experiment.claims if preset in claim.presets]
    root = folder_for(experiment, runs)
    options = {"checkpoint_seconds": checkpoint_seconds, "tensorboard": tensorboard, "keep_state": keep_state}
    run_note = partial(write_note, root, experiment=experiment.name, preset=preset, changed=changed, looks=looks)
    all_jobs: list[Job] = []
    results = None
    with stoppable(root, console) as stop, _time_limit(stop, at_most) as is_over:
        for start, count in pairwise([0, *counts]):
            new_seeds = count - start if start else count  # an invalid number of seeds is reported by ``trials``
            todo = trials(experiment, compared, seeds=new_seeds, first=start, arms=arms, device=device_of(device))
            present = Present()
            jobs_before, look_jobs = all_jobs, [prepare(trial, root, stop, present, **options) for trial in todo]
            order = {arm: index for index, arm in enumerate(compared)}
            all_jobs = sorted(jobs_before + look_jobs, key=lambda job: (order[job.trial.arm], job.trial.seed))
            remaining = unfinished(experiment, look_jobs)
            workers = workers_for(experiment, preset, remaining) if jobs is None else jobs
            note = run_note(seeds=int(count), jobs=all_jobs)
            expected_time = say_expected(f"{experiment.name}, preset {preset}", len(look_jobs), remaining, workers)
            finished_jobs = jobs_before + [job for job in look_jobs if job.finished]
            expected_time += _saved_size(finished_jobs, remaining) if keep_state else ""
            console.print(expected_time, highlight=False, soft_wrap=True)
            announce = _announcer(announced, preset, count, finished_jobs, looks)
            last_statuses = perform_left(remaining, console, workers, announce, engine=engine, address=address)
            look_results = read_back(experiment, root, note, last_statuses)
            is_whole = all(trial.state in ("finished", "failed") for trial in look_results.trials)
            if is_over() and not is_whole and results is not None:
                run_note(seeds=start, jobs=jobs_before)  # an incomplete look decides nothing
                break
            results = look_results
            if not until_decided or not is_whole:
                break
            failing = {trial.arm for trial in results.trials if trial.state == "failed"}
            open_claims = [judged.claim for judged in results.claims() if judged.is_open]
            announced = [claim for claim in open_claims if failing.isdisjoint(claim.arms)]
            console.print(f"{count} seeds: {len(announced)} claims are open", highlight=False)
            arms = list(dict.fromkeys(arm for claim in announced for arm in claim.arms))
            if not arms or is_over():
                break
    assert results is not None
    return results


def workers_for(experiment: Experiment, preset: str, unfinished: Sequence[Job]) -> int:
    """The number of trials to run at once: as many as fit on the cores, if workers are worth starting.

    Args:
        experiment: The experiment.
        preset: Name of its preset; with smoke, trials without a record are assumed to be short.
        unfinished: The unfinished jobs.
    """
    unknown = 0.0 if preset == "smoke" else WORKER_SECONDS
    expected = sum(unknown if math.isnan(job.trial.seconds) else job.trial.seconds for job in unfinished)
    return max(1, min(cores() // experiment.threads, int(expected / WORKER_SECONDS)))


def say_own_values(
    experiment: Experiment,
    compared: Mapping[str, Arm],
    changed: Mapping[str, Any],
    arms: Sequence[str] | None,
    console: Console,
) -> None:
    """Print which arms a change of all arms does not reach.

    Args:
        experiment: The experiment.
        compared: Its arms, with the changes.
        changed: The changes by dotted field.
        arms: The arms that are to run (default: all).
        console: Where to print.
    """
    selected = {name: arm for name, arm in compared.items() if arms is None or name in arms}
    for field, value in changed.items():
        own_values = {
            arm: own_value for arm, own_value in experiment.values_of(selected, field).items() if own_value != value
        }
        if not own_values:
            continue
        values = ", ".join(f"{arm} ({own_value!r})" for arm, own_value in own_values.items())
        console.print(
            f"{field} = {value!r} does not reach arms with a value of their own: {values}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def folder_for(experiment: Experiment, runs: str | Path | None) -> Path:
    """The folder that an experiment is run in, created if needed."""
    root = runs_folder(runs) / experiment.name
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    return root


def unfinished(experiment: Experiment, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are still to be done.

    Raises:
        ValueError: Some arms lack data, or a package of an extra.
    """
    remaining = [job for job in jobs if not job.finished]
    lacking: dict[str, Exception] = {}
    for trial in {job.trial.arm: job.trial for job in remaining}.values():
        try:
            experiment.check_requirements(trial.config)
        except Exception as error:
            lacking[trial.arm] = error
    if lacking:
        available_arms = ",".join(dict.fromkeys(job.trial.arm for job in jobs if job.trial.arm not in lacking))
        advice = f"\nWithout it you can run: --arms {available_arms}" if available_arms else ""
        arms = ", ".join(lacking)
        raise ValueError(f"{experiment.name} cannot run {arms} here: {next(iter(lacking.values()))}{advice}")
    return remaining


def say_expected(title: str, number: int, unfinished: Sequence[Job], workers: int) -> str:
    """The number of trials done and the time left, as a line with rich's markup.

    Args:
        title: Title of the run.
        number: The number of trials.
        unfinished: The unfinished jobs.
        workers: Number of trials at once.
    """
    begin = f"[bold]{title}[/]: {number} trials, {number - len(unfinished)} done; "
    if not unfinished:
        return begin + "nothing to do"
    workers = min(workers, len(unfinished))
    unknown = list(dict.fromkeys(job.trial.arm for job in unfinished if math.isnan(job.trial.seconds)))
    known_seconds = sum(job.trial.seconds for job in unfinished if not math.isnan(job.trial.seconds)) / workers
    time = f"expected time {duration(known_seconds)}" if known_seconds else "expected time unknown"
    unknown_arms = (
        ", ".join(unknown) if len(unknown) < 5 else f"{', '.join(unknown[:3])} and {len(unknown) - 3} other arms"
    )
    time += f" (no record yet for {unknown_arms})" if unknown else ""
    for why, count in Counter(job.differs for job in unfinished if job.differs).items():
        time += f", {count} again since {escape(why)}"
    modules: frozenset[str] = frozenset().union(*(job.trial.modules for job in unfinished))
    compiles = len(unfinished) == number and uncompiled(modules)  # a trial that finished here has compiled its kernels
    compiling = ", and up to a minute more if kernels have to be compiled," if compiles else ""
    return f"{begin}{time}{compiling} with {workers} at once"


def perform_left(
    unfinished: Sequence[Job],
    console: Console,
    workers: int,
    on_finished: Callable[[Job], list[str]],
    *,
    engine: Backend = "loky",
    address: str | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Status]:
    """Perform trials, and show their progress.

    Args:
        unfinished: The trials.
        console: Where to show the progress.
        workers: Number of trials at once.
        on_finished: Called with each finished trial; returns lines to show, such as a verdict.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        address: Address of an existing Ray cluster.
        names: Names of the trials to show (default: arm and seed).

    Returns:
        The last statuses by the names of the trials' folders.
    """
    if not unfinished:
        return {}
    for job in unfinished:
        _queue(job)
    with Monitor(console, unfinished, workers, on_finished, names):
        statuses = perform_all(unfinished, workers=workers, engine=engine, address=address)
    return {job.folder.path.name: status for job, status in zip(unfinished, statuses, strict=True)}


@contextmanager
def _time_limit(stop: Path, seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Ask all trials to write a checkpoint and stop when the time is up; yield a function that says whether it is."""
    if seconds is None:
        yield lambda: False
        return
    over = threading.Event()

    def end() -> None:
        over.set()
        stop.touch()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


def verdict_line(judged: JudgedClaim) -> str:
    """A judged claim as one line with rich's markup."""
    color = COLORS[judged.verdict]
    why = f" ({escape(judged.why)})" if judged.why else ""
    look = f" (look {judged.look})" if judged.look else ""
    return (
        f"claim [bold]{judged.claim.id}[/]: ours {judged.ours:.3g} {escape(judged.bounds())}, "
        f"criterion {judged.claim.criterion}, {len(judged.values)} seeds{look}: [{color}]{judged.verdict}[/]{why}"
    )


def device_of(device: str) -> str:
    """The device to compute on: ``"cpu"`` or ``"cuda"``; ``"auto"`` is CUDA if available."""
    checks.choice("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': no CUDA device is available")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _saved_size(finished: Sequence[Job], unfinished: Sequence[Job]) -> str:
    """The size of the state that the remaining trials will save, as far as finished trials of their arms show it.

    The networks of a trial are known only after it has prepared its data, which may take half a minute.
    """
    sizes = {job.trial.arm: job.folder.kept_bytes() for job in finished}
    known_sizes = [sizes[job.trial.arm] for job in unfinished if job.trial.arm in sizes]
    if len(known_sizes) == len(unfinished) and not sum(known_sizes):
        return ""
    at_least = f"at least {decimal(sum(known_sizes))}, " if sum(known_sizes) else ""
    size = decimal(sum(known_sizes)) if len(known_sizes) == len(unfinished) else f"{at_least}each trial prints its size"
    return f"; saves the trained networks ({size}; --no-keep-state: none)"


def _queue(job: Job) -> None:
    """Reset the status of an earlier attempt, so that it is not shown as news."""
    status = job.folder.status()
    if status.state in ("failed", "interrupted"):
        job.folder.set_status(replace(status, state="waiting", message=""))


def _announcer(
    claims: Sequence[Claim], preset: str, seeds: int, finished: Sequence[Job], looks: Sequence[int]
) -> Callable[[Job], list[str]]:
    """Make a function that takes a finished trial and returns verdict lines for the claims that it completes."""
    results: dict[int, dict[str, Any]] = {}
    finished_counts: Counter[str] = Counter()
    waiting = list(claims)

    def count_job(job: Job) -> None:
        with suppress(CorruptFileError):
            if (stored := job.folder.result()) is not None:
                results.setdefault(job.trial.seed, {})[job.trial.arm] = stored["result"]
                finished_counts[job.trial.arm] += 1

    def judge_completed(job: Job) -> list[str]:
        count_job(job)
        lines = []
        for claim in list(waiting):
            if all(finished_counts[arm] == seeds for arm in claim.arms):
                waiting.remove(claim)
                judged = judge(claim, results, preset=preset, seeds=seeds, looks=looks)
                lines += [] if judged.is_open else [verdict_line(judged)]
        return lines

    for job in finished:
        count_job(job)
    return judge_completed


@contextmanager
def stoppable(root: Path, console: Console) -> Iterator[Path]:
    """Make the first Ctrl-C ask all trials to stop after a checkpoint, by the file yielded; a second one kills them."""
    stop = root / f".{uuid.uuid4().hex}.stop"
    going_on = filelock.FileLock(token(stop))
    with writing(root):
        _sweep(root)
        going_on.acquire()
        begin(stop)

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()
        # No markup or emoji: rich imports their parsers lazily, and the signal may arrive during that import.
        console.print(Text("stopping: trials write their checkpoints (press Ctrl-C again to stop at once)", "yellow"))

    # If SIGINT is ignored, as for a shell's background jobs, it stays ignored.
    in_main = threading.current_thread() is threading.main_thread()
    catches = in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    previous_handler = signal.signal(signal.SIGINT, request_stop) if catches else None
    try:
        yield stop
    finally:
        if catches:
            signal.signal(signal.SIGINT, previous_handler)
        for path in (stop, token(stop), stop.with_suffix(".code")):
            path.unlink(missing_ok=True)
        going_on.release()


def _sweep(root: Path) -> None:
    """Remove the files that killed runs left behind: those whose locks are free."""
    for path in root.glob(".*.run"):
        with suppress(OSError), filelock.FileLock(path, timeout=0):  # its Timeout is an OSError
            path.unlink()
    for path in [*root.glob(".*.stop"), *root.glob(".*.code")]:
        if not token(path).exists():
            path.unlink(missing_ok=True)
