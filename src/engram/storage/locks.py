"""Locks that processes on one or many machines share: flock's, or a lease where the file system has no flock.

The kernel releases flock's when the process dies. A lease is a file whose holder touches it again and again; others
take it over when it was not touched for a while, or when its holder was a process of this machine and is gone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

import filelock

LEASE_SECONDS = 60.0  # as long as a client of NFS may take a file for unchanged
NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_awaited: dict[Path, filelock.SoftFileLease] = {}  # leases of others, each with what was seen of its holder's touches

Lock = filelock.BaseFileLock


def acquire(path: Path, timeout: float = 0.0) -> Lock:
    """A lock that this process now holds.

    Args:
        path: The file of the lock; a lease is a file beside it.
        timeout: Seconds to wait for another holder; below 0 without end.

    Raises:
        filelock.Timeout: Another process holds it.
        OSError: The file cannot be written.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout)
        return lock
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
    lease = _awaited.pop(path, None) or filelock.SoftFileLease(lease_of(path), lease_duration=LEASE_SECONDS)
    try:
        lease.acquire(timeout)
    except filelock.Timeout:
        _awaited[path] = lease
        raise
    return lease


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, and hold it."""
    lock = acquire(path, timeout=-1)
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds a lock; a lease that has expired is held by none. Raises OSError as ``acquire`` does."""
    try:
        acquire(path).release()
    except filelock.Timeout:
        # Opened, since a client of NFS may remember a file's time; both times are of the clock of the file system.
        with suppress(FileNotFoundError), lease_of(path).open() as lease, TemporaryFile(dir=path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - os.fstat(lease.fileno()).st_mtime < LEASE_SECONDS
        return True
    return False


def is_lost(lock: Lock) -> bool:
    """Whether another process has taken over a lock, a lease that this process has not touched in time."""
    if not isinstance(lock, filelock.SoftFileLease):
        return False
    owner = lock.owner
    return owner is None or owner.token != lock.token


def lease_of(path: Path) -> Path:
    """The file of the lease that replaces a lock."""
    return path.with_name(f"{path.name}.lease")
