"""Parallel work: in this process, on processes of this machine (loky), or as tasks of a Ray cluster.

If a worker dies, the item that it worked on is tried again, and no other item is lost.
"""

from __future__ import annotations

import importlib.util
import itertools
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Final, Literal, NamedTuple, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor, reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_resource_tracker
from joblib.externals.loky.process_executor import TerminatedWorkerError

from engram import extras
from engram.numeric import ray_tasks

Backend = Literal["loky", "ray"]
PROCESSES: Final = 2  # to which a pool is not made smaller, as one item at once and two then share it
POLL_SECONDS: Final = 1.0
SIGNAL_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 300  # after which an idle worker ends
UNHEARD: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}  # a scheduler sends them to all
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Lost:
    """Replaces the result of an item whose worker died at every attempt, or that was given up.

    Attributes:
        why: How the last workers died, as far as it is known.
    """

    why: str = ""


class Surroundings(NamedTuple):
    """What a function may find around it: the working directory, the environment and where modules are looked for.

    ``gone`` are the variables that were removed since some worker may have begun with them.
    """

    folder: str | None
    variables: dict[str, str]
    gone: frozenset[str]
    path: list[str]


_entered: list[Surroundings] = []  # in a worker, those of its parent at the last item
_had: set[str] = set()  # the variables that this process had when it started workers or gave them items
_started_by: list[int] = []  # in a worker, the id of the process that it works for
_working = threading.Lock()
_place: list[socket.socket] = []  # in a worker, what holds its place among those of its pool


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    backend: Backend = "loky",
    attempts: int = 3,
    gpus: Sequence[str] = (),
    needs: Callable[[Item], Mapping[str, float]] = lambda item: {},
    under_way: Callable[[Item], bool] = lambda item: True,
    again: Callable[[Result], bool] = lambda result: False,
    stopping: Callable[[], bool] = lambda: False,
    apart: bool = False,
) -> list[Result | Lost]:
    """The results of a function for each item, computed by several workers.

    If a worker of loky dies, all others are stopped with it, so it is unknown which item it had: each item that may
    have been in progress is retried alone, and the other items continue together. Ray itself retries its tasks.

    Args:
        function: Importable by the workers; called again for an item whose result was lost.
        items: The items, in the order in which they are started.
        workers: Number of items at once; with 1 and loky everything runs in this process, unless ``apart`` is set, and
            so it does, with a warning, in a process that may start no others.
        backend: ``"loky"``, or ``"ray"`` after ``ray_tasks.connect``.
        attempts: Maximum number of times that an item is started; its result is ``Lost`` if a worker died every time.
        gpus: For each worker of loky, its value of ``CUDA_VISIBLE_DEVICES``; further ones begin again (default: all).
        needs: What an item needs of a Ray node, as ``num_cpus``, ``num_gpus`` and ``memory``.
        under_way: Whether an item is in progress, or may have been when a worker died (default: any).
        again: Whether a result says that the item's turn has not come; it is then tried again each second.
        stopping: Whether items that are not under way are given up. If it raises TimeoutError, the workers are killed.
        apart: Whether a single worker of loky is a process of its own too, which can be killed.

    Raises:
        Exception: The function's error.

    Examples:
        >>> parallel_map(abs, [-1, 2], workers=1)
        [1, 2]
    """
    here = backend == "loky" and ((workers == 1 and not apart) or not may_have_workers(workers))

    def connect() -> Submit[Item, Result]:
        if here:
            return _here
        return ray_tasks.submitting(attempts) if backend == "ray" else _on_loky(min(workers, len(items)), tuple(gpus))

    submit = connect()
    todo, later, flying = deque(range(len(items))), list[int](), dict[Future[Result], int]()
    results, deaths, next_look = dict[int, Result | Lost](), Counter[int](), 0.0
    try:
        with warnings.catch_warnings():
            # Loky warns when it replaces a worker whose memory has grown; an error would end the replacing thread.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
            while len(results) < len(items):
                if stopping():
                    todo.clear()
                    later.clear()
                    flying = {future: place for future, place in flying.items() if under_way(items[place])}
                    if not flying:
                        break
                if later and time.monotonic() >= next_look:
                    todo.extend(later)
                    later, next_look = [], time.monotonic() + POLL_SECONDS
                with suppress(TerminatedWorkerError):  # of which the others hear
                    while todo and len(flying) < (1 if deaths.keys() & {todo[0], *flying.values()} else workers):
                        future = submit(function, items[todo[0]], needs(items[todo[0]]))
                        flying[future] = todo.popleft()
                if not flying:
                    time.sleep(SIGNAL_SECONDS)
                # In short waits, since a signal delivered to another thread does not wake this one.
                for future in wait(flying, SIGNAL_SECONDS, FIRST_COMPLETED).done:
                    if future not in flying:  # lost with its pool
                        continue
                    place = flying.pop(future)
                    try:
                        result: Result | Lost = future.result()
                    except TerminatedWorkerError as error:
                        lost = sorted([place, *flying.values()])
                        deaths.update([i for i in lost if under_way(items[i])] or lost)
                        results |= {i: Lost(_exit_codes(error)) for i in lost if deaths[i] == attempts}
                        todo.extendleft(i for i in reversed(lost) if i not in results)
                        flying.clear()
                        submit = connect()
                        continue
                    except Exception as error:
                        if backend == "loky":
                            raise
                        result = Lost(ray_tasks.why_lost(error))
                    if not isinstance(result, Lost) and again(result):
                        later.append(place)
                    else:
                        results[place] = result
    except (KeyboardInterrupt, SystemExit, TimeoutError):
        if not here:
            kill_workers(backend)
        raise
    return [results.get(place, Lost()) for place in range(len(items))]


