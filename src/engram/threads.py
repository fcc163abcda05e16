"""The threads on which all kernels run, those of plasticity as well as those of memories."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Threads:
    """Threads that share out work: those of torch where they can be had, else threads that wait for it.

    Between two operations torch's OpenMP threads keep their cores busy for some milliseconds, so that the next one
    finds them awake; other threads would have to share the cores with them.
    """

    def __init__(self) -> None:
        self.parallel: Any = None
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        for library in Path(torch.__file__).parent.glob("lib/libgomp*.so*"):
            self.parallel = ctypes.CDLL(str(library)).GOMP_parallel
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Forget all threads: a forked process has none of them."""
        self.parallel, self.pool, self.size = None, None, 0

    def run(self, call: Callable[[int, Any], None], count: int, threads: int, memory: Callable[[], Any]) -> None:
        """Call with every number below ``count``, each thread taking the next as soon as it is free.

        Args:
            call: Called with a number, and with the memory of the thread.
            count: How many numbers there are.
            threads: How many threads at most, this one included.
            memory: Makes what a thread needs for itself.
        """
        numbers = iter(range(count))
        errors: list[BaseException] = []

        def work(_: object = None) -> None:
            own = None
            try:
                for number in numbers:
                    own = memory() if own is None else own
                    call(number, own)
            except BaseException as error:  # raised below, in the thread that called
                errors.append(error)

        helpers = min(threads, count) - 1
        if helpers < 1:
            work()
        elif self.parallel is not None:
            # All of them, for OpenMP ends those that are not asked for, and would have to start them again.
            self.parallel(_WORK(work), None, threads, 0)
        else:
            if helpers > self.size:
                self.pool, self.size = ThreadPoolExecutor(helpers, thread_name_prefix="engram"), helpers
            assert self.pool is not None
            pending = [self.pool.submit(work) for _ in range(helpers)]
            work()
            for helper in pending:
                helper.result()
        if errors:
            raise errors[0]


shared = Threads()
"""Those that all kernels run on."""


def in_ranges(call: Callable[[int, int], Any], count: int, n_jobs: int | None) -> None:
    """Call with the ranges that make up ``range(count)``, first and stop, in as many threads as ``n_jobs`` says.

    Args:
        call: Called with where a range begins and where it ends.
        count: How many numbers there are.
        n_jobs: Number of threads, as joblib reads it.
    """
    from joblib import effective_n_jobs

    threads = min(effective_n_jobs(n_jobs), count)
    ranges = list(pairwise(np.linspace(0, count, threads + 1).astype(int).tolist()))
    shared.run(lambda number, _: call(*ranges[number]), threads, threads, lambda: None)
