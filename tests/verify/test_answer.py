"""Answers to queries from files: those of the competition, strict limits, and counterexamples that are checked."""

import csv
import gzip
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.verify import (
    AffineReLU,
    AllOf,
    AnyOf,
    Box,
    Budget,
    Certificate,
    LinearProperty,
    UnsupportedLayerError,
    check_certificate,
    check_query,
    read_question,
    verify,
    verify_query,
)
from engram.verify import branch_inputs as branching
from engram.verify.answer import Runtime, counterexample_text
from engram.verify.bounds import relax
from engram.verify.branch_inputs import raised_multipliers
from engram.verify.dual import dual_bound
from engram.verify.onnx import as_onnx
from engram.verify.specification import Domain, clauses
from engram.verify.vnnlib import parse_vnnlib

DATA = Path(os.environ.get("ENGRAM_DATA", ""))
FOLDER = DATA / "vnncomp"
NETWORK = "ACASXU_run2a_{}_batch_2000.nnet"
ONE = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 {}))(assert (<= X_0 {}))(assert {})"
needs_competition = pytest.mark.needs_data("vnncomp/test/test_sat.onnx")
needs_acasxu = pytest.mark.needs_data("acasxu/" + NETWORK.format("3_3"))


def identity(offset=0.0):
    return AffineReLU((np.eye(1),), (np.full(1, offset),))


def in_32_bits(net):
    return Runtime(lambda x: net(x.astype(np.float32)).astype(np.float32).astype(float), np.float32)


def assert_accepted(text, query, compute):
    """As the competition's checker does: the names in order, the exact box, and outputs computed again in 32 bits."""
    named = re.findall(r"\((\w_\d+) ([^()]+)\)", text)
    assert text == "(" + "\n".join(f"({name} {value})" for name, value in named) + ")"
    assert [name for name, _ in named] == [f"X_{i}" for i in range(query.inputs)] + [
        f"Y_{i}" for i in range(query.outputs)
    ]
    x = np.array([float(value) for _, value in named[: query.inputs]])
    assert np.array_equal(x, x.astype(np.float32))
    y = compute(x)
    assert np.array_equal(y, [float(value) for _, value in named[query.inputs :]])
    assert query.contains([Fraction(v) for v in x.tolist()], [Fraction(v) for v in y.tolist()])


@needs_competition
@pytest.mark.parametrize("packed", [False, True])
def test_the_test_instances_of_the_competition(tmp_path, packed):
    with (FOLDER / "test" / "expected.csv").open() as file:
        expected = {row["network"]: row for row in csv.DictReader(file)}
    assert len(expected) == 5
    for name, row in expected.items():
        files = [FOLDER / "test" / f"{name}.onnx", FOLDER / "test" / f"{row['property']}.vnnlib"]
        if packed:
            files = [shutil.copy(file, tmp_path) for file in files]
            for i, file in enumerate(files):
                files[i] = Path(f"{file}.gz")
                files[i].write_bytes(gzip.compress(Path(file).read_bytes()))
        question = read_question(*files)
        result = verify_query(question.network, question.query, runtime=question.runtime)
        assert result.answer == row["answer"]
        if result.answer == "unsat":
            stored = [Certificate.from_json(certificate.to_json()) for certificate in result.certificates]
            assert check_query(question.network, question.query, stored).valid
            assert not check_query(identity(), parse_vnnlib(ONE.format(0, 1, "(>= Y_0 2)")), stored).valid
        else:
            assert_accepted(counterexample_text(result.x, result.y), question.query, question.runtime.compute)


def test_the_border_belongs_to_the_violation():
    """A property is violated at its limit, unless the condition is strict; one that always holds is violated too."""
    net = identity()
    answers = [
        verify_query(net, parse_vnnlib(ONE.format(0, 1, condition)), runtime=in_32_bits(net))
        for condition in ("(>= Y_0 1)", "(> Y_0 1)", "(>= Y_0 Y_0)", "(< Y_0 Y_0)", "(>= Y_0 1.0000001)")
    ]
    assert [result.answer for result in answers] == ["sat", "unknown", "sat", "unsat", "unsat"]
    assert answers[0].x == 1


