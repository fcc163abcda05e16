"""Speed of sequence design.

There are four measurements: exact Hamming neighbours of 250,000 x 28 tokens, k = 500, compared with scikit-learn's
brute force on some of the rows; smoothing labels over that graph, with the peak memory of the process; a round of Gibbs
with gradients, compared with the same round parent by parent through back-propagation; and the network's inference with
one table, compared with the convolution.

``python benchmarks/generative.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes a tenth of the nodes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from engram.generative.design import (
    GibbsWithGradients,
    GraphLabelSmoother,
    Population,
    SeqCNN,
    SigmoidEpistasis,
    differentiated,
    expand_hamming1,
    hamming_neighbours,
    mutants_of,
)

RECORD = Path(__file__).with_suffix(".json")
NODES, PARENTS, PART = 250_000, 128, 200
MOST_MINUTES, LEAST_RATIO, LEAST_ROUND, LEAST_FUSED, MOST_GIGABYTES, MOST_SMOOTHING = 3.0, 20.0, 5.0, 2.0, 4.0, 2.0


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall time and the processor time of some work, in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def by_parent(sampler: GibbsWithGradients, tokens: np.ndarray, rng: np.random.Generator) -> None:
    """Make a round as the published code does: parent by parent, with every draw evaluated by back-propagation."""
    for row in tokens:
        parent = row[None]
        old = differentiated(sampler.energy, parent, sampler.vocab)
        q = np.exp(sampler.log_proposal(old.changes))[0]
        moves = rng.choice(len(q), sampler.n_proposals, p=q / q.sum())
        mutants = np.repeat(parent, len(moves), 0)
        mutants[np.arange(len(moves)), moves // sampler.vocab] = moves % sampler.vocab
        new = differentiated(sampler.energy, mutants, sampler.vocab)
        repeated = type(old)(np.repeat(old.values, len(moves)), np.repeat(old.changes, len(moves), 0))
        sampler.log_ratio(repeated, new, np.repeat(parent, len(moves), 0), moves)


def measured(quick: bool) -> dict[str, Any]:
    nodes = NODES // 10 if quick else NODES
    rng = np.random.default_rng(0)
    landscape = SigmoidEpistasis(rng)
    mutants = mutants_of(landscape, 3000, rng)
    tokens = expand_hamming1(mutants.tokens, nodes, rng)
    k = int(np.sqrt(nodes))
    hamming_neighbours(tokens[:100], 3)  # compiles
    GraphLabelSmoother().fit(tokens[:100], np.arange(100.0))
    wall, ours = seconds(lambda: hamming_neighbours(tokens, k, n_jobs=2))
    brute = NearestNeighbors(n_neighbors=k, metric="hamming", algorithm="brute").fit(tokens.astype(float))
    theirs = seconds(lambda: brute.kneighbors(tokens[:PART].astype(float)))[1] * nodes / PART
    labels = landscape(tokens)
    smoothing = seconds(lambda: GraphLabelSmoother(n_jobs=2).fit(tokens, labels))[0]
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    net = SeqCNN(28, generator=torch.Generator().manual_seed(0))  # of the published size
    parents = mutants.tokens[:PARENTS]
    sampler = GibbsWithGradients(net, clusters=PARENTS)
    start = Population(parents, mutants.scores[:PARENTS])
    sampler.step(start, np.random.default_rng(0))
    fast = seconds(lambda: sampler.step(start, np.random.default_rng(0)))[1]
    plain = seconds(lambda: by_parent(sampler, parents, np.random.default_rng(0)))[1]
    some = torch.from_numpy(tokens[:2000])
    onehot = torch.nn.functional.one_hot(some.long(), 20).float()
    with torch.no_grad():
        table, conv = (min(seconds(lambda x=x: net(x))[1] for _ in range(3)) for x in (some, onehot))
    return {
        "load": os.getloadavg()[0], "nodes": nodes, "k": k, "wall": wall, "ours": ours, "theirs": theirs,
        "smoothing": smoothing, "gigabytes": gigabytes, "round": fast, "by_parent": plain, "table": table, "conv": conv,
    }  # fmt: skip


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    ratio, rounds = record["theirs"] / record["ours"], record["by_parent"] / record["round"]
    fused, minutes = record["conv"] / record["table"], record["wall"] / 60
    is_full_size = record["nodes"] == NODES
    targets = {
        f"exact neighbours within {MOST_MINUTES:g} minutes in two threads ({minutes:.1f})": minutes <= MOST_MINUTES,
        f"neighbours at least {LEAST_RATIO:g} times as fast as scikit-learn's brute force ({ratio:.0f}x)": ratio
        >= LEAST_RATIO,
        f"smoothing within {MOST_SMOOTHING:g} minutes, without the neighbours, and within {MOST_GIGABYTES:g} GB "
        f"({(record['smoothing'] - record['wall']) / 60:.1f} min, {record['gigabytes']:.1f} GB)": record["gigabytes"]
        <= MOST_GIGABYTES
        and record["smoothing"] - record["wall"] <= 60 * MOST_SMOOTHING,
        f"a round of the sampler at least {LEAST_ROUND:g} times as fast as parent by parent ({rounds:.0f}x)": rounds
        >= LEAST_ROUND,
        f"inference with one table at least {LEAST_FUSED:g} times as fast as with the convolution ({fused:.1f}x)": fused
        >= LEAST_FUSED,
    }
    return [
        "## Sequence design",
        "",
        f"{record['nodes']:,} sequences of 28 letters with {record['k']} neighbours each; a round of {PARENTS} parents "
        "with 100 proposals,",
        "with a network of the published size. Ratios are of processor time.",
        *([] if is_full_size else ["", "With `--quick`: a tenth of the sequences."]),
        "",
        f"Load average after the run {record['load']:.1f}.",
        "",
        *[f"- {name}: {'met' if met else 'NOT MET'}" for name, met in targets.items()],
        "",
    ]


def main() -> None:
    record = measured("--quick" in sys.argv)
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
