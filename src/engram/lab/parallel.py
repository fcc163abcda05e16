"""Performs the trials of a run: in this process, on worker processes (loky) or on Ray, with the same results."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.cloudpickle_wrapper import dumps, loads

from engram import references
from engram.lab.folder import Status
from engram.lab.job import Job, perform, token
from engram.lab.provenance import digests
from engram.numeric.parallel import Backend, Lost, NoWorkersError, kill_workers, parallel_map, start_ray

ATTEMPTS = 3
SIGNAL_SECONDS = 0.2
GRACE_SECONDS = 5.0  # time for the steps and the checkpoints of a run that is out of time
_loaded: dict[str, str] = {}


class OutOfTimeError(Exception):
    """The error by which the workers' work ends when they were killed since the time of the run is up."""


def perform_all(
    jobs: Sequence[Job],
    *,
    workers: int,
    engine: Backend = "loky",
    address: str | None = None,
    deadline: float | None = None,
) -> list[Status]:
    """Perform all trials, started in this order; if a worker dies, only its own trial needs another attempt.

    Args:
        jobs: The trials.
        workers: Number of trials at once; with loky, 1 means this process, or one worker if there is a deadline.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        address: Address of an existing Ray cluster; without one, a cluster is started for the run.
        deadline: When the trials are asked to stop, by the monotonic clock; five seconds later the workers are killed,
            and steps that they have not completed are lost.

    Returns:
        The status of each trial; if no node of a cluster is left, some are interrupted or still waiting.
    """
    if _stale():
        get_reusable_executor().shutdown(wait=True)
    stop = jobs[0].stop
    with _connected(engine, workers, address):
        try:
            in_process = engine == "loky" and workers == 1 and deadline is None
            statuses = parallel_map(
                perform,
                jobs if in_process else [portable(job) for job in jobs],
                workers=workers,
                backend=engine,
                attempts=ATTEMPTS,
                under_way=lambda job: job.folder.status().state == "running",
                wait=partial(_undisturbed, engine, token(stop), deadline),
                apart=not in_process,
            )
        except OutOfTimeError:
            return [_stopped(job) for job in jobs]
        except NoWorkersError as error:
            return [_stranded(job, str(error)) for job in jobs]
    return [
        _failed_status(job, status) if isinstance(status, Lost) else status
        for job, status in zip(jobs, statuses, strict=True)
    ]


def portable(job: Job) -> Any:
    """A job for another process: the job itself if its trial is in a module that can be imported by name."""
    for name in job.trial.modules:
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        if file.endswith(".py") and references.place_of(f"{file}:_") == f"{name}:_":
            return _OfFile(job, file)
    return job


class _OfFile:
    """A job whose trial is defined in a file given by its place: another process loads the file before the job.

    Args:
        job: The job.
        file: Path of the file.
    """

    def __init__(self, job: Job, file: str) -> None:
        self.folder, self._job, self._file = job.folder, job, file

    def __reduce__(self) -> tuple[Any, ...]:
        return _job_of_file, (self._file, dumps(self._job))


def _job_of_file(file: str, job: bytes) -> Job:
    references.load(f"{file}:__name__")
    return loads(job)  # type: ignore[no-any-return]


def _stale() -> bool:
    """Whether a file was reloaded since the last call, so that existing workers have its old source."""
    digests_before = dict(_loaded)
    _loaded.update(digests())
    return any(_loaded[name] != digest for name, digest in digests_before.items())


def _failed_status(job: Job, lost: Lost) -> Status:
    by = f", at last by {lost.why}" if lost.why else ""
    status = replace(job.folder.status(), state="failed", message=f"its worker process died {ATTEMPTS} times{by}")
    job.folder.set_status(status)
    return status


def _stranded(job: Job, why: str = "") -> Status:
    status = job.folder.status()
    if status.state == "running":
        status = replace(status, state="interrupted", message=why)
        job.folder.set_status(status)
    return status


def _stopped(job: Job) -> Status:
    status = _stranded(job)
    return replace(status, state="interrupted") if status.state == "waiting" else status


@contextmanager
def _connected(engine: Backend, workers: int, address: str | None) -> Iterator[None]:
    if engine == "loky":
        yield
        return
    import ray

    try:
        start_ray(workers, address)
        yield
    finally:
        ray.shutdown()


def _undisturbed(engine: Backend, file: Path, deadline: float | None, work: Callable[[], Any]) -> Any:
    """Work in another thread, which blocks Ctrl-C: only the calling thread receives it and asks the trials to stop.

    After a second Ctrl-C, or some seconds after the deadline, the workers are killed.

    Workers inherit the block when they start. If this process is killed, the resource tracker removes the file as soon
    as the workers have ended.
    """
    with ThreadPoolExecutor(1, initializer=_block_interrupts) as thread:
        loky_resource_tracker.register(str(file), "file")
        try:
            working = thread.submit(work)
            # In short waits, since a signal delivered to another thread does not wake this one.
            while not wait([working], timeout=SIGNAL_SECONDS).done:
                if deadline is not None and time.monotonic() > deadline + GRACE_SECONDS:
                    raise OutOfTimeError
            return working.result()
        except (KeyboardInterrupt, OutOfTimeError):
            kill_workers(engine)
            raise
        finally:
            loky_resource_tracker.unregister(str(file), "file")


def _block_interrupts() -> None:
    # The trackers unblock interrupts in the thread that starts them, so start them first.
    resource_tracker.ensure_running()
    loky_resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
