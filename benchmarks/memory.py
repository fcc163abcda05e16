"""Speed of the memories, compared with other packages and with plain implementations; one function per system.

NOODL: the time until the error of the dictionary is at most 1e-2, 1e-3 and 1e-6, and the time of a step, at the size
of the published demonstration, with the same start and the same batches of fresh samples: engram's ``NOODL`` with
either solver, the published iteration in plain NumPy, scikit-learn's ``MiniBatchDictionaryLearning`` and SPAMS. All run
in one process, in turn, in one thread.

Expander memory: recalls per second by network size, compared with a loop that multiplies by the dense parity-check
matrix.

Episodic memory: look-ups and inserts, compared with a KD-tree of scikit-learn that is rebuilt after every episode, as
in published ports of episodic control, and with a flat index of faiss; online k-means, one sample after another,
compared with ``MiniBatchKMeans.partial_fit``.

``python benchmarks/memory.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes few batches; ``--page`` only prints the section, from the existing record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.neighbors import KDTree
from threadpoolctl import threadpool_limits

import engram
from engram.memory import (
    NOODL,
    DynamicOnlineKMeans,
    ExpanderMemory,
    KeyValueMemory,
    OnlineKMeans,
    corrupt,
    random_regular,
)
from engram.memory.episodic.neighbours import exact_neighbours
from engram.numeric.unit_rows import unit_rows
from engram.tasks import make_sparse_dictionary_data, perturb_dictionary

RECORD = Path(__file__).with_suffix(".json")
FEATURES, ATOMS, SAMPLES, NONZERO = 200, 250, 500, 8
TARGETS = (1e-2, 1e-3, 1e-6)
EARLY = (5, 10)
NODES, RECALLS, FLIPPED = (1002, 10_002, 99_996), 256, 0.03
LARGEST_DENSE = 20_000  # nodes above which the dense matrix takes gigabytes
TABLES, EPISODE, ASKED, NEIGHBOURS = ((1000, 4), (20_000, 64)), 50, 256, 11
CLUSTERS = ((32, 2), (100, 64))
Step = Callable[[np.ndarray], np.ndarray]


def engrams(start: np.ndarray, **arguments: Any) -> Step:
    """Return a step of engram's NOODL, which takes a batch and returns the updated dictionary."""
    model = NOODL(ATOMS, dict_init=start, code_step=0.2, **arguments)
    return lambda X: model.partial_fit(X).components_


def plain(start: np.ndarray) -> Step:
    """Return the published step in dense NumPy: 100 iterations for all samples together, without a kernel."""
    dictionary = start.copy()

    def step(X: np.ndarray) -> np.ndarray:
        nonlocal dictionary
        gram, correlations = dictionary @ dictionary.T, X @ dictionary.T
        code = np.where(np.abs(correlations) >= 0.5, correlations, 0)
        for _ in range(100):
            new = code - 0.2 * (code @ gram - correlations)
            new = np.where(np.abs(new) > 0.1, new, 0)
            change, code = np.linalg.norm(new - code), new
            if change <= 1e-7 * np.linalg.norm(code):
                break
        dictionary = unit_rows(dictionary - 15 * np.sign(code).T @ (code @ dictionary - X) / len(X))
        return dictionary

    return step


def scikits(start: np.ndarray, alpha: float) -> Step:
    """Return a step of scikit-learn's online dictionary learning."""
    model = MiniBatchDictionaryLearning(
        ATOMS, alpha=alpha, batch_size=SAMPLES, fit_algorithm="cd", dict_init=start.copy(), random_state=0
    )
    return lambda X: unit_rows(model.partial_fit(X).components_)


