"""Stopping a run: by Ctrl-C, by a scheduler, or when its time is up; the trials then write their checkpoints."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from engram.lab.trial.job import token
from engram.storage import locks
from engram.storage.files import CannotWriteError, writing

STOPPING = (signal.SIGINT, signal.SIGTERM)
_asked: set[Path] = set()  # the stop files of runs that a signal has asked to stop


def end(stop: Path, results: Any) -> None:
    """Raise KeyboardInterrupt once a run is over that a signal has asked to stop, so that what follows does not start.

    It is of this very class, by which Python ends with the code of Ctrl-C, and has the results as ``results``.

    Args:
        stop: The file by which its trials were asked to stop.
        results: The results so far.
    """
    if stop in _asked:
        _asked.discard(stop)
        error: Any = KeyboardInterrupt("the same call goes on from the last checkpoints")
        error.results = results
        raise error


@contextmanager
def time_limit(stop: Path, seconds: float | None) -> Iterator[float | None]:
    """Ask all trials to write a checkpoint and stop when the time is up; yield when that is, by the monotonic clock."""
    if seconds is None:
        yield None
        return
    timer = threading.Timer(seconds, stop.touch)
    timer.daemon = True
    deadline = time.monotonic() + seconds
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()


def stop_file(root: Path) -> Path:
    """The path of a file whose existence will ask the trials of a new run to stop; it and its folder need not exist.

    Args:
        root: The folder that the experiment is run in.
    """
    return root / f".{uuid.uuid4().hex}.stop"


@contextmanager
def stoppable(stop: Path, console: Console, *, writes: bool = True) -> Iterator[None]:
    """Make the folder that an experiment is run in, and let Ctrl-C or a scheduler's SIGTERM stop all trials there.

    They stop after a checkpoint. A second Ctrl-C kills them. A second SIGTERM is ignored: schedulers may send it to a
    process and to its shell, which sends it on, and they use SIGKILL when their patience ends.

    Args:
        stop: The file in that folder by which they are asked to.
        console: Where to say that trials stop.
        writes: Whether it is an error if the folder exists and cannot be written.

    Raises:
        CannotWriteError: The folder cannot be made or, with ``writes``, be written.
    """
    root, lock = stop.parent, None
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    try:
        with writing(root):
            _sweep(root)
            lock = locks.acquire(token(stop), timeout=-1)  # a sweeper may hold it for a moment
            token(stop).touch()
    except CannotWriteError:
        if writes:
            raise

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.exists():
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            if stop in _asked:
                return
        _asked.add(stop)
        stop.touch()
        # No markup or emoji: rich imports their parsers lazily, and the signal may arrive during that import.
        console.print(Text("stopping: trials write their checkpoints (press Ctrl-C again to stop at once)", "yellow"))

    # What is ignored, as SIGINT for a shell's background jobs, stays ignored.
    in_main = threading.current_thread() is threading.main_thread()
    caught = [number for number in STOPPING if in_main and signal.getsignal(number) is not signal.SIG_IGN]
    previous_handlers = {number: signal.signal(number, request_stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        for path in (stop, token(stop)):
            path.unlink(missing_ok=True)
        if lock is not None:
            lock.release()


def _sweep(root: Path) -> None:
    """Remove the files that killed runs left behind: those whose locks are free."""
    for path in root.glob(".*.run"):
        with suppress(OSError):
            if not locks.is_held(path):
                path.unlink()
                locks.lease_of(path).unlink(missing_ok=True)
    for path in root.glob(".*.stop"):
        if not token(path).exists():
            path.unlink(missing_ok=True)
