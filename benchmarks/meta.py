"""Lifetimes per second of evolved plastic networks, and the overhead of the evolution strategy.

`python benchmarks/meta.py` measures lifetimes of 400 trials at 70 units: (a) the straightforward batched version in
torch, step by step as defined; (b) the numba kernel, on one and two threads, on two loky workers, and on two workers of
Ray. It also measures ask and tell of the evolution strategy, with 500 individuals, as a share of a generation.
Repetitions are interleaved, so that a busy machine slows all of them; the figures are medians, with the range from the
first to the third quartile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engram.optim import AntitheticES, evaluate
from engram.plasticity import NodePerturbationRNN, Trials, lifetimes
from engram.tasks.two_stimulus import TwoStimulus

RECORD = Path(__file__).with_suffix(".json")
PLAIN, KERNEL = "(a) torch, step by step", "(b) numba, 1 thread"
UNITS, TRIALS = 70, 400
RATE, RATIO, OVERHEAD = 100.0, 10.0, 0.05  # targets: lifetimes a second on 2 cores, times torch, ask and tell

Measure = Callable[[], float]


def block(individuals: int, trials: int) -> Trials:
    task = TwoStimulus(trials=trials)
    trial_block, timing = task.block(individuals, torch.Generator().manual_seed(0)), task.timing
    return Trials(
        task.inputs(), trial_block.kind, trial_block.answer, timing.response, timing.decision, timing.feedback
    )


def network() -> NodePerturbationRNN:
    return NodePerturbationRNN(UNITS, generator=torch.Generator().manual_seed(0))


def of_backend(backend: Any, individuals: int, trials: int, threads: int = 1) -> Measure:
    """Lifetimes of 400 trials per second; a lifetime of fewer trials counts as a fraction."""
    net, trial_block = network(), block(individuals, trials)

    def rate() -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        lifetimes(net, trial_block, torch.Generator().manual_seed(1), backend=backend)
        return individuals * trials / TRIALS / (time.perf_counter() - start)

    return rate


def losses(kind: torch.Tensor, answer: torch.Tensor, *, trials: Trials) -> torch.Tensor:
    """The losses of a worker's part of a population."""
    torch.set_num_threads(1)
    answered_trials = trials._replace(kind=kind, answer=answer)
    return lifetimes(network(), answered_trials, torch.Generator().manual_seed(1)).loss[:, -100:].mean(1)


def of_workers(backend: Any, individuals: int) -> Measure:
    """Lifetimes per second on two worker processes, which are already started."""
    trial_block = block(individuals, TRIALS)
    function = partial(losses, trials=trial_block)

    def rate() -> float:
        start = time.perf_counter()
        evaluate([trial_block.kind, trial_block.answer], function, n_jobs=2, backend=backend)
        return individuals / (time.perf_counter() - start)

    return rate


def lives(repetitions: int, individuals: int, ray: bool) -> dict[str, list[float]]:
    """Return lifetimes per second, measured in turn."""
    few = max(individuals // 8, 2)
    rows: dict[str, Measure] = {
        PLAIN: of_backend("eager", individuals, 40),
        KERNEL: of_backend("fused", individuals, TRIALS),
        "(b) numba, 2 threads": of_backend("fused", individuals, TRIALS, threads=2),
        "(b) numba, 2 loky workers": of_workers("loky", individuals),
    }
    if ray:
        rows["(b) numba, 2 Ray workers"] = of_workers("ray", individuals)
    for measure in rows.values():
        measure()  # compiles, and starts the workers
    of_backend("fused", few, TRIALS)()
    rates: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(repetitions):
        for row, measure in rows.items():
            rates[row].append(measure())
    return rates


def overhead(repetitions: int, population_size: int) -> list[float]:
    """Return the seconds of ask and tell."""
    torch.set_num_threads(1)
    net = network()
    es = AntitheticES(net.parameters(), population_size=population_size)
    loss = torch.rand(population_size, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        es.ask()
        es.tell(loss=loss)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    rates = record["lifetimes"]
    median = {row: statistics.median(values) for row, values in rates.items()}
    single, fastest = median[KERNEL], max(median.values())
    once = statistics.median(record["ask and tell"])
    share = once / (once + record["population"] / (2 * single))
    lines = [
        "## Lifetimes of evolved plastic networks",
        "",
        f"Lifetimes of {TRIALS} trials per second, with {UNITS} units and {record['individuals']} individuals,",
        "measured in turn: the network in torch, step by step as it is defined, and the numba kernel.",
        "",
        "| | lifetimes/s | quartiles | over torch |",
        "|---|---|---|---|",
    ]
    for row, values in rates.items():
        low, _, high = statistics.quantiles(values, n=4)
        lines.append(f"| {row} | {median[row]:.1f} | {low:.1f} to {high:.1f} | {median[row] / median[PLAIN]:.1f}x |")
    return [
        *lines,
        "",
        f"- {RATE:.0f} lifetimes per second on 2 cores: {_verdict(fastest >= RATE)}",
        f"- {RATIO:.0f} times as fast as torch, on one thread each: {_verdict(single >= RATIO * median[PLAIN])}",
        f"- ask and tell of {record['population']} individuals take {1e3 * once:.0f} ms, {share:.1%} of a "
        f"generation on 2 cores; at most {OVERHEAD:.0%}: {_verdict(share <= OVERHEAD)}",
        "",
    ]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


def main(repetitions: int, individuals: int, ray: bool) -> None:
    record = {
        "lifetimes": lives(repetitions, individuals, ray),
        "individuals": individuals,
        "ask and tell": overhead(repetitions, 500),
        "population": 500,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Ray
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--individuals", type=int, default=64)
    parser.add_argument("--no-ray", dest="ray", action="store_false")
    arguments = parser.parse_args()
    main(arguments.repetitions, arguments.individuals, arguments.ray)