def spams_step(start: np.ndarray, penalty: float) -> Step:
    """Return a step of SPAMS: one iteration on a batch, which continues from the statistics of the last batch."""
    import spams

    state: dict[str, Any] = {"dictionary": np.asfortranarray(start.T), "model": None}

    def step(X: np.ndarray) -> np.ndarray:
        more = {} if state["model"] is None else {"model": state["model"]}
        state["dictionary"], state["model"] = spams.trainDL(
            np.asfortranarray(X.T),
            return_model=True,
            D=state["dictionary"],
            lambda1=penalty,
            mode=2,
            batchsize=len(X),
            iter=1,
            numThreads=1,
            verbose=False,
            **more,
        )
        return unit_rows(state["dictionary"].T)

    return step


def ways(start: np.ndarray) -> dict[str, Step]:
    """Return all methods that are compared, with the same start."""
    return {
        "engram, iht-ls, automatic step": engrams(start),
        "engram, iht-ls": engrams(start, dict_step=15.0),
        "engram, iht": engrams(start, dict_step=15.0, solver="iht"),
        "published iteration in NumPy": plain(start),
        **{f"scikit-learn, alpha {alpha}": scikits(start, alpha) for alpha in (0.03, 0.1)},
        **{f"SPAMS, lambda {penalty}": spams_step(start, penalty) for penalty in (0.03, 0.1)},
    }


