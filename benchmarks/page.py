"""Writes docs/benchmarks.md from the records that the benchmarks wrote into this folder."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

import agents
import blur
import continual
import continual_inner
import curiosity
import difficulty
import dsa
import environments
import evolution
import feedback_mode
import forgetting
import generative
import generative_diffusion
import hebbian_conv
import induction
import judge
import lab
import layers
import learning_to_remember
import memory
import meta
import meta_tasks
import optim
import plasticity
import rule_inference
import rules
import sequence
import spatial
import verify
from engram.lab.output.export import draw
from engram.lab.output.figures import PALETTE

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
FIGURE = PAGE.parent / "images" / "benchmarks-plasticity.svg"
ON_CUDA = plasticity.RECORD.with_stem("plasticity-cuda")
Record = dict[str, Any]


def median(row: Record, way: str) -> float | None:
    values = row["seconds"].get(way)
    return statistics.median(values) if values else None


def times(row: Record, way: str) -> float | None:
    """Return the ratio of the time of another implementation to that of engram."""
    other, ours = median(row, way), median(row, "ours")
    return None if other is None or ours is None else other / ours


def size(row: Record) -> tuple[int, int, int]:
    return row["batch"], row["units"], row["steps"]


def whole(row: Record) -> bool:
    """Return whether the loop was measured with all episodes."""
    return bool(row["looped"] == row["batch"])


def lower_bound(row: Record, where: Record, *, instructions: bool) -> float:
    """Return a lower bound on the seconds that a program with 32-bit numbers takes on this machine.

    A connection takes about 5 operations forward and 14 backward in a step (half as many again with a second trace).
    A processor reaches its peak only with instructions that multiply and add at once. The equations need 4
    multiplications forward and 12 backward, each of which could have been two operations. ``plasticity.moved`` counts
    the memory traffic.
    """
    batch, units, steps = size(row)
    operations = (32 if instructions else 19) * (1 if plasticity.TRACES[row["rule"]] == 1 else 1.5)
    bytes_moved = plasticity.moved(row["rule"], batch, units, steps, cache(where))
    return max(operations * batch * units**2 * steps / where["flops"], bytes_moved / fastest(where))


def fastest(where: Record) -> float:
    """Return the bytes per second of the fastest passes through memory that were measured."""
    return max(float(where["bytes"]), float(where.get("bytes_near") or 0))


def cache(where: Record) -> int:
    """Return the bytes of a core's cache."""
    return int(where.get("cache") or plasticity.CACHE)


def shown(value: float | None, mark: str = "x", estimated: bool = False) -> str:
    return "-" if value is None else f"{'about ' if estimated else ''}{value:.1f}{mark}"