def test_a_box_without_inputs_has_no_counterexample():
    query = parse_vnnlib(ONE.format(1, 0, "(>= Y_0 Y_0)"))
    result = verify_query(identity(), query)
    assert (result.answer, result.certificates) == ("unsat", (None,))
    assert check_query(identity(), query, result.certificates).valid


def test_a_counterexample_is_rounded_into_the_exact_box():
    """32-bit 0.1 is above one tenth, so that it is no input; where no number is left, the nearest is said to be one."""
    net = identity()
    result = verify_query(net, parse_vnnlib(ONE.format(0, "0.1", "(>= Y_0 0.09999999)")), runtime=in_32_bits(net))
    assert result.answer == "sat"
    assert Fraction(result.x[0]) < Fraction(1, 10) < Fraction(float(np.float32(0.1)))
    result = verify_query(net, parse_vnnlib(ONE.format("0.1", "0.1", "(>= Y_0 0.05)")), runtime=in_32_bits(net))
    assert (result.answer, result.x[0]) == ("sat", np.float32(0.1))
    assert "no float32 lies within the range of X_0" in result.note


def test_what_only_one_kind_of_numbers_violates_is_unknown():
    net, query = identity(1e-9), parse_vnnlib(ONE.format(1, 1, "(> Y_0 1)"))
    over_the_reals = verify_query(net, query, runtime=in_32_bits(net))
    assert (over_the_reals.answer, over_the_reals.reason) == ("unknown", "violated over the reals, not as computed")
    unchecked = verify_query(net, query)
    assert (unchecked.answer, unchecked.note) == ("sat", "not checked in 32 bits by ONNX Runtime")


def test_counts_that_differ_are_named():
    with pytest.raises(ValueError, match="the query has 1 inputs: expected 2"):
        verify_query(AffineReLU((np.ones((1, 2)),), (np.zeros(1),)), parse_vnnlib(ONE.format(0, 1, "(>= Y_0 1)")))


def test_half_spaces_of_inputs_and_several_cases():
    text = (
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(assert (>= X_1 0))(assert (<= X_1 1))"
    )
    text += "(assert (or (and (>= X_0 0) (<= X_0 1) (<= (+ X_0 X_1) 1)) (and (>= X_0 -1) (<= X_0 -0.5))))"
    net = AffineReLU((np.ones((1, 2)),), (np.zeros(1),))
    for limit, answer in (("1.01", "unsat"), ("0.99", "sat")):
        query = parse_vnnlib(text + f"(assert (>= Y_0 {limit}))")
        result = verify_query(net, query, runtime=in_32_bits(net))
        assert (result.answer, len(query.cases)) == (answer, 2)
        if answer == "unsat":
            assert check_query(net, query, result.certificates).valid
            assert not check_query(net, query, (result.certificates[0], None)).valid


