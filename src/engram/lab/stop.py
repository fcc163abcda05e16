"""Stopping a run: by Ctrl-C, or when its time is up; the trials then write their checkpoints."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import filelock
from rich.console import Console
from rich.text import Text

from engram.lab.job import token
from engram.storage.files import writing


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


@contextmanager
def stoppable(root: Path, console: Console) -> Iterator[Path]:
    """Make the first Ctrl-C ask all trials to stop after a checkpoint, by the file yielded; a second one kills them."""
    stop = root / f".{uuid.uuid4().hex}.stop"
    going_on = filelock.FileLock(token(stop))
    with writing(root):
        _sweep(root)
        going_on.acquire()

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()
        # No markup or emoji: rich imports their parsers lazily, and the signal may arrive during that import.
        console.print(Text("stopping: trials write their checkpoints (press Ctrl-C again to stop at once)", "yellow"))

    # If SIGINT is ignored, as for a shell's background jobs, it stays ignored.
    in_main = threading.current_thread() is threading.main_thread()
    catches = in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    previous_handler = signal.signal(signal.SIGINT, request_stop) if catches else None
    try:
        yield stop
    finally:
        if catches:
            signal.signal(signal.SIGINT, previous_handler)
        for path in (stop, token(stop)):
            path.unlink(missing_ok=True)
        going_on.release()


def _sweep(root: Path) -> None:
    """Remove the files that killed runs left behind: those whose locks are free."""
    for path in root.glob(".*.run"):
        with suppress(OSError), filelock.FileLock(path, timeout=0):  # its Timeout is an OSError
            path.unlink()
    for path in root.glob(".*.stop"):
        if not token(path).exists():
            path.unlink(missing_ok=True)
