"""Ray, which runs each item as one task: it decides where, and starts tasks again whose worker or node is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

asked_to_end = threading.Event()  # in a worker, whether Ray has asked it to end


def connect(address: str | None = None, *, cpus: int | None = None) -> None:
    """Connect to a cluster, unless this process is connected to one.

    Args:
        address: Its address (default: a cluster of this machine alone is started).
        cpus: CPUs of a cluster that is started (default: the cores).
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    unseen = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}}  # without a GPU of its own, a task sees none
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "runtime_env": unseen}
    if address is None:
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
    on_end = signal.getsignal(signal.SIGTERM)
    ray.init(**options)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_end)  # which Ray has replaced


def disconnect() -> None:
    """Disconnect from the cluster, which ends the tasks of this process."""
    import ray

    ray.shutdown()


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster at an address, and in any case disconnect from what was connected to meanwhile."""
    import ray

    is_callers = ray.is_initialized()
    if address is not None:
        connect(address)
    try:
        yield
    finally:
        if not is_callers:
            disconnect()


def capacity(needs: Mapping[str, float]) -> int:
    """How many tasks with such needs (``num_cpus``, ``num_gpus``, ``memory``) the nodes of the cluster take at once."""
    import ray

    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = [(names[name], amount) for name, amount in needs.items() if amount]
    return sum(int(min(node.get(name, 0) / amount for name, amount in wanted)) for node in nodes)


def submitting(attempts: int) -> Callable[[Callable[[Any], Any], Any, Mapping[str, float]], Future[Any]]:
    """A function that submits an item with its needs; a task is started at most ``attempts`` times."""
    import ray

    task = ray.remote(max_retries=attempts - 1)(_work)
    return lambda function, item, needs: task.options(**needs).remote(function, item).future()


def why_lost(error: Exception) -> str:
    """Why a task has no result, if its worker or node died; raises the error of its function, or any other one."""
    import ray

    errors: Any = ray.exceptions
    if isinstance(error, errors.RayTaskError):
        raise error.cause from None
    if not isinstance(error, errors.RayError):
        raise error
    return str(error).partition("\n")[0]


def _work(function: Callable[[Any], Any], item: Any) -> Any:
    """Call a function in a task; if the node is ending, the worker ends too, and Ray starts the task on another one."""
    previous_handler = signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.set())
    try:
        return function(item)
    finally:
        if asked_to_end.is_set():
            os._exit(1)
        signal.signal(signal.SIGTERM, previous_handler)
