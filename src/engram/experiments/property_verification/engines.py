"""The engines beneath: the order of their bounds on random networks, and the standard questions about ACAS Xu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from engram.analysis.verify import (
    Box,
    Budget,
    acasxu_property,
    crown_bounds,
    interval_bounds,
    maximize,
    read_nnet,
    verify,
)
from engram.experiments.property_verification.networks import RandomNetworks, random_network
from engram.lab import Run
from engram.tasks.data import load


@dataclass(frozen=True)
class AcasXu:
    """What a question may cost."""

    boxes: Annotated[int, Ge(1)] = 20_000
    """Most boxes for one question; not seconds, so that answers are the same everywhere."""
    questions: Annotated[int, Ge(1)] = 12
    """How many of the 129 questions of properties 1, 3 and 4 are drawn."""


def order(config: RandomNetworks, run: Run) -> dict[str, Any]:
    """Compare the bounds of all engines with the exact maximum and with samples."""
    names = ("interval", "crown", "lp", "milp", "sampled", "alpha")
    table = np.zeros((config.networks, len(names)))
    for number in run.steps(config.networks, table=table):
        net = random_network(config.sizes, run.rng)
        centre = run.rng.normal(size=net.sizes[0])
        box = Box(centre - 0.5, centre + 0.5)
        q = np.eye(net.sizes[-1])[0]
        sampled = net(run.rng.uniform(box.low, box.high, (config.points, net.sizes[0])))[:, 0].max()
        upper = {engine: maximize(net, box, q, engine=engine).upper for engine in ("crown", "lp", "milp")}
        interval = float(interval_bounds(net, box.low, box.high)[1][0])
        # Layers within are cut with intervals by the bounds themselves, the output is here: neither is always tighter.
        upper["crown"] = min(upper["crown"], interval)
        alpha = crown_bounds(net, box.low, box.high, q[None], alpha_steps=20).upper[0]
        table[number] = interval, *upper.values(), sampled, min(alpha, interval)
        run.log(number + 1, gap=upper["crown"] - upper["milp"])
    # Tightened relaxations of hidden units may take alpha below the linear program, and never below the exact one.
    chains = [table[:, :5], table[:, [1, 5, 3]]]
    disorder = sum(float((np.diff(chain) > 1e-6).sum()) for chain in chains)
    result = {f"gap_{name}": float((table[:, i] - table[:, 3]).mean()) for i, name in enumerate(names)}
    closed = 1 - result["gap_alpha"] / max(result["gap_crown"], 1e-9)
    return {**result, "closed": closed, "disorder": disorder}


def acasxu(config: AcasXu, run: Run) -> dict[str, Any]:
    """Ask some of the standard questions about the ACAS Xu networks."""
    every = [(number, name) for number in (1, 3, 4) for name in acasxu_property(number).networks]
    asked = [every[i] for i in run.rng.permutation(len(every))[: config.questions]]
    answers = np.zeros(len(asked))
    for i in run.steps(len(asked), answers=answers):
        number, name = asked[i]
        net, scale = read_nnet(load("acasxu", network=name))
        one = acasxu_property(number)
        budget = Budget(seconds=1e6, nodes=config.boxes)
        found = [verify(net, scale.box(box), one.claim, engine="inputs", budget=budget).status for box in one.boxes]
        answers[i] = all(status == "proved" for status in found) - any(status == "refuted" for status in found)
        run.log(i + 1, proved=answers[i])
    return {"proved": float((answers > 0).mean()), "refuted": float((answers < 0).mean()), "questions": len(asked)}
