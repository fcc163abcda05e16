"""Answers to queries about networks, both of which may be files, with counterexamples that are checked three times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from engram import checks
from engram.verify.branch_inputs import Progress
from engram.verify.certificate import Certificate, Check, check_certificate
from engram.verify.counterexample import attack
from engram.verify.modules import kept_softmax
from engram.verify.network import AffineReLU, Array, exact_affine
from engram.verify.nnet import read_nnet
from engram.verify.onnx import Session, as_onnx, read_onnx, self_contained
from engram.verify.query import Query, QueryCase
from engram.verify.specification import SolverError, as_domain, clauses, only_compares
from engram.verify.verifier import Budget, verify
from engram.verify.vnnlib import read_vnnlib

Answer = Literal["unsat", "sat", "unknown", "timeout"]
Float = type[np.float32] | type[np.float64]
NEAR = 2000  # points around a violation that is lost by rounding, of which the best 20 are tried


class Runtime(NamedTuple):
    """What computes a network as it is deployed."""

    compute: Callable[[Array], Array]
    dtype: Float


@dataclass(frozen=True, eq=False)
class QueryResult:
    """The answer to a query.

    ``answer`` is ``"unsat"``, no input answers the query, by ``certificates``, one for each case, None where
    the case has no inputs; ``"sat"``, ``x`` does, with the outputs ``y``; ``"timeout"``; or ``"unknown"``, for a
    ``reason``. ``proved`` is the number of cases that are proved, ``note`` says what else there is to say.
    """

    answer: Answer
    x: Array | None
    y: Array | None
    certificates: tuple[Certificate | None, ...]
    reason: str
    note: str
    proved: int
    nodes: int
    seconds: float

    def __repr__(self) -> str:
        return f"QueryResult(answer={self.answer!r}, proved={self.proved}, nodes={self.nodes}, reason={self.reason!r})"


def verify_query(
    network: AffineReLU,
    query: Query,
    *,
    runtime: Runtime | None = None,
    budget: Budget | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, Progress], object] | None = None,
) -> QueryResult:
    """Whether some input of a query has outputs of it.

    All cases are attacked first, then they are proved one after another. A counterexample is reported if, with its
    numbers as the network takes them (32 bits, rounded inwards), it lies in the exact box, violates the property by
    rational arithmetic, and does so as ``runtime`` computes it.

    Args:
        network: The network.
        query: The query.
        runtime: What computes the network as it is deployed; None: a counterexample is not checked so.
        budget: Limits of time for all cases, and of nodes and memory for each; None: 60 seconds.
        rng: Source of the attacks; None: a generator of seed 0.
        progress: Called after each batch of boxes, with the index of the case; None: nothing is called.
    """
    checks.arguments()
    start = time.monotonic()
    budget = Budget() if budget is None else budget
    rng = np.random.default_rng(0) if rng is None else rng
    check_counts(network, query)
    certificates: list[Certificate | None] = [None] * len(query.cases)
    open_cases = [i for i, case in enumerate(query.cases) if not case.is_empty]
    proved, nodes, reasons = len(query.cases) - len(open_cases), 0, dict[str, None]()

    def result(answer: Answer, x: Array | None = None, y: Array | None = None, note: str = "") -> QueryResult:
        said = "" if answer in ("sat", "unsat") else "; ".join(reasons)
        return QueryResult(answer, x, y, tuple(certificates), said, note, proved, nodes, time.monotonic() - start)

    def witness(case: QueryCase, points: Array) -> QueryResult | None:
        found = _witness(network, case, points, runtime)
        if isinstance(found, str):
            reasons[found] = None
            return None
        return result("sat", *found)

    for case in (query.cases[i] for i in open_cases):
        if time.monotonic() - start >= budget.seconds:
            break
        if (points := _attacked(network, query, case, rng)) is not None and (sat := witness(case, points)) is not None:
            return sat
    for done, i in enumerate(open_cases):
        case, left = query.cases[i], budget.seconds - (time.monotonic() - start)
        if left <= 0:
            reasons["time"] = None
            break
        if not all(case.violations):
            reasons["every input of a case violates the property, but none of them could be confirmed"] = None
            continue
        limits = Budget(left / (len(open_cases) - done), budget.nodes, budget.megabytes)
        report = None if progress is None else (lambda at, i=i: progress(i, at))
        try:
            outcome = verify(network, case.inputs, case.safe(query.outputs), budget=limits, rng=rng, progress=report)
        except (SolverError, ValueError) as error:
            reasons[str(error)] = None
            continue
        nodes += outcome.nodes
        if outcome.status == "proved":
            certificates[i], proved = outcome.certificate, proved + 1
        elif outcome.counterexample is None:
            reasons[outcome.exhausted or outcome.status] = None
        elif (sat := witness(case, _near(network, query, case, outcome.counterexample, rng))) is not None:
            return sat
    if proved == len(query.cases):
        bits = 32 if runtime is None else 8 * np.dtype(runtime.dtype).itemsize
        return result("unsat", note=f"over the real numbers; computed in {bits} bits, outputs may differ by rounding")
    return result("timeout" if "time" in reasons else "unknown")


def check_query(network: AffineReLU, query: Query, certificates: Sequence[Certificate | None]) -> Check:
    """Whether certificates prove again that the answer to a query is ``unsat``; see ``check_certificate``.

    Args:
        network: The network.
        query: The query.
        certificates: One for each of its cases, or None for a case without inputs.
    """
    checks.arguments()
    check_counts(network, query)
    if len(certificates) != len(query.cases):
        return Check(False, f"there are {len(certificates)} certificates for {len(query.cases)} cases", 0)
    leaves = 0
    for i, (case, certificate) in enumerate(zip(query.cases, certificates, strict=True)):
        if case.is_empty:
            continue
        if certificate is None or not all(case.violations):
            return Check(False, f"case {i} is not proved", leaves)
        check = check_certificate(network, case.inputs, case.safe(query.outputs), certificate)
        leaves += check.leaves
        if not check.valid:
            return Check(False, f"case {i}: {check.reason}", leaves)
    return Check(True, "", leaves)


def check_counts(network: AffineReLU, query: Query) -> None:
    """Raise a ValueError unless a query has as many inputs and outputs as a network.

    Args:
        network: The network.
        query: The query.
    """
    for kind, asked, size in (
        ("inputs", query.inputs, network.sizes[0]),
        ("outputs", query.outputs, network.sizes[-1]),
    ):
        if asked != size:
            raise ValueError(f"the query has {asked} {kind}: expected {size}, as the network has")


class Question(NamedTuple):
    """A network, what computes it as it is deployed, and a query, read from files."""

    network: AffineReLU
    query: Query
    runtime: Runtime | None

    def __repr__(self) -> str:
        return f"Question(network of sizes {self.network.sizes}, {self.query}, runtime={self.runtime is not None})"


def read_question(network: str | Path, prop: str | Path) -> Question:
    """The question that the files of a network and of a property ask.

    Args:
        network: An ONNX file, or a file in the NNet format whose name ends in ``.nnet``, of which the normalisation is
            left out: the property is about scaled inputs and outputs. Either may be packed by gzip. What computes it
            is ONNX Runtime; without that package there is none.
        prop: A VNN-LIB file.

    Raises:
        UnsupportedLayerError: The network has an operator that is not supported.
        ValueError: A file is malformed, or they do not fit each other.
    """
    checks.arguments()
    query = read_vnnlib(prop)
    if Path(network).name.removesuffix(".gz").endswith(".nnet"):
        net, _ = read_nnet(network)
        runtime = _runtime(lambda: as_onnx(net), np.float32)
    else:
        read = read_onnx(network)
        net = read.network
        check_counts(net, query)
        if read.softmax and not all(
            only_compares(clauses(case.safe(query.outputs), query.outputs))
            for case in query.cases
            if all(case.violations)
        ):
            raise kept_softmax(read.softmax, "expected a property that just compares outputs")
        runtime = _runtime(lambda: self_contained(network), np.float64 if read.is_double else np.float32)
        if runtime is not None and not read.softmax:
            _compare(network, net, runtime)
    check_counts(net, query)
    for case in query.cases:
        if not case.is_empty and all(case.violations):
            _ = case.inputs, case.safe(query.outputs)  # what cannot be rounded is refused before anything is computed
    return Question(net, query, runtime)


def _runtime(content: Callable[[], bytes], dtype: Float) -> Runtime | None:
    """ONNX Runtime for a network, or None if it is not installed or has no implementation of old operators."""
    try:
        return Runtime(Session(content()), dtype)
    except Exception:  # the package's errors have no common type
        return None


def _compare(path: str | Path, network: AffineReLU, runtime: Runtime) -> None:
    """Raise a ValueError if ONNX Runtime computes something else than what was read."""
    for x in np.random.default_rng(0).uniform(-1, 1, (3, network.sizes[0])).astype(np.float32).astype(np.float64):
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                y = runtime.compute(x)
            except Exception as error:
                raise ValueError(f"{path}: ONNX Runtime cannot compute it: {error}") from error
            layers = network.preactivations(x)
            h = np.maximum(layers[-2], 0) if len(layers) > 1 else np.abs(x)
            size = np.abs(network.weights[-1]) @ h + np.abs(network.biases[-1]) + 1
            if y.shape != layers[-1].shape or not (np.abs(y - layers[-1]) <= 1e-2 * size).all():
                raise ValueError(f"{path}: ONNX Runtime computes something else than what was read")


def _attacked(network: AffineReLU, query: Query, case: QueryCase, rng: np.random.Generator) -> Array | None:
    """Points, the first of which violates the property of a case, or None."""
    domain = as_domain(case.inputs, query.inputs)
    if not all(case.violations):
        return (domain.centre if len(domain.v) else domain.low / 2 + domain.high / 2)[None]
    with np.errstate(over="ignore", invalid="ignore"):
        hit = attack(network, clauses(case.safe(query.outputs), query.outputs), domain, rng)
    return None if hit is None else _near(network, query, case, hit, rng)


def _near(network: AffineReLU, query: Query, case: QueryCase, hit: Array, rng: np.random.Generator) -> Array:
    """A violation, then others around it that violate the property most, which rounding does not lose."""
    domain, required = as_domain(case.inputs, query.inputs), clauses(case.safe(query.outputs), query.outputs)
    scales = 10.0 ** rng.uniform(-7, -1, (NEAR, 1)) * (domain.high - domain.low)
    points = (hit + scales * rng.uniform(-1, 1, (NEAR, len(hit)))).clip(domain.low, domain.high)
    y = network(points)
    margins = np.min([(y @ clause.Q.T + clause.c).max(-1) for clause in required], axis=0)
    return np.vstack([hit, points[np.argsort(margins)[:20]]])


def _witness(
    network: AffineReLU, case: QueryCase, points: Array, runtime: Runtime | None
) -> tuple[Array, Array, str] | str:
    """The first point that passes all checks, with its outputs and a note; or why none of them does."""
    failed = ""
    for point in points:
        x, exact, note = _as_deployed(case, point, np.float32 if runtime is None else runtime.dtype)
        if not case.contains(exact):
            failed = failed or "violated by an input that is not in the exact box"
            continue
        real = case.violated(_outputs(network, exact))
        y = network(x) if runtime is None else runtime.compute(x)
        if real and runtime is None:
            return x, y, "; ".join(filter(None, [note, "not checked in 32 bits by ONNX Runtime"]))
        deployed = bool(np.isfinite(y).all()) and case.violated([Fraction(v) for v in y.tolist()])
        if real and deployed:
            return x, y, note
        failed = "violated over the reals, not as computed" if real else "violated as computed, not over the reals"
        failed = failed if real or deployed else "violated at an input that rounding to 32 bits loses"
    return failed


def _as_deployed(case: QueryCase, point: Array, dtype: Float) -> tuple[Array, list[Fraction], str]:
    """A point in the numbers of a network, rounded inwards; what it stands for exactly; and a note.

    Where no such number lies between the ends of an input, the nearest is taken, and stands for the end.
    """
    largest = float(np.finfo(dtype).max)
    nearest = point.clip(-largest, largest).astype(dtype)
    x, exact, without = nearest.copy(), list[Fraction](), []
    for i, (low, high) in enumerate(zip(case.low, case.high, strict=True)):
        if Fraction(float(x[i])) < low and x[i] < largest:
            x[i] = np.nextafter(x[i], dtype(np.inf))
        elif Fraction(float(x[i])) > high and x[i] > -largest:
            x[i] = np.nextafter(x[i], dtype(-np.inf))
        value = Fraction(float(x[i]))
        if not low <= value <= high:
            without.append(f"X_{i}")
            x[i] = nearest[i]
            value = low
        exact.append(value)
    note = f"up to rounding: no {np.dtype(dtype).name} lies within the range of {', '.join(without)}" if without else ""
    return x.astype(np.float64), exact, note


def _outputs(network: AffineReLU, x: Sequence[Fraction]) -> list[Fraction]:
    h = list(x)
    for k, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        z = exact_affine(W, b, h)
        h = z if k == len(network.weights) - 1 else [max(v, Fraction(0)) for v in z]
    return h


def counterexample_text(x: Array, y: Array) -> str:
    """A counterexample as VNN-COMP writes it.

    Args:
        x: The input.
        y: Its outputs.
    """
    values: list[tuple[str, Any]] = [(f"X_{i}", v) for i, v in enumerate(x.tolist())]
    values += [(f"Y_{i}", v) for i, v in enumerate(y.tolist())]
    lines = [f"({name} {value!r})" for name, value in values]
    return "(" + "\n".join(lines) + ")"
