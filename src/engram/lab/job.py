"""What one worker does with one trial: lock its folder, resume or begin it, write down what came of it."""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from engram.lab.code import code_digest
from engram.lab.folder import Status, TrialFolder, name_of
from engram.lab.loop import Interrupted, Run
from engram.lab.trial import Trial, computing, names_in
from engram.numeric import jit
from engram.numeric.parallel import orphaned
from engram.storage.files import CannotWriteError, CorruptFileError, sweep, writing

LOCK_POLL_SECONDS = 0.2
RESTARTS = 3  # attempts at most that end in a corrupt file


@dataclass(frozen=True)
class Job:
    """What a worker needs to perform a trial: ``identity`` determines the result, and the rest is as of ``run``."""

    trial: Trial
    identity: dict[str, Any]
    folder: TrialFolder
    stop: Path
    checkpoint_seconds: float = 10.0
    tensorboard: bool = False
    keep_state: bool = True


def prepare(trial: Trial, root: Path, stop: Path, **options: Any) -> Job:
    """The job that performs a trial in its folder below ``root``; ``options`` are fields of ``Job``."""
    identity = trial.identity()
    folder = TrialFolder(root / name_of(identity))
    return Job(trial, identity, folder, stop, **options)


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
    module = job.trial.function.__module__
    if module == "__main__":  # which goes along with the job
        return None
    here = code_digest(module, names_in(job.trial.config))
    if here == job.trial.code:
        return None
    return (
        f"the code on {platform.node()} ({here}) is not that of where the run was started ({job.trial.code}): "
        "install the same on every node, and after an edit reload it or start Python again"
    )


def token(stop: Path) -> Path:
    """The path of the file that is in the folder of runs while the run that ``stop`` stops goes on."""
    return stop.with_suffix(".run")


def _perform(job: Job, folder: TrialFolder) -> Status:
    sweep(folder.path)
    status = replace(folder.status(), message="")
    try:
        if folder.result() is not None:
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
    run = Run(folder, job.trial.seed, job.trial.device, stop=job.stop, **options)

    def tell() -> None:
        folder.set_status(replace(folder.status(), note="compiling kernels"), durable=False)

    with jit.on_compile(tell):
        result = job.trial.function(job.trial.config, run)
    status: Status
    mark, status = run.close()
    folder.finish(result, mark, run.processor_seconds, run.kept if job.keep_state else None)
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
