"""Prove a property of a small network, or refute it with an input."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import nn

from engram import checks
from engram.analysis.verify.bounds import relax
from engram.analysis.verify.branch_inputs import Outcome, branch_inputs
from engram.analysis.verify.branch_relus import branch_relus
from engram.analysis.verify.certificate import Certificate, Tree, bound_clauses, subject
from engram.analysis.verify.counterexample import attack, first_counterexample
from engram.analysis.verify.exact import FEASIBILITY, solve
from engram.analysis.verify.network import AffineReLU, Array
from engram.analysis.verify.specification import Box, Clause, Domain, Polytope, Property, question

Engine = Literal["auto", "inputs", "relus", "milp", "crown"]
Status = Literal["proved", "refuted", "unknown"]
FEW_INPUTS = 10


@dataclass(frozen=True)
class Budget:
    """What a question may cost, all above 0; when one of them is used up the answer is *unknown*.

    Args:
        seconds: Time. One step of an engine, a batch of boxes or a linear program, is always finished.
        nodes: Boxes or cases.
        megabytes: Memory of what is bounded at once and of what waits; the network itself comes on top.
    """

    seconds: float = 60.0
    nodes: int = 10_000_000
    megabytes: float = 1024.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            checks.number(name, value, above=0)


@dataclass(frozen=True, eq=False)
class Result:
    """An answer.

    ``status`` is ``"proved"`` by the certificate, ``"refuted"`` by the counterexample (inputs,), which was confirmed
    without rounding, or ``"unknown"``; ``exhausted`` then says what ran out: ``"time"``, ``"nodes"``, ``"memory"``, or
    why it got no further. ``bound`` is a lower bound of what has to be positive; of a proof, its margin. ``engine``
    decided: ``"attack"``, ``"crown"``, ``"inputs"``, ``"relus"`` or ``"milp"``, after ``nodes`` boxes or cases.
    """

    status: Status
    counterexample: Array | None
    certificate: Certificate | None
    exhausted: str
    bound: float
    engine: str
    nodes: int
    seconds: float


def verify(
    network: nn.Module | AffineReLU,
    inputs: Box | Polytope,
    prop: Property,
    *,
    engine: Engine = "auto",
    budget: Budget | None = None,
    input_shape: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
) -> Result:
    """Prove that a network has a property for all inputs of a set, or find one for which it has not.

    What is proved is true of the real function whose weights are the network's, cast to 64 bits, and of every real
    input of the set: bounds account for their own rounding. It is not a statement about what the module computes in 32
    bits. A proof by ``"milp"`` is the exception; it rests on the solver and its tolerance, which the certificate names.

    Args:
        network: A chain of affine and piecewise linear layers in evaluation mode; errors as of ``as_affine_relu``. A
            softmax of the classes at the end is left out where the property compares outputs and nothing else.
        inputs: The set of inputs.
        prop: What is to hold for each of them.
        engine: ``"inputs"`` halves the box of inputs, ``"relus"`` splits hidden units into on and off, ``"milp"`` asks
            HiGHS, ``"crown"`` is one backward pass; all look for counterexamples first. ``"auto"`` halves the sides of
            a box of up to ten inputs, and splits units elsewhere, and where the halves get too small.
        budget: What it may cost; default 60 seconds.
        input_shape: Shape of one input, where the first layer does not tell it.
        rng: Randomness of the search for a counterexample; default: of seed 0.

    Examples:
        >>> from engram.analysis.verify import LinearProperty
        >>> net = AffineReLU((np.array([[1.0, 1], [1, -1]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))  # at most 2
        >>> [verify(net, Box([-1, -1], [1, 1]), LinearProperty([[1.0]], [most])).status for most in (2.001, 1.9)]
        ['proved', 'refuted']
    """
    began = time.monotonic()
    budget = Budget() if budget is None else budget
    net, place, wanted = question(network, inputs, prop, input_shape)
    deadline = began + budget.seconds
    checks.choice("engine", engine, get_args(Engine))

    def answer(used: str, search: Outcome, trees: tuple[Tree, ...] = (), tol: float = 0.0) -> Result:
        status: Status = "refuted" if search.counterexample is not None else "unknown" if search.exhausted else "proved"
        kind: Literal["tree", "solver"] = "solver" if used == "milp" else "tree"
        certificate = Certificate(kind, trees, subject(net, place, wanted), tol) if status == "proved" else None
        rest = search.exhausted, search.bound, used, search.nodes, time.monotonic() - began
        return Result(status, search.counterexample, certificate, *rest)

    if (hit := attack(net, wanted, place, np.random.default_rng(0) if rng is None else rng)) is not None:
        return answer("attack", Outcome((), hit, "", -np.inf, 0))
    if engine == "milp":
        found, tol = _by_milp(net, wanted, place, deadline)
        return answer("milp", found, tol=tol)
    few = engine == "inputs" or (engine == "auto" and net.sizes[0] <= FEW_INPUTS and not len(place.v))
    if few or engine == "crown":
        nodes = 1 if engine == "crown" else budget.nodes
        found = branch_inputs(net, wanted, place, deadline=deadline, nodes=nodes, megabytes=budget.megabytes)
        used = "crown" if engine == "crown" or found.nodes == 1 else "inputs"
        every = Tree(tuple(range(len(wanted))), found.cases)
        if engine != "auto" or not found.exhausted.startswith("precision"):
            exhausted = "one backward pass" if engine == "crown" and found.exhausted else found.exhausted
            return answer(used, found._replace(exhausted=exhausted), (every,))
    trees: list[Tree] = []
    least, nodes = np.inf, found.nodes if few else 0
    for i, clause in enumerate(wanted):
        left = budget.nodes - nodes
        found = branch_relus(net, clause, place, deadline=deadline, nodes=left, megabytes=budget.megabytes)
        least, nodes = min(least, found.bound), nodes + found.nodes
        if found.counterexample is not None or found.exhausted:
            return answer("relus", found._replace(bound=least, nodes=nodes))
        trees.append(Tree((i,), found.cases))
    return answer("relus", Outcome((), None, "", least, nodes), tuple(trees))


def _by_milp(net: AffineReLU, wanted: Sequence[Clause], place: Domain, deadline: float) -> tuple[Outcome, float]:
    """Ask HiGHS for the least of each clause; return what came of it, and the tolerance."""
    relaxation = relax(net, place.low[None], place.high[None])
    least, tol = np.inf, 0.0
    for done, (clause, rows) in enumerate(zip(wanted, bound_clauses(net, relaxation, list(wanted)), strict=True)):
        if clause.holds(rows.least)[0]:
            least = min(least, float(rows.least.max()))
            continue
        allowed = FEASIBILITY * max(1.0, float((np.abs(clause.Q) @ np.linalg.norm(net.weights[-1], axis=1)).max()))
        tol = max(tol, allowed)
        if time.monotonic() >= deadline:
            return Outcome((), None, "time", -np.inf, done), tol
        found = solve(net, relaxation, clause, place, binary=True, time_limit=deadline - time.monotonic())
        if found.x is not None:
            points = found.x.clip(place.low, place.high)[None]
            if (hit := first_counterexample(net, [clause], place, points)) is not None:
                return Outcome((), hit, "", found.value, done + 1), tol
        least = min(least, found.value)
        if not found.value > allowed:
            why = "precision: the margin is within the solver's tolerance" if found.finished else "time"
            return Outcome((), None, why, least, done + 1), tol
    return Outcome((), None, "", least, len(wanted)), tol
