"""Verification: answers on ten properties of the ACAS Xu networks, and bounds, compared with published ones.

Properties 1 to 4 are verified for all 45 networks, the others for the networks that they name: the 186 instances of
VNN-COMP 2021, each with a time limit and one thread. Other measurements are the width of bounds on small networks
relative to the bounds of auto_LiRPA 0.3, which are stored in the tests, and the time of a bound. Where maraboupy is
installed, it answers some of the same questions in the same run.

``python benchmarks/verify.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes few networks; ``--peer`` only asks Marabou and engram the shared questions, and leaves the rest of the
record as it is; ``--page`` only prints the section, from the existing record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

import engram
from engram.tasks.data import DataError, load
from engram.verify import (
    AffineReLU,
    Budget,
    Normalisation,
    acasxu_property,
    check_certificate,
    crown_bounds,
    interval_bounds,
    read_nnet,
    verify,
)

RECORD = Path(__file__).with_suffix(".json")
FIXTURES = Path(__file__).parents[1] / "tests" / "verify" / "auto_lirpa.json"
NETWORKS = tuple(f"{a}_{b}" for a in range(1, 6) for b in range(1, 10))
# VNN-COMP 2021, by voting: at least two tools agree, and no other tool has a confirmed counterexample.
HOLDS_2 = {"1_1", "1_7", "1_8", "1_9", "3_3", "4_2"}
VIOLATED = {2: set(NETWORKS) - HOLDS_2, **{n: {"1_7", "1_8", "1_9"} for n in (3, 4)}, 7: {"1_9"}, 8: {"2_9"}}
TARGET = 10.0  # seconds for property 3 on network 1_1
# Property and network of the questions that Marabou answers too: both properties say that the first output is not the
# lowest, so that a violation is one conjunction. Marabou, as engram, decides these within a minute; not so three others
# of the thirty with both properties and the networks x_1, x_5 and x_9: property 3 on 1_1 and 5_1, and 4 on 1_1.
SHARED = tuple((number, name) for name in ("1_9", "2_1", "3_1", "4_1", "1_5") for number in (3, 4))


def published(number: int, network: str) -> str:
    return "refuted" if network in VIOLATED.get(number, set()) else "proved"


def network(name: str) -> tuple[AffineReLU, Normalisation] | None:
    """Return a network and its scales; if it is not available, print a message and return None."""
    try:
        return read_nnet(load("acasxu", network=name))
    except DataError as error:
        print(f"network {name} is left out: {str(error).splitlines()[0]}")
        return None


def acasxu(limit: float, quick: bool) -> list[dict[str, Any]]:
    """Return the answer to each question and its cost."""
    rows = []
    for number in range(1, 11):
        specification = acasxu_property(number)
        names = NETWORKS if number <= 4 else specification.networks
        for name in names[:: 11 if quick and number <= 4 else 1]:
            if (read := network(name)) is None:
                continue
            net, scale = read
            boxes = [scale.box(box) for box in specification.boxes]
            results = [
                verify(net, box, specification.claim, engine="inputs", budget=Budget(seconds=limit / len(boxes)))
                for box in boxes
            ]
            statuses = {result.status for result in results}
            status = "refuted" if "refuted" in statuses else "unknown" if "unknown" in statuses else "proved"
            began = time.perf_counter()
            checked = all(
                check_certificate(net, box, specification.claim, result.certificate).valid
                for box, result in zip(boxes, results, strict=True)
                if result.certificate is not None
            )
            rows.append(
                {
                    "property": number,
                    "network": name,
                    "status": status,
                    "published": published(number, name),
                    "nodes": sum(result.nodes for result in results),
                    "seconds": sum(result.seconds for result in results),
                    "bound": max(min(result.bound for result in results), -1e300),
                    "checked": checked if status == "proved" else None,
                    "check_seconds": time.perf_counter() - began,
                }
            )
            print({key: rows[-1][key] for key in ("property", "network", "status", "nodes", "seconds", "checked")})
    return rows


def marabou(limit: float) -> dict[str, Any] | None:
    """Return the answers and seconds of Marabou and of engram to the same questions, or None if it is not installed."""
    try:
        from maraboupy import Marabou
    except ImportError:
        print("maraboupy is not installed: not measured")
        return None
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    options = Marabou.createOptions(verbosity=0, timeoutInSeconds=int(limit), numWorkers=1)
    rows = []
    for number, name in SHARED:
        if (read := network(name)) is None:
            return None
        net, scale = read
        specification = acasxu_property(number)
        box = scale.box(specification.boxes[0])
        peer = Marabou.read_nnet(str(load("acasxu", network=name)), normalize=False)
        x, y = peer.inputVars[0].ravel(), peer.outputVars[0].ravel()
        for variable, low, high in zip(x, box.low, box.high, strict=True):
            peer.setLowerBound(variable, float(low))
            peer.setUpperBound(variable, float(high))
        for other in y[1:]:
            peer.addInequality([y[0], other], [1.0, -1.0], 0.0)
        began = time.process_time()
        answer = peer.solve(verbose=False, options=options)[0]
        theirs = time.process_time() - began
        began = time.process_time()
        result = verify(net, box, specification.claim, engine="inputs", budget=Budget(seconds=limit))
        ours = time.process_time() - began
        rows.append(
            {
                "property": number,
                "network": name,
                "marabou": {"sat": "refuted", "unsat": "proved"}.get(answer, "unknown"),
                "marabou_seconds": theirs,
                "engram": result.status,
                "engram_seconds": ours,
            }
        )
        print(rows[-1])
    return {"version": metadata.version("maraboupy"), "limit": limit, "load": load_average, "rows": rows}


def against_marabou(peer: dict[str, Any]) -> list[str]:
    """Return the lines that compare engram with Marabou."""
    rows = peer["rows"]
    lines = [
        f"{len(rows)} of these questions to maraboupy {peer['version']}, one worker, and to engram, in turn in one",
        f"process, at most {peer['limit']:.0f} seconds each, in seconds of processor time; load average before the run",
        f"{peer['load']:.1f}. They were chosen because both decide them: of thirty that were tried, Marabou left three",
        "undecided (property 3 on networks 1_1 and 5_1, property 4 on 1_1), engram none.",
        "",
        "| property | network | engram | seconds | Marabou | seconds |",
        "|" + "---|" * 6,
    ]
    for row in rows:
        cells = [str(row["property"]), row["network"], row["engram"], f"{row['engram_seconds']:.2f}"]
        lines.append("| " + " | ".join([*cells, row["marabou"], f"{row['marabou_seconds']:.2f}"]) + " |")
    different = sum(
        "unknown" not in (row["engram"], row["marabou"]) and row["engram"] != row["marabou"] for row in rows
    )
    both = [row for row in rows if "unknown" not in (row["engram"], row["marabou"])]
    ratios = [row["marabou_seconds"] / row["engram_seconds"] for row in both]
    text = f"Answers that differ: {different}."
    if ratios:
        span = f"{min(ratios):.1f} to {max(ratios):.0f} times as long as engram, median {statistics.median(ratios):.0f}"
        text += f" Where both answer, Marabou takes {span}."
    return [*lines, "", text, ""]


def tightness() -> dict[str, Any]:
    """Return the largest and the median ratio of the width of engram's bounds to that of auto_LiRPA's bounds."""
    fixtures = json.loads(FIXTURES.read_text())
    ratios: dict[str, list[float]] = {"IBP": [], "CROWN": []}
    for case in fixtures["cases"]:
        net = AffineReLU(tuple(map(np.array, case["weights"])), tuple(map(np.array, case["biases"])))
        low, high = np.array(case["low"]), np.array(case["high"])
        crown = crown_bounds(net, low, high)
        for name, ours in (("IBP", interval_bounds(net, low, high)), ("CROWN", (crown.lower, crown.upper))):
            theirs = np.array(case[name])
            ratios[name] += ((ours[1] - ours[0]) / (theirs[1] - theirs[0])).tolist()
    summary = {name: [max(values), statistics.median(values)] for name, values in ratios.items()}
    return {"source": fixtures["source"], **summary}


def speed(repetitions: int = 5) -> float | None:
    """Return the microseconds to bound a box of property 3 on network 1_1, in batches of 256."""
    if (read := network("1_1")) is None:
        return None
    net, scale = read
    box = scale.box(acasxu_property(3).boxes[0])
    rng = np.random.default_rng(0)
    centre, radius = rng.uniform(box.low, box.high, (256, 5)), (box.high - box.low) / 16
    seconds = []
    for _ in range(repetitions + 1):
        began = time.perf_counter()
        crown_bounds(net, centre - radius, centre + radius)
        seconds.append(time.perf_counter() - began)
    return 1e6 * statistics.median(seconds[1:]) / 256


def machine() -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "engram": engram.__version__,
    }


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    where, rows = record["machine"], record["acasxu"]
    lines = [
        "## Verification: the ACAS Xu networks",
        "",
        f"45 networks with 5 inputs, 6 x 50 ReLU units and 5 outputs; one thread, {record['limit']:.0f} seconds per",
        "question, no GPU. The published answers are those of VNN-COMP 2021, by a majority of its tools. *Checked*:",
        f"proofs whose certificates were verified again. NumPy {where['numpy']}, SciPy {where['scipy']}, engram",
        f"{where['engram']}, {where['processor']}; load average before the run {where['load']:.1f}.",
        "",
        "| property | networks | proved | refuted | unknown | not as published | checked | boxes, median | "
        "seconds, median | seconds, maximum |",
        "|" + "---|" * 10,
    ]
    for number in sorted({row["property"] for row in rows}):
        mine = [row for row in rows if row["property"] == number]
        status = [row["status"] for row in mine]
        other = sum(s not in ("unknown", row["published"]) for s, row in zip(status, mine, strict=True))
        cells = [str(number), str(len(mine)), *(str(status.count(s)) for s in ("proved", "refuted", "unknown"))]
        cells += [str(other), f"{sum(row['checked'] is True for row in mine)} of {status.count('proved')}"]
        cells += [f"{statistics.median(row['nodes'] for row in mine):.0f}"]
        cells += [f"{pick(row['seconds'] for row in mine):.2f}" for pick in (statistics.median, max)]
        lines.append("| " + " | ".join(cells) + " |")
    unknown = [f"property {row['property']} on network {row['network']}" for row in rows if row["status"] == "unknown"]
    first = next((row for row in rows if (row["property"], row["network"]) == (3, "1_1")), None)
    lines += ["", f"Unknown after {record['limit']:.0f} seconds: {', '.join(unknown) or 'none'}."]
    if first is not None:
        met = "met" if first["status"] == "proved" and first["seconds"] <= TARGET else "**not met**"
        lines += [
            f"Property 3 on network 1_1: {first['status']}, {first['nodes']} boxes, {first['seconds']:.1f} s; target",
            f"of {TARGET:.0f} s {met}.",
        ]
    if record.get("marabou"):
        lines += ["", *against_marabou(record["marabou"])]
    tight = record["tightness"]
    lines += [
        "The networks were not available."
        if record["box_us"] is None
        else f"CROWN takes {record['box_us']:.0f} us for a box of property 3, in batches of 256.",
        "",
        f"Width of bounds relative to {tight['source'].split(',')[0]}, maximum and median: IBP",
        f"{tight['IBP'][0]:.4f} and {tight['IBP'][1]:.4f}, CROWN {tight['CROWN'][0]:.4f} and {tight['CROWN'][1]:.4f}; "
        f"target of 1.01 {'met' if max(tight['IBP'][0], tight['CROWN'][0]) <= 1.01 else '**not met**'}.",
        "The CROWN bounds are intersected with interval bounds layer by layer, so they can be tighter.",
        "",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few networks")
    parser.add_argument("--peer", action="store_true", help="only the questions that Marabou answers, too")
    parser.add_argument("--page", action="store_true", help="only print the section, from the existing record")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of a question")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if options.peer:
        with threadpool_limits(1):
            record["marabou"] = marabou(options.seconds)
        RECORD.write_text(json.dumps(record) + "\n")
    elif not options.page:
        with threadpool_limits(1):
            record = {
                "machine": machine(),
                "limit": options.seconds,
                "box_us": speed(),
                "tightness": tightness(),
                "acasxu": acasxu(options.seconds, options.quick),
                "marabou": marabou(options.seconds),
            }
        RECORD.write_text(json.dumps(record) + "\n")
    if record:
        print("\n".join(section(record)))


if __name__ == "__main__":
    main()
