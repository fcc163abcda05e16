"""Parallel work through joblib: in this process, on processes of this machine (loky), or on a Ray cluster.

If a worker dies, the item that it worked on is tried again, and no other item is lost.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from engram import extras

Backend = Literal["loky", "ray"]
PROCESSES: Final = 2  # the fewest in a pool, since joblib runs a pool of one in this process
POLL_SECONDS: Final = 1.0
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """Replaces the result of an item whose worker died at every attempt.

    Attributes:
        why: The signals or exit codes of the last workers that died, as far as they are known.
    """

    why: str = ""


_started_by: list[int] = []  # in a worker, the id of the process that it works for
_working = threading.Lock()


class NoWorkersError(RuntimeError):
    """No worker is left: all nodes of the cluster that had a CPU are gone."""


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    backend: Backend = "loky",
    attempts: int = 3,
    under_way: Callable[[Item], bool] = lambda item: True,
    wait: Callable[[Callable[[], Any]], Any] = lambda work: work(),
    apart: bool = False,
) -> list[Result | Lost]:
    """The results of a function for each item, computed by several workers.

    If a worker dies, all others are stopped with it, so it is unknown which item it had: each item that may have been
    in progress is retried in its own pool, and the other items continue together.

    Args:
        function: Importable by the workers; called again for an item whose result was lost.
        items: The items, in the order in which they are started.
        workers: Number of workers; with 1 and loky everything runs in this process, unless ``apart`` is set.
        backend: ``"loky"``, or ``"ray"`` after ``start_ray``.
        attempts: Maximum number of times that an item is started; its result is ``Lost`` if a worker died every time.
        under_way: Whether an item may have been in progress when a worker died (default: any).
        wait: Calls the function that waits for the workers, for example in another thread (default: in this one).
        apart: Whether a single worker of loky is a process of its own too, which can be killed.

    Raises:
        Exception: The function's error; or the backend's, if workers died ``attempts`` times with no item in progress.
        NoWorkersError: No node with a CPU is left in the Ray cluster.

    Examples:
        >>> parallel_map(abs, [-1, 2], workers=1)
        [1, 2]
    """
    if workers == 1 and backend == "loky" and not apart:
        return [function(item) for item in items]
    workers = min(workers, max(len(items), PROCESSES))
    died = _died(backend)

    def together(chunk: Sequence[Item], workers: int) -> list[Result]:
        calls = [joblib.delayed(_worked)(function, item) for item in chunk]
        try:
            results: list[Result] = wait(lambda: list(_pool(backend, workers)(calls)))
            return results
        except died:
            _ray_pools.clear()
            raise

    def retried(item: Item) -> Result | Lost:
        why = ""
        for _ in range(attempts - 1):
            try:
                return together([item], PROCESSES)[0]
            except died as error:
                why = _exit_codes(error)
        return Lost(why)

    results: dict[int, Result | Lost] = {}
    idle_deaths = 0
    with warnings.catch_warnings():
        # Loky warns when it replaces a worker whose memory has grown; as an error this would end the replacing thread.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        while len(results) < len(items):
            remaining = [i for i in range(len(items)) if i not in results]
            try:
                results |= dict(zip(remaining, together([items[i] for i in remaining], workers), strict=True))
            except died:
                started = [i for i in remaining if under_way(items[i])]
                idle_deaths += not started
                if idle_deaths == attempts:
                    raise
                results |= {i: retried(items[i]) for i in started}
    return [results[i] for i in range(len(items))]


def _exit_codes(error: Exception) -> str:
    """The signals or exit codes in the message of a backend; empty if it has none."""
    match = re.search(r"exit codes? of the workers? (?:are|is) \{(.*?)\}", str(error))
    return match[1] if match else ""


def is_worker() -> bool:
    """Whether this process is one of loky's workers that ``parallel_map`` has started."""
    return bool(_started_by)


def orphaned() -> bool:
    """Whether this process is a worker whose parent process is gone."""
    return bool(_started_by) and os.getppid() not in _started_by


def kill_workers(backend: Backend) -> None:
    """Kill the workers of this process and all processes that they have started, and no others."""
    if backend == "loky":
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)
        return
    import ray

    ray.shutdown()


def end_with_parent() -> None:
    """Make this process, a worker of loky, end when its parent is gone: at once if idle, else after its item."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        _started_by.append(parent.pid)

    def exit_after_parent() -> None:
        while not orphaned():
            time.sleep(POLL_SECONDS)
        with _working:
            os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def _worked(function: Callable[[Item], Result], item: Item) -> Result:
    with _working:
        if orphaned():
            os._exit(1)
        return function(item)


def start_ray(workers: int, address: str | None = None) -> None:
    """Connect joblib to Ray: to the cluster at an address, or to a local one, which is started if there is none.

    Raises:
        ValueError: Ray is not installed, or the cluster has fewer CPUs than ``workers``.
    """
    check_backend("ray")
    import ray
    from ray.util.joblib import register_ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    elif not ray.is_initialized():
        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    cpus = _ray_cpus()
    if cpus < workers:
        raise ValueError(f"{workers} workers: the Ray cluster has {cpus} CPUs")
    register_ray()  # type: ignore[no-untyped-call]


def check_backend(backend: str, name: str = "backend") -> None:
    """Raise ValueError unless a backend is known and installed; the message calls the argument ``name``."""
    if backend not in ("loky", "ray"):
        raise ValueError(f"{name} = {backend!r}: expected one of 'loky', 'ray'")
    if backend == "ray" and importlib.util.find_spec("ray") is None:
        raise ValueError(f"{name} = 'ray': Ray is not installed: {extras.install('ray')}")


_ray_pools: dict[tuple[int, str, str], joblib.Parallel] = {}


def _pool(backend: Backend, workers: int) -> joblib.Parallel:
    """A pool that sends an item only when a worker is free, since items are large."""
    if backend == "loky":  # which itself keeps its processes for the next pool
        options: dict[str, Any] = {"batch_size": 1, "pre_dispatch": workers, "initializer": end_with_parent}
        return joblib.Parallel(max(workers, PROCESSES), backend="loky", **options)
    import ray

    cpus = _ray_cpus()
    if cpus == 0:
        raise NoWorkersError("the Ray cluster has no CPU left")
    workers = min(workers, cpus)
    ours = ray.get_runtime_context()
    key = workers, ours.get_job_id(), ours.get_node_id()  # jobs are numbered from 1 in each cluster
    if key not in _ray_pools:
        _ray_pools.clear()
        _ray_pools[key] = joblib.Parallel(workers, backend="ray", batch_size=1, pre_dispatch="n_jobs").__enter__()
    return _ray_pools[key]


def _ray_cpus() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]


def _died(backend: Backend) -> tuple[type[Exception], ...]:
    """The exceptions by which a backend reports that a worker died."""
    if backend == "loky":
        return (TerminatedWorkerError,)
    import ray

    errors: Any = ray.exceptions
    return errors.RayActorError, errors.WorkerCrashedError
