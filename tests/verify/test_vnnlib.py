"""VNN-LIB files are read as they are written, or refused with the line."""

import gzip
import itertools
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.verify import AffineReLU, Box, LinearProperty, Polytope, read_vnnlib, verify
from engram.verify.query import rounded_down, rounded_up
from engram.verify.vnnlib import parse_vnnlib

DATA = Path(os.environ.get("ENGRAM_DATA", "")) / "vnncomp"
HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
SIDE = "(assert (>= X_0 -3))(assert (<= X_0 3))(assert (>= X_1 -3))(assert (<= X_1 3))\n"


def numbers(*values):
    return [Fraction(value) for value in values]


@pytest.mark.needs_data("vnncomp/acasxu/prop_1.vnnlib")
def test_the_properties_of_acas_xu():
    queries = {n: read_vnnlib(DATA / "acasxu" / f"prop_{n}.vnnlib") for n in range(1, 11)}
    assert all((query.inputs, query.outputs) == (5, 5) for query in queries.values())
    shapes = {n: [[len(rows) for rows in case.violations] for case in query.cases] for n, query in queries.items()}
    assert shapes[1] == [[1]]
    assert shapes[2] == shapes[3] == shapes[4] == [[4]]
    assert shapes[5] == shapes[9] == shapes[10] == [[1] * 4]
    assert shapes[6] == [[1] * 4] * 2
    assert shapes[7] == [[3, 3]]
    assert shapes[8] == [[2, 2, 2]]
    ((limit,),) = queries[1].cases[0].violations
    assert limit.coefficients == ((0, Fraction(-1)),)
    assert limit.limit == -Fraction("3.991125645861615")
    fourth = {i for rows in queries[7].cases[0].violations for row in rows for i, _ in row.coefficients}
    assert fourth == {0, 1, 2, 3, 4}
    assert not any(
        {i for i, _ in row.coefficients} == {3, 4} for rows in queries[7].cases[0].violations for row in rows
    )
    assert queries[4].cases[0].low[2] == queries[4].cases[0].high[2] == 0


@pytest.mark.needs_data("vnncomp/vnnlib2/acc.vnnlib")
def test_queries_of_version_2():
    read = {name: read_vnnlib(DATA / "vnnlib2" / f"{name}.vnnlib") for name in ("acc", "cartpole", "dubinsrejoin")}
    (acc,) = read["acc"].cases
    assert [str(end) for end in (*acc.low, *acc.high)] == ["0", "-50", "0", "50", "50", "150"]
    assert [[row.limit for row in rows] for rows in acc.violations] == [[-3], [0]]
    assert acc.contains(numbers(0, 20, 15))
    assert not acc.contains(numbers(0, 20, 16))
    assert isinstance(acc.inputs, Polytope)
    assert [len(rows) for rows in read["dubinsrejoin"].cases[0].violations] == [6]
    assert read["cartpole"].contains(
        [*map(sum, zip(read["cartpole"].cases[0].low, itertools.repeat(0)))], numbers(2, 1)
    )
    with pytest.raises(ValueError, match="X_1 has no lower bound"):
        read_vnnlib(DATA / "vnnlib2" / "test_linearise.vnnlib")


def expressions(depth):
    """A condition as text, and as a function of the variables."""
    variable = st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"])
    sides = st.tuples(
        variable, st.sampled_from(["<=", ">=", "<", ">"]), st.integers(-2, 2), variable, st.integers(0, 2)
    )

    def leaf(drawn):
        left, operator, number, right, form = drawn
        if left[0] != right[0]:
            form = 0  # inputs and outputs together are refused
        text = [str(number), f"(+ {number} (* 2 {right}))", f"(- (- {right} {number}) {left})"][form]
        value = [lambda v: number, lambda v: number + 2 * v[right], lambda v: v[right] - number - v[left]][form]
        compare = {
            "<=": lambda a, b: a <= b,
            ">=": lambda a, b: a >= b,
            "<": lambda a, b: a < b,
            ">": lambda a, b: a > b,
        }
        return f"({operator} {left} {text})", lambda v: compare[operator](v[left], value(v))

    def node(drawn):
        kind, parts = drawn
        combine = all if kind == "and" else any
        return f"({kind} {' '.join(text for text, _ in parts)})", lambda v: combine(holds(v) for _, holds in parts)

    tree = sides.map(leaf)
    for _ in range(depth):
        tree = st.one_of(
            tree, st.tuples(st.sampled_from(["and", "or"]), st.lists(tree, min_size=1, max_size=2)).map(node)
        )
    return tree


@given(st.lists(expressions(4), min_size=1, max_size=2), st.integers(0, 1000))
def test_cases_are_what_the_conditions_say(conditions, seed):
    text = HEAD + SIDE + "".join(f"(assert {condition})" for condition, _ in conditions)
    query = parse_vnnlib(text)
    for point in np.random.default_rng(seed).integers(-6, 7, (100, 4)) / 2:
        values = dict(zip(("X_0", "X_1", "Y_0", "Y_1"), numbers(*point), strict=True))
        inside = max(abs(values["X_0"]), abs(values["X_1"])) <= 3
        expected = inside and all(holds(values) for _, holds in conditions)
        assert query.contains(numbers(*point[:2]), numbers(*point[2:])) == expected


