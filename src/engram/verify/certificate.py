"""Proofs as trees of cases, and a checker that is independent of the search."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter
from torch import nn

from engram import checks
from engram.verify.bounds import FREE, OFF, ON, Phases, Relaxation, lower_lines, minimum, relax
from engram.verify.dual import dual_bound
from engram.verify.network import AffineReLU, Array, Mask
from engram.verify.specification import Box, Clause, Domain, Polytope, Property, question

Multipliers = tuple[tuple[float, ...], ...]


class Case(NamedTuple):
    """A node of a proof: the inputs of a box, in some phases of the hidden units."""

    axis: int = -1  # the input that is split, or number of inputs + index of a hidden unit; -1 for a leaf
    value: float = 0.0  # where the input is split; both halves contain it
    first: int = -1  # index of the first child: the lower half, or the unit off; the second follows it
    multipliers: Multipliers = ()  # of ``dual_bound`` for each clause, in a leaf that linear programs prove


@dataclass(frozen=True)
class Tree:
    """Cases that cover the inputs, the root first; in each leaf the clauses, given by their indices, hold."""

    clauses: tuple[int, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Certificate:
    """A proof of a property: one tree of cases for all clauses, or one for each.

    ``subject`` is a digest of the network, the inputs and the property.
    """

    trees: tuple[Tree, ...]
    subject: str

    @property
    def leaves(self) -> int:
        """The number of cases that are proved without a further split."""
        return sum(case.axis < 0 for tree in self.trees for case in tree.cases)

    def to_json(self) -> dict[str, Any]:
        """The certificate as JSON values."""
        content: dict[str, Any] = TypeAdapter(Certificate).dump_python(self, mode="json")
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Certificate:
        """The certificate of an output of ``to_json``; a ValueError for any other content."""
        return TypeAdapter(cls).validate_python(content)


class Check(NamedTuple):
    """Whether a certificate proves the property, why not, and how many leaves were checked."""

    valid: bool
    reason: str
    leaves: int


def check_certificate(
    network: nn.Module | AffineReLU,
    inputs: Box | Polytope,
    prop: Property,
    certificate: Certificate,
    *,
    input_shape: Sequence[int] | None = None,
) -> Check:
    """Prove every leaf of a certificate again.

    The cases cover all inputs, since each split has two children. Each is bounded afresh from its box, its phases and
    the units that are stable in the cases above it, with the stored multipliers, by ``relax``, ``minimum`` and
    ``dual_bound``, which account for rounding; nothing of the solver or the search is used.

    Args:
        network: The network.
        inputs: The set of inputs.
        prop: The property.
        certificate: The proof.
        input_shape: Shape of one input, if the first layer does not give it.

    Raises:
        UnsupportedLayerError, ValueError, RuntimeError: The question is refused, as by ``verify``.

    Examples:
        >>> from engram.verify import Argmax, verify
        >>> net = AffineReLU((np.array([[1.0], [-1.0]]),), (np.zeros(2),))
        >>> result = verify(net, Box([0.5], [1.0]), Argmax(0))
        >>> check_certificate(net, Box([0.5], [1.0]), Argmax(0), result.certificate)
        Check(valid=True, reason='', leaves=1)
    """
    checks.instance("certificate", certificate, Certificate)
    net, domain, clauses = question(network, inputs, prop, input_shape)
    if certificate.subject != subject(net, domain, clauses):
        return Check(False, "it is of another network, other inputs or another property", 0)
    if {i for tree in certificate.trees for i in tree.clauses} != set(range(len(clauses))):
        return Check(False, "it does not prove all clauses of the property", 0)
    leaves = 0
    for tree in certificate.trees:
        reason, n_leaves = _check_tree(net, domain, [clauses[i] for i in tree.clauses], tree)
        leaves += n_leaves
        if reason:
            return Check(False, reason, leaves)
    return Check(True, "", leaves)


class _Node(NamedTuple):  # a case as it is reached from the root
    number: int
    low: Array
    high: Array
    phases: Phases


def _check_tree(net: AffineReLU, domain: Domain, clauses: list[Clause], tree: Tree) -> tuple[str, int]:
    """The reason why a tree proves nothing, or "", and the number of leaves that were proved."""
    inputs, units = net.sizes[0], sum(net.sizes[1:-1])
    waiting = [_Node(0, domain.low, domain.high, np.full(units, FREE, dtype=np.int8))]
    visited, leaves, batch = 0, 0, chunk(net)
    while waiting:
        nodes, waiting = waiting[-batch:], waiting[:-batch]
        visited += len(nodes)
        for node in nodes:
            if not 0 <= node.number < len(tree.cases) or visited > len(tree.cases):
                return f"case {node.number} is not there, or is its own descendant", leaves
            case = tree.cases[node.number]
            if case.axis >= inputs + units or np.isnan(case.value):
                return f"case {node.number} splits axis {case.axis} at {case.value}", leaves
        cases = [tree.cases[node.number] for node in nodes]
        _, low, high, phases = (np.stack(fields) for fields in zip(*nodes, strict=True))
        relaxation = relax(net, low, high, by_layer(net, phases))
        leaf = np.array([case.axis < 0 for case in cases])
        proved = _proved(net, domain, clauses, relaxation, [case.multipliers for case in cases])
        if (leaf & ~proved).any():
            return f"leaf {nodes[int(np.argmax(leaf & ~proved))].number} is not proved", leaves
        leaves += int(leaf.sum())
        stable = stable_phases(relaxation, phases)
        children = [
            _child(nodes[i], cases[i], side, inputs, stable[i]) for i in np.flatnonzero(~leaf) for side in (0, 1)
        ]
        waiting += [child for child in children if child is not None]
        visited += children.count(None)
    return "", leaves


def _child(node: _Node, case: Case, side: int, inputs: int, stable: Phases) -> _Node | None:
    """One half of a case, or None if it is empty."""
    low, high, phases = node.low.copy(), node.high.copy(), node.phases.copy()
    if case.axis >= inputs:
        if phases[case.axis - inputs] not in (FREE, side):
            return None  # the other phase was assumed above
        phases[case.axis - inputs] = side
    else:
        phases = stable  # a unit that is stable in a box is stable in its halves
        if side == 0:
            high[case.axis] = min(high[case.axis], case.value)
        else:
            low[case.axis] = max(low[case.axis], case.value)
        if (low > high).any():
            return None
    return _Node(case.first + side, low, high, phases)


def _proved(
    net: AffineReLU, domain: Domain, clauses: list[Clause], relaxation: Relaxation, multipliers: list[Multipliers]
) -> Mask:
    """A mask of the boxes of a relaxation in which all clauses are proved, by bounds or by stored multipliers."""
    low, high = relaxation.low, relaxation.high
    is_empty = relaxation.empty | outside(domain, low, high)
    proved = proved_clauses(clauses, bound_clauses(net, relaxation, clauses)) | is_empty[:, None]
    for i, j in np.argwhere(~proved).tolist():
        if len(multipliers[i]) == len(clauses):
            case_domain, case_multipliers = domain._replace(low=low[i], high=high[i]), np.array(multipliers[i][j])
            proved[i, j] = dual_bound(net, relaxation.only(i), clauses[j], case_domain, case_multipliers) > 0
    return np.asarray(proved.all(1))


def stable_phases(relaxation: Relaxation, phases: Phases) -> Phases:
    """The phases of units that are stable in their box, (boxes, units); other units are free."""
    if not relaxation.lower:
        return phases
    lower, upper = np.concatenate(relaxation.lower, axis=1), np.concatenate(relaxation.upper, axis=1)
    return np.where(lower >= 0, ON, np.where(upper <= 0, OFF, FREE)).astype(np.int8)


class Rows(NamedTuple):
    """Lower bounds of the rows of a clause over many boxes: the line A x + c, and its minimum."""

    A: Array  # (boxes, rows, inputs)
    c: Array  # (boxes, rows)
    least: Array  # (boxes, rows)


def bound_clauses(net: AffineReLU, relaxation: Relaxation, chosen: Sequence[Clause]) -> list[Rows]:
    """Lower bounds of the rows of clauses over the boxes of a relaxation.

    Args:
        net: The network.
        relaxation: Bounds of its hidden units over all boxes.
        chosen: The clauses.
    """
    boxes = len(relaxation.low)
    spec, c = np.vstack([clause.Q for clause in chosen]), np.concatenate([clause.c for clause in chosen])
    box = np.repeat(np.arange(boxes), len(spec))
    A, c = lower_lines(net, relaxation, np.tile(spec, (boxes, 1)), box, np.tile(c, boxes))
    minima = minimum(A, c, relaxation.low[box], relaxation.high[box]).reshape(boxes, -1)
    A, c = A.reshape(boxes, len(spec), -1), c.reshape(boxes, -1)
    ends = np.cumsum([0, *(len(clause.c) for clause in chosen)])
    row_slices = (slice(a, b) for a, b in itertools.pairwise(ends))
    return [Rows(A[:, row_slice], c[:, row_slice], minima[:, row_slice]) for row_slice in row_slices]


def proved_clauses(chosen: Sequence[Clause], clause_rows: list[Rows]) -> Mask:
    """A mask of the clauses that the bounds of their rows prove, (boxes, clauses)."""
    return np.stack([clause.holds(rows.least) for clause, rows in zip(chosen, clause_rows, strict=True)], axis=1)


def outside(domain: Domain, low: Array, high: Array) -> Mask:
    """A mask of the boxes that certainly have no point in common with some half-space of the domain.

    Args:
        domain: The set of inputs.
        low: Lower ends of the boxes, (boxes, inputs).
        high: Upper ends.
    """
    excluded = np.zeros(len(low), dtype=bool)
    for row, limit in zip(domain.H, domain.v, strict=True):
        excluded |= minimum(np.tile(row, (len(low), 1)), np.full(len(low), -limit), low, high) > 0
    return excluded


def by_layer(net: AffineReLU, phases: Phases) -> list[Phases]:
    """The phases of all hidden units, (boxes, units), split into those of each layer."""
    return np.split(phases, np.cumsum(net.sizes[1:-1])[:-1], axis=1) if len(net.sizes) > 2 else []


def chunk(net: AffineReLU, megabytes: float = 256.0) -> int:
    """The number of boxes that can be bounded at once in this much memory."""
    widest = max(net.sizes)
    return int(np.clip(megabytes * 1e6 / (8 * 8 * widest * max(widest, 8)), 1, 512))


def subject(net: AffineReLU, domain: Domain, clauses: Iterable[Clause]) -> str:
    """A digest of the question that a certificate answers.

    Args:
        net: The network.
        domain: The set of inputs.
        clauses: The property.
    """
    digest = hashlib.sha256()
    for array in (*net.weights, *net.biases, *domain[:4], *(part for clause in clauses for part in clause)):
        digest.update(str((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
