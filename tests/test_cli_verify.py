"""``engram verify``: the words and exit codes of VNN-LIB, and the files that it writes."""

import itertools
import json
import os
import signal

import numpy as np
import pytest
from onnx import TensorProto, helper

from engram import cli
from engram.cli.verifying import _Line
from engram.verify import AffineReLU, Certificate, check_query, read_question
from engram.verify.branch_inputs import Progress
from engram.verify.onnx import as_onnx

PROPERTY = (
    "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -1))(assert (<= X_0 {}))(assert (>= Y_0 0.25))"
)


@pytest.fixture
def files(tmp_path):
    """The function relu(x / 2), and the question whether it reaches a quarter."""
    net = AffineReLU((np.full((1, 1), 0.5), np.ones((1, 1))), (np.zeros(1), np.zeros(1)))
    (tmp_path / "net.onnx").write_bytes(as_onnx(net))
    (tmp_path / "prop.vnnlib").write_text(PROPERTY.format("0.4"))
    return [str(tmp_path / "net.onnx"), str(tmp_path / "prop.vnnlib")]


@pytest.fixture
def long_files(tmp_path):
    """A question that takes longer than any test waits."""
    rng = np.random.default_rng(0)
    sizes = [6, 50, 50, 50, 50, 1]
    weights = tuple(rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes))
    net = AffineReLU(weights, tuple(np.zeros(size) for size in sizes[1:]))
    limit = 4 * net(rng.uniform(-1, 1, (1000, 6))).max()
    names = [*(f"X_{i}" for i in range(6)), "Y_0"]
    text = "".join(f"(declare-const {name} Real)\n" for name in names)
    text += "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))\n" for i in range(6)) + f"(assert (>= Y_0 {limit}))"
    (tmp_path / "net.onnx").write_bytes(as_onnx(net))
    (tmp_path / "prop.vnnlib").write_text(text)
    return [str(tmp_path / "net.onnx"), str(tmp_path / "prop.vnnlib")]


def test_a_proof_is_written_and_proves_again(files, tmp_path, capsys):
    assert cli.run(["verify", *files, "--certificate", str(tmp_path / "proof.json")]) == 0
    printed = capsys.readouterr()
    assert printed.out == "unsat\n"
    assert "over the real numbers" in printed.err
    question = read_question(*files)
    content = json.loads((tmp_path / "proof.json").read_text())
    assert (content["network"], content["property"]) == ("net.onnx", "prop.vnnlib")
    certificates = [Certificate.from_json(case) for case in content["cases"]]
    assert check_query(question.network, question.query, certificates).valid


def test_a_counterexample_is_printed_and_written_as_the_competition_expects(files, tmp_path, capsys):
    (tmp_path / "prop.vnnlib").write_text(PROPERTY.format("0.5"))
    out = tmp_path / "result.txt"
    assert cli.run(["verify", *files, "--counterexample", str(out), "--certificate", str(tmp_path / "none.json")]) == 0
    expected = "sat\n((X_0 0.5)\n(Y_0 0.25))\n"
    assert capsys.readouterr().out == expected
    assert out.read_text() == expected
    assert not (tmp_path / "none.json").exists()
    assert cli.run(["verify", *files, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["answer"], content["x"], content["y"]) == ("sat", [0.5], [0.25])


def test_a_time_limit_is_an_answer(long_files, capsys):
    assert cli.run(["verify", *long_files, "--timeout", "0.2"]) == 0
    assert capsys.readouterr().out == "timeout\n"


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_tells_what_was_proved(long_files, capsys, monkeypatch):
    show = _Line.show

    def show_and_interrupt(*arguments):
        show(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_Line, "show", show_and_interrupt)
    assert cli.run(["verify", *long_files]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "interrupted: 0.00 % of the inputs proved, 1 boxes" in printed.err


def test_what_is_not_supported_is_no_answer(files, tmp_path, capsys):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy"]
    nodes = [helper.make_node("Sigmoid", ["x"], ["h"], name="squash"), helper.make_node("Relu", ["h"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:]), ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert cli.run(["verify", *files]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "node 'squash' (Sigmoid) is not piecewise linear" in printed.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout", "0"], "seconds = 0.0"),
        (["--certificate", "nowhere/proof.json"], "nowhere/proof.json: expected a file in an existing folder"),
    ],
)
def test_bad_arguments_are_named(files, capsys, arguments, message):
    assert cli.run(["verify", *files, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_absent_and_wrong_files_are_named(files, tmp_path, capsys):
    for first, second, message in (
        ("absent.onnx", files[1], "absent.onnx"),
        (files[1], files[1], "prop.vnnlib is not a network in the ONNX format"),
        (files[0], files[0], "net.onnx is not a query in the VNN-LIB format"),
    ):
        assert cli.run(["verify", first, second]) == 2
        assert message in capsys.readouterr().err.replace("\n", "")


def test_progress_is_a_line_that_is_cleared(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    ticks = iter([0.0, 0.1, 1.0, 1.0])
    line = _Line(lambda: next(ticks))
    line.show(0, Progress(10, 4, 0.25, -0.5))
    assert capsys.readouterr().err == ""
    line.show(0, Progress(20, 3, 0.5, -0.5))
    line.end()
    assert capsys.readouterr().err.startswith("\r1 s, 50.00 % of the inputs proved, 20 boxes, 3 open, bound -0.5")
