"""Trials through joblib: in this process, on worker processes (loky) or on a Ray cluster, with the same results."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Literal

import joblib
import psutil
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.process_executor import BrokenProcessPool

from engram.lab.folder import Status, TrialFolder
from engram.lab.worker import Job, perform

Engine = Literal["loky", "ray"]
Parallel = Callable[[int, Sequence[Job]], list[Status]]
ATTEMPTS = 3


def perform_all(
    jobs: Sequence[Job], *, workers: int, engine: Engine = "loky", address: str | None = None
) -> list[Status]:
    """Perform all trials; a worker that dies costs its trial another attempt, and the others nothing.

    Args:
        jobs: The trials, in the order in which they are started.
        workers: How many run at once; with 1 and loky they run in this process.
        engine: ``"loky"``, or ``"ray"`` for a Ray cluster.
        address: Address of an existing Ray cluster (default: one is started here for this run).

    Returns:
        The status of each trial, in the order of ``jobs``.

    Raises:
        ValueError: The Ray cluster is smaller than ``workers``.
    """
    if workers == 1 and engine == "loky":
        return [perform(job) for job in jobs]
    with _pool(engine, workers, address) as (parallel, died):
        alone: dict[int, Status] = {}
        broken = 0
        while True:
            rest = [i for i in range(len(jobs)) if i not in alone]
            try:
                done = dict(zip(rest, parallel(workers, [jobs[i] for i in rest]), strict=True))
                return [done[i] if i in done else alone[i] for i in range(len(jobs))]
            except died:
                # Whose worker died nobody knows, since the others are stopped with it. So each trial that was under
                # way goes on in a pool of its own; where none was, a worker died before it began, and all try again.
                under_way = [i for i in rest if TrialFolder(jobs[i].folder).status().state == "running"]
                broken += not under_way
                if broken == ATTEMPTS:
                    raise
                alone |= {i: _alone(jobs[i], parallel, died) for i in under_way}


def _alone(job: Job, parallel: Parallel, died: type[Exception]) -> Status:
    """Perform a trial in a pool of its own, again if the worker dies."""
    for _ in range(ATTEMPTS - 1):
        try:
            return parallel(2, [job])[0]  # two workers, since joblib runs a pool of one in this process
        except died:
            continue
    folder = TrialFolder(job.folder)
    status = replace(folder.status(), state="failed", message=f"its worker process died {ATTEMPTS} times")
    folder.set_status(status)
    return status


@contextmanager
def _pool(engine: Engine, workers: int, address: str | None) -> Iterator[tuple[Parallel, type[Exception]]]:
    """Yield a function that performs trials on so many workers, and the exception by which it says that one died."""

    def parallel(n_jobs: int, jobs: Sequence[Job]) -> list[Status]:
        with joblib.parallel_config(backend=engine, n_jobs=n_jobs):
            # Trials are long: each is sent when a worker is free for it.
            return list(joblib.Parallel(batch_size=1, pre_dispatch="n_jobs")(joblib.delayed(perform)(j) for j in jobs))

    def undisturbed(n_jobs: int, jobs: Sequence[Job]) -> list[Status]:
        # From a thread in which it is blocked, so that Ctrl-C reaches this process, which asks the trials to stop, but
        # no worker, which inherit the block from the moment of their birth.
        with ThreadPoolExecutor(1, initializer=_block_interrupts) as thread:
            try:
                return thread.submit(parallel, n_jobs, jobs).result()
            except KeyboardInterrupt:
                for child in psutil.Process().children(recursive=True):
                    child.kill()
                raise

    if engine == "loky":
        yield undisturbed, BrokenProcessPool
        return
    import ray
    from ray.util.joblib import register_ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    else:
        ray.init(address=address, log_to_driver=False)
    try:
        found = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        if found < workers:
            raise ValueError(f"jobs = {workers}: the Ray cluster has {found} CPUs")
        register_ray()  # type: ignore[no-untyped-call]
        yield undisturbed, ray.exceptions.RayError
    finally:
        ray.shutdown()


def _block_interrupts() -> None:
    # The trackers unblock interrupts in the thread that starts them, so they are started first.
    resource_tracker.ensure_running()
    loky_resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def check_engine(engine: str, address: str | None) -> None:
    """Raise ValueError unless the engine is known and installed and the address goes with it."""
    if engine not in ("loky", "ray"):
        raise ValueError(f"engine = {engine!r}: expected 'loky' or 'ray'")
    if address is not None and engine != "ray":
        raise ValueError(f"address = {address!r}: expected with engine 'ray' only")
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise ValueError("engine = 'ray': Ray is not installed; install engram with its extra: engram[ray]")
