"""The work on one trial: lock its folder, begin or resume it, write its result."""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock

from engram import checks
from engram.lab import loaded
from engram.lab.config import to_dict
from engram.lab.folder import Status, TrialFolder, name_of, printable
from engram.lab.loop import Interrupted, Run, get_state
from engram.lab.manifest import Present, Use
from engram.lab.trial import Trial, computing
from engram.numeric import jit
from engram.numeric.parallel import is_worker, orphaned
from engram.storage.files import CannotWriteError, CorruptFileError, sweep, writing

LOCK_POLL_SECONDS = 0.2
RESTARTS = 3  # maximum number of attempts if files are corrupt
LONGEST_PATH = 1000


@dataclass(frozen=True)
class Job:
    """A trial and the options with which a worker runs it; options not listed here are those of ``run``.

    Attributes:
        trial: The trial.
        identity: Everything that determines the result, except the code.
        folder: The folder of the trial.
        stop: The file whose existence asks the trial to stop.
        checkpoint_seconds: Time between two checkpoints, in seconds.
        tensorboard: Whether event files are written as well.
        keep_state: Whether the state that the trial keeps is saved.
        finished: Whether there is a result that is still valid.
        differs: The changes, if there is a result or a checkpoint that is no longer valid.
        main: The script that started the run, with its hash, if the trial is defined there.
    """

    trial: Trial
    identity: dict[str, Any]
    folder: TrialFolder
    stop: Path
    checkpoint_seconds: float = 10.0
    tensorboard: bool = False
    keep_state: bool = True
    finished: bool = False
    differs: str = ""
    main: Mapping[str, str] = field(default_factory=dict)

    def use(self) -> Use:
        """Start recording what the trial uses, in this process."""
        modules = self.trial.modules
        main_is_loaded = "__main__" not in modules or loaded.script() == self.main
        return Use(modules, None if main_is_loaded else self.main, strings(to_dict(self.trial.config)))


def strings(settings: Any) -> set[str]:
    """The strings in settings that are JSON values, except empty strings and those that are too long for a path."""
    if isinstance(settings, Mapping):
        settings = settings.values()
    if isinstance(settings, str):
        return {settings} if settings and len(settings) <= LONGEST_PATH else set()
    return {text for value in settings for text in strings(value)} if isinstance(settings, Iterable) else set()


def prepare(trial: Trial, root: Path, stop: Path, present: Present | None = None, **options: Any) -> Job:
    """Make the job that performs a trial in its folder below ``root``.

    If files that a result depends on have changed, the result stays where it is, in case the change is undone, and the
    trial runs in another folder next to it, ``<name>.2``. ``differs`` then refers to the result that was used last.

    Args:
        trial: The trial.
        root: The folder of its experiment.
        stop: The file whose existence asks the trial to stop.
        present: The current state of files, shared when many jobs are prepared.
        **options: Fields of ``Job``.
    """
    identity = trial.identity()
    present = Present() if present is None else present
    name = name_of(identity)
    options["main"] = loaded.script() if "__main__" in trial.modules else {}
    free, differs, last_used = None, "", -1.0
    for number in itertools.count(1):
        folder = TrialFolder(root / (f"{name}.{number}" if number > 1 else name))
        if not folder.path.exists():
            break
        try:
            is_finished, why = _holds(folder, present)
        except CorruptFileError:  # the worker reports it, sets it aside and starts again
            is_finished, why = False, ""
        if is_finished and not why:
            folder.mark_used()
            return Job(trial, identity, folder, stop, finished=True, **options)
        free = folder if not why else free
        if why and (used := folder.last_used()) >= last_used:
            differs, last_used = why, used
    return Job(trial, identity, free or folder, stop, differs="" if free else differs, **options)


def _holds(folder: TrialFolder, present: Present) -> tuple[bool, str]:
    """Whether a trial is finished, and what has changed since its result or its last checkpoint was written."""
    stored = folder.result()
    manifest = folder.manifest() if stored is None else stored["manifest"]
    return stored is not None, present.differs(manifest) if manifest else ""


def perform(job: Job) -> Status:
    """Perform or resume a trial, unless it is finished already; return its status afterwards.

    A failure, including a failed write, is returned rather than raised, so that other trials go on.
    """
    if is_worker():
        os.dup2(2, 1)  # the standard output is reserved for the results
    folder = job.folder
    if (why := _another(job)) is not None:
        return Status("failed", message=why)
    try:
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        with _locked(folder, job.stop):
            return _perform(job, folder)
    except Interrupted:
        return replace(folder.status(), state="interrupted")
    except CannotWriteError as error:
        return Status("failed", message=str(error))


