"""Training speed of a plastic recurrent network: forward and backward pass of four implementations.

All run the same episodes: (a) the loop that an experienced PyTorch user would write, (b) the loop under
``torch.compile``, (c) one episode after another with a batch of one, as in the published scripts, (d) ``engram``.
engram's plain scan is measured as well. All implementations of a size run in one process, in turn, so that other work
on the machine slows all of them alike; a table shows medians and their ratios. The machine should be idle.

``python benchmarks/plasticity.py`` measures the whole grid, in about 25 minutes on two cores, and writes the record
next to this file, from which ``page.py`` writes the page; ``--quick`` takes a few sizes; ``--device cuda`` measures
what can be measured on a GPU, into a separate record.
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
CENTRE = [(30, 100, 100), (30, 100, 200)]  # the sizes for which most targets of speed are set
COMPILED = [(30, 100, 20), (30, 100, 100)]
PATIENCE = 240.0  # seconds that a compilation may take
MEMORY = (30, 100, 200)
LOADED = [(32, 60, 11), (1, 32, 20), (30, 100, 100), (128, 200, 50)]  # sizes on busy cores; the first is the README's
LOADED_SECONDS = 20.0  # for each size and load; long, because the time depends on how often a thread waits for others
AT_ONCE = 10  # training steps that are timed together on busy cores, so that a single wait is not decisive
SECONDS = 3.0  # for all implementations of one size; each is measured at least once
TRACES = {"hebb": 1, "oja": 1, "modulated": 1, "retroactive": 2}  # of each connection; the second is the eligibility
# How often a trace that fits no cache is read or written in a step, at least, by exact passes. A unit's activity is
# known only after the sum over all its connections, and the next step needs those of all units: no sweep joins two
# steps. Forward, the trace is read and written. Backward, every rule needs the trace of each step once more, for the
# gradients of the activities and of alpha: it is read where the forward pass wrote it, or recomputed, which takes no
# fewer passes. The gradient of the trace goes from step to step like the trace, and is read and written. The gradient
# of alpha can be summed for many steps at once, and whether a trace was clipped follows from the one before.
PASSES = 2 + 1 + 2
OURS = PASSES + 2  # engram's: it writes the recomputed traces of a stretch, and reads them for the gradient of alpha
WEIGHTS = 2 * 2  # passes of a matrix as large as a trace: weights and alphas, forward and backward, for the whole batch
CACHE = 2**21  # bytes of a core's cache where the record names none


class Case:
    """One size and rule: parameters, input, and the implementations."""

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
        """The straightforward loop; the shape of a trace is (batch, post, pre)."""
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

    def backward(self, output: Tensor, grad_output: Tensor) -> None:
        gradients = torch.autograd.grad((output * grad_output).mean(), self.parameters())
        assert all(g is not None for g in gradients)
        if output.is_cuda:
            torch.cuda.synchronize()

    def part(self, first: int) -> None:
        """Run the loop for the first few episodes."""
        self.backward(self.loop(self.drive[:, :first]), self.wanted[:, :first])

    def ways(self) -> dict[str, Callable[[], None]]:
        """Return the implementations, each as a call that makes the forward and backward pass of all episodes."""

        def episodes() -> None:
            # Three episodes represent all of them; `measure` scales the time.
            for b in range(min(3, self.size[0])):
                self.backward(self.loop(self.drive[:, b : b + 1]), self.wanted[:, b : b + 1])

        return {
            "ours": lambda: self.backward(self.scan("auto"), self.wanted),
            "loop": lambda: self.part(self.size[0]),
            "episodes": episodes,
            "plain": lambda: self.backward(self.scan("eager"), self.wanted),
        }


def autograd_bytes(rule: str, batch: int, units: int, steps: int) -> int:
    """Return about how many bytes the loop stores for its backward pass: several traces per step."""
    return 4 * steps * batch * units**2 * {"hebb": 4, "oja": 6, "modulated": 6, "retroactive": 8}[rule]


def moved(rule: str, batch: int, units: int, steps: int, cache: int) -> int:
    """Return how many bytes exact passes move between memory and a core's cache of so many bytes, at least.

    Input, output and their gradients move once. So do the traces at both ends and their gradients, if the traces of a
    sample fit into the cache, in which all steps of this sample then happen.
    """
    matrix, activities = 4 * units**2, 5 * 4 * batch * units * steps
    traces = TRACES[rule] * matrix
    if traces <= cache:
        return activities + 4 * batch * traces
    return activities + steps * (PASSES * batch * traces + WEIGHTS * matrix)


def measure(case: Case, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the seconds of every implementation, measured in turn, and the number of episodes that the loop ran.

    If the loop does not fit into memory, it runs as many episodes as fit, and its time is an estimate.
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
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        small[name]()  # numba compiles once for all sizes; memory is allocated and threads are started
    if case.drive.is_cuda:
        ways["ours"]()  # Triton compiles for each width
    begin = time.perf_counter()
    while len(durations["ours"]) < repeats and (not durations["ours"] or time.perf_counter() - begin < seconds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            durations[name].append((time.perf_counter() - start) * scale.get(name, 1))
    return {"seconds": durations, "looped": looped}


def in_own_process(*arguments: object, timeout: float | None = None) -> Any:
    command = [sys.executable, __file__, *map(str, arguments)]
    # Without caches, so that the time is that of a compilation.
    environment = os.environ | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout, env=environment)
    return json.loads(done.stdout)


def print_compiled(rule: str, size: tuple[int, int, int]) -> None:
    """Print the seconds to compile the loop, and then those of the compiled loop and of engram, in turn."""
    case = Case(rule, *size)
    compiled = torch.compile(case.loop, dynamic=False)
    ways = {"compiled": lambda: case.backward(compiled(case.drive), case.wanted), "ours": case.ways()["ours"]}
    start = time.perf_counter()
    ways["compiled"]()
    compilation = time.perf_counter() - start
    ways["ours"]()
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(9), ways.items()):
        start = time.perf_counter()
        way()
        durations[name].append(time.perf_counter() - start)
    print(json.dumps({"compilation": compilation, "seconds": durations}))


def compile_and_measure(rule: str, size: tuple[int, int, int]) -> dict[str, Any]:
    row = {"rule": rule, "batch": size[0], "units": size[1], "steps": size[2]}
    try:
        return row | in_own_process("--compiled", rule, *size, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return row | {"compilation": None}


def print_peak(rule: str, size: tuple[int, int, int], way: str) -> None:
    """Print the memory that the process gains, in MB, after a small case that loads and compiles everything."""
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


def peak_on_cuda(rule: str, size: tuple[int, int, int], way: str) -> float:
    """Return the memory that is allocated on the GPU beyond parameters and input, in MB."""
    call = Case(rule, *size, "cuda").ways()[way]
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def print_loaded(busy: bool, size: tuple[int, int, int], seconds: float) -> None:
    """Print the seconds of training steps of a plastic network and an LSTM with several numbers of threads.

    Args:
        busy: Whether every core also runs another process.
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
    durations: dict[str, dict[int, list[float]]] = {name: {threads: [] for threads in counts} for name in networks}

    # The gradient is given, because torch would compute a loss over so many numbers and wait for its own threads.
    gradient = torch.ones(steps, batch, units)

    def train(name: str) -> None:
        networks[name].zero_grad()
        networks[name](inputs)[0].backward(gradient)

    with contextlib.ExitStack() as busy_processes:
        for _ in range(os.cpu_count() or 1 if busy else 0):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            busy_processes.callback(other.kill)
        for name in networks:
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds / len(networks) or not durations[name][usual]:
                for threads in counts:
                    torch.set_num_threads(threads)
                    train(name)
                    start = time.perf_counter()
                    for _ in range(AT_ONCE):
                        train(name)
                    durations[name][threads].append(round((time.perf_counter() - start) / AT_ONCE, 6))
    print(json.dumps({"usual": usual, "seconds": durations}))