def grid_table(record: Record) -> list[str]:
    lines = [
        "| rule | batch | units | steps | loop | plain scan | engram | spread | (a) | (c) | roofline |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        ours = row["seconds"]["ours"]
        quarters = statistics.quantiles(ours, n=4) if len(ours) > 1 else None
        loop, plain, middle = (median(row, way) for way in ("loop", "plain", "ours"))
        assert middle is not None
        cells = [
            row["rule"],
            *map(str, size(row)),
            f"{1e3 * loop:.1f}" if whole(row) and loop is not None else "no memory",
            "no memory" if plain is None else f"{1e3 * plain:.1f}",
            f"{1e3 * middle:.1f}",
            f"{(quarters[2] - quarters[0]) / middle:.0%}" if quarters else "once",
            shown(times(row, "loop"), estimated=not whole(row)),
            shown(times(row, "episodes")),
            shown(middle / lower_bound(row, record["machine"], instructions=True)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def compiled_table(record: Record) -> list[str]:
    lines = [
        "| rule | batch | units | steps | compilation | compiled | engram | (b) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["compiled"]:
        is_measured = row["compilation"] is not None
        cells = [row["rule"], *map(str, size(row))]
        if is_measured:
            milliseconds = [f"{1e3 * statistics.median(row['seconds'][way]):.1f}" for way in ("compiled", "ours")]
            cells += [f"{row['compilation']:.0f} s", *milliseconds, shown(times(row, "compiled"))]
        else:
            cells += [f"not done in {plasticity.PATIENCE:.0f} s", "-", "-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def memory_table(record: Record) -> list[str]:
    lines = ["| rule | loop | engram | ratio |", "|---|---|---|---|"]
    for rule, peak in record["memory"].items():
        cells = [f"{peak['loop']:.0f}", f"{peak['ours']:.0f}", f"{peak['loop'] / max(peak['ours'], 1):.0f}x"]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return lines


def folded(record: Record, table: list[str]) -> list[str]:
    """Return a table of all cases that a reader opens by a click."""
    summary = f"<summary>All {len(record['rows'])} cases</summary>"
    return [f'<details markdown="1">{summary}', "", *table, "", "</details>", ""]


def gpu_section(record: Record) -> list[str]:
    where = record["machine"]
    lines = ["| rule | batch | units | steps | loop | plain scan | engram | (a) |", "|---|---|---|---|---|---|---|---|"]
    for row in record["rows"]:
        cells = [f"{1e3 * value:.1f}" if (value := median(row, way)) else "-" for way in ("loop", "plain", "ours")]
        ratio = shown(times(row, "loop"), estimated=not whole(row))
        lines.append("| " + " | ".join([row["rule"], *map(str, size(row)), *cells, ratio]) + " |")
    by_way = ([ratio for row in record["rows"] if (ratio := times(row, way))] for way in ("loop", "plain"))
    a_loop, plain = (
        f"{statistics.median(ratios):.1f} times as long (from {min(ratios):.1f} to {max(ratios):.1f} times)"
        for ratios in by_way
    )
    memory = "; ".join(f"{rule} {peak['ours']:.0f} and {peak['loop']:.0f}" for rule, peak in record["memory"].items())
    return [
        "### On a GPU",
        "",
        f"The same passes on one {where['processor']} (torch {where['torch']}), as Triton kernels, when one program",
        f"took a whole sample. A loop takes {a_loop} as engram, and the plain",
        f"scan {plain}. Peak memory of engram and of the loop in MB, at batch "
        f"{plasticity.MEMORY[0]}, {plasticity.MEMORY[1]}",
        f"units and {plasticity.MEMORY[2]} steps: {memory}.",
        "",
        *folded(record, lines),
        "Now several programs share a sample where the batch is smaller than the GPU. Measured once, not yet by the",
        f"script of this section, on one {record['shared']['processor']} (torch {record['shared']['torch']}): forward",
        "and backward pass for a batch of one, some units clamped, in milliseconds.",
        "",
        "| rule | units | steps | plain scan | one program | several |",
        "|---|---|---|---|---|---|",
        *[
            "| " + " | ".join("-" if cell is None else f"{cell}" for cell in row.values()) + " |"
            for row in record["shared"]["milliseconds"]
        ],
        "",
    ]


def by_threads(row: Record, network: str) -> tuple[float, float, str]:
    """Return the seconds per step with the default number of threads and with the best one, and the best number."""
    middle = {threads: statistics.median(values) for threads, values in row["seconds"][network].items()}
    best = min(middle, key=lambda threads: middle[threads])
    return middle[str(row["usual"])], middle[best], best


def loaded_table(record: Record) -> list[str]:
    lines = [
        "| cores | batch | units | steps | engram | best | ratio | nn.LSTM | best | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["loaded"]:
        cells = ["busy" if row["busy"] else "idle", *map(str, size(row))]
        for network in ("ours", "lstm"):
            usual, best, threads = by_threads(row, network)
            cells += [f"{1e3 * usual:.1f}", f"{1e3 * best:.1f} ({threads})", f"{usual / best:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def targets(record: Record) -> list[tuple[str, str, bool | None]]:
    """Return each target with the worst measured case and whether it is met; None if it was not measured."""
    rows, where = record["rows"], record["machine"]
    centre = [row for row in rows if size(row) in plasticity.CENTRE]
    place = f"batch {plasticity.CENTRE[0][0]}, {plasticity.CENTRE[0][1]} units, 100 to 200 steps"

    def worst(name: str, cases: list[Record], way: str, least: float) -> tuple[str, str, bool | None]:
        ratios = [(ratio, row) for row in cases if (ratio := times(row, way)) is not None]
        if not ratios:
            return name, "not measured", None
        least_ratio, row = min(ratios, key=lambda pair: pair[0])
        text = f"{least_ratio:.1f}x ({row['rule']}, {' x '.join(map(str, size(row)))})"
        return name, text, least_ratio >= least

    def of(*rules: str) -> list[Record]:
        return [row for row in centre if row["rule"] in rules]

    compiled = [row for row in record["compiled"] if row["compilation"] is not None]
    judged = [
        worst(f"12 times (a), Hebb and Oja, {place}", of("hebb", "oja"), "loop", 12),
        worst(f"8 times (a), modulated and retroactive, {place}", of("modulated", "retroactive"), "loop", 8),
        worst(
            f"4 times (b), Hebb and Oja, {place}", [r for r in compiled if size(r) in plasticity.CENTRE], "compiled", 4
        ),
        worst("the same at 20 steps", [r for r in compiled if size(r) not in plasticity.CENTRE], "compiled", 4),
        worst(f"40 times (c), {place}", centre, "episodes", 40),
        worst("never slower than (a), if (a) fits into memory", [r for r in rows if whole(r)], "loop", 1),
    ]
    if record["memory"]:
        share, rule = max((peak["ours"] / peak["loop"], rule) for rule, peak in record["memory"].items())
        judged.append(("peak memory at most a fifth of (a), 200 steps", f"{share:.2f} ({rule})", share <= 0.2))
    if record["loaded"]:
        most, row = max(
            ((u / b, row) for row in record["loaded"] for u, b, _ in [by_threads(row, "ours")]),
            key=lambda pair: pair[0],
        )
        text = f"{most:.2f} ({'busy' if row['busy'] else 'idle'}, {' x '.join(map(str, size(row)))})"
        judged.append(
            (
                "default number of threads at most 1.2 times as slow as the best one, on idle and busy cores",
                text,
                most <= 1.2,
            )
        )
    for name, instructions in (("multiplications", True), ("operations", False)):
        most = max(
            ((median(r, "ours") or 0) / lower_bound(r, where, instructions=instructions), r["rule"]) for r in centre
        )
        text = f"{most[0]:.1f}x ({most[1]})"
        judged.append((f"within twice the roofline estimate by {name}, {place}", text, most[0] <= 2))
    return judged


def in_short(record: Record) -> list[str]:
    """Summarise the table in at most five sentences."""
    rows = [row for row in record["rows"] if whole(row) and times(row, "loop") is not None]
    centre = [row for row in rows if size(row) in plasticity.CENTRE]
    by_loop, by_episodes = ([ratio for row in rows if (ratio := times(row, way))] for way in ("loop", "episodes"))
    at_centre = [ratio for row in centre if (ratio := times(row, "loop"))]
    compiled = [row for row in record["compiled"] if row["compilation"] is not None]
    by_compiled = [ratio for row in compiled if (ratio := times(row, "compiled"))]
    middle = statistics.median
    lines = [
        f"A plain PyTorch loop takes {middle(by_loop):.0f} times as long as engram (median of {len(by_loop)} cases, "
        f"from {min(by_loop):.1f} to {max(by_loop):.0f} times).",
        f"At the size of most published experiments, batches of {plasticity.CENTRE[0][0]} and "
        f"{plasticity.CENTRE[0][1]} units, it takes {min(at_centre):.0f} to {max(at_centre):.0f} times as long."
        if at_centre
        else "",
        f"Running one episode after another, as published scripts do, takes {middle(by_episodes):.0f} times as long.",
    ]
    if by_compiled:
        wait = middle(row["compilation"] for row in compiled)
        lines.append(
            f"Compiled, the loop takes {middle(by_compiled):.1f} times as long; its compilation takes {wait:.0f} s."
        )
    if record["memory"]:
        saved = middle(peak["loop"] / max(peak["ours"], 1) for peak in record["memory"].values())
        lines.append(
            f"Engram needs 1/{saved:.0f} of the loop's memory, because its backward pass recomputes the traces."
        )
    return [line for line in lines if line]


def ratio_figure(record: Record) -> str:
    """Draw the ratio of the loop's time to that of engram by units and batch, as SVG."""
    figure = go.Figure()
    batches = sorted({row["batch"] for row in record["rows"]})
    for batch, color in zip(batches, PALETTE, strict=False):
        by_units: dict[int, list[float]] = {}
        for row in record["rows"]:
            if row["batch"] == batch and (ratio := times(row, "loop")) is not None:
                by_units.setdefault(row["units"], []).append(ratio)
        y = [statistics.median(ratios) for ratios in by_units.values()]
        figure.add_scatter(x=list(by_units), y=y, mode="lines+markers", name=f"batch {batch}", line_color=color)
    figure.add_hline(y=1, line_dash="dot", annotation_text="as fast")
    axes = {"xaxis": {"title": "units", "type": "log"}, "yaxis": {"title": "times as long as engram", "type": "log"}}
    title = "A plain loop against engram, median over rules and steps"
    figure.update_layout(template="plotly_white", title=title, font_family="sans-serif", **axes)
    return draw({"ratio": figure}, "svg")["ratio"].decode()


def largest_networks(record: Record) -> list[str]:
    """Say how near engram is to the roofline where traces pass through memory."""
    where = record["machine"]
    rows = [r for r in record["rows"] if 4 * plasticity.TRACES[r["rule"]] * r["units"] ** 2 > cache(where)]
    if not rows:
        return []
    copied = where | {"bytes_near": None}
    by_peak = [[(median(r, "ours") or 0) / lower_bound(r, w, instructions=True) for r in rows] for w in (where, copied)]
    low, high, middle = min(by_peak[0]), max(by_peak[0]), statistics.median(by_peak[0])
    units = min(r["units"] for r in rows)
    return [
        f"From {units} units on, where traces do not fit, engram takes {low:.1f} to {high:.1f} times as long as the",
        f"bound, median {middle:.1f}. Counted is the fastest traffic measured, {fastest(where) / 1e9:.0f} GB/s; at",
        f"the {where['bytes'] / 1e9:.0f} GB/s of a copy between arrays of 128 MB it would be higher, and the median "
        f"{statistics.median(by_peak[1]):.1f}.",
        "",
    ]


def plasticity_section(record: Record) -> list[str]:
    where = record["machine"]
    return [
        "## A plastic recurrent network",
        "",
        *in_short(record),
        "",
        f"![Time of a plain loop relative to engram](images/{FIGURE.name})",
        "",
        "Forward and backward pass with one alpha per connection, in 32 bits: medians in milliseconds of repetitions,",
        "taken in turn in one process, for the loop that an experienced PyTorch user would write, for engram's plain",
        "scan, and for engram. The ratios compare the time of another implementation with that of engram: (a) the",
        "loop, (b) the loop under `torch.compile`, (c) one episode after another with a batch of one, as in the",
        "published scripts. *No memory*: the loop does not fit into memory; it ran fewer episodes, and its ratio is an",
        "estimate, marked *about*. *Roofline*: the time of engram relative to a lower bound, the time of the",
        "multiplications alone or of the memory traffic alone at the measured peak of the processor. *Spread*: the",
        "interquartile range of engram's time over its median.",
        "",
        "The memory traffic of the roofline: if the traces of a sample fit into the cache of a core, "
        f"{cache(where) / 2**20:.0f} MB, they",
        f"move only at both ends, with their gradients. Larger ones move {plasticity.PASSES} times in each step, "
        f"{2 * plasticity.PASSES} times with the",
        "two traces of *retroactive*: forward, a trace is read and written; backward, it is read again, where it was",
        "stored or recomputed, and its gradient is read and written. In addition, weights and alphas are read in each",
        f"step, forward and backward, once for the whole batch. engram's traces move {plasticity.OURS} times: "
        "it does not store them,",
        "but writes those that it recomputes, and reads them once more for the gradient of alpha.",
        "",
        *largest_networks(record),
        f"{where['cores']} threads, {where['processor']}, torch {where['torch']}, engram {where['engram']}; measured",
        f"peaks {where['flops'] / 1e9:.0f} GFLOP/s, {where['bytes'] / 1e9:.0f} GB/s of a copy of 128 MB, and "
        f"{fastest(where) / 1e9:.0f} GB/s of passes in place over",
        "the matrices of a thousand units, one for each core; load average before the run",
        f"{where['load']:.1f}; the run took {record['took'] / 60:.0f} minutes.",
        "",
        *folded(record, grid_table(record)),
        *(gpu_section(json.loads(ON_CUDA.read_text())) if ON_CUDA.exists() else []),
        "### Against torch.compile",
        "",
        "The loop is unrolled, so compilation takes longer the more steps there are; 200 steps were not tried.",
        "",
        *compiled_table(record),
        "",
        "### Peak memory",
        "",
        f"The memory that a process gains, in MB: batch {plasticity.MEMORY[0]}, {plasticity.MEMORY[1]} units, "
        f"{plasticity.MEMORY[2]} steps.",
        "",
        *memory_table(record),
        "",
        "### On busy cores",
        "",
        "Forward and backward pass of `PlasticRNN` (Oja) and of `nn.LSTM` with as many units and 20 inputs, on an idle",
        f"machine and with a busy process on every core: medians of {plasticity.AT_ONCE} passes in milliseconds, taken",
        "in turn in one process, with the default number of threads and with the best one (in parentheses).",
        "",
        *loaded_table(record),
        "",
        "### Targets",
        "",
        "The targets were set before the measurement; *measured* is the worst case. The estimate by operations assumes",
        "that the processor always does a multiplication and an addition at once; a third of the multiplications in",
        "the equations have no addition.",
        "",
        "| target | measured | |",
        "|---|---|---|",
        *[
            f"| {n} | {f} | {'not measured' if m is None else 'met' if m else '**not met**'} |"
            for n, f, m in targets(record)
        ],
        "",
        "What limits the speed: with up to about 200 units a trace stays in the cache, and instructions take the time.",
        "Besides multiplying, each connection clamps, loads and stores, and the backward pass computes the trace of",
        "each step a second time. With 1000 units or more a trace does not fit into the cache, and its way to memory",
        "and back in each step takes the time. With 20 steps, calling the operator and arranging its matrices take as",
        "long as the steps.",
        "",
    ]


def environments_section(record: Record) -> list[str]:
    rows = environments.table(record)
    return [
        "## Environments",
        "",
        "Steps per second over whole episodes, including resets, in one process and one thread; medians of",
        "repetitions, taken in turn: MiniGrid's empty room of 8 x 8 cells; a plain implementation of the task, one",
        "environment after another, as in the published scripts; single environments of engram, one after another;",
        "batches of engram.",
        "",
        "| environment | number | | steps/s | quartiles | over the loop | over MiniGrid |",
        "|---|---|---|---|---|---|---|",
        *["| " + " | ".join(cells) + " |" for cells in rows],
        "",
        *[f"- {line}" for line in environments.verdicts(record)],
        "",
    ]


def main() -> None:
    source = "`make bench` takes these measurements, except those on a GPU, and writes this page."
    lines = ["# Benchmarks", "", source, ""]
    sections: list[tuple[Any, Any]] = [(plasticity, plasticity_section), (environments, environments_section)]
    sections.insert(1, (layers, layers.section))
    sections += [
        (module, module.section)
        for module in (
            meta_tasks,
            meta,
            evolution,
            blur,
            continual_inner,
            memory,
            hebbian_conv,
            learning_to_remember,
            dsa,
            difficulty,
            verify,
            rules,
            feedback_mode,
            rule_inference,
            sequence,
            continual,
            forgetting,
            optim,
            agents,
            curiosity,
            spatial,
            induction,
            generative,
            generative_diffusion,
            lab,
            judge,
        )
    ]
    for module, section in sections:
        path: Path = module.RECORD
        if path.exists():
            lines += section(json.loads(path.read_text()))
    if len(lines) == 4:
        lines += ["Not recorded yet.", ""]
    PAGE.write_text("\n".join(lines))
    if plasticity.RECORD.exists():
        record = json.loads(plasticity.RECORD.read_text())
        FIGURE.write_text(ratio_figure(record))
        for name, measured, met in targets(record):
            print(f"{'?' if met is None else 'met' if met else 'NOT MET':8} {name}: {measured}")


if __name__ == "__main__":
    main()