def may_have_workers(asked: int) -> bool:
    """Whether this process may start others, unlike those of ``multiprocessing.Pool``; a warning says if it may not.

    Args:
        asked: Number of workers that are wanted, for the warning.
    """
    if not multiprocessing.current_process().daemon:
        return True
    if asked > 1:
        here = f"{asked} workers: a daemonic process, such as one of multiprocessing.Pool, may start no others"
        warnings.warn(f"{here}, so everything runs in this one", RuntimeWarning, stacklevel=3)
    return False


def is_worker() -> bool:
    """Whether this process is a worker of loky that ends with its parent, as those of ``parallel_map`` do."""
    return bool(_started_by)


def is_ending() -> bool:
    """Whether this process is a worker that is to end: its parent is gone, or Ray has asked it to end."""
    return ray_tasks.asked_to_end.is_set() or (bool(_started_by) and os.getppid() not in _started_by)


def kill_workers(backend: Backend) -> None:
    """Kill the workers of this process and all processes that they have started, and no others."""
    if backend == "loky":
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)
        return
    ray_tasks.disconnect()


def end_with_parent() -> None:
    """Make this process, a worker of loky, end when its parent is gone: at once if idle, else after its item."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        _started_by.append(parent.pid)

    def exit_after_parent() -> None:
        while not is_ending():
            time.sleep(POLL_SECONDS)
        with _working:
            os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def check_backend(backend: str, name: str = "backend") -> None:
    """Raise ValueError unless a backend is known and installed; the message calls the argument ``name``."""
    if backend not in ("loky", "ray"):
        raise ValueError(f"{name} = {backend!r}: expected one of 'loky', 'ray'")
    if backend == "ray" and importlib.util.find_spec("ray") is None:
        raise ValueError(f"{name} = 'ray': Ray is not installed: {extras.install('ray')}")


Submit = Callable[[Callable[[Item], Result], Any, Mapping[str, float]], "Future[Result]"]


def _here(function: Callable[[Item], Result], item: Item, needs: Mapping[str, float]) -> Future[Result]:
    done: Future[Result] = Future()
    done.set_result(function(item))
    return done


def _on_loky(workers: int, gpus: tuple[str, ...]) -> Submit[Any, Any]:
    threads = str(max(joblib.cpu_count() // max(workers, PROCESSES), 1))
    # A pool grows when it has to: each process imports for seconds. Of one that has ended no process is left.
    running = getattr(reusable_executor._executor, "_processes", None) or ()
    workers = max(workers, min(len(running), PROCESSES))
    env = {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    options = {"timeout": IDLE_SECONDS, "initializer": _begin, "initargs": (gpus,), "env": env}
    _had.update(os.environ.keys() - env.keys())  # workers that it starts have them too
    with unheard():
        pool = get_reusable_executor(workers, **options)

    def submit(function: Callable[[Item], Result], item: Item, needs: Mapping[str, float]) -> Future[Result]:
        with unheard():
            future: Future[Result] = pool.submit(_work, function, item, _surroundings(set(env)))
            return future

    return submit


@contextmanager
def unheard() -> Iterator[None]:
    """Block the signals that a terminal or a scheduler sends to all processes, in this thread and what it starts."""
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
    try:
        # The trackers are started first, since they unblock some of the signals in the thread that starts them.
        resource_tracker.ensure_running()
        loky_resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, UNHEARD)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _begin(gpus: tuple[str, ...]) -> None:
    """Begin a worker of loky: if there are GPUs, it takes a place that no other worker of the pool has."""
    end_with_parent()
    for number in itertools.count() if gpus else ():
        place = socket.socket(socket.AF_UNIX)
        with suppress(OSError):  # another worker has it; the name is free again as soon as that one ends
            place.bind(f"\0engram-{os.getppid()}-{number}")
            _place.append(place)
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
            return


def _surroundings(own: Collection[str]) -> Surroundings:
    """Those of this process.

    Args:
        own: The variables of the environment that each process has for itself.
    """
    folder = None
    with suppress(OSError):  # it was removed
        folder = os.getcwd()  # noqa: PTH109 - as text
    variables = {name: value for name, value in os.environ.items() if name not in own}
    _had.update(variables)
    return Surroundings(folder, variables, frozenset(_had - variables.keys()), [*sys.path])


def _enter(surroundings: Surroundings) -> None:
    """Bring a worker to where its parent is now, which may have gone there after the worker was started."""
    folder, variables, gone, path = surroundings
    with suppress(OSError):
        if folder is not None and folder != os.getcwd():  # noqa: PTH109
            os.chdir(folder)
    before = _entered[-1].variables if _entered else {}
    for name, value in variables.items():
        if before.get(name) != value and not (_place and name == "CUDA_VISIBLE_DEVICES"):
            os.environ[name] = value
    for name in gone:
        if not (_place and name == "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)
    sys.path[:] = [*path, *(place for place in sys.path if place not in path)]
    _entered[:] = [surroundings]


def _work(function: Callable[[Item], Result], item: Item, surroundings: Surroundings) -> Result:
    with _working:
        if is_ending():
            os._exit(1)
        _enter(surroundings)
        return function(item)


def _exit_codes(error: Exception) -> str:
    """The signals or exit codes in the message of loky; empty if it has none."""
    match = re.search(r"exit codes? of the workers? (?:are|is) \{(.*?)\}", str(error))
    return match[1] if match else ""
