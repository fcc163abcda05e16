"""Pretends, in this process, that the file system has no flock; leases are the real ones, but shorter."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any, NoReturn

import engram
from engram.storage import locks


def missing(*arguments: Any) -> NoReturn:
    """Fail as flock does where the file system lacks it."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def run(experiment: str, lease_seconds: float, **options: Any) -> None:
    """Run an experiment, in a process of its own."""
    fcntl.flock, locks.LEASE_SECONDS = missing, lease_seconds
    engram.run(experiment, **options)