def _another(job: Job) -> str | None:
    """Say what differs from the process that started the run: the folder of runs, or the code; None if neither does."""
    if not token(job.stop).exists():
        return f"{job.folder.path.parent} is not the folder of the run on {platform.node()}: all nodes must share it"
    expected = _expected(job.stop)
    try:
        files = job.use().manifest()["files"]
    except ValueError as error:
        return str(error)
    edited = next((name for name, digest in files.items() if expected.get(name, digest) != digest), None)
    if edited is None:
        return None
    return (
        f"{edited} on {platform.node()} is not the code that started the run: "
        "install the same code on every node, and after an edit reload it or restart Python"
    )


def begin(stop: Path) -> None:
    """Record the code that is loaded in the process that starts a run."""
    stop.with_suffix(".code").write_text(json.dumps(loaded.digests()))


@functools.lru_cache(maxsize=1)
def _expected(stop: Path) -> dict[str, str]:
    """The digests of the code in the process that started the run, and of other files when this process joined."""
    path = stop.with_suffix(".code")
    started: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return loaded.digests_on_disk() | started


def token(stop: Path) -> Path:
    """The path of the file that exists in the folder of runs while a run, which ``stop`` stops, is in progress."""
    return stop.with_suffix(".run")


def _perform(job: Job, folder: TrialFolder) -> Status:
    sweep(folder.path)
    status = replace(folder.status(), message="")
    try:
        is_finished, differs = _holds(folder, Present())
        if differs:
            why = f"{differs} since another process ran it with other code: the same command runs it in a new folder"
            return replace(status, state="failed", message=why)
        if is_finished:
            return replace(status, state="finished")
    except CorruptFileError as error:
        status = _restart(folder, status, error)
    warning = folder.begin(job.identity)
    status = replace(status, message=warning or status.message)
    restarts = 0
    while True:
        restarts += 1
        status = replace(status, state="running", attempts=status.attempts + 1)
        folder.set_status(status)
        try:
            with computing(job.trial):
                return _attempt(job, folder)
        except CorruptFileError as error:
            # A file outside the folder belongs to the user, not to the trial.
            if folder.path in error.path.absolute().parents and restarts < RESTARTS:
                status = _restart(folder, status, error)
            else:
                folder.fail(traceback.format_exc())
                status = replace(folder.status(), state="failed", message=printable(str(error)))
        except Interrupted:
            status = replace(folder.status(), state="interrupted")
        except CannotWriteError:
            raise
        except (Exception, SystemExit) as error:  # a script that a trial calls may exit
            folder.fail(traceback.format_exc())
            status = replace(folder.status(), state="failed", message=printable(f"{type(error).__name__}: {error}"))
        if status.state in ("interrupted", "failed"):
            folder.set_status(status)
            return status


def _attempt(job: Job, folder: TrialFolder) -> Status:
    options: dict[str, Any] = {"checkpoint_seconds": job.checkpoint_seconds, "tensorboard": job.tensorboard}
    run = Run(folder, job.trial.seed, job.trial.device, stop=job.stop, use=job.use(), **options)

    def tell() -> None:
        folder.set_status(replace(folder.status(), note="compiling kernels"))

    with jit.on_compile(tell):
        result = job.trial.function(job.trial.config, run)
    check_result(result)
    status: Status
    mark, status = run.close()
    state = {name: get_state(name, part) for name, part in run.kept.items()} if job.keep_state else None
    folder.finish(result, mark, run.processor_seconds, run.manifest(), state, choices=run.choices)
    folder.set_status(status)
    return status


def check_result(result: Any) -> None:
    """Raise TypeError unless a trial has returned a dict of JSON values."""
    if not isinstance(result, dict):
        raise TypeError(f"the trial returned {checks.shown(result)}: expected a dict of results")
    for name, value in result.items():
        if not isinstance(name, str):
            raise TypeError(f"result name {name!r}: expected a string")
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            expected = "Python's numbers, strings, booleans, None, and lists and dicts of these"
            raise TypeError(f"result {name!r} = {checks.shown(value)}: expected {expected} ({error})") from None


def _restart(folder: TrialFolder, status: Status, error: CorruptFileError) -> Status:
    folder.restart(error)
    return replace(status, state="waiting", message=f"{error}; it is set aside and the trial starts again")


@contextmanager
def _locked(folder: TrialFolder, stop: Path) -> Iterator[None]:
    """Hold the folder's lock; wait if another process holds it, unless the run is stopping."""
    lock = folder.lock()
    while True:
        if stop.exists() or orphaned():
            raise Interrupted
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            time.sleep(LOCK_POLL_SECONDS)
        except OSError as error:
            raise CannotWriteError(f"cannot lock {folder.path}: {error}") from error
    try:
        yield
    finally:
        lock.release()
