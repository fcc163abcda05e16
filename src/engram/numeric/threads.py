"""The threads on which all kernels run."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ContextDecorator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Pieces of work for each thread, so that an interrupted thread delays the others only by one small piece.
PIECES = 4


class Threads:
    """A pool of sleeping threads; each takes a piece of work as soon as it is free.

    The calling thread starts at once, and at the end waits only for pieces that other threads have begun: if all cores
    are busy, late threads find nothing left to do, and nothing waits for them. OpenMP's threads would synchronise at
    the end, and keep a core busy while they wait.
    """

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Forget all threads, since a forked process has none of them."""
        self.pool, self.size = None, 0

    def run(self, call: Callable[[int, Any], None], count: int, threads: int, memory: Callable[[], Any]) -> None:
        """Call ``call`` with every number below ``count``; each thread takes the next one as soon as it is free.

        Args:
            call: Called with a number, and with the memory of the thread.
            count: Number of calls.
            threads: The largest number of threads, including the calling one.
            memory: Returns new memory; called once by each thread.
        """
        numbers = iter(range(count))
        errors: list[BaseException] = []

        def work() -> None:
            thread_memory = None
            try:
                for number in numbers:
                    thread_memory = memory() if thread_memory is None else thread_memory
                    call(number, thread_memory)
            except BaseException as error:  # raised below, in the calling thread
                errors.append(error)

        helpers = min(threads, count) - 1
        if helpers > self.size:
            self.pool, self.size = ThreadPoolExecutor(helpers, thread_name_prefix="engram"), helpers
        pending = [self.pool.submit(single_threaded()(work)) for _ in range(helpers)] if self.pool is not None else []
        work()
        for helper in pending:
            if not helper.cancel():
                helper.result()
        if errors:
            raise errors[0]


shared = Threads()
"""The threads on which all kernels run."""


def in_ranges(call: Callable[[int, int], Any], count: int, n_jobs: int | None) -> None:
    """Split ``range(count)`` into ranges, and call ``call`` with the start and stop of each, on several threads.

    Args:
        call: Called with the start and stop of a range.
        count: Length of the whole range.
        n_jobs: Number of threads, as joblib interprets it.
    """
    from joblib import effective_n_jobs

    threads = min(effective_n_jobs(n_jobs), count)
    pieces = min(PIECES * threads, count) if threads > 1 else threads
    ranges = list(pairwise(np.linspace(0, count, pieces + 1).astype(int).tolist()))
    shared.run(lambda number, _: call(*ranges[number]), pieces, threads, lambda: None)


# ctypes rather than threadpoolctl: the latter does not see the MKL inside libtorch_cpu, changes BLAS for all threads,
# and takes 12 us for a context that takes 2 us here, in steps of 20 us.
def _setter(library: str, name: str) -> Callable[[int], int]:
    """The function that sets the number of threads in one of torch's libraries, or a function without effect."""
    for path in Path(torch.__file__).parent.glob(f"lib/{library}"):
        function = getattr(ctypes.CDLL(str(path)), name, None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    return lambda count: 0


_openmp = _setter("libgomp*.so*", "omp_set_num_threads")
_mkl = _setter("libtorch_cpu.so", "MKL_Set_Num_Threads_Local")


class _Outside(threading.local):
    """The numbers of threads to restore on leaving ``single_threaded``."""

    depth = threads = mkl = 0


_outside = _Outside()


def available() -> int:
    """The number of threads that torch uses in this thread outside ``single_threaded``."""
    return _outside.threads if _outside.depth else torch.get_num_threads()


class single_threaded(ContextDecorator):  # noqa: N801
    """A context in which torch's operators use this thread alone; other threads are not affected.

    OpenMP's threads synchronise at the end of every operator, which on busy cores takes longer than a small product.
    The context has no effect in code that ``torch.compile`` traces.
    """

    def __enter__(self) -> None:
        if torch.compiler.is_compiling():
            return
        if not _outside.depth:
            _outside.threads = torch.get_num_threads()
            _openmp(1)
            _outside.mkl = _mkl(1)
        _outside.depth += 1

    def __exit__(self, *_: object) -> None:
        if torch.compiler.is_compiling():
            return
        _outside.depth -= 1
        if not _outside.depth:
            _mkl(_outside.mkl)
            _openmp(_outside.threads)
