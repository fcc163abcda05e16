"""Work on samples shared out to threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs


def shared(call: Callable[[int, int], Any], count: int, n_jobs: int | None) -> None:
    """Call for the ranges that make up ``range(count)``, in as many threads as ``n_jobs`` says."""
    threads = min(effective_n_jobs(n_jobs), count)
    if threads == 1:
        call(0, count)
        return
    bounds = np.linspace(0, count, threads + 1).astype(int).tolist()
    Parallel(n_jobs=threads, backend="threading")(delayed(call)(first, stop) for first, stop in pairwise(bounds))
