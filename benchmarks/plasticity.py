"""How fast a plastic recurrent network trains: forward and backward pass of four ways to run the same episodes.

(a) the loop that a good PyTorch user would write, (b) the same under ``torch.compile``, (c) one episode after another
with a batch of one, as the published scripts do, (d) ``engram``, and beside them engram's own plain scan. All ways of a
size run in one process, in turn, so that what else the machine does falls on all alike; a table shows medians and
their ratios. The machine should have nothing else to do.

``python benchmarks/plasticity.py`` measures the whole grid, in about 25 minutes on two cores, and writes the record
beside this file, from which ``page.py`` makes the page; ``--quick`` takes a few sizes, and ``--device cuda`` measures
on a GPU what can be measured there, into a record of its own.
"""

from __future__ import annotations

import argparse
import contextlib
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
    PlasticRNN,
    PlasticState,
    Retroactive,
)
from engram.plasticity.kernels.dispatch import RNN, run_scan

RECORD = Path(__file__).with_suffix(".json")
RULES: dict[str, Callable[[], Any]] = {"hebb": Hebb, "oja": Oja, "modulated": Modulated, "retroactive": Retroactive}
BATCHES, UNITS, TIMES = (1, 30, 128), (32, 100, 200, 400, 1000), (20, 100, 200)
QUICK = [(30, 32, 20), (1, 100, 100), (30, 100, 100), (30, 100, 200)]
CENTRE = [(30, 100, 100), (30, 100, 200)]  # where the targets of speed are set
COMPILED = [(30, 100, 20), (30, 100, 100)]
PATIENCE = 240.0  # seconds that a compilation may take
MEMORY = (30, 100, 200)
LOADED = [(32, 60, 11), (1, 32, 20), (30, 100, 100), (128, 200, 50)]  # beside other work; the first is the README's
LOADED_SECONDS = 20.0  # for each of them and each load, for what is measured is how often others are waited for
AT_ONCE = 10  # training steps that are timed together where cores are shared, so that no single wait decides
SECONDS = 3.0  # for all ways of one size; each is measured once whatever it takes


