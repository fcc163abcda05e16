"""Prove a property of a small network, or refute it with an input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from torch import nn

from engram import checks
from engram.verify.bounds import relax
from engram.verify.branch_inputs import Outcome, Progress, branch_inputs
from engram.verify.branch_relus import branch_relus
from engram.verify.certificate import Certificate, Tree, bound_clauses, subject
from engram.verify.counterexample import attack, first_counterexample
from engram.verify.exact import FEASIBILITY, solve
from engram.verify.network import AffineReLU, Array
from engram.verify.specification import Box, Clause, Domain, Polytope, Property, SolverError, question

Engine = Literal["auto", "inputs", "relus", "milp", "crown"]
Status = Literal["proved", "proved by solver", "refuted", "unknown"]
FEW_INPUTS = 10


@dataclass(frozen=True)
class Budget:
    """The limits of a question, all above 0; when one is used up the answer is *unknown*.

    Args:
        seconds: Time. A step that an engine has begun, a batch of boxes or a linear program, is always finished.
        nodes: Number of boxes or cases.
        megabytes: Memory of the boxes that are bounded at once and of those that wait, without the network itself.
    """

    seconds: float = 60.0
    nodes: int = 10_000_000
    megabytes: float = 1024.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            checks.number(name, value, above=0)


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to a question.

    ``status`` is ``"proved"`` by the certificate; ``"proved by solver"``, which has no certificate and may be wrong if
    weights are large; ``"refuted"`` by the counterexample (inputs,), which was confirmed without rounding; or
    ``"unknown"``, and ``exhausted`` then says what ran out, ``"time"``, ``"nodes"`` or ``"memory"``, or why the search
    got no further. ``bound`` is a lower bound of what has to be positive: the margin of a proof. ``engine`` is the name
    of the search that decided, ``"attack"``, ``"crown"``, ``"inputs"``, ``"relus"`` or ``"milp"``, after ``nodes``
    boxes or cases.
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
    progress: Callable[[Progress], object] | None = None,
) -> Result:
    """Prove that a network has a property for all inputs in a set, or find a counterexample.

    A proof holds for the real function whose weights are the network's, cast to 64 bits, and for every real input of
    the set: bounds account for their own rounding. It is not a statement about what the module computes in 32 bits.
    ``"milp"`` gives such a proof only if one backward pass is enough; otherwise its status is ``"proved by solver"``.

    Args:
        network: A chain of affine and piecewise linear layers in evaluation mode, which ``as_affine_relu`` can read. A
            softmax over the classes at the end is left out if the property only compares outputs.
        inputs: The set of inputs.
        prop: The property.
        engine: ``"inputs"`` halves the box of inputs, ``"relus"`` splits hidden units into on and off, ``"milp"`` asks
            HiGHS, ``"crown"`` is one backward pass; all look for counterexamples first. ``"auto"`` halves a box of
            up to ten inputs with half of the budget, and splits units with the rest, or with all of it for other sets.
        budget: Limits of time, nodes and memory; None: 60 seconds.
        input_shape: Shape of one input, if the first layer does not give it.
        rng: Source of the search for a counterexample; None: a generator of seed 0.
        progress: Called after each batch of boxes with the numbers of boxes done and waiting, and the share of the
            inputs that is proved; None: nothing is called.

    Raises:
        UnsupportedLayerError: A layer is of another kind, or a softmax that cannot be left out; it is named by its
            path.
        ValueError: A layer is in training mode, a number is not finite, or ``input_shape`` is missing; the inputs or
            the property do not fit the network; a polytope is not bounded; or ``engine`` is unknown.
        RuntimeError: HiGHS finds no ball in a polytope, mostly because its numbers differ too much in size.

    Examples:
        >>> from engram.verify import LinearProperty
        >>> net = AffineReLU((np.array([[1.0, 1], [1, -1]]), np.ones((1, 2))), (np.zeros(2), np.zeros(1)))  # at most 2
        >>> [verify(net, Box([-1, -1], [1, 1]), LinearProperty([[1.0]], [limit])).status for limit in (2.001, 1.9)]
        ['proved', 'refuted']
    """
    start = time.monotonic()
    budget = Budget() if budget is None else checks.instance("budget", budget, Budget)
    net, domain, clauses = question(network, inputs, prop, input_shape)
    deadline = start + budget.seconds
    checks.choice("engine", engine, get_args(Engine))
    rng = np.random.default_rng(0) if rng is None else checks.instance("rng", rng, np.random.Generator)

    def result_of(engine_name: str, search: Outcome, trees: tuple[Tree, ...] = ()) -> Result:
        status: Status = "refuted" if search.counterexample is not None else "unknown"
        if status == "unknown" and not search.exhausted:
            status = "proved" if trees else "proved by solver"
        certificate = Certificate(trees, subject(net, domain, clauses)) if status == "proved" else None
        search_results = search.exhausted, search.bound, engine_name, search.nodes, time.monotonic() - start
        return Result(status, search.counterexample, certificate, *search_results)

    with np.errstate(over="ignore", invalid="ignore"):  # a bound that overflows is infinite
        if (hit := attack(net, clauses, domain, rng)) is not None:
            return result_of("attack", Outcome((), hit, "", -np.inf, 0))
        all_clauses = tuple(range(len(clauses)))
        halves_box = engine == "inputs" or (engine == "auto" and net.sizes[0] <= FEW_INPUTS and not len(domain.v))
        share = 0.5 if engine == "auto" else 1.0  # of the budget, for halving; splitting units gets the rest
        outcome = Outcome((), None, "", -np.inf, 0)
        try:
            if halves_box or engine in ("crown", "milp"):
                limits = {"deadline": start + share * budget.seconds, "megabytes": budget.megabytes}
                nodes = max(int(share * budget.nodes), 1) if halves_box else 1
                outcome = branch_inputs(net, clauses, domain, nodes=nodes, progress=progress, **limits)
                if engine == "crown" and outcome.exhausted:
                    outcome = outcome._replace(exhausted="one backward pass")
                if engine in ("inputs", "crown") or not outcome.exhausted:
                    return result_of(
                        "inputs" if halves_box and outcome.nodes > 1 else "crown",
                        outcome,
                        (Tree(all_clauses, outcome.cases),),
                    )
            if engine == "milp":
                return result_of("milp", _by_milp(net, clauses, domain, deadline))
            return result_of(*_by_relus(net, clauses, domain, deadline=deadline, budget=budget, before=outcome))
        except SolverError as error:
            return result_of(engine, outcome._replace(counterexample=None, exhausted=f"precision: {error}"))


def _by_relus(
    net: AffineReLU, clauses: Sequence[Clause], domain: Domain, *, deadline: float, budget: Budget, before: Outcome
) -> tuple[str, Outcome, tuple[Tree, ...]]:
    """The result of splitting units for one clause after another; ``before`` is the outcome of halving."""
    trees: list[Tree] = []
    rows = bound_clauses(net, relax(net, domain.low[None], domain.high[None]), list(clauses))
    lowest, nodes = [float(row.least.max()) for row in rows], before.nodes
    for i, clause in enumerate(clauses):
        nodes_left = budget.nodes - nodes
        outcome = branch_relus(net, clause, domain, deadline=deadline, nodes=nodes_left, megabytes=budget.megabytes)
        lowest[i], nodes = max(lowest[i], outcome.bound), nodes + outcome.nodes
        if outcome.counterexample is not None or outcome.exhausted:
            return "relus", outcome._replace(bound=max(min(lowest), before.bound), nodes=nodes), ()
        trees.append(Tree((i,), outcome.cases))
    return "relus", Outcome((), None, "", max(min(lowest), before.bound), nodes), tuple(trees)


def _by_milp(net: AffineReLU, clauses: Sequence[Clause], domain: Domain, deadline: float) -> Outcome:
    """The result of minimising each clause with HiGHS."""
    relaxation = relax(net, domain.low[None], domain.high[None])
    lowest = np.inf
    for n_done, (clause, rows) in enumerate(zip(clauses, bound_clauses(net, relaxation, list(clauses)), strict=True)):
        if clause.holds(rows.least)[0]:
            lowest = min(lowest, float(rows.least.max()))
            continue
        if time.monotonic() >= deadline:
            return Outcome((), None, "time", -np.inf, n_done)
        solution = solve(net, relaxation, clause, domain, binary=True, time_limit=deadline - time.monotonic())
        if solution.x is not None:
            points = solution.x.clip(domain.low, domain.high)[None]
            if (hit := first_counterexample(net, [clause], domain, points)) is not None:
                return Outcome((), hit, "", solution.value, n_done + 1)
        lowest = min(lowest, solution.value)
        tolerance = FEASIBILITY * max(1.0, float((np.abs(clause.Q) @ np.linalg.norm(net.weights[-1], axis=1)).max()))
        if not solution.value > tolerance:
            reason = "precision: the margin is within the solver's tolerance" if solution.finished else "time"
            return Outcome((), None, reason, lowest, n_done + 1)
    return Outcome((), None, "", lowest, len(clauses))