def noodl(batches: int, seeds: int) -> dict[str, Any]:
    """Return the seconds and the error of every step, for each method and seed."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        dictionary = make_sparse_dictionary_data(1, n_features=FEATURES, n_components=ATOMS, random_state=rng)[1]
        start = perturb_dictionary(dictionary, random_state=rng)
        steps = ways(start)
        warm = make_sparse_dictionary_data(SAMPLES, n_nonzero=NONZERO, dictionary=dictionary, random_state=rng)[0]
        for step in ways(start).values():  # compiles and loads before the measurement
            step(warm)
        for name in steps:
            curve = curves.setdefault(name, {"seconds": [], "error": []})
            curve["seconds"].append([])
            curve["error"].append([])
        for _ in range(batches):
            X = make_sparse_dictionary_data(SAMPLES, n_nonzero=NONZERO, dictionary=dictionary, random_state=rng)[0]
            for name, step in steps.items():
                began = time.perf_counter()
                estimate = step(X)
                curves[name]["seconds"][-1].append(time.perf_counter() - began)
                error = float(np.linalg.norm(estimate - dictionary) / np.linalg.norm(dictionary))
                curves[name]["error"][-1].append(error)
        print(f"noodl, seed {seed}", {name: f"{curve['error'][-1][-1]:.1e}" for name, curve in curves.items()})
    return {"batches": batches, "curves": curves}


def noodl_section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show NOODL's record."""

    def cell(values: list[float], unit: float = 1.0) -> str:
        if not all(np.isfinite(values)):
            return "not reached"
        return f"{unit * statistics.median(values):.3g} ({unit * min(values):.3g} .. {unit * max(values):.3g})"

    header = ["method", "ms per step", *(f"s to {target:g}" for target in TARGETS)]
    header += [*(f"error after {step}" for step in EARLY), "error at the end"]
    lines = [
        "### NOODL: time to the true dictionary",
        "",
        f"{FEATURES} features, {ATOMS} atoms, at most {NONZERO} atoms in a sample, fresh batches of {SAMPLES}, a start",
        f"at distance 2 / log n, float64, one thread, {record['batches']} batches. Medians and ranges over seeds; for",
        "the time of a step, median and quartiles over all steps. The penalties of the lassos are the best of a few",
        "values. In the first batches the lassos are ahead of NOODL with the published step of 15; then they slow",
        "down.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for name, curve in record["curves"].items():
        seconds = [value for run in curve["seconds"] for value in run]
        low, middle, high = statistics.quantiles(seconds, n=4)
        cells = [name, f"{1e3 * middle:.1f} ({1e3 * low:.1f} .. {1e3 * high:.1f})"]
        for target in TARGETS:
            times = []
            for run, errors in zip(curve["seconds"], curve["error"], strict=True):
                reached = [step for step, error in enumerate(errors) if error <= target]
                times.append(sum(run[: reached[0] + 1]) if reached else float("inf"))
            cells.append(cell(times))
        for step in (*EARLY, len(curve["error"][0])):
            values = [errors[min(step, len(errors)) - 1] for errors in curve["error"]]
            cells.append(f"{statistics.median(values):.1e}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def dense_recall(H: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Flip all nodes with more than half of their constraints violated, repeatedly, by dense products."""
    bits = (x < 0).float()
    for _ in range(100):
        violated = (bits @ H.T) % 2
        flips = (2 * (violated @ H) > 5).float()
        if not flips.any():
            break
        bits = (bits - flips).abs()
    return 1 - 2 * bits


def expander(batches: int, seeds: int) -> dict[str, Any]:
    """Return the seconds to recall a batch with 3 % errors, and the share recovered, for each size and method."""
    rows = []
    for nodes in NODES:
        graph = random_regular(nodes, 5, 6, seed=0)
        memory, generator = ExpanderMemory(graph), torch.Generator().manual_seed(0)
        # A linear code corrects errors in the same way at all stored states; this state needs no encoder.
        right = torch.ones(RECALLS, nodes)
        noisy = corrupt(right, FLIPPED, generator=generator)
        recall = {
            "parallel": lambda x, memory=memory: memory.recall(x, order="parallel").x,
            "max": lambda x, memory=memory, generator=generator: memory.recall(x, generator=generator).x,
        }
        if nodes <= LARGEST_DENSE:
            H = torch.from_numpy(graph.parity_check()).float()
            recall["dense"] = lambda x, H=H: dense_recall(H, x)
        row: dict[str, Any] = {"nodes": nodes, "seconds": {}, "recovered": {}}
        for name, call in recall.items():
            call(noisy[:2])  # compiles and loads before the measurement
            batch = noisy[:64] if name == "dense" and nodes > 5000 else noisy
            row["seconds"][name] = []
            for _ in range(1 if name == "dense" else max(3, batches // 10)):
                began = time.perf_counter()
                recalled = call(batch)
                row["seconds"][name].append((time.perf_counter() - began) / len(batch))
            row["recovered"][name] = float((recalled == right[: len(batch)]).all(1).float().mean())
        print("expander", row["nodes"], {name: f"{1 / min(value):.0f}/s" for name, value in row["seconds"].items()})
        rows.append(row)
    return {"rows": rows}


def expander_section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the expander memory's record."""
    header = [
        "nodes",
        "order",
        "recalls per second",
        "us per recall and 1000 nodes",
        "dense loop, recalls per second",
        "ratio",
    ]
    lines = [
        "### Expander memory: recalls per second",
        "",
        f"Random (5,6)-regular graph, {FLIPPED:.0%} of the nodes flipped, batches of {RECALLS} states (64 for",
        "the dense loop of 10,002 nodes), one thread; medians. The dense loop flips all nodes at once, as `parallel`",
        f"does; beyond {LARGEST_DENSE} nodes its matrix does not fit into memory. In parentheses: the share recovered.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row in record["rows"]:
        middle = {name: statistics.median(values) for name, values in row["seconds"].items()}
        for order in ("parallel", "max"):
            cells = [f"{row['nodes']}", f"`{order}`", f"{1 / middle[order]:.0f} ({row['recovered'][order]:.2f})"]
            cells.append(f"{1e9 * middle[order] / row['nodes']:.1f}")
            if "dense" in middle:
                cells += [f"{1 / middle['dense']:.1f} ({row['recovered']['dense']:.2f})"]
                cells += [f"{middle['dense'] / middle[order]:.0f}x"]
            else:
                cells += ["no memory", "-"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def seconds_of(call: Callable[[], object], repetitions: int) -> list[float]:
    """Return the seconds of processor time of repeated calls, after a first call that compiles and loads."""
    call()
    seconds = []
    for _ in range(repetitions):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return seconds


def episodic(batches: int, seeds: int) -> dict[str, Any]:
    """Return the seconds of looking up a single key and a key in a batch, and of writing a sample of an episode."""
    rows = []
    for capacity, features in TABLES:
        rng = np.random.default_rng(0)
        keys, batch, episode = (
            rng.standard_normal((count, features)).astype(np.float32) for count in (capacity, ASKED, EPISODE)
        )
        memory = KeyValueMemory(capacity, features)
        memory.write(torch.from_numpy(keys), torch.zeros(capacity))
        asked, new = torch.from_numpy(batch), torch.from_numpy(episode)
        tree, all_rows = KDTree(keys), np.array([capacity])

        def rebuild(keys: np.ndarray = keys, tree: KDTree = tree, episode: np.ndarray = episode) -> None:
            for key in episode:  # is the key stored already?
                tree.query(key[None], 1)
            KDTree(keys)

        def write(memory: KeyValueMemory = memory, new: torch.Tensor = new) -> None:
            new.add_(0.001)  # otherwise all keys would be stored already
            memory.write(new, new[:, 0])

        ways: dict[str, dict[str, Callable[[], object]]] = {
            "engram": {
                "one": lambda memory=memory, asked=asked: memory.query(asked[:1], NEIGHBOURS),
                "batch": lambda memory=memory, asked=asked: memory.query(asked, NEIGHBOURS),
                "write": write,
            },
            "engram, keys alone": {
                "one": lambda keys=keys, rows=all_rows, batch=batch: exact_neighbours(
                    keys[None], rows, batch[:1], NEIGHBOURS
                ),
                "batch": lambda keys=keys, rows=all_rows, batch=batch: exact_neighbours(
                    keys[None], rows, batch, NEIGHBOURS
                ),
            },
            "KD-tree": {
                "one": lambda tree=tree, batch=batch: tree.query(batch[:1], NEIGHBOURS),
                "batch": lambda tree=tree, batch=batch: tree.query(batch, NEIGHBOURS),
                "write": rebuild,
            },
        }
        try:
            import faiss
        except ImportError:
            print("faiss is not installed: its rows are left out")
        else:
            faiss.omp_set_num_threads(1)
            index = faiss.IndexFlatL2(features)
            index.add(keys)

            def refill(index: Any = index, keys: np.ndarray = keys, episode: np.ndarray = episode) -> None:
                index.search(episode, 1)  # are the keys stored already?
                index.reset()
                index.add(keys)

            ways["faiss, flat"] = {
                "one": lambda index=index, batch=batch: index.search(batch[:1], NEIGHBOURS),
                "batch": lambda index=index, batch=batch: index.search(batch, NEIGHBOURS),
                "write": refill,
            }
        share = {"one": 1, "batch": ASKED, "write": EPISODE}
        seconds: dict[str, dict[str, list[float]]] = {
            name: {what: [] for what in calls} for name, calls in ways.items()
        }
        for _ in range(max(3, batches // 6)):  # in turn, so that a busy machine slows all of them
            for name, calls in ways.items():
                for what, call in calls.items():
                    timed = seconds_of(call, 20 if what == "one" else 2)
                    seconds[name][what] += [value / share[what] for value in timed]
        print("episodic", capacity, features, {name: f"{1e6 * min(f['one']):.0f} us" for name, f in seconds.items()})
        rows.append({"capacity": capacity, "features": features, "seconds": seconds})
    clusters = []
    for count, features in CLUSTERS:
        X = np.random.default_rng(0).standard_normal((3000, features))
        theirs = MiniBatchKMeans(count, init=X[:count], n_init=1, reassignment_ratio=0).partial_fit(X[:1000])
        fits = {
            "engram, `OnlineKMeans`": OnlineKMeans(count),
            "engram, `DynamicOnlineKMeans`": DynamicOnlineKMeans(count),
        }
        for model in fits.values():
            model.partial_fit(X[:1000])
        calls = {name: lambda model=model, X=X: model.partial_fit(X[:1]) for name, model in fits.items()}
        calls["scikit-learn, `MiniBatchKMeans`"] = lambda theirs=theirs, X=X: theirs.partial_fit(X[:1])
        single: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(max(3, batches // 6)):
            for name, call in calls.items():
                single[name] += seconds_of(call, 50)
        stream = {
            name: [value / len(X) for value in seconds_of(lambda model=model, X=X: model.partial_fit(X), 10)]
            for name, model in fits.items()
        }
        clusters.append({"clusters": count, "features": features, "single": single, "stream": stream})
    return {"rows": rows, "clusters": clusters}


def microseconds(values: list[float]) -> str:
    low, middle, high = (1e6 * value for value in statistics.quantiles(values, n=4))
    return f"{middle:.3g} ({low:.3g} .. {high:.3g})"


def episodic_section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the episodic memory's record."""
    header = ["keys", "method", "single look-up", "look-up in a batch", "sample written"]
    lines = [
        "### Episodic memory: look-ups and inserts",
        "",
        "Medians and quartiles in microseconds of processor time, with random keys and",
        f"{NEIGHBOURS} neighbours: looking up a single key and a key in a batch of {ASKED}, and writing a sample of an",
        f"episode of {EPISODE}. Look-ups of engram also check the keys, average the values and note the use of rows;",
        "*keys alone* is its search for the nearest keys in arrays, which is what the other methods do. When writing,",
        "all methods first check whether a key is stored already. Then engram replaces the least recently used rows,",
        "and the others are rebuilt with all keys, as published. After the comma: the time relative to engram.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row in record["rows"]:
        ours = {what: statistics.median(values) for what, values in row["seconds"]["engram"].items()}
        for name, by_operation in row["seconds"].items():
            cells = [f"{row['capacity']} x {row['features']}", name]
            for what, mine in ours.items():
                values = by_operation.get(what)
                times = "" if name == "engram" or not values else f", {statistics.median(values) / mine:.1f}x"
                cells.append(microseconds(values) + times if values else "-")
            lines.append("| " + " | ".join(cells) + " |")
    header = ["clusters", "method", "one sample per call", "a stream in one call"]
    lines += [
        "",
        "### Online k-means: one sample after another",
        "",
        "Microseconds of processor time per sample. scikit-learn moves the centres after each sample only if it is",
        "called once for every sample. After the comma: the time of a call relative to engram.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for row in record["clusters"]:
        ours = statistics.median(next(iter(row["single"].values())))
        for name, values in row["single"].items():
            stream = row["stream"].get(name)
            times = f", {statistics.median(values) / ours:.1f}x" if stream is None else ""
            cells = [f"{row['clusters']} x {row['features']}", name, microseconds(values) + times]
            cells.append("-" if stream is None else microseconds(stream))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


SYSTEMS: dict[str, tuple[Callable[[int, int], dict[str, Any]], Callable[[dict[str, Any]], list[str]]]] = {
    "noodl": (noodl, noodl_section),
    "expander": (expander, expander_section),
    "episodic": (episodic, episodic_section),
}


def machine() -> dict[str, Any]:
    """Return the machine and the versions that the numbers depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "engram": engram.__version__,
    }


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    lines = ["## Memories"]
    for name, (_, show) in SYSTEMS.items():
        if name in record:
            where = record[name]["machine"]
            lines += [
                "",
                *show(record[name]),
                "",
                f"{where['processor']}, NumPy {where['numpy']}, scikit-learn {where['scikit-learn']}, engram",
                f"{where['engram']}; load average before the run {where['load']:.1f}.",
            ]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few batches and one seed")
    parser.add_argument("--page", action="store_true", help="only print the section, from the existing record")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not options.page:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            for name in options.systems:
                where = machine()
                measured = SYSTEMS[name][0](20 if options.quick else 60, 1 if options.quick else 3)
                record[name] = {"machine": where, **measured}
        RECORD.write_text(json.dumps(record) + "\n")
    print("\n".join(section(record)))


if __name__ == "__main__":
    main()
