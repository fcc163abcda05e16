"""How fast a plastic recurrent network trains: forward and backward pass of four ways to run the same episodes.

(a) the loop that a good PyTorch user would write, (b) the same under ``torch.compile``, (c) one episode after another
with a batch of one, as the published scripts do, (d) ``engram``, and beside them engram's own plain scan. All ways run
in one process, in turn, so that what else the machine does falls on all alike; a table shows medians and their ratios.

``python benchmarks/plasticity.py`` measures, writes the record beside this file and the page that shows it;
``--quick`` takes a few sizes, ``--page`` writes only the page, from the record that is there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

import engram
from engram.plasticity import (
    Hebb,
    Modulated,
    Neuromodulator,
    Oja,
    PlasticState,
    Retroactive,
    plastic_scan,
)
from engram.plasticity.scan import run_scan

RECORD = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RULES: dict[str, Callable[[], Any]] = {"hebb": Hebb, "oja": Oja, "modulated": Modulated, "retroactive": Retroactive}
BATCHES, UNITS, TIMES = (1, 30, 128), (32, 100, 200, 400, 1000), (20, 100, 200)
QUICK = [(30, 32, 20), (1, 100, 100), (30, 100, 100), (30, 100, 200)]
COMPILED = [(30, 100, 20), (30, 200, 20)]  # compiling a loop of a hundred steps takes minutes
MEMORY = (30, 100, 200)
SECONDS = 20.0  # for one way and size, at most; whatever is slower is measured once


class Case:
    """One size and rule: parameters, input, and the ways to run it."""

    def __init__(self, rule: str, batch: int, units: int, steps: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.name, self.size = rule, (batch, units, steps)
        self.rule = RULES[rule]()
        self.modulator = Neuromodulator(units, generator=generator) if self.rule.modulated else None
        self.drive = torch.randn(steps, batch, units, generator=generator)
        self.weight = (0.01 * torch.randn(units, units, generator=generator)).requires_grad_()
        self.alpha = (0.01 * torch.randn(units, units, generator=generator)).requires_grad_()
        self.wanted = torch.randn(steps, batch, units, generator=generator)

    def parameters(self) -> list[Tensor]:
        modules = [m for m in (self.rule, self.modulator) if m is not None]
        return [self.weight, self.alpha, *[p for m in modules for p in m.parameters()]]

    def loop(self, drive: Tensor) -> Tensor:
        """The straightforward way; the trace is (batch, post, pre)."""
        batch, units = drive.shape[1:]
        x = drive.new_zeros(batch, units)
        H = E = drive.new_zeros(batch, units, units)
        outputs = []
        for u in drive:
            y = torch.tanh(u + ((self.weight + self.alpha * H) @ x.unsqueeze(2)).squeeze(2))
            product = y.unsqueeze(2) * x.unsqueeze(1)
            if self.name == "hebb":
                H = (1 - self.rule.eta) * H + self.rule.eta * product
            elif self.name == "oja":
                H = H + self.rule.eta * (product - y.unsqueeze(2) ** 2 * H)
            else:
                m = self.modulator(y).unsqueeze(2)
                if self.name == "modulated":
                    H = torch.clamp(H + m * product, -1, 1)
                else:
                    H = torch.clamp(H + m * E, -1, 1)
                    E = (1 - self.rule.eta) * E + self.rule.eta * product
            outputs.append(y)
            x = y
        return torch.stack(outputs)

    def scan(self, backend: str) -> Tensor:
        batch, units, _ = self.size
        state = PlasticState(self.drive.new_zeros(batch, units), self.rule.init(batch, units, units))
        arguments = (self.drive, self.weight, self.alpha, self.rule, state)
        return run_scan(plastic_scan, backend, *arguments, neuromodulator=self.modulator)[0]

    def backward(self, output: Tensor, wanted: Tensor) -> None:
        gradients = torch.autograd.grad((output * wanted).mean(), self.parameters())
        assert all(g is not None for g in gradients)

    def ways(self) -> dict[str, Callable[[], None]]:
        """Return what can be measured, each the forward and backward pass of all episodes."""
        batch = self.size[0]

        def episodes() -> None:
            # Three stand for all of them; the time is scaled where it is taken.
            for b in range(min(3, batch)):
                self.backward(self.loop(self.drive[:, b : b + 1]), self.wanted[:, b : b + 1])

        ways = {
            "loop": lambda: self.backward(self.loop(self.drive), self.wanted),
            "episodes": episodes,
            "plain": lambda: self.backward(self.scan("eager"), self.wanted),
            "ours": lambda: self.backward(self.scan("auto"), self.wanted),
        }
        if (*self.size,) in COMPILED and self.name == "hebb":
            compiled = torch.compile(self.loop, dynamic=False)
            ways["compiled"] = lambda: self.backward(compiled(self.drive), self.wanted)
        return ways


def autograd_bytes(rule: str, batch: int, units: int, steps: int) -> int:
    """Return about how much the loop keeps for its backward pass: some traces a step."""
    return 4 * steps * batch * units**2 * {"hebb": 4, "oja": 6, "modulated": 6, "retroactive": 8}[rule]


def measure(case: Case, repeats: int) -> dict[str, list[float]]:
    """Return the seconds that every way took, taken in turn."""
    ways, scale = case.ways(), {"episodes": case.size[0] / min(3, case.size[0])}
    if autograd_bytes(case.name, *case.size) > 0.6 * psutil.virtual_memory().available:
        ways = {"ours": ways["ours"]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    Case(case.name, 2, 8, 8).ways()["ours"]()  # numba compiles once for all sizes
    spent = dict.fromkeys(ways, 0.0)
    if "compiled" in ways:
        ways["compiled"]()
    for _ in range(repeats):
        for name, way in ways.items():
            if seconds[name] and spent[name] > SECONDS:
                continue
            start = time.perf_counter()
            way()
            taken = time.perf_counter() - start
            spent[name] += taken
            seconds[name].append(taken * scale.get(name, 1))
    return seconds


def peak_memory(rule: str, size: tuple[int, int, int], way: str) -> float:
    """Return by how many MB a process of its own grows when it runs one way once."""
    command = [sys.executable, __file__, "--peak", rule, *map(str, size), way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(rule: str, size: tuple[int, int, int], way: str) -> None:
    """Print what ``peak_memory`` reads; a run of a small case before it loads and compiles all there is."""
    Case(rule, 2, 8, 8).ways()[way]()
    case, process, done, sizes = Case(rule, *size), psutil.Process(), threading.Event(), []

    def watch() -> None:
        while not done.wait(0.001):
            sizes.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    before = process.memory_info().rss
    watcher.start()
    case.ways()[way]()
    done.set()
    watcher.join()
    print((max(sizes) - before) / 2**20)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on, with the measured peaks of arithmetic and of memory."""
    a, b = torch.randn(2, 1536, 1536).unbind()
    big, copy = torch.ones(2, 2**25).unbind()

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "engram": engram.__version__,
        "flops": 2 * 1536**3 / best(lambda: a @ b),
        "bytes": 2 * big.nbytes / best(lambda: copy.copy_(big)),
    }


