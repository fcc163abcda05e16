"""Speed of fast-weight memories: chunks and steps, a stream, and fla-core's naive functions on the same numbers.

Times are of the processor, in one thread, forward and backward. fla-core has its own dependencies, so it runs in its
own environment: ``--peer`` names the interpreter of that environment, which needs fla-core, einops, torch and NumPy.
Without ``--peer`` only engram is measured.

``python benchmarks/sequence.py --peer PYTHON`` measures, writes the record next to this file and prints its section of
the page; ``--page`` only prints the section, from the existing record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import engram
from engram.plasticity.sequence import (
    DeltaWrite,
    FastWeightLayer,
    GatedDeltaWrite,
    GradientWrite,
    LeastSquaresWrite,
    MomentumDeltaWrite,
    WriteRule,
    step_scan,
)
from in_turn import clocked, in_turn

RECORD = Path(__file__).with_suffix(".json")
BATCH, HEADS, LENGTH, SIZE = 8, 4, 1024, 64
SHORT = {"momentum-delta": 256, "least-squares": 64}  # steps where fla-core's functions are slow
NOT_A_PEER = "momentum-delta, chunks"  # fla-core's function for chunks, whose numbers are wrong here
START_STD = 0.02  # of the matrix at the start, where the rule trains it
CHUNK_RATIO, STREAM_MICROSECONDS = 8.0, 60.0
RULES: dict[str, Callable[[], WriteRule]] = {
    "delta": DeltaWrite,
    "gated-delta": GatedDeltaWrite,
    "momentum-delta": MomentumDeltaWrite,
    "gradient": GradientWrite,
    "least-squares": LeastSquaresWrite,
}


def drawn(rule: WriteRule, length: int) -> list[torch.Tensor]:
    """Return query, key of unit length, value, signals, and the matrix at the start."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    shape = BATCH, HEADS, length
    signals = {
        "beta": normal(*shape).sigmoid(),
        "log_decay": functional.logsigmoid(normal(*shape) + 4),
        "log_momentum": functional.logsigmoid(normal(*shape)),
    }
    sequences = normal(*shape, SIZE), functional.normalize(normal(*shape, SIZE), dim=-1), normal(*shape, SIZE)
    start = normal(BATCH, HEADS, SIZE, SIZE) * (START_STD if rule.trains_start else 0.0)
    if isinstance(rule, GradientWrite):  # fla-core has one step size for all gradients of a chunk
        signals["beta"] = signals["beta"][..., :: rule.chunk_size].repeat_interleave(rule.chunk_size, -1)
    return [t.requires_grad_() for t in (*sequences, *(signals[name] for name in rule.signals), start)]


def outputs_of(rule: WriteRule, arguments: list[torch.Tensor], *, steps: bool = False) -> torch.Tensor:
    """Return what is recalled at each step, or the matrix after the last where fla-core recalls otherwise."""
    *sequences, start = arguments
    state = rule.init(start)
    output, last = step_scan(rule, state, *sequences) if steps else rule.scan(state, *sequences)
    return last.weight if isinstance(rule, GradientWrite) else output


def stream(repeats: int) -> dict[str, float]:
    """Return the microseconds of a step of the layer at batch 1, and of its products of matrices alone."""
    layer = FastWeightLayer(SIZE, key_size=SIZE)
    row, key, matrix = torch.randn(1, SIZE), torch.randn(SIZE, 1), torch.randn(SIZE, SIZE)
    input = row.unsqueeze(0)
    _, state = layer(input)

    def products() -> None:
        functional.linear(row, layer.weight_in, layer.bias_in)
        matrix @ key, matrix @ key
        functional.linear(row, layer.weight_out)

    def hundred(call: Callable[[], object]) -> Callable[[], None]:
        def calls() -> None:
            for _ in range(100):
                call()

        return calls

    with torch.no_grad():
        ways = {"step": hundred(lambda: layer(input, state)), "products": hundred(products)}
        seconds = in_turn(ways, repeats, clock=time.process_time)
    return {name: 1e4 * statistics.median(values) for name, values in seconds.items()}


def memory(length: int) -> float:
    """Return the megabytes by which the peak of a training step with chunks exceeds what a fresh process holds before.

    What it held for a while before, such as to draw the arguments, is free again, and does not count.
    """
    program = (
        "import pathlib, resource, torch; torch.set_num_threads(1);"
        "import sequence; from engram.plasticity.sequence import *;"
        f"a = sequence.drawn(DeltaWrite(), {length});"
        "sequence.outputs_of(DeltaWrite(), [*(t[:, :, :8] for t in a[:-1]), a[-1]]);"
        "held = int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() / 1024;"
        "sequence.outputs_of(DeltaWrite(), a).sum().backward();"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    return float(done.stdout)


def measured(repeats: int) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, list[torch.Tensor]]]:
    record: dict[str, Any] = {"stream": stream(20), "memory": {str(n): memory(n) for n in (LENGTH, 2 * LENGTH)}}
    outputs, arguments, seconds = {}, {}, {}
    for name, make in RULES.items():
        rule = make()
        arguments[name] = drawn(rule, SHORT.get(name, LENGTH))
        outputs[name] = outputs_of(rule, arguments[name]).detach()
        seconds[name] = clocked(lambda: outputs_of(rule, arguments[name]).sum().backward(), repeats)  # noqa: B023
        print(name, "engram", statistics.median(seconds[name]), flush=True)
    ways = {
        "steps": lambda: outputs_of(DeltaWrite(), arguments["delta"], steps=True).sum().backward(),
        "chunks": lambda: outputs_of(DeltaWrite(), arguments["delta"]).sum().backward(),
    }
    record["delta"] = in_turn(ways, repeats, clock=time.process_time)
    return record | {"seconds": seconds}, outputs, arguments