def test_what_is_done_is_told():
    net, box, prop = hard()
    told = []
    verify(net, box, prop, budget=Budget(nodes=2000), engine="inputs", progress=told.append)
    assert [at.nodes for at in told] == sorted({at.nodes for at in told})
    shares = [at.share for at in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


def hard():
    """A property that some output is positive, which mostly no single output is over a whole box."""
    rng = np.random.default_rng(4)
    hidden = (rng.normal(size=(12, 3)), rng.normal(size=(12, 12)) / 3)
    net = AffineReLU((*hidden, rng.normal(size=(3, 12))), (rng.normal(size=12), rng.normal(size=12), np.zeros(3)))
    box = Box(np.full(3, -1.0), np.full(3, 1.0))
    worst = net(rng.uniform(-1, 1, (20_000, 3))).max(1).min()
    shifted = AffineReLU(net.weights, (*net.biases[:2], np.full(3, 0.06 - worst)))
    rows = tuple(LinearProperty(-row[None], [0.0], strict=True) for row in np.eye(3))
    return shifted, box, AllOf((AnyOf(rows),))


def test_combinations_of_rows_prove_with_fewer_boxes_and_are_checked(monkeypatch):
    net, box, prop = hard()
    plain = verify(net, box, prop, engine="inputs")
    monkeypatch.setattr(branching, "EASY", 0)
    combined = verify(net, box, prop, engine="inputs")
    assert (plain.status, combined.status) == ("proved", "proved")
    assert combined.nodes < plain.nodes / 2
    assert any(case.multipliers for tree in combined.certificate.trees for case in tree.cases)
    stored = Certificate.from_json(combined.certificate.to_json())
    assert check_certificate(net, box, prop, stored).valid
    other = AllOf((AnyOf((*prop.properties[0].properties[:2],)),))
    assert not check_certificate(net, box, other, stored).valid


@settings(max_examples=settings.default.max_examples // 5)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.2, 1.0]))
def test_combinations_of_rows_bound_from_below(seed, radius):
    net, _, prop = hard()
    (clause,) = clauses(prop, 3)
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1, 1, (4, 3))
    low, high = centre - radius * rng.uniform(size=(4, 1)), centre + radius
    relaxation = relax(net, low, high)
    multipliers, bounds = raised_multipliers(net, relaxation, clause)
    for i in range(4):
        bound = dual_bound(net, relaxation.only(i), clause, Domain.box(low[i], high[i]), multipliers[i])
        assert bound >= bounds[i] - 1e-6  # the sum over all units is at least as tight as the steps saw it
        x = rng.uniform(low[i], high[i], (500, 3))
        assert bound <= (net(x) @ clause.Q.T + clause.c).max(1).min()


def test_a_violation_on_a_corner_alone_is_found():
    corner = np.r_[np.eye(6), -np.eye(6)][[0, 7, 2, 9, 4, 11]]
    net = AffineReLU((corner, np.ones((1, 6))), (np.full(6, -0.99), np.zeros(1)))
    result = verify(net, Box(np.full(6, -1.0), np.full(6, 1.0)), LinearProperty([[1.0]], [0.0599]))
    assert (result.status, result.engine) == ("refuted", "attack")


@needs_acasxu
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_the_violation_of_property_7_is_found_at_once(seed):
    question = read_question(DATA / "acasxu" / NETWORK.format("1_9"), FOLDER / "acasxu" / "prop_7.vnnlib")
    rng = np.random.default_rng(seed)
    result = verify_query(question.network, question.query, runtime=question.runtime, rng=rng)
    assert (result.answer, result.nodes) == ("sat", 0)
    assert_accepted(counterexample_text(result.x, result.y), question.query, question.runtime.compute)


@pytest.mark.soak
@needs_acasxu
def test_all_instances_of_acas_xu():
    """The 186 instances, networks as .nnet and properties as .vnnlib, with the answers of the competition."""
    with (FOLDER / "acasxu_answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 186
    different = {}
    for row in rows:
        files = DATA / "acasxu" / NETWORK.format(row["network"]), FOLDER / "acasxu" / f"prop_{row['property']}.vnnlib"
        question = read_question(*files)
        result = verify_query(question.network, question.query, runtime=question.runtime, budget=Budget(seconds=116.0))
        if result.answer != row["answer"]:
            different[row["network"], row["property"]] = result.answer
        elif result.answer == "unsat":
            assert check_query(question.network, question.query, result.certificates).valid
        else:
            assert_accepted(counterexample_text(result.x, result.y), question.query, question.runtime.compute)
    assert different == {}


def test_a_softmax_needs_a_property_that_compares(tmp_path):
    onnx = pytest.importorskip("onnx")
    nodes = [onnx.helper.make_node("Softmax", ["x"], ["y"], axis=1, name="last")]
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "net", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    prop = tmp_path / "prop.vnnlib"
    head = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    head += "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 1.5) (<= X_1 2)))"
    prop.write_text(head + "(assert (>= Y_0 Y_1))")
    question = read_question(tmp_path / "net.onnx", prop)
    assert verify_query(question.network, question.query, runtime=question.runtime).answer == "unsat"
    prop.write_text(head + "(assert (<= Y_0 Y_1))")
    question = read_question(tmp_path / "net.onnx", prop)
    assert verify_query(question.network, question.query, runtime=question.runtime).answer == "sat"
    prop.write_text(head + "(assert (>= Y_0 0.5))")
    with pytest.raises(UnsupportedLayerError, match=r"layer 'last' is a softmax.* just compares outputs"):
        read_question(tmp_path / "net.onnx", prop)


@pytest.mark.parametrize(
    ("low", "high", "condition"),
    [
        ("-1e300", "1e300", "(>= Y_0 1e38)"),
        ("1e39", "1e40", "(>= Y_0 1e38)"),
        ("-1e40", "-1e39", "(<= Y_0 -1e38)"),
    ],
)
def test_inputs_may_be_larger_than_numbers_of_32_bits(low, high, condition):
    net = identity()
    result = verify_query(net, parse_vnnlib(ONE.format(low, high, condition)), runtime=in_32_bits(net))
    assert result.answer == "sat"
    assert abs(result.x[0]) <= np.finfo(np.float32).max
    assert ("no float32 lies within" in result.note) == (low != "-1e300")


def test_the_note_of_a_proof_names_the_bits_of_the_network():
    net, query = identity(), parse_vnnlib(ONE.format(0, 1, "(>= Y_0 2)"))
    notes = [verify_query(net, query, runtime=of).note for of in (in_32_bits(net), Runtime(net, np.float64))]
    assert ["computed in 32 bits" in notes[0], "computed in 64 bits" in notes[1]] == [True, True]


def test_weights_outside_the_file_are_checked_in_32_bits_too(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString(as_onnx(identity()))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "prop.vnnlib").write_text(ONE.format(0, 1, "(>= Y_0 0.5)"))
    question = read_question(tmp_path / "net.onnx", tmp_path / "prop.vnnlib")
    result = verify_query(question.network, question.query, runtime=question.runtime)
    assert (result.answer, result.note) == ("sat", "")


def test_the_checker_of_the_guide_proves_a_proof_and_nothing_else(capsys):
    page = (Path(__file__).parents[2] / "docs" / "verification.md").read_text()
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "def proves" in block)
    exec(compile(program, "program", "exec"), {})
    assert capsys.readouterr().out == "proved with 4 leaves\nTrue\nFalse\n"
    checker = program[program.index("def lowest") : program.rindex("print(all(")]
    assert sum(bool(line.strip()) for line in checker.splitlines()) <= 36


@pytest.mark.parametrize(
    ("conditions", "answer", "cases"),
    [
        ("(assert (<= (+ X_0 X_1) -1))", "unsat", 1),  # beyond the box
        ("(assert (< X_0 0))", "unsat", 1),
        ("(assert (<= (+ X_0 X_1) 0.5))(assert (>= (+ X_0 X_1) 0.6))", "unsat", 1),
        ("(assert (or (<= (+ X_0 X_1) 0.5) (<= X_0 0.1)))(assert (or (>= (+ X_0 X_1) 0.6) (> X_1 1)))", "sat", 4),
    ],
)
def test_a_set_without_inputs_has_no_counterexample(conditions, answer, cases):
    text = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))
    text += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(2))
    query = parse_vnnlib(text + conditions + "(assert (>= Y_0 0))")
    net = AffineReLU((np.ones((1, 2)),), (np.zeros(1),))
    result = verify_query(net, query)
    assert (result.answer, len(query.cases)) == (answer, cases)
    assert check_query(net, query, result.certificates).valid == (answer == "unsat")
