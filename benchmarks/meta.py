"""Lifetimes per second of evolved plastic networks, and what evolution costs beside them.

`python benchmarks/meta.py` measures lifetimes of 400 trials at 70 units: (a) the straightforward batched version in
torch, step by step as defined; (b) the factorised trace in torch; (c) the numba kernel; and the kernel on one and two
threads, on two loky workers, and on two workers of Ray. Then ask and tell of the evolution strategy, with 500
individuals, as a part of a generation. Repetitions are interleaved, so that a busy machine slows all of them; figures
are medians, with the range from the first to the third quartile.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from engram.optim import AntitheticES, evaluate
from engram.plasticity import NodePerturbationRNN, Trials, lifetimes
from engram.tasks.two_stimulus import TwoStimulus

UNITS, TRIALS = 70, 400
RATE, RATIO, OVERHEAD = 100.0, 10.0, 0.05  # targets: lifetimes a second on 2 cores, times torch, ask and tell

Measure = Callable[[], float]


def block(individuals: int, trials: int) -> Trials:
    task = TwoStimulus(trials=trials)
    drawn, timing = task.block(individuals, torch.Generator().manual_seed(0)), task.timing
    return Trials(task.inputs(), drawn.kind, drawn.answer, timing.response, timing.decision, timing.feedback)


def network() -> NodePerturbationRNN:
    return NodePerturbationRNN(UNITS, generator=torch.Generator().manual_seed(0))


def of_backend(backend: Any, individuals: int, trials: int, threads: int = 1) -> Measure:
    """Lifetimes of 400 trials per second; fewer trials are counted as the part that they are."""
    net, seen = network(), block(individuals, trials)

    def rate() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        lifetimes(net, seen, torch.Generator().manual_seed(1), backend=backend)
        return individuals * trials / TRIALS / (time.perf_counter() - start)

    return rate


def losses(kind: torch.Tensor, answer: torch.Tensor, *, trials: Trials) -> torch.Tensor:
    """What a worker does with its part of a population."""
    torch.set_num_threads(1)
    seen = trials._replace(kind=kind, answer=answer)
    return lifetimes(network(), seen, torch.Generator().manual_seed(1)).loss[:, -100:].mean(1)


def of_workers(backend: Any, individuals: int) -> Measure:
    """The same on two worker processes, which are warm."""
    seen = block(individuals, TRIALS)
    function = partial(losses, trials=seen)

    def rate() -> float:
        start = time.perf_counter()
        evaluate([seen.kind, seen.answer], function, n_jobs=2, backend=backend)
        return individuals / (time.perf_counter() - start)

    return rate


def lives(repetitions: int, individuals: int, ray: bool) -> float:
    """Print the table of lifetimes per second; return that of one thread."""
    few = max(individuals // 8, 2)
    rows: dict[str, Measure] = {
        "(a) torch, step by step": of_backend("eager", individuals, 40),
        "(b) torch, factorised trace": of_backend("factorised", individuals, 40),
        "(c) numba, 1 thread": of_backend("fused", individuals, TRIALS),
        "(c) numba, 2 threads": of_backend("fused", individuals, TRIALS, threads=2),
        "(c) numba, 2 loky workers": of_workers("loky", individuals),
    }
    if ray:
        rows["(c) numba, 2 Ray workers"] = of_workers("ray", individuals)
    for measure in rows.values():
        measure()  # compiles, and starts the workers
    of_backend("fused", few, TRIALS)()
    rates: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(repetitions):
        for row, measure in rows.items():
            rates[row].append(measure())
    median = {row: statistics.median(found) for row, found in rates.items()}
    plain = median["(a) torch, step by step"]
    print(f"lifetimes of {TRIALS} trials at {UNITS} units, {individuals} individuals")
    print(f"{'':32} {'lifetimes/s':>11} {'quartiles':>19} {'/ torch':>8}")
    for row, found in rates.items():
        low, _, high = statistics.quantiles(found, n=4)
        print(f"{row:32} {median[row]:11.1f} {f'{low:.1f} to {high:.1f}':>19} {median[row] / plain:8.1f}")
    single, double = median["(c) numba, 1 thread"], median["(c) numba, 2 threads"]
    print(f"two threads: {double / single:.2f} times one; target of {RATE:.0f} a second: {_verdict(double >= RATE)}")
    print(f"{single / plain:.1f} times torch on one thread; target of {RATIO:.0f}: {_verdict(single >= RATIO * plain)}")
    return single


def overhead(repetitions: int, rate: float, population_size: int = 500) -> None:
    """Print what ask and tell take, beside a generation of lifetimes on two threads."""
    torch.set_num_threads(1)
    net = network()
    es = AntitheticES(net.parameters(), population_size=population_size)
    loss = torch.rand(population_size, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        es.ask()
        es.tell(loss=loss)
        taken.append(time.perf_counter() - start)
    once = statistics.median(taken[1:])
    generation = population_size / (2 * rate)
    share = once / (once + generation)
    print(f"ask and tell of {population_size}: {1e3 * once:.0f} ms, {share:.1%} of a generation on 2 cores")
    print(f"target of {OVERHEAD:.0%}: {_verdict(share <= OVERHEAD)}")


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def main(repetitions: int, individuals: int, ray: bool) -> None:
    rate = lives(repetitions, individuals, ray)
    overhead(repetitions, rate)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Ray
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--individuals", type=int, default=64)
    parser.add_argument("--no-ray", dest="ray", action="store_false")
    arguments = parser.parse_args()
    main(arguments.repetitions, arguments.individuals, arguments.ray)