def difference(name: str, outputs: dict[str, torch.Tensor], theirs: np.ndarray) -> float:
    """Return the largest difference of their outputs from ours, over the largest of ours."""
    ours = outputs[name.split(",", maxsplit=1)[0]].numpy()
    # Their functions of the delta family divide queries by the root of the key size.
    scale = SIZE**-0.5 if name in ("delta", "gated-delta") else 1.0
    return float(np.abs(ours * scale - theirs).max() / np.abs(ours * scale).max())


def compare(peer: str | None, repeats: int) -> dict[str, Any]:
    ours, outputs, arguments = measured(repeats)
    record: dict[str, Any] = {"ours": ours}
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            arrays, results = Path(folder) / "arrays.npz", Path(folder) / "results.json"
            given = {f"{name}:{k}": t.detach().numpy() for name, ts in arguments.items() for k, t in enumerate(ts)}
            ridge = functional.softplus(LeastSquaresWrite().raw_ridge).item()
            given["least-squares:6"] = np.full((HEADS, SIZE), ridge, np.float32)
            np.savez(arrays, **given)  # type: ignore[arg-type]
            script = Path(__file__).with_name("sequence_peer.py")
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            command = [peer, str(script), str(arrays), str(results), str(repeats)]
            subprocess.run(command, check=True, env=environment)
            record["theirs"], theirs = json.loads(results.read_text()), np.load(results.with_suffix(".npz"))
            record["differences"] = {name: difference(name, outputs, theirs[name]) for name in theirs}
    return record


def machine() -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "engram": engram.__version__,
    }


def mark(met: bool) -> str:
    return "met" if met else "**not met**"


def pairs(record: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the seconds of engram and of fla-core for each function of the same equation."""
    ours, theirs = (
        {name: statistics.median(seconds) for name, seconds in record[side]["seconds"].items()}
        for side in ("ours", "theirs")
    )
    return {name: (ours[name], theirs[name]) for name in theirs if name != NOT_A_PEER}


def beside(record: dict[str, Any]) -> list[str]:
    """Return the lines that compare engram and fla-core."""
    differences, titans = record["differences"], record["theirs"]["titans"]
    lines = [
        "| write | engram, s | fla-core's naive function, s | ratio | largest difference over largest value |",
        "|---|---|---|---|---|",
    ]
    for name, (mine, other) in pairs(record).items():
        lines.append(f"| {name} | {mine:.2f} | {other:.2f} | {other / mine:.1f}x | {differences[name]:.0e} |")
    return [
        *lines,
        "",
        "Their TTT has a bias and takes the step size of a mini-batch's last step for all of it, so `gradient` is",
        "compared by its matrix, mini-batch after mini-batch, with a bias that begins as 0 and one step size in each.",
        "Two of their functions compute something else. The momentum rule in chunks is meant to be their rule step by",
        f"step, but is off by {differences[NOT_A_PEER]:.0f} times the largest value: it divides by the product of all",
        "factors of the momentum since the start of the chunk, which underflows, and takes differences of sums that",
        "agree in all digits. With products over just the steps between two steps, as engram has them, it agrees with",
        "the steps to rounding. A step of `titans_linear` is not the gradient of its loss, the delta rule's with a",
        f"layer norm: it is {titans['length']:.0f} times as long, at a cosine of {titans['cosine']:.2f}, because",
        "brackets are missing in `D * grad - grad.sum(-1) / (rstd * D)`; with them it is that gradient.",
        "",
    ]


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    where, ours, theirs = record["machine"], record["ours"], record.get("theirs")
    steps, chunks = (statistics.median(ours["delta"][way]) for way in ("steps", "chunks"))
    above = ours["stream"]["step"] - ours["stream"]["products"]
    grown = ours["memory"][str(2 * LENGTH)] / ours["memory"][str(LENGTH)]
    lines = [
        "## Memories in a sequence",
        "",
        f"{where['processor']}, one thread, PyTorch {where['torch']}, engram {where['engram']}"
        + (f", fla-core {theirs['version']}" if theirs else "")
        + f"; load average before the run {where['load']:.1f}. Seconds of the processor, forward and backward, at",
        f"batch {BATCH}, {HEADS} heads of {SIZE} x {SIZE}, {LENGTH} steps "
        f"({', '.join(f'{steps} for {name}' for name, steps in SHORT.items())}).",
        "",
    ]
    if theirs:
        lines += beside(record)
    lines += [
        "| target | measured | |",
        "|---|---|---|",
        f"| delta rule in chunks {CHUNK_RATIO:.0f} times as fast as step by step | {steps / chunks:.1f}x "
        f"| {mark(steps / chunks >= CHUNK_RATIO)} |",
        f"| a step at batch 1 at most {STREAM_MICROSECONDS:.0f} us above its products of matrices | {above:.0f} us "
        f"| {mark(above <= STREAM_MICROSECONDS)} |",
        f"| memory linear in time: at most 2.2 times as much for twice as many steps | {grown:.1f}x "
        f"({ours['memory'][str(LENGTH)]:.0f} MB at {LENGTH}) | {mark(grown <= 2.2)} |",
    ]
    if theirs:
        least = min(other / mine for mine, other in pairs(record).values())
        lines.append(f"| ahead of fla-core's naive functions | {least:.1f}x | {mark(least > 1)} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="times that each call is measured")
    parser.add_argument("--page", action="store_true", help="only print the section, from the existing record")
    parser.add_argument("--peer", help="interpreter of an environment with fla-core")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(1)
        record = {"machine": machine(), **compare(options.peer, options.repeats)}
        RECORD.write_text(json.dumps(record) + "\n")
    print("\n".join(section(json.loads(RECORD.read_text()))))


if __name__ == "__main__":
    main()
