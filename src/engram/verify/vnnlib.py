"""Queries in the VNN-LIB format: version 1.0, and of version 2.0 those about one network with real numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, NoReturn

from engram import checks
from engram.verify.onnx import unpacked
from engram.verify.query import Query, QueryCase, Row

TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+|\n")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?", re.ASCII)
VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)", re.ASCII)
ELEMENT = re.compile(r"([A-Za-z_][\w.]*)(?:\[([\d,]+)\])?", re.ASCII)
MOST_CASES, MOST_DEPTH, MOST_DIGITS, MOST_VARIABLES = 10_000, 100, 1000, 10**6
REVERSED = {">=": "<=", ">": "<"}
HEADS = {"set-logic", "set-info", "set-option", "check-sat", "get-model", "get-info", "echo", "exit"}
LOGICS = {"ALL", "QF_LRA", "QF_NRA", "QF_LIRA", "QF_NIRA", "LRA", "NRA", "QF_UFLRA", "QF_UFNRA", "QF_AUFLIRA"}


class Item(NamedTuple):
    """A symbol or a list of items, and the line on which it begins."""

    line: int
    text: str  # "" for a list
    parts: tuple[Item, ...] = ()


class Linear(NamedTuple):
    """A linear function of the variables, which are named as in X_0."""

    factors: dict[str, Fraction]
    constant: Fraction


class Bound(NamedTuple):
    """The condition factors . variables <= limit, or < if ``strict``."""

    factors: dict[str, Fraction]
    limit: Fraction
    strict: bool
    line: int


Conjunction = list[Bound]


def read_vnnlib(path: str | Path) -> Query:
    """The query of a VNN-LIB file: whether an input with certain properties has outputs with others.

    Numbers are exact decimals. The frame that SMT-LIB asks for, such as ``set-logic`` or ``check-sat``, says nothing;
    ``declare-fun`` without arguments is ``declare-const``, and declarations may follow assertions. Assertions are
    combined to cases, each of a box of inputs, which may be cut by half-spaces, and of the outputs that would violate
    the property. Of version 2.0, queries about one network with one input, one output and the type ``Real`` are read.

    Args:
        path: The file, which may be packed by gzip.

    Raises:
        ValueError: The file is no such query; the message names the line.

    Source: VNN-LIB standard, version 1.0 (2023) and 2.0 (2026).
    """
    checks.arguments()
    content = unpacked(path)
    try:
        return parse_vnnlib(content.decode("utf-8-sig"))  # editors on Windows put a mark first
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a query in the VNN-LIB format: it is not text") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a query in the VNN-LIB format: {error}") from error


def parse_vnnlib(text: str) -> Query:
    """The query of a text in the VNN-LIB format.

    Args:
        text: The text.
    """
    names, plain, disjunctions = Names(), Conjunction(), list[list[Conjunction]]()
    commands = _items(text)
    if not commands:
        raise ValueError("line 1: the file is empty")
    asked, said = 0, set[str]()  # the line of check-sat, and what stood in the frame
    for command in commands:
        match [part.text for part in command.parts[:1]]:
            case [kind] if kind in HEADS:
                _check_head(command, first=kind not in said)
                said.add(kind)
                asked = asked or (command.line if kind == "check-sat" else 0)
            case _ if asked:
                _refuse(command.line, f"{_shown(command)} after the question (check-sat) in line {asked}")
            case ["declare-const" | "declare-fun" | "declare-network" | "vnnlib-version"]:
                names.declare(command)
            case ["assert"] if len(command.parts) == 2:
                cases = _cases(command.parts[1], names)
                if len(cases) == 1:
                    plain += cases[0]
                else:
                    disjunctions.append(cases)
            case _:
                _refuse(command.line, f"{_shown(command)}: expected declare-const, declare-fun or assert")
    inputs, outputs = names.counts(commands[-1].line)
    if math.prod(map(len, disjunctions)) > MOST_CASES:
        raise ValueError(f"{math.prod(map(len, disjunctions))} cases: expected at most {MOST_CASES}")
    return Query(inputs, outputs, _grouped(plain, disjunctions, inputs, outputs))


class Names:
    """The variables that are declared."""

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[str, tuple[int, ...]]] = {}  # of version 2.0: X or Y, and the shape
        self._declared: dict[str, int] = {}  # of version 1.0: the line
        self.version = 0

    def declare(self, command: Item) -> None:
        """Take a declaration."""
        kind, parts = command.parts[0].text, command.parts[1:]
        if kind == "vnnlib-version":
            if self.version or [part.text for part in parts] != ["<2.0>"]:
                _refuse(command.line, f"{_shown(command)}: expected (vnnlib-version <2.0>) at the beginning, or none")
            self.version = 2
        elif kind in ("declare-const", "declare-fun"):
            texts = [part.text for part in parts]
            if kind == "declare-fun" and len(parts) == 3 and not parts[1].text and not parts[1].parts:
                del texts[1]  # the arguments: none
            elif kind == "declare-fun":
                _refuse(command.line, f"{_shown(command)}: expected (declare-fun X_0 () Real)")
            if self.version == 2 or len(texts) != 2 or texts[1] != "Real" or not VARIABLE.fullmatch(texts[0]):
                _refuse(command.line, f"{_shown(command)}: expected (declare-const X_0 Real)")
            if texts[0] in self._declared:
                _refuse(command.line, f"{texts[0]} is declared twice")
            self.version, self._declared[texts[0]] = 1, command.line
        else:
            self._declare_network(command, parts)

    def _declare_network(self, command: Item, parts: Sequence[Item]) -> None:
        if self.version != 2 or self._shapes or len(parts) != 3 or not parts[0].text:
            _refuse(command.line, "a network: expected version 2.0, and one network with one input and one output")
        for part, kind, letter in zip(parts[1:], ("declare-input", "declare-output"), "XY", strict=True):
            if len(part.parts) < 4 or part.parts[0].text != kind or not part.parts[1].text:
                _refuse(part.line, f"{_shown(part)}: expected ({kind} {letter} Real [...])")
            name, numbers, *sizes = (inner.text for inner in part.parts[1:])
            if numbers.lower() != "real":
                _refuse(part.line, f"{name} is of type {numbers}: expected Real; proofs are about real numbers")
            shape = re.fullmatch(r"\[(\d*(?:,\d+)*)\]", "".join(sizes))
            if shape is None or name in self._shapes:
                _refuse(part.line, f"{_shown(part)}: expected ({kind} {letter} Real [...])")
            known = tuple(int(size) for size in shape[1].split(",") if size)
            if math.prod(known) > MOST_VARIABLES or 0 in known:
                _refuse(part.line, f"{name} has the shape {list(known)}: expected at most {MOST_VARIABLES} elements")
            self._shapes[name] = letter, known

    def counts(self, line: int) -> tuple[int, int]:
        """The numbers of inputs and outputs."""
        if self._shapes:
            sizes = {letter: math.prod(shape) for letter, shape in self._shapes.values()}
            return sizes["X"], sizes["Y"]
        counts = []
        for letter in "XY":
            indices = sorted(int(name[2:]) for name in self._declared if name[0] == letter)
            if not indices:
                _refuse(line, f"no variable {letter}_0 is declared")
            gap = next((i for i, index in enumerate(indices) if i != index), None)
            if gap is not None:
                _refuse(
                    self._declared[f"{letter}_{indices[gap]}"], f"{letter}_{gap} is not declared, but later ones are"
                )
            counts.append(len(indices))
        return counts[0], counts[1]

    def variable(self, item: Item) -> str:
        """The variable that a symbol names, as X_0."""
        if item.text in self._declared:
            return item.text
        element = ELEMENT.fullmatch(item.text)
        if element is None or element[1] not in self._shapes:
            _refuse(item.line, f"{item.text!r} is no number and not declared")
        letter, shape = self._shapes[element[1]]
        indices = [int(index) for index in (element[2] or "").split(",") if index]
        if len(indices) != len(shape) or any(i >= size for i, size in zip(indices, shape, strict=True)):
            _refuse(item.line, f"{item.text!r}: expected an element of shape {list(shape)}")
        place = 0
        for index, size in zip(indices, shape, strict=True):
            place = place * size + index
        return f"{letter}_{place}"


def _check_head(command: Item, *, first: bool) -> None:
    """Raise ValueError unless a command that says nothing about variables has its form."""
    kind, *items = (part.text for part in command.parts)
    if kind == "set-logic" and (not first or len(items) != 1 or items[0] not in LOGICS):
        _refuse(command.line, f"{_shown(command)}: expected one (set-logic ...) of real numbers, such as QF_LRA")
    if kind == "check-sat" and not first:
        _refuse(command.line, "a second (check-sat): expected one question")
    if kind in ("check-sat", "get-model", "exit") and items:
        _refuse(command.line, f"{_shown(command)}: expected ({kind})")


def _items(text: str) -> tuple[Item, ...]:
    """The lists of a text."""
    line, opened = 1, [(1, list[Item]())]
    for match in TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token == "(":
            if len(opened) > MOST_DEPTH:
                _refuse(line, f"more than {MOST_DEPTH} open parentheses")
            opened.append((line, []))
        elif token == ")":
            if len(opened) == 1:
                _refuse(line, "a parenthesis is closed that was not opened")
            start, parts = opened.pop()
            opened[-1][1].append(Item(start, "", tuple(parts)))
        elif token[0] != ";":
            if len(opened) == 1:
                _refuse(line, f"{token[:40]!r} outside of parentheses")
            opened[-1][1].append(Item(line, token))
    if len(opened) > 1:
        _refuse(opened[-1][0], "a parenthesis is opened, but not closed")
    return tuple(opened[0][1])


def _cases(item: Item, names: Names) -> list[Conjunction]:
    """A condition in disjunctive normal form."""
    if not item.parts or not item.parts[0].text:
        _refuse(item.line, f"{_shown(item)}: expected a condition")
    operator, operands = item.parts[0].text, item.parts[1:]
    if operator in ("and", "or"):
        if not operands:
            _refuse(item.line, f"({operator}): expected conditions")
        if operator == "or":
            return [case for operand in operands for case in _cases(operand, names)]
        product: list[Conjunction] = [[]]
        for operand in operands:
            cases = _cases(operand, names)
            if len(product) * len(cases) > MOST_CASES:
                _refuse(item.line, f"at least {len(product) * len(cases)} cases: expected at most {MOST_CASES}")
            product = [[*left, *right] for left in product for right in cases]
        return product
    if operator not in ("<=", ">=", "<", ">", "=", "=="):
        _refuse(item.line, f"{_shown(item)}: expected <=, >=, <, >, =, and, or")
    if len(operands) != 2:
        _refuse(item.line, f"{_shown(item)}: expected two operands of {operator}")
    left, right = (_linear(operand, names) for operand in operands)
    if operator in REVERSED:
        left, right = right, left
    bounds = [_bound(left, right, REVERSED.get(operator, operator) == "<", item.line)]
    if operator in ("=", "=="):
        bounds.append(_bound(right, left, False, item.line))
    # A condition without variables always holds, or never.
    if any(not bound.factors and (bound.limit < 0 or (bound.strict and not bound.limit)) for bound in bounds):
        return []
    return [[bound for bound in bounds if bound.factors]]


def _bound(left: Linear, right: Linear, strict: bool, line: int) -> Bound:
    return Bound(_sum([left, _scaled(right, Fraction(-1))]).factors, right.constant - left.constant, strict, line)


def _linear(item: Item, names: Names) -> Linear:
    if item.text:
        number = NUMBER.fullmatch(item.text)
        if number is None:
            return Linear({names.variable(item): Fraction(1)}, Fraction(0))
        if len(item.text) > MOST_DIGITS or abs(int(number[1] or 0)) > MOST_DIGITS:
            _refuse(item.line, f"a number of more than {MOST_DIGITS} digits")
        return Linear({}, Fraction(item.text))
    if not item.parts or item.parts[0].text not in ("+", "-", "*") or len(item.parts) < 2:
        _refuse(item.line, f"{_shown(item)}: expected a number, a variable, or +, - or * of them")
    operands = [_linear(operand, names) for operand in item.parts[1:]]
    match item.parts[0].text:
        case "+":
            return _sum(operands)
        case "-":
            others = operands[1:] or operands
            return _sum([*operands[: len(operands) - len(others)], *(_scaled(other, Fraction(-1)) for other in others)])
    varying = [operand for operand in operands if operand.factors]
    if len(varying) > 1:
        _refuse(item.line, f"{_shown(item)} is not linear: expected a product with constants")
    factor = math.prod((operand.constant for operand in operands if not operand.factors), start=Fraction(1))
    return _scaled(varying[0], factor) if varying else Linear({}, factor)


def _sum(terms: Iterable[Linear]) -> Linear:
    factors, constant = dict[str, Fraction](), Fraction(0)
    for term in terms:
        constant += term.constant
        for name, factor in term.factors.items():
            factors[name] = factors.get(name, Fraction(0)) + factor
    return Linear({name: factor for name, factor in factors.items() if factor}, constant)


def _scaled(term: Linear, factor: Fraction) -> Linear:
    return Linear({name: value * factor for name, value in term.factors.items() if factor}, term.constant * factor)


def _grouped(
    plain: Conjunction, disjunctions: list[list[Conjunction]], inputs: int, outputs: int
) -> tuple[QueryCase, ...]:
    """The cases of a query, one for each set of inputs."""
    shared_ends, shared_rows, shared_outputs = _sorted(plain)
    violations: dict[Hashable, list[tuple[Row, ...]]] = {}
    sets: dict[Hashable, tuple[dict[tuple[str, int], Fraction], tuple[Row, ...]]] = {}
    for choice in itertools.product(*disjunctions):
        own_ends, own_rows, own_outputs = _sorted(itertools.chain.from_iterable(choice))
        ends = {
            side: end if side not in shared_ends else _tighter(side[0], end, shared_ends[side])
            for side, end in own_ends.items()
        }
        key: Hashable = (tuple(sorted(ends.items())), own_rows)
        sets[key] = ends, (*shared_rows, *own_rows)
        violations.setdefault(key, []).append((*shared_outputs, *own_outputs))
    cases = []
    for key, (own, rows) in sets.items():
        ends = shared_ends | own
        low, high = (tuple(_end(ends, side, i) for i in range(inputs)) for side in ("low", "high"))
        cases.append(QueryCase(low, high, rows, tuple(violations[key])))
    return tuple(cases)


def _sorted(
    bounds: Iterable[Bound],
) -> tuple[dict[tuple[str, int], Fraction], tuple[Row, ...], tuple[Row, ...]]:
    """Bounds as ends of the box of inputs, further rows of inputs, and rows of outputs."""
    ends, rows, outputs = dict[tuple[str, int], Fraction](), list[Row](), list[Row]()
    for bound in bounds:
        letters = {name[0] for name in bound.factors}
        if len(letters) > 1:
            _refuse(bound.line, "a condition of inputs and outputs together: expected one of either")
        row = Row(tuple(_indexed(bound.factors)), bound.limit, bound.strict, bound.line)
        if letters == {"Y"}:
            outputs.append(row)
            continue
        if len(row.coefficients) == 1:
            ((index, factor),) = row.coefficients
            side, end = ("high" if factor > 0 else "low"), row.limit / factor
            ends[side, index] = _tighter(side, end, ends.get((side, index), end))
        if len(row.coefficients) > 1 or row.strict:
            rows.append(row)
    return ends, tuple(rows), tuple(outputs)


def _indexed(factors: dict[str, Fraction]) -> Iterator[tuple[int, Fraction]]:
    for name, factor in sorted(factors.items()):
        yield int(name[2:]), factor


def _tighter(side: str, a: Fraction, b: Fraction) -> Fraction:
    return min(a, b) if side == "high" else max(a, b)


def _end(ends: dict[tuple[str, int], Fraction], side: str, index: int) -> Fraction:
    if (side, index) not in ends:
        raise ValueError(f"X_{index} has no {'lower' if side == 'low' else 'upper'} bound: expected a box of inputs")
    return ends[side, index]


def _shown(item: Item) -> str:
    if item.text:
        return item.text
    text = f"({' '.join(_shown(part) for part in item.parts[:4])}{' ...' if len(item.parts) > 4 else ''})"
    return text if len(text) <= 60 else text[:56] + " ..."


def _refuse(line: int, message: str) -> NoReturn:
    raise ValueError(f"line {line}: {message}")
