"""Damaged ONNX and VNN-LIB files: a clear error, or what the file now says; never anything else."""

import operator
import re
from fractions import Fraction
from functools import reduce

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engram.verify import UnsupportedLayerError, read_onnx, read_vnnlib
from engram.verify.onnx import Session

PROPERTY = """; a property of two inputs and two outputs
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 -0.5)) (assert (<= X_0 0.75))
(assert (or (and (>= X_1 -1) (<= X_1 -.25)) (and (>= X_1 1e-1) (<= X_1 2) (<= Y_1 3.5))))
(assert (or (and (<= Y_0 Y_1) (>= Y_0 (* 2 Y_1))) (<= (+ Y_0 (- Y_1 1) 0.5) -1.25)))
"""


def network():
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"]),
        helper.make_node("Conv", ["a", "K", "b"], ["c"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 1, 1, 0]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Flatten", ["e"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "W", "v"], ["g"], transB=1, alpha=0.5),
        helper.make_node("Clip", ["g", "low"], ["h"]),
        helper.make_node("Add", ["g", "h"], ["y"], name="residual"),
    ]
    arrays = {
        "mean": rng.normal(size=(1, 1, 1, 3)), "K": rng.normal(size=(2, 1, 2, 2)), "b": rng.normal(size=2),
        "W": rng.normal(size=(2, 8)), "v": rng.normal(size=2), "low": np.array(-0.5),
    }  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 1, 3, 3]), ("y", ["batch", 2]))
    ]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def damaged(content, rng):
    """Bytes, some of which are changed, left out, repeated or put in."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        i, n = int(rng.integers(len(content))), int(rng.integers(1, 9))
        match rng.integers(6):
            case 0:
                content[i] = rng.integers(256)
            case 1:
                del content[i : i + n]
            case 2:
                content[i:i] = content[i : i + n]
            case 3:
                content[i:i] = rng.bytes(n)
            case 4:
                content[i] ^= 1 << int(rng.integers(8))
            case _:
                del content[max(i, 1) :]
    return bytes(content)


def rewired(content, rng):
    """A network with another operator, attribute, order, name or size."""
    model = onnx.ModelProto.FromString(content)
    nodes, weights = model.graph.node, model.graph.initializer
    node, weight = nodes[rng.integers(len(nodes))], weights[rng.integers(len(weights))]
    match rng.integers(7):
        case 0:
            node.op_type = str(rng.choice(["Relu", "Sigmoid", "Add", "Mul", "Transpose", "Softmax", "Loop", "Flatten"]))
        case 1 if node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            attribute.i += int(rng.integers(-3, 4))
            attribute.ints[:] = [int(v + rng.integers(-1, 3)) for v in attribute.ints]
        case 2:
            nodes.remove(node)
        case 3 if node.input:
            node.input[rng.integers(len(node.input))] = str(rng.choice(["x", "a", "d", "W", "nowhere", ""]))
        case 4 if weight.dims:
            weight.dims[rng.integers(len(weight.dims))] += int(rng.integers(-2, 3))
        case 5:
            model.opset_import[0].version = int(rng.integers(1, 25))
        case _:
            dim = model.graph.input[0].type.tensor_type.shape.dim[rng.integers(4)]
            dim.dim_value = int(rng.choice([0, 1, 2, 4, -1, 2**40]))
    return model.SerializeToString()


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_damaged_networks_are_refused_or_read_as_they_are(tmp_path, count):
    original, rng = network(), np.random.default_rng(1)
    path = tmp_path / "net.onnx"
    x = rng.normal(size=9).astype(np.float32).astype(float)
    refused = read = 0
    for number in range(count):
        content = (damaged if number % 2 else rewired)(original, rng)
        path.write_bytes(content)
        try:
            net = read_onnx(path).network
        except (ValueError, UnsupportedLayerError) as error:
            assert str(error).startswith(str(path))  # noqa: PT017 - most are refused
            assert type(error) in (ValueError, UnsupportedLayerError)  # noqa: PT017
            refused += 1
            continue
        # The number of inputs may have changed: what is compared is computed by ONNX Runtime from the same bytes.
        inputs = np.resize(x, net.sizes[0])
        with np.errstate(all="ignore"):
            mine, theirs = net(inputs), Session(content)(inputs)
            scale = 1 + np.abs(theirs).max() + np.abs(net.weights[-1]).max()
            assert mine.shape == theirs.shape
            assert (np.abs(mine - theirs) <= 1e-4 * scale).all() or not np.isfinite(theirs).all() or scale > 1e30
        read += 1
    assert refused > count / 3
    assert read > count / 20


def says(text, values):
    """Whether all conditions of a text hold, by evaluating it without building any cases; None if it cannot be."""
    text = re.sub(r";[^\n]*", "", text)
    tokens, place = re.findall(r"[()]|[^\s()]+", text), 0

    def expression():
        nonlocal place
        token = tokens[place]
        place += 1
        if token != "(":
            return token
        parts = []
        while tokens[place] != ")":
            parts.append(expression())
        place += 1
        return parts

    def value(part):
        if isinstance(part, str):
            return values[part] if part in values else Fraction(part)
        operation, *operands = part
        operands = [value(operand) for operand in operands]
        if operation == "-" and len(operands) == 1:
            return -operands[0]
        return reduce({"+": operator.add, "-": operator.sub, "*": operator.mul}[operation], operands)

    def holds(part):
        operation, *operands = part
        if operation in ("and", "or"):
            return (all if operation == "and" else any)([holds(operand) for operand in operands])
        compare = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
        left, right = operands
        return compare.get(operation, operator.eq)(value(left), value(right))

    commands = []
    while place < len(tokens):
        commands.append(expression())
    return all(holds(command[1]) for command in commands if command[0] == "assert")


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_damaged_properties_are_refused_or_read_as_they_are(tmp_path, count):
    rng = np.random.default_rng(2)
    path = tmp_path / "prop.vnnlib"
    refused = read = 0
    tokens = re.findall(r"\s+|[()]|[^\s()]+", PROPERTY)
    for number in range(count):
        if number % 2:
            content = damaged(PROPERTY.encode(), rng)
        else:
            mutated = list(tokens)
            i, j = rng.integers(len(tokens), size=2)
            mutated[i] = str(rng.choice([tokens[j], "", tokens[i] * 2, "<", "X_1", "Y_0", "7", "or"]))
            content = "".join(mutated).encode()
        path.write_bytes(content)
        try:
            query = read_vnnlib(path)
        except ValueError as error:
            message = str(error)
            assert message.startswith(str(path))
            assert re.search(r"line \d+: |has no (lower|upper) bound|is not text", message)
            refused += 1
            continue
        for point in rng.integers(-8, 9, (40, 4)) / 4:
            names = dict(zip(("X_0", "X_1", "Y_0", "Y_1"), map(Fraction, point.tolist()), strict=True))
            x, y = [names["X_0"], names["X_1"]][: query.inputs], [names["Y_0"], names["Y_1"]][: query.outputs]
            assert query.contains(x, y) == says(content.decode(), names)
        read += 1
    assert refused > count / 3
    assert read > count / 20
