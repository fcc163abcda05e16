"""Performs the trials of a run: in this process, on worker processes (loky) or on Ray, with the same results.

The folder of runs is the queue: trials that another process is at work on are left to it, and looked at again later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import resource_tracker

from engram.lab.trial.folder import Status
from engram.lab.trial.job import Job, perform, token
from engram.lab.trial.machine import gpu_places
from engram.lab.trial.provenance import digests
from engram.numeric import ray_tasks
from engram.numeric.parallel import Backend, Lost, parallel_map, unheard

ATTEMPTS = 3
GRACE_SECONDS = 5.0  # time for the steps and the checkpoints of a run that is out of time
_loaded: dict[str, str] = {}


def perform_all(
    jobs: Sequence[Job],
    *,
    workers: int,
    engine: Backend = "loky",
    deadline: float | None = None,
) -> list[Status]:
    """Perform all trials, started in this order; if a worker dies, only its own trial needs another attempt.

    Args:
        jobs: The trials.
        workers: Number of trials at once; with loky, 1 means this process, or one worker if there is a deadline.
        engine: ``"loky"`` (this machine) or ``"ray"``.
        deadline: When the trials are asked to stop, by the monotonic clock; five seconds later the workers are killed,
            and steps that they have not completed are lost.

    Returns:
        The status of each trial.
    """
    if _stale():
        get_reusable_executor().shutdown(wait=True)
    stop = jobs[0].stop
    if engine == "ray":
        ray_tasks.connect(cpus=workers * jobs[0].trial.threads)
    on_gpu = [job for job in jobs if job.trial.device == "cuda"]
    apart = engine != "loky" or workers > 1 or deadline is not None
    try:
        with _tracked(token(stop), apart):
            statuses = parallel_map(
                perform,
                jobs,
                workers=workers,
                backend=engine,
                attempts=ATTEMPTS,
                gpus=gpu_places(on_gpu[0].options.gpu, on_gpu[0].options.gpus_per_trial) if apart and on_gpu else (),
                needs=lambda job: job.needs,
                under_way=lambda job: _is_own(job, job.folder.status()),
                again=lambda status: status.state == "elsewhere",
                stopping=partial(_stopping, stop, deadline),
                apart=apart,
            )
    except TimeoutError:
        return [_stopped(job) for job in jobs]
    return [_ended(job, status) for job, status in zip(jobs, statuses, strict=True)]


def _stale() -> bool:
    """Whether a file was reloaded since the last call, so that existing workers have its old source."""
    digests_before = dict(_loaded)
    _loaded.update(digests())
    return any(_loaded[name] != digest for name, digest in digests_before.items())


def _stopping(stop: Path, deadline: float | None) -> bool:
    """Whether a run is to stop; raises TimeoutError some seconds after its deadline."""
    if deadline is not None and time.monotonic() > deadline + GRACE_SECONDS:
        raise TimeoutError
    return stop.exists()


def _is_own(job: Job, status: Status) -> bool:
    return status.state == "running" and status.run == job.stop.stem


def _ended(job: Job, status: Status | Lost) -> Status:
    """The last status of a trial."""
    if not isinstance(status, Lost):
        return status
    if job.stop.exists():
        return _stopped(job)
    by = f", at last by {status.why}" if status.why else ""
    status = replace(job.folder.status(), state="failed", message=f"its worker process died {ATTEMPTS} times{by}")
    job.folder.set_status(status)
    return status


def _stopped(job: Job) -> Status:
    """The status of a trial that the end of the run has left as it was; one at work elsewhere stays as it is there."""
    status = job.folder.status()
    if _is_own(job, status):
        status = replace(status, state="interrupted", message="")
        job.folder.set_status(status)
    return replace(status, state="interrupted") if status.state == "waiting" else status


@contextmanager
def _tracked(file: Path, apart: bool) -> Iterator[None]:
    """If this process is killed, the resource tracker removes the file as soon as the workers have ended."""
    if apart:
        with unheard():  # which the tracker inherits
            resource_tracker.register(str(file), "file")
    try:
        yield
    finally:
        if apart:
            resource_tracker.unregister(str(file), "file")
