"""The threads on which the kernels run; each takes the next piece of work as soon as it is free."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Threads:
    """Threads that wait for work; a forked process starts with none."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Have no threads, as a forked process has none."""
        self.pool, self.size = None, 0

    def run(self, call: Callable[[int, Any], None], count: int, threads: int, memory: Callable[[], Any]) -> None:
        """Call with every number below ``count``, each thread taking the next as soon as it is free.

        Args:
            call: Called with a number, and with the memory of the thread.
            count: How many numbers there are.
            threads: How many threads at most, this one included.
            memory: Makes what a thread needs for itself.
        """
        numbers = iter(range(count))

        def work() -> None:
            own = memory()
            for number in numbers:
                call(number, own)

        helpers = min(threads, count) - 1
        if helpers > self.size:
            self.pool, self.size = ThreadPoolExecutor(helpers, thread_name_prefix="engram"), helpers
        pending = [self.pool.submit(work) for _ in range(helpers)] if self.pool is not None and helpers > 0 else []
        work()
        for helper in pending:
            helper.result()


shared = Threads()
"""Those that all kernels run on."""