def roofline(rule: str, size: tuple[int, int, int], where: dict[str, Any]) -> float:
    """Return the seconds below which no program of 32-bit numbers can get on this machine.

    A connection takes about 5 operations forward and 14 backward in a step (half as many again with a second trace);
    what must come from memory and go there is the input, the output, the gradients, and the traces at both ends.
    """
    batch, units, steps = size
    traces = 2 if rule == "retroactive" else 1
    operations = (19 if traces == 1 else 29) * batch * units**2 * steps
    moved = 4 * batch * (4 * traces * units**2 + 5 * units * steps)
    return max(operations / where["flops"], moved / where["bytes"])


def write_page(record: dict[str, Any] | None) -> None:
    """Write the page of the documentation that shows the record, or says that there is none."""
    if record is None:
        PAGE.write_text("# Benchmarks\n\nNot recorded yet: `make bench` measures, and writes this page.\n")
        return
    where = record["machine"]
    lines = [
        "# Benchmarks",
        "",
        "Forward and backward pass of a plastic recurrent network, alpha per connection, 32-bit. Medians in",
        "milliseconds of interleaved repetitions in one process: the loop that a good PyTorch user would write (a),",
        "the same under `torch.compile` (b), one episode after another with a batch of one, as the published scripts",
        "run (c), engram's plain scan, and engram. The last column says how many times a roofline estimate engram",
        "takes: what the arithmetic alone, or the traffic with memory alone, would take at the measured peak of the",
        "processor.",
        "",
        f"{where['cores']} threads, {where['processor']}, torch {where['torch']}, engram {where['engram']}; measured",
        f"peak {where['flops'] / 1e9:.0f} GFLOP/s and {where['bytes'] / 1e9:.0f} GB/s; load average before the run",
        f"{where['load']:.1f}. Spread is the interquartile range of engram's time over its median. Generated from",
        "`benchmarks/plasticity.json` by `benchmarks/plasticity.py`.",
        "",
        "| rule | batch | units | steps | loop | plain scan | engram | spread | (a) | (b) | (c) | roofline |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        middle = {name: statistics.median(values) for name, values in row["seconds"].items()}
        ours = row["seconds"]["ours"]
        quarters = statistics.quantiles(ours, n=4) if len(ours) > 1 else [ours[0]] * 3

        def ratio(name: str, middle: dict[str, float] = middle) -> str:
            return f"{middle[name] / middle['ours']:.1f}x" if name in middle else "-"

        size = (row["batch"], row["units"], row["steps"])
        cells = [
            row["rule"],
            *map(str, size),
            *[f"{1e3 * middle[n]:.1f}" if n in middle else "no memory" for n in ("loop", "plain", "ours")],
            f"{(quarters[2] - quarters[0]) / middle['ours']:.0%}",
            *map(ratio, ("loop", "compiled", "episodes")),
            f"{middle['ours'] / roofline(row['rule'], size, where):.1f}x",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Peak memory",
        "",
        f"By how many MB a process grows, batch {MEMORY[0]}, {MEMORY[1]} units, {MEMORY[2]} steps.",
        "",
        "| rule | loop | engram | ratio |",
        "|---|---|---|---|",
    ]
    for rule, peak in record["memory"].items():
        shown = [f"{peak['loop']:.0f}", f"{peak['ours']:.0f}", f"{peak['loop'] / max(peak['ours'], 1):.0f}x"]
        lines.append(f"| {rule} | " + " | ".join(shown) + " |")
    lines += ["", "A kernel for CUDA is not there yet, and nothing on this page was measured on a GPU.", ""]
    PAGE.write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes instead of the whole grid")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the record")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of every way (default 7)")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    warnings.simplefilter("ignore")
    if options.peak:
        rule, batch, units, steps, way = options.peak
        print_peak(rule, (int(batch), int(units), int(steps)), way)
        return
    if not options.page:
        sizes = QUICK if options.quick else list(itertools.product(BATCHES, UNITS, TIMES))
        rows = []
        where = machine()
        for rule, (batch, units, steps) in itertools.product(options.rules, sizes):
            seconds = measure(Case(rule, batch, units, steps), options.repeats)
            rows.append({"rule": rule, "batch": batch, "units": units, "steps": steps, "seconds": seconds})
            shown = {name: f"{1e3 * statistics.median(values):.1f} ms" for name, values in seconds.items()}
            print(rule, batch, units, steps, shown, flush=True)
        memory = {rule: {way: peak_memory(rule, MEMORY, way) for way in ("loop", "ours")} for rule in options.rules}
        RECORD.write_text(json.dumps({"machine": where, "rows": rows, "memory": memory}, indent=1) + "\n")
    write_page(json.loads(RECORD.read_text()) if RECORD.exists() else None)


if __name__ == "__main__":
    main()
