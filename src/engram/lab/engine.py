"""Trials through joblib: in this process, on worker processes (loky) or on a Ray cluster, with the same results."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import joblib

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
        ValueError: The engine is unknown, not installed, or smaller than ``workers``.
    """
    if workers == 1 and engine == "loky":
        return [perform(job) for job in jobs]
    with _pool(engine, workers, address) as parallel:
        alone: dict[int, Status] = {}
        while True:
            rest = [i for i in range(len(jobs)) if i not in alone]
            try:
                done = dict(zip(rest, parallel(workers, [jobs[i] for i in rest]), strict=True))
                return [done[i] if i in done else alone[i] for i in range(len(jobs))]
            except Exception:
                # A worker died: joblib and Ray each have an exception of their own for it, and stop the others too.
                # Which trial killed it nobody knows, so each that was under way now goes on in a pool of its own.
                under_way = [i for i in rest if TrialFolder(jobs[i].folder).status().state == "running"]
                if not under_way:
                    raise
                alone |= {i: _alone(jobs[i], parallel) for i in under_way}


def _alone(job: Job, parallel: Parallel) -> Status:
    """Perform a trial in a pool of its own, again if the worker dies."""
    for _ in range(ATTEMPTS - 1):
        try:
            return parallel(2, [job])[0]  # two workers, since joblib runs a pool of one in this process
        except Exception:
            continue
    folder = TrialFolder(job.folder)
    status = replace(folder.status(), state="failed", message=f"its worker process died {ATTEMPTS} times")
    folder.set_status(status)
    return status


@contextmanager
def _pool(engine: Engine, workers: int, address: str | None) -> Iterator[Parallel]:
    def parallel(n_jobs: int, jobs: Sequence[Job]) -> list[Status]:
        with joblib.parallel_config(backend=engine, n_jobs=n_jobs):
            # Trials are long: each is sent when a worker is free for it.
            return list(joblib.Parallel(batch_size=1, pre_dispatch="n_jobs")(joblib.delayed(perform)(j) for j in jobs))

    if engine == "loky":
        yield parallel
        return
    if engine != "ray":
        raise ValueError(f"engine = {engine!r}: expected 'loky' or 'ray'")
    if importlib.util.find_spec("ray") is None:
        raise ValueError("engine = 'ray': Ray is not installed; install engram with its extra: engram[ray]")
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
        yield parallel
    finally:
        ray.shutdown()