def cache_of_a_core() -> int | None:
    """Return the bytes of the largest cache that cores do not share, the second level; None if Linux does not say."""
    try:
        size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text()
    except OSError:
        return None
    return 1024 * int(size.strip().removesuffix("K"))


def machine(device: str) -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on, with the measured peaks of compute and memory."""
    a, b = torch.randn(2, 1536, 1536, device=device).unbind()
    big, copy = torch.ones(2, 2**25, device=device).unbind()
    traces = torch.ones(torch.get_num_threads(), 1000, 1000, device=device)

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(20):
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
        "cache": cache_of_a_core() if device == "cpu" else None,
        "flops": 2 * 1536**3 / best(lambda: a @ b),
        "bytes": 2 * big.nbytes / best(lambda: copy.copy_(big)),
        # A cache that the cores share may hold the largest traces, and is faster.
        "bytes_near": 2 * traces.nbytes / best(lambda: traces.mul_(1.0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes instead of the whole grid")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each size (default {SECONDS:g})")
    parser.add_argument("--repeats", type=int, default=9, help="maximum repetitions of a case (default 9)")
    parser.add_argument("--batches", nargs="+", type=int, choices=BATCHES, help="renew only these rows of the record")
    parser.add_argument("--units", nargs="+", type=int, choices=UNITS, help="renew only these rows of the record")
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
        measured = measure(Case(rule, batch, units, steps, options.device), options.seconds, options.repeats)
        record["rows"].append({"rule": rule, "batch": batch, "units": units, "steps": steps, **measured})
        shown = {name: f"{1e3 * statistics.median(values):.1f} ms" for name, values in measured["seconds"].items()}
        print(f"{time.perf_counter() - begin:6.0f} s", rule, batch, units, steps, shown, flush=True)
    others = options.rules if on_cpu and not some else []
    for rule, size in itertools.product([r for r in ("hebb", "oja") if r in others], COMPILED):
        if not options.quick or size == COMPILED[0]:
            record["compiled"].append(compile_and_measure(rule, size))
            print(f"{time.perf_counter() - begin:6.0f} s", rule, *size, "compiled", record["compiled"][-1], flush=True)
    for rule in others:
        record["memory"][rule] = {w: in_own_process("--peak", rule, *MEMORY, w) for w in ("loop", "ours")}
    for rule in [] if on_cpu else options.rules:
        record["memory"][rule] = {w: peak_on_cuda(rule, MEMORY, w) for w in ("loop", "ours")}
    record["loaded"] = record.get("loaded", []) if some else []
    for busy, size in itertools.product((0, 1), LOADED if others else []):
        row = {"busy": bool(busy), "batch": size[0], "units": size[1], "steps": size[2]}
        record["loaded"].append(row | in_own_process("--loaded", busy, *size))
        print(f"{time.perf_counter() - begin:6.0f} s", "busy cores" if busy else "idle cores", *size, flush=True)
    record["took"] = record.get("took", 0.0) + time.perf_counter() - begin
    record["rows"].sort(key=lambda row: (row["batch"], row["units"], row["steps"]))
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