class Case:
    """One size and rule: parameters, input, and the ways to run it."""

    def __init__(  # noqa: PLR0917
        self, rule: str, batch: int, units: int, steps: int, device: str = "cpu", seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        self.name, self.size = rule, (batch, units, steps)
        self.rule = RULES[rule]().to(device)
        self.modulator = Neuromodulator(units, generator=generator).to(device) if self.rule.modulated else None
        self.drive, self.wanted = draw(steps, batch, units), draw(steps, batch, units)
        self.weight = (0.01 * draw(units, units)).requires_grad_()
        self.alpha = (0.01 * draw(units, units)).requires_grad_()

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
        return run_scan(RNN, backend, *arguments, neuromodulator=self.modulator)[0]

    def backward(self, output: Tensor, wanted: Tensor) -> None:
        gradients = torch.autograd.grad((output * wanted).mean(), self.parameters())
        assert all(g is not None for g in gradients)
        if output.is_cuda:
            torch.cuda.synchronize()

    def part(self, first: int) -> None:
        """Run the loop for the first few episodes."""
        self.backward(self.loop(self.drive[:, :first]), self.wanted[:, :first])

    def ways(self) -> dict[str, Callable[[], None]]:
        """Return what can be measured, each the forward and backward pass of all episodes."""

        def episodes() -> None:
            # Three stand for all of them; the time is scaled where it is taken.
            for b in range(min(3, self.size[0])):
                self.backward(self.loop(self.drive[:, b : b + 1]), self.wanted[:, b : b + 1])

        return {
            "ours": lambda: self.backward(self.scan("auto"), self.wanted),
            "loop": lambda: self.part(self.size[0]),
            "episodes": episodes,
            "plain": lambda: self.backward(self.scan("eager"), self.wanted),
        }


def autograd_bytes(rule: str, batch: int, units: int, steps: int) -> int:
    """Return about how much the loop keeps for its backward pass: some traces a step."""
    return 4 * steps * batch * units**2 * {"hebb": 4, "oja": 6, "modulated": 6, "retroactive": 8}[rule]


def measure(case: Case, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the seconds that every way took, taken in turn, and of how many episodes the loop ran.

    Where the loop would not fit into memory it runs as many of the episodes as do, and its time is an estimate.
    """
    ways, (batch, units, steps) = case.ways(), case.size
    available = torch.cuda.mem_get_info()[0] if case.drive.is_cuda else psutil.virtual_memory().available
    fit = int(0.6 * available / autograd_bytes(case.name, 1, units, steps))
    looped = min(batch, max(fit, 1))
    scale = {"episodes": batch / min(3, batch), "loop": batch / looped}
    if looped < batch:
        ways |= {"loop": lambda: case.part(looped)}
        del ways["plain"]
    small = Case(case.name, 2, 8, 8, case.drive.device.type).ways()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        small[name]()  # numba compiles once for all sizes, and memory and threads are had
    begin = time.perf_counter()
    while len(taken["ours"]) < repeats and (not taken["ours"] or time.perf_counter() - begin < seconds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - start) * scale.get(name, 1))
    return {"seconds": taken, "looped": looped}


def in_own_process(*arguments: object, timeout: float | None = None) -> Any:
    command = [sys.executable, __file__, *map(str, arguments)]
    # The time of a compilation is not that of finding an earlier one.
    own = os.environ | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout, env=own)
    return json.loads(done.stdout)


def print_compiled(rule: str, size: tuple[int, int, int]) -> None:
    """Print how long the compiled loop took to compile, and then it and ours, in turn."""
    case = Case(rule, *size)
    compiled = torch.compile(case.loop, dynamic=False)
    ways = {"compiled": lambda: case.backward(compiled(case.drive), case.wanted), "ours": case.ways()["ours"]}
    start = time.perf_counter()
    ways["compiled"]()
    compilation = time.perf_counter() - start
    ways["ours"]()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(9), ways.items()):
        start = time.perf_counter()
        way()
        taken[name].append(time.perf_counter() - start)
    print(json.dumps({"compilation": compilation, "seconds": taken}))


def compile_and_measure(rule: str, size: tuple[int, int, int]) -> dict[str, Any]:
    row = {"rule": rule, "batch": size[0], "units": size[1], "steps": size[2]}
    try:
        return row | in_own_process("--compiled", rule, *size, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return row | {"compilation": None}


def print_peak(rule: str, size: tuple[int, int, int], way: str) -> None:
    """Print by how many MB the process grows; a run of a small case before it loads and compiles all there is."""
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


def print_loaded(busy: bool, size: tuple[int, int, int], seconds: float) -> None:
    """Print how long training steps of a plastic network and an LSTM take by the default and other numbers of threads.

    Args:
        busy: Whether every core has another process to run meanwhile.
        size: Samples, units and steps.
        seconds: How long to measure.
    """
    batch, units, steps = size
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(steps, batch, 20, generator=generator)
    networks: dict[str, Any] = {"ours": PlasticRNN(20, units, rule=Oja(), generator=generator)}
    networks["lstm"] = torch.nn.LSTM(20, units)
    usual = torch.get_num_threads()
    counts = sorted({1, 2, max(1, usual // 2), usual})
    taken: dict[str, dict[int, list[float]]] = {name: {threads: [] for threads in counts} for name in networks}

    # The gradient is given: a loss over so many numbers is torch's own work, and waits for torch's threads.
    gradient = torch.ones(steps, batch, units)

    def train(name: str) -> None:
        networks[name].zero_grad()
        networks[name](inputs)[0].backward(gradient)

    with contextlib.ExitStack() as others:
        for _ in range(os.cpu_count() or 1 if busy else 0):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            others.callback(other.kill)
        for name in networks:
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds / len(networks) or not taken[name][usual]:
                for threads in counts:
                    torch.set_num_threads(threads)
                    train(name)
                    start = time.perf_counter()
                    for _ in range(AT_ONCE):
                        train(name)
                    taken[name][threads].append(round((time.perf_counter() - start) / AT_ONCE, 6))
    print(json.dumps({"usual": usual, "seconds": taken}))


def machine(device: str) -> dict[str, Any]:
    """Return what the numbers depend on, with the measured peaks of arithmetic and of memory."""
    a, b = torch.randn(2, 1536, 1536, device=device).unbind()
    big, copy = torch.ones(2, 2**25, device=device).unbind()

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(8):
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    processor = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "engram": engram.__version__,
        "flops": 2 * 1536**3 / best(lambda: a @ b),
        "bytes": 2 * big.nbytes / best(lambda: copy.copy_(big)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes instead of the whole grid")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each size (default {SECONDS:g})")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of every way, at most (default 9)")
    parser.add_argument("--batches", nargs="+", type=int, choices=BATCHES, help="only these, put into the record")
    parser.add_argument("--units", nargs="+", type=int, choices=UNITS, help="likewise")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--loaded", nargs=4, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loaded:
        busy, *sizes = options.loaded
        print_loaded(bool(busy), tuple(sizes), LOADED_SECONDS)
        return
    torch.set_num_threads(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    warnings.simplefilter("ignore")
    if options.peak or options.compiled:
        rule, batch, units, steps, *way = options.peak or options.compiled
        size = int(batch), int(units), int(steps)
        print_peak(rule, size, *way) if way else print_compiled(rule, size)
        return
    begin, on_cpu = time.perf_counter(), options.device == "cpu"
    sizes = QUICK if options.quick else list(itertools.product(BATCHES, UNITS, TIMES))
    path = RECORD if on_cpu else RECORD.with_stem(f"{RECORD.stem}-{options.device}")
    record: dict[str, Any] = {"machine": machine(options.device), "rows": [], "compiled": [], "memory": {}}
    some = options.batches or options.units
    if some:
        batches, units = options.batches or BATCHES, options.units or UNITS
        sizes = [size for size in sizes if size[0] in batches and size[1] in units]
        record = json.loads(path.read_text())
        record["rows"] = [r for r in record["rows"] if (r["batch"], r["units"], r["steps"]) not in sizes]
    for (batch, units, steps), rule in itertools.product(sizes, options.rules):
        found = measure(Case(rule, batch, units, steps, options.device), options.seconds, options.repeats)
        record["rows"].append({"rule": rule, "batch": batch, "units": units, "steps": steps, **found})
        shown = {name: f"{1e3 * statistics.median(values):.1f} ms" for name, values in found["seconds"].items()}
        print(f"{time.perf_counter() - begin:6.0f} s", rule, batch, units, steps, shown, flush=True)
    others = options.rules if on_cpu and not some else []
    for rule, size in itertools.product([r for r in ("hebb", "oja") if r in others], COMPILED):
        if not options.quick or size == COMPILED[0]:
            record["compiled"].append(compile_and_measure(rule, size))
            print(f"{time.perf_counter() - begin:6.0f} s", rule, *size, "compiled", record["compiled"][-1], flush=True)
    for rule in others:
        record["memory"][rule] = {w: in_own_process("--peak", rule, *MEMORY, w) for w in ("loop", "ours")}
    record["loaded"] = record.get("loaded", []) if some else []
    for busy, size in itertools.product((0, 1), LOADED if others else []):
        row = {"busy": bool(busy), "batch": size[0], "units": size[1], "steps": size[2]}
        record["loaded"].append(row | in_own_process("--loaded", busy, *size))
        print(f"{time.perf_counter() - begin:6.0f} s", "beside other work" if busy else "alone", *size, flush=True)
    record["took"] = record.get("took", 0.0) + time.perf_counter() - begin
    record["rows"].sort(key=lambda row: (row["batch"], row["units"], row["steps"]))
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
