"""The verification engines: the order of their bounds on random networks, and queries like those about ACAS Xu."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.lab import Run, setting, settings
from engram.studies.experiments.property_verification.networks import RandomNetworks, random_network, trained
from engram.tasks import collision_advice
from engram.tasks.data import load
from engram.verify import (
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
from engram.verify.specification import Property


@settings
class AcasXu:
    """The budget of queries about ACAS Xu."""

    boxes: int = setting(20_000, "most boxes per query; not a time limit, so that answers are reproducible", ge=1)
    questions: int = setting(12, "queries drawn from the 129 of properties 1, 3 and 4", ge=1)


@settings
class Competition:
    """The budget of the instances of ACAS Xu in VNN-COMP."""

    boxes: int = setting(100_000, "most boxes per query; not a time limit, so that answers are reproducible", ge=1)
    instances: int = setting(19, "instances drawn from the 186", ge=1, le=186)


@settings
class Advice:
    """The settings of a network 5-20-20-20-5 fitted to the costs of manoeuvres, and the budget of queries."""

    samples: int = setting(20_000, "training encounters, and as many for the test", ge=100)
    epochs: int = setting(16, "epochs of training", ge=1)
    boxes: int = setting(20_000, "most boxes per query", ge=1)


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
        # CROWN itself intersects the bounds of inner layers with interval bounds; those of the output are intersected
        # here, since neither is always tighter.
        upper["crown"] = min(upper["crown"], interval)
        alpha = crown_bounds(net, box.low, box.high, q[None], alpha_steps=20).upper[0]
        table[number] = interval, *upper.values(), sampled, min(alpha, interval)
        run.log(number + 1, gap=upper["crown"] - upper["milp"])
    # With tightened relaxations of hidden units alpha may be below the linear program, but never below the exact bound.
    chains = [table[:, :5], table[:, [1, 5, 3]]]
    disorder = sum(float((np.diff(chain) > 1e-6).sum()) for chain in chains)
    result = {f"gap_{name}": float((table[:, i] - table[:, 3]).mean()) for i, name in enumerate(names)}
    closed = 1 - result["gap_alpha"] / max(result["gap_crown"], 1e-9)
    return {**result, "closed": closed, "disorder": disorder}


def acasxu(config: AcasXu, run: Run) -> dict[str, Any]:
    """Verify some of the standard properties of the ACAS Xu networks."""
    all_queries = [(number, name) for number in (1, 3, 4) for name in acasxu_property(number).networks]
    selected = [all_queries[i] for i in run.rng.permutation(len(all_queries))[: config.questions]]
    answers = np.zeros(len(selected))
    for i in run.steps(len(selected), answers=answers):
        number, name = selected[i]
        net, scale = read_nnet(load("acasxu", network=name))
        standard = acasxu_property(number)
        statuses = [answer(net, scale.box(box), standard.claim, config.boxes).status for box in standard.boxes]
        answers[i] = all(status == "proved" for status in statuses) - ("refuted" in statuses)
        run.log(i + 1, proved=answers[i])
    return {"proved": float((answers > 0).mean()), "refuted": float((answers < 0).mean()), "questions": len(selected)}


def competition(config: Competition, run: Run) -> dict[str, Any]:
    """Verify some of the 186 instances of ACAS Xu in VNN-COMP, and compare the answers with those of its tools."""
    every = tuple(f"{a}_{b}" for a in range(1, 6) for b in range(1, 10))
    instances = [(n, name) for n in range(1, 11) for name in (every if n <= 4 else acasxu_property(n).networks)]
    selected = [instances[i] for i in run.rng.permutation(len(instances))[: config.instances]]
    decided, same = np.zeros(len(selected)), np.zeros(len(selected))
    for i in run.steps(len(selected), decided=decided, same=same):
        number, name = selected[i]
        net, scale = read_nnet(load("acasxu", network=name))
        standard = acasxu_property(number)
        statuses = set[str]()
        for box in (scale.box(box) for box in standard.boxes):
            result = answer(net, box, standard.claim, config.boxes)
            is_checked = (
                result.certificate is None or check_certificate(net, box, standard.claim, result.certificate).valid
            )
            statuses.add(result.status if is_checked else "unknown")
        status = "refuted" if "refuted" in statuses else "unknown" if "unknown" in statuses else "proved"
        decided[i] = status != "unknown"
        same[i] = status == ("refuted" if is_violated(number, name) else "proved")
        run.log(i + 1, decided=decided[i])
    return {
        "decided": float(decided.mean()),
        "as_published": float(same.mean()),
        "wrong": float((decided - same).sum()),
        "instances": len(selected),
    }


def is_violated(number: int, network: str) -> bool:
    """Whether a property is violated by an ACAS Xu network, as all tools of VNN-COMP 2025 with an answer say.

    Args:
        number: The number of the property.
        network: The name of the network, such as ``"1_1"``.
    """
    if number == 2:
        return network not in ("1_1", "1_7", "1_8", "1_9", "3_3", "4_2")
    return (number in (3, 4) and network in ("1_7", "1_8", "1_9")) or number in (7, 8)


def advice(config: Advice, run: Run) -> dict[str, Any]:
    """Fit a network to the costs of manoeuvres and verify analogues of properties 1 and 3 of ACAS Xu."""
    X, costs = collision_advice(2 * config.samples, run.rng)
    half = config.samples
    net = trained((5, 20, 20, 20, 5), X[:half], costs[:half], config.epochs, run.generator)
    all_questions = questions()
    proved, refuted, checked = np.zeros(2), np.zeros(2), np.ones(2)
    for i in run.steps(2, proved=proved, refuted=refuted, checked=checked):
        box, claim = all_questions[i]
        result = answer(net, box, claim, config.boxes)
        proved[i], refuted[i] = result.status == "proved", result.status == "refuted"
        if result.certificate is not None:
            checked[i] = check_certificate(net, box, claim, result.certificate).valid
        run.log(i + 1, nodes=result.nodes)
    predicted, truth = net(X[half:]), costs[half:]
    return {
        "settled": float(((proved + refuted) * checked).mean()),
        "questions": len(all_questions),
        "proved": float(proved.mean()),
        "refuted": float(refuted.mean()),
        "explained": float(1 - ((predicted - truth) ** 2).mean() / truth.var(0).mean()),
        "as_advised": float((predicted.argmin(1) == truth.argmin(1)).mean()),
    }


def questions() -> list[tuple[Box, Property]]:
    """The queries about the costs of manoeuvres, which are true of the costs themselves.

    For a distant, slow intruder, "clear of conflict" never costs much; for one coming head-on, it is never optimal.
    """
    far = [(0.42, 0.5), (-0.5, 0.5), (-0.5, 0.5), (0.45, 0.5), (-0.5, -0.45)]
    ahead = [(0.2, 0.3), (-0.01, 0.01), (0.49, 0.5), (0.32, 0.5), (0.3, 0.5)]
    clear = np.eye(5)[[0]]
    better = AnyOf(tuple(LinearProperty(other - clear, np.zeros(1)) for other in np.eye(5)[1:]))
    return [(Box(*np.transpose(far)), LinearProperty(clear, np.array([4.0]))), (Box(*np.transpose(ahead)), better)]


def answer(net: AffineReLU, box: Box, claim: Property, boxes: int) -> Result:
    """The result of one query, decided with at most ``boxes`` boxes.

    Args:
        net: The network.
        box: The box of inputs.
        claim: The property to be verified on it.
        boxes: Maximum number of boxes into which the input is divided.
    """
    return verify(net, box, claim, engine="inputs", budget=Budget(seconds=1e6, nodes=boxes))