def test_the_frame_of_smt_lib_and_late_declarations_change_nothing():
    plain = parse_vnnlib(HEAD + SIDE + "(assert (<= Y_0 2))(assert (>= Y_1 X_1))".replace("X_1", "1"))
    framed = parse_vnnlib(
        "(set-info :status unknown)\n(set-logic QF_LRA)\n(declare-fun X_0 () Real)\n(declare-const X_1 Real)\n"
        + SIDE
        + "(declare-fun Y_0 () Real)(assert (<= Y_0 2))\n(declare-fun Y_1 () Real)\n(assert (>= Y_1 1))\n"
        "(check-sat)\n(get-model)\n(exit)\n"
    )
    (case,), (expected,) = framed.cases, plain.cases
    assert (framed.inputs, framed.outputs, case.low, case.high) == (2, 2, expected.low, expected.high)
    kept = [[[(row.coefficients, row.limit) for row in rows] for rows in each.violations] for each in (case, expected)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("text", ["1e-05", "1E+2", "-.5", "+3", "007", "2."])
def test_numbers_are_exact_decimals(text):
    (case,) = parse_vnnlib(HEAD + SIDE + f"(assert (<= Y_0 {text})) ; the end").cases
    assert case.violations[0][0].limit == Fraction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= Y_0 1)", "line 6: a parenthesis is opened, but not closed"),
        ("(assert (<= Y_0 1)))", "line 6: a parenthesis is closed"),
        ("(assert (<= X_0))", r"line 6: \(<= X_0\): expected two operands"),
        ("\n(assert (<= X_9 1))", "line 7: 'X_9' is no number and not declared"),
        ("(assert (<= (0.74 Y_0) 1))", r"line 6: \(0.74 Y_0\): expected a number, a variable, or"),
        ("(assert (<= (* X_0 X_0) 1))", r"line 6: \(\* X_0 X_0\) is not linear"),
        ("(assert (<= (+ X_0 Y_0) 1))", "line 6: a condition of inputs and outputs together"),
        ("(declare-fun f () Real)", r"line 6: .*: expected \(declare-const X_0 Real\)"),
        ("(declare-fun X_2 (Real) Real)", r"line 6: .*: expected \(declare-fun X_0 \(\) Real\)"),
        ("(declare-fun X_2 Real)", r"line 6: .*: expected \(declare-fun X_0 \(\) Real\)"),
        ("(define-fun X_2 () Real 1)", r"line 6: .*: expected declare-const, declare-fun or assert"),
        ("(declare-const Y_0 Real)", "line 6: Y_0 is declared twice"),
        ("(assert (<= Y_2 1))\n(declare-const Y_2 Real)", "line 6: 'Y_2' is no number and not declared"),
        ("(set-logic QF_LIA)", r"line 6: .*: expected one \(set-logic ...\) of real numbers"),
        ("(check-sat)\n(assert (<= Y_0 1))", r"line 7: .* after the question \(check-sat\) in line 6"),
        ("(check-sat)\n(check-sat)", r"line 7: a second \(check-sat\)"),
        ("(check-sat X_0)", r"line 6: .*: expected \(check-sat\)"),
        ("(assert (not (<= Y_0 1)))", r"line 6: .*: expected <=, >="),
        ("(assert (and))", r"line 6: \(and\): expected conditions"),
        ("(assert true)", "line 6: true: expected a condition"),
        ("assert", "line 6: 'assert' outside of parentheses"),
        *((f"(assert (<= Y_0 {number}))", f"line 6: '{number}'") for number in ("0x10", "nan", "inf", "1,5", "١")),
        ("(assert (<= Y_0 1e99999))", "line 6: a number of more than 1000 digits"),
        ("(assert (and" + "(or (<= Y_0 1) (<= Y_1 1))" * 14 + "))", "line 6: at least 16384 cases"),
        ("(assert (or (<= Y_0 1) (<= Y_1 1)))" * 14, "16384 cases"),
        ("(assert " + "(and " * 200 + ")" * 201, "line 6: more than 100 open"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        parse_vnnlib(HEAD + SIDE + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file is empty"),
        ("; nothing", "line 1: the file is empty"),
        ("(declare-const X_0 Real)\n(assert (<= X_0 1))", "no variable Y_0"),
        (HEAD.replace("X_1", "X_2"), "line 2: X_1 is not declared, but later ones are"),
        (HEAD + "(declare-const X_0 Real)", "line 5: X_0 is declared twice"),
        (HEAD.replace("Real", "Int"), "line 1: .*: expected"),
        (HEAD + "(assert (<= X_0 X_1))(assert (>= X_0 0))(assert (<= X_1 1))", "X_1 has no lower bound"),
        (HEAD + "(assert (<= X_0 1))(assert (>= X_0 0))(assert (>= X_1 0))", "X_1 has no upper bound"),
        ("(vnnlib-version <2.0>)(declare-network f (declare-input X float32 [2]) (declare-output Y Real [1]))",
         "line 1: X is of type float32: expected Real"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_vnnlib(text)


def test_an_order_of_inputs_is_a_half_space_and_no_bound():
    (case,) = parse_vnnlib(HEAD + SIDE + "(assert (<= X_0 X_1))").cases
    assert (case.low, case.high) == (tuple(numbers(-3, -3)), tuple(numbers(3, 3)))
    assert [case.contains(numbers(*x)) for x in ((1, 2), (2, 1))] == [True, False]
    assert isinstance(case.inputs, Polytope)


def test_ends_are_rounded_outwards():
    (case,) = parse_vnnlib(HEAD + SIDE + "(assert (<= X_0 0.1))(assert (>= X_1 0.1))(assert (>= Y_0 0.1))").cases
    box, tenth = case.inputs, Fraction("0.1")
    assert isinstance(box, Box)
    assert Fraction(box.high[0]) > tenth > Fraction(box.low[1])
    assert box.high[0] - box.low[1] < 1e-16
    assert not case.contains([Fraction(float(np.float32(0.1))), Fraction(1)])
    assert rounded_up(Fraction(1, 4)) == rounded_down(Fraction(1, 4)) == 0.25
    assert (rounded_up(Fraction(10) ** 400), rounded_down(-(Fraction(10) ** 400))) == (math.inf, -math.inf)
    # The rounded limit lies below 0.1: what reaches it is no violation, but no proof either.
    net = AffineReLU((np.zeros((2, 2)),), (np.array([float(np.nextafter(0.1, 0)), 0.0]),))
    assert verify(net, box, case.safe(2)).status == "refuted"
    assert not case.violated(net.exact(np.zeros(2)))


def test_an_input_may_be_fixed_at_zero():
    (case,) = parse_vnnlib(HEAD + SIDE + "(assert (= X_0 0))(assert (>= Y_0 1))").cases
    assert [math.copysign(1, end) for end in (case.inputs.low[0], case.inputs.high[0])] == [1, 1]
    net = AffineReLU((np.ones((2, 2)),), (np.zeros(2),))
    for box in (case.inputs, Box([0.0, -1.0], [-0.0, 0.0])):
        assert verify(net, box, LinearProperty([[1.0, 0.0]], [4.0])).status == "proved"
        assert verify(net, box, LinearProperty([[1.0, 0.0]], [-0.5])).status == "refuted"


def test_factors_are_scaled_where_they_are_no_numbers_of_64_bits():
    text = HEAD + SIDE + "(assert (<= (+ (* 0.1 Y_0) (* 0.3 Y_1)) 0.2))"
    (row,) = parse_vnnlib(text).cases[0].violations[0]
    factors, limit = row.rounded(2)
    assert (factors.tolist(), limit) == ([1, 3], 2)
    (row,) = parse_vnnlib(text.replace("0.3", "0.30000000000000000001")).cases[0].violations[0]
    with pytest.raises(ValueError, match="line 6: the factors have too many digits"):
        row.rounded(2)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("(<= (* 1e400 Y_0) 1)", "line 6: the factors have too many digits, or are too large"),
        ("(<= (+ (* 1e-400 Y_0) Y_1) 1)", "line 6: the factors have too many digits, or are too large"),
        ("(<= Y_0 1e400)", "line 6: the limit is too large"),
    ],
)
def test_what_is_too_large_for_64_bits_is_refused_with_its_line(condition, message):
    (case,) = parse_vnnlib(HEAD + SIDE + f"(assert {condition})").cases
    with pytest.raises(ValueError, match=message):
        case.safe(2)


def test_what_is_always_so_and_what_is_never():
    (case,) = parse_vnnlib(HEAD + SIDE + "(assert (>= Y_0 Y_0))").cases
    assert case.violations == ((),)
    assert parse_vnnlib(HEAD + SIDE + "(assert (or (< Y_0 Y_0) (<= 2 1)))").cases == ()


def test_strict_properties():
    net = AffineReLU((np.eye(1),), (np.zeros(1),))
    status = [
        verify(net, Box([0], [1]), LinearProperty([[1.0]], [1.0], strict=strict)).status for strict in (True, False)
    ]
    assert status == ["refuted", "unknown"]  # the second holds, with a margin of 0


def test_packed_files_and_other_encodings(tmp_path):
    path, text = tmp_path / "prop.vnnlib.gz", HEAD + SIDE + "(assert (<= Y_0 1))"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_vnnlib(str(path)) == parse_vnnlib(text)
    path.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert read_vnnlib(path) == parse_vnnlib(text)
    path.write_text(text)
    with pytest.raises(ValueError, match="is not packed by gzip"):
        read_vnnlib(path)
    latin = tmp_path / "prop.vnnlib"
    latin.write_bytes(b"; \xe9\n" + text.encode())
    with pytest.raises(ValueError, match="it is not text"):
        read_vnnlib(latin)
