"""The engines beneath: the order of their bounds on random networks, and questions about ACAS Xu and its like."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.analysis.verify import (
    AffineReLU,
    AnyOf,
    Box,
    Budget,
    LinearProperty,
    Result,
    acasxu_property,
    check_certificate,
    crown_bounds,
    interval_bounds,
    maximize,
    read_nnet,
    verify,
)
from engram.analysis.verify.specification import Property
from engram.experiments.property_verification.networks import RandomNetworks, random_network, trained
from engram.lab import Run, setting, settings
from engram.tasks import collision_advice
from engram.tasks.data import load


@settings
class AcasXu:
    """What a question may cost."""

    boxes: int = setting(20_000, "at most for a question; not seconds, so that answers do not vary", ge=1)
    questions: int = setting(12, "drawn from the 129 of properties 1, 3 and 4", ge=1, scales=True)


@settings
class Advice:
    """A network 5-20-20-20-5 that is fitted to the costs of manoeuvres, and what a question may cost."""

    samples: int = setting(20_000, "encounters to learn from; as many are for the test", ge=100)
    epochs: int = setting(16, "epochs of training", ge=1, scales=True)
    boxes: int = setting(20_000, "at most for a question", ge=1)


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
        standard = acasxu_property(number)
        statuses = [answer(net, scale.box(box), standard.claim, config.boxes).status for box in standard.boxes]
        answers[i] = all(status == "proved" for status in statuses) - ("refuted" in statuses)
        run.log(i + 1, proved=answers[i])
    return {"proved": float((answers > 0).mean()), "refuted": float((answers < 0).mean()), "questions": len(asked)}


def advice(config: Advice, run: Run) -> dict[str, Any]:
    """Fit a network to the costs of manoeuvres and ask what properties 1 and 3 ask of ACAS Xu."""
    X, costs = collision_advice(2 * config.samples, run.rng)
    half = config.samples
    net = trained((5, 20, 20, 20, 5), X[:half], costs[:half], config.epochs, run.generator)
    asked = questions()
    proved, refuted, checked = np.zeros(2), np.zeros(2), np.ones(2)
    for i in run.steps(2, proved=proved, refuted=refuted, checked=checked):
        box, claim = asked[i]
        result = answer(net, box, claim, config.boxes)
        proved[i], refuted[i] = result.status == "proved", result.status == "refuted"
        if result.certificate is not None:
            checked[i] = check_certificate(net, box, claim, result.certificate).valid
        run.log(i + 1, nodes=result.nodes)
    test, truth = net(X[half:]), costs[half:]
    return {
        "settled": float(((proved + refuted) * checked).mean()),
        "questions": len(asked),
        "proved": float(proved.mean()),
        "refuted": float(refuted.mean()),
        "explained": float(1 - ((test - truth) ** 2).mean() / truth.var(0).mean()),
        "as_advised": float((test.argmin(1) == truth.argmin(1)).mean()),
    }


def questions() -> list[tuple[Box, Property]]:
    """What is asked about the costs of manoeuvres, true of the costs themselves.

    An intruder that is far away and slow: clear of conflict never costs much. One that comes head-on: it is never best.
    """
    far = [(0.42, 0.5), (-0.5, 0.5), (-0.5, 0.5), (0.45, 0.5), (-0.5, -0.45)]
    ahead = [(0.2, 0.3), (-0.01, 0.01), (0.49, 0.5), (0.32, 0.5), (0.3, 0.5)]
    clear = np.eye(5)[[0]]
    better = AnyOf(tuple(LinearProperty(other - clear, np.zeros(1)) for other in np.eye(5)[1:]))
    return [(Box(*np.transpose(far)), LinearProperty(clear, np.array([4.0]))), (Box(*np.transpose(ahead)), better)]


def answer(net: AffineReLU, box: Box, claim: Property, boxes: int) -> Result:
    """Ask one question, within a number of boxes."""
    return verify(net, box, claim, engine="inputs", budget=Budget(seconds=1e6, nodes=boxes))
