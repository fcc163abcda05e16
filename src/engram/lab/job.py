"""What one worker does with one trial: lock its folder, resume or begin it, write down what came of it."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import platform
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock

from engram.lab import loaded
from engram.lab.folder import Status, TrialFolder, name_of
from engram.lab.loop import Interrupted, Run
from engram.lab.manifest import Present, Use
from engram.lab.trial import Trial, computing
from engram.numeric import jit
from engram.numeric.parallel import orphaned
from engram.storage.files import CannotWriteError, CorruptFileError, sweep, writing

LOCK_POLL_SECONDS = 0.2
RESTARTS = 3  # attempts at most that end in a corrupt file


@dataclass(frozen=True)
class Job:
    """What a worker needs to perform a trial; what is not told here is as of ``run``.

    Attributes:
        identity: All that determines the result, but for the code.
        finished: Whether there is a result that still holds.
        differs: What is not what it was, where there is a result or a checkpoint that no longer holds.
        main: The script that it was started from, with its hash, where the trial is defined in that.
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
        """What the trial uses from now on, in this process."""
        modules = self.trial.modules
        here = "__main__" not in modules or loaded.script() == self.main
        return Use(modules, None if here else self.main)


def prepare(trial: Trial, root: Path, stop: Path, present: Present | None = None, **options: Any) -> Job:
    """The job that performs a trial in its folder below ``root``.

    What rests on files that have changed stays where it is, for the day on which they are what they were, and the trial
    is performed in another folder beside it, ``<name>.2``.

    Args:
        trial: The trial.
        root: The folder of its experiment.
        stop: The file that asks it to stop.
        present: What there is of files now, where many jobs are prepared.
        **options: Fields of ``Job``.
    """
    identity = trial.identity()
    present = Present() if present is None else present
    name = name_of(identity)
    options["main"] = loaded.script() if "__main__" in trial.modules else {}
    free, differs = None, ""
    for number in itertools.count(1):
        folder = TrialFolder(root / (f"{name}.{number}" if number > 1 else name))
        if not folder.path.exists():
            break
        try:
            is_finished, why = _holds(folder, present)
        except CorruptFileError:  # the worker says so, keeps it aside and starts again
            is_finished, why = False, ""
        if is_finished and not why:
            return Job(trial, identity, folder, stop, finished=True, **options)
        free, differs = (folder if not why else free), why or differs
    return Job(trial, identity, free or folder, stop, differs="" if free else differs, **options)


def _holds(folder: TrialFolder, present: Present) -> tuple[bool, str]:
    """Whether a trial is finished, and what is not what it was when its result or its last checkpoint was written."""
    stored = folder.result()
    manifest = folder.manifest() if stored is None else stored["manifest"]
    return stored is not None, present.differs(manifest) if manifest else ""


def perform(job: Job) -> Status:
    """Perform a trial, unless it is finished already; go on where it was interrupted; return its status afterwards.

    A failure, that of writing included, is returned and not raised, so that it costs no other trial.
    """
    if multiprocessing.parent_process() is not None:
        os.dup2(2, 1)  # the standard output is for the results alone, whatever a trial prints
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
    """Say what is not here as where the run was started: the folder of runs, or the code; None where both are."""
    if not token(job.stop).exists():
        return (
            f"{job.folder.path.parent} is not the folder of the run on {platform.node()}: every node must see the same"
        )
    expected = _expected(job.stop)
    here = job.use().manifest()["files"]
    edited = next((name for name, digest in here.items() if expected.get(name, digest) != digest), None)
    if edited is None:
        return None
    return (
        f"{edited} on {platform.node()} is not what it is where the run was started: "
        "install the same on every node, and after an edit reload it or start Python again"
    )


def begin(stop: Path) -> None:
    """Write down what is loaded where a run is started."""
    stop.with_suffix(".code").write_text(json.dumps(loaded.digests()))


@functools.lru_cache(maxsize=1)
def _expected(stop: Path) -> dict[str, str]:
    """What is loaded where the run was started; of what is not, what the files were when this process took part."""
    path = stop.with_suffix(".code")
    started: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return loaded.digests_on_disk() | started


def token(stop: Path) -> Path:
    """The path of the file that is in the folder of runs while the run that ``stop`` stops goes on."""
    return stop.with_suffix(".run")


def _perform(job: Job, folder: TrialFolder) -> Status:
    sweep(folder.path)
    status = replace(folder.status(), message="")
    try:
        is_finished, differs = _holds(folder, Present())
        if differs:
            why = f"{differs} since another process was here, with other code: the same command runs it beside"
            return replace(status, state="failed", message=why)
        if is_finished:
            return replace(status, state="finished")
    except CorruptFileError as error:
        status = _restart(folder, status, error)
    mixed = folder.begin(job.identity)
    status = replace(status, message=mixed or status.message)
    restarts = 0
    while True:
        restarts += 1
        status = replace(status, state="running", attempts=status.attempts + 1)
        folder.set_status(status)
        try:
            with computing(job.trial):
                return _attempt(job, folder)
        except CorruptFileError as error:
            # A file outside the folder is not the trial's, but the user's.
            if folder.path in error.path.absolute().parents and restarts < RESTARTS:
                status = _restart(folder, status, error)
            else:
                folder.fail(traceback.format_exc())
                status = replace(folder.status(), state="failed", message=str(error))
        except Interrupted:
            status = replace(folder.status(), state="interrupted")
        except CannotWriteError:
            raise
        except Exception as error:
            folder.fail(traceback.format_exc())
            status = replace(folder.status(), state="failed", message=f"{type(error).__name__}: {error}")
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
    status: Status
    mark, status = run.close()
    state = run.kept if job.keep_state else None
    folder.finish(result, mark, run.processor_seconds, run.manifest(), state, choices=run.choices)
    folder.set_status(status)
    return status


def _restart(folder: TrialFolder, status: Status, error: CorruptFileError) -> Status:
    folder.restart(error)
    return replace(status, state="waiting", message=f"{error}; it is kept aside and the trial starts again")


@contextmanager
def _locked(folder: TrialFolder, stop: Path) -> Iterator[None]:
    """Hold the folder's lock; wait for another process that holds it, unless the run is to stop."""
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
