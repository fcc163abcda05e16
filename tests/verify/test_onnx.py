"""ONNX files are read as ONNX Runtime computes them, or refused by name."""

import contextlib
import gzip
import io
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from engram.tasks.data import load
from engram.verify import UnsupportedLayerError, read_nnet, read_onnx
from engram.verify.onnx import Session, as_onnx

FOLDER = "vnncomp/test"
DATA = Path(os.environ.get("ENGRAM_DATA", ""))


def model(nodes, constants=None, shape=(1, 4), version=13, *, outputs=("y",), ir_version=8):
    """A network with an input x and an output y; ``nodes`` are (operator, inputs, output, attributes)."""
    made = [
        helper.make_node(
            kind, names.split(" "), [out] if isinstance(out, str) else out, name=f"{kind}_{i}", **attributes
        )
        for i, (kind, names, out, attributes) in enumerate(nodes)
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(made, "net", [x], ends, weights)
    if ir_version < 4:
        graph.input.extend(helper.make_tensor_value_info(w.name, TensorProto.FLOAT, w.dims) for w in weights)
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir_version)
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        made_model = onnx.shape_inference.infer_shapes(made_model)  # the checker asks for shapes of outputs
    for end in made_model.graph.output:
        end.type.tensor_type.shape.SetInParent()
    return made_model


def saved(tmp_path, made):
    path = tmp_path / "net.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def assert_as_runtime(path, n=50, scale=1.0):
    """The outputs of what is read are those of ONNX Runtime, and not all the same."""
    read, session = read_onnx(path), Session(Path(path).read_bytes())
    X = np.random.default_rng(0).normal(size=(n, read.network.sizes[0])).astype(np.float32).astype(float) * scale
    mine, theirs = read.network(X), np.stack([session(x) for x in X])
    assert mine.shape == theirs.shape
    assert (np.abs(mine - theirs) <= 1e-5 * (1 + np.abs(theirs).max(1, keepdims=True))).all()
    assert (mine.std(0) > 1e-9).any()
    return read


@pytest.mark.needs_data(f"{FOLDER}/test_sat.onnx")
@pytest.mark.parametrize("name", ["nano", "tiny", "small", "sat", "unsat"])
def test_the_networks_of_the_competition(name):
    assert_as_runtime(DATA / FOLDER / f"test_{name}.onnx", 200)


@pytest.mark.needs_data(f"{FOLDER}/test_sat.onnx")
def test_known_values():
    read = {name: read_onnx(DATA / FOLDER / f"test_{name}.onnx").network for name in ("nano", "tiny", "small")}
    assert read["nano"](np.ones(1)) == 0.5
    assert read["tiny"](np.ones(1)) == 1
    assert [read["small"](np.full(1, x)) for x in (-1.0, 0.0, 1.0)] == [30.5, 54.5, 78.5]


@pytest.mark.needs_data(f"{FOLDER}/test_sat.onnx")
def test_an_onnx_network_is_the_nnet_network_in_32_bits():
    for onnx_name, nnet_name in (("sat", "1_7"), ("unsat", "1_6")):
        net = read_onnx(DATA / FOLDER / f"test_{onnx_name}.onnx").network
        original, _ = read_nnet(load("acasxu", network=nnet_name))
        for mine, theirs in zip(net.weights + net.biases, original.weights + original.biases, strict=True):
            assert np.array_equal(mine, theirs.astype(np.float32))


class Block(nn.Module):
    """A residual block with normalisation of the input inside, and a change of the order of axes."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(2, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.last = nn.Linear(3 * 2 * 2, 3)

    def forward(self, x):
        h = self.norm(self.one((x - 0.3) / 0.4))
        h = torch.relu(h + self.two(torch.relu(h)))
        h = nn.functional.max_pool2d(h, 3, 2, 1)
        return self.last(torch.clamp(h, 0.1, 0.9).permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize("version", [9, 11, 13, 17])
def test_what_torch_exports(tmp_path, version):
    torch.manual_seed(version)
    module, content = Block().eval(), io.BytesIO()
    module.norm.running_mean.normal_()
    x = torch.randn(1, 2, 7, 6)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module, (x,), content, opset_version=version, dynamo=False, dynamic_axes={"x": [0]},
                          input_names=["x"], do_constant_folding=False)  # fmt: skip
    read = assert_as_runtime(saved(tmp_path, content.getvalue()))
    assert (read.input_shape, read.output_shape) == ((1, 2, 7, 6), (1, 3))
    assert np.allclose(read.network(x.double().numpy().ravel()), module(x).detach().numpy(), atol=1e-5)


W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
CUBE = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
KERNEL = np.random.default_rng(2).normal(size=(2, 1, 2, 2)).astype(np.float32)
ints = np.int64
IMAGE = (1, 1, 4, 5)


@pytest.mark.parametrize(
    "made",
    [
        model([("MatMul", "x W", "h", {}), ("Relu", "h", "y", {})], {"W": W}),
        model([("MatMul", "W x", "y", {})], {"W": W.T.copy()}, (4, 2)),
        model([("MatMul", "x W", "y", {})], {"W": W}, (4,)),
        model([("MatMul", "W x", "y", {})], {"W": W.T.copy()}, (4,)),
        model([("MatMul", "x W", "y", {})], {"W": W[:, 0]}, (2, 4)),
        model([("MatMul", "x W", "y", {})], {"W": CUBE}, (1, 4)),
        model([("Gemm", "x W b", "y", {"alpha": 0.5, "beta": 2.0})], {"W": W, "b": W[0]}),
        model([("Gemm", "x W", "y", {"transA": 1, "transB": 1})], {"W": W.T.copy()}, (4, 2)),
        model([("Gemm", "W x b", "y", {})], {"W": W, "b": W[:, :1]}, (3, 2)),
        model([("Gemm", "x W b", "h", {}), ("Gemm", "x W h", "y", {"beta": 3.0})], {"W": W, "b": W[0]}),
        model([("Sub", "c x", "h", {}), ("Div", "h d", "y", {})], {"c": W[:, :1] + 2, "d": W[:, 0]}, (4, 4)),
        model([("Sub", "x c", "h", {}), ("Mul", "d h", "y", {})], {"c": W[None], "d": np.float32(0.3)}, (3,)),
        model([("Neg", "x", "a", {}), ("Identity", "a", "b", {}), ("LeakyRelu", "b", "y", {"alpha": 0.2})]),
        model([("PRelu", "x s", "y", {})], {"s": W[:3, :1]}, (3, 4)),
        model([("Clip", "x", "y", {"min": -0.5, "max": 0.25})], version=9),
        model([("Clip", "x  max", "y", {})], {"max": np.float32(0.25)}),
        model([("Transpose", "x", "h", {"perm": [0, 2, 1]}), ("Flatten", "h", "y", {})], shape=(1, 2, 3)),
        model([("Flatten", "x", "y", {"axis": -1})], shape=(2, 3, 2)),
        model([("Reshape", "x s", "y", {})], {"s": ints([0, -1])}, (2, 3, 2)),
        model([("Shape", "x", "s", {}), ("Gather", "s i", "n", {}), ("Unsqueeze", "n a", "m", {}),
               ("Concat", "m k", "t", {"axis": 0}), ("Reshape", "x t", "y", {})],
              {"i": ints(0), "a": ints([0]), "k": ints([-1])}, ("batch", 2, 3)),
        model([("Unsqueeze", "x", "h", {"axes": [1, -1]}), ("Squeeze", "h", "y", {"axes": [1]})], version=11),
        model([("Slice", "x", "y", {"starts": [1], "ends": [-1], "axes": [1]})], version=9),
        model([("Slice", "x s e a t", "y", {})],
              {"s": ints([-1]), "e": ints([np.iinfo(ints).min]), "a": ints([1]), "t": ints([-2])}),
        model([("Split", "x", ["a", "y"], {"axis": 1, "split": [1, 3]})], version=11),
        model([("Split", "x", ["a", "y"], {"axis": 1, "num_outputs": 2})], shape=(1, 5), version=18),
        model([("Gather", "x i", "y", {"axis": 1})], {"i": ints([[3, -4], [0, 0]])}),
        model([("Relu", "x", "h", {}), ("Concat", "x h c", "y", {"axis": 1})], {"c": W[:1]}),
        model([("Pad", "x p v", "y", {})], {"p": ints([0, 1, 0, 2]), "v": np.float32(0.5)}),
        model([("Pad", "x", "y", {"pads": [0, 1, 0, 2]})], version=10),
        model([("ReduceSum", "x a", "y", {"keepdims": 0})], {"a": ints([-1])}, (2, 3)),
        model([("ReduceMean", "x", "y", {"axes": [1]})], shape=(2, 3)),
        model([("Dropout", "x", "h", {}), ("Cast", "h", "y", {"to": 1})]),
        model([("Conv", "x K b", "y", {"strides": [1, 2], "pads": [0, 1, 1, 0], "dilations": [2, 1]})],
              {"K": KERNEL, "b": W[0, :2]}, IMAGE),
        model([("Conv", "x K", "y", {"auto_pad": "SAME_LOWER", "strides": [2, 2]})], {"K": KERNEL}, IMAGE),
        model([("AveragePool", "x", "y", {"kernel_shape": [2, 3], "pads": [1, 0, 0, 1]})], shape=IMAGE),
        model([("AveragePool", "x", "y", {"kernel_shape": [2, 3], "pads": [1, 0, 0, 1], "count_include_pad": 1})],
              shape=IMAGE),
        model([("MaxPool", "x", "y", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "dilations": [2, 1]})],
              shape=IMAGE),
        model([("GlobalAveragePool", "x", "y", {})], shape=(1, 2, 3, 2)),
        model([("Max", "x c d", "y", {})], {"c": W[:, :1] * 0.1, "d": W[1:2, :1]}, (4, 3)),
        model([("MatMul", "x W", "h", {}), ("Max", "h x", "y", {})], {"W": W[:, :1]}),
        model([("Neg", "x", "h", {}), ("Min", "c x h", "y", {})], {"c": -np.abs(W[0, :1])}, (3, 4)),
        model([("Max", "x", "h", {}), ("Min", "h", "y", {})], version=8),
        model([("Relu", "x", "h", {}), ("Sum", "x c h x", "y", {})], {"c": W[:, :1]}),
        model([("Abs", "x", "h", {}), ("Mean", "h c x", "y", {})], {"c": W[:, :1]}),
        model([("ReduceMax", "x", "y", {"axes": [0, -1], "keepdims": 0})], shape=(2, 3, 2)),
        model([("ReduceMax", "x a", "h", {}), ("Sub", "x h", "y", {})], {"a": ints([1])}, (2, 3), 18),
        model([("ReduceMin", "x", "y", {"keepdims": 0})], shape=(2, 3)),
        model([("GlobalMaxPool", "x", "y", {})], shape=(1, 2, 3, 2)),
        model([("Shape", "x", "s", {}), ("Max", "s k", "t", {}), ("Slice", "x z t", "y", {})],
              {"k": ints([0, 3]), "z": ints([0, 1])}, (1, 4)),
        model([("ConvTranspose", "x K b", "y", {"strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]})],
              {"K": KERNEL[:1], "b": W[0, :1]}, IMAGE),
        model([("ConvTranspose", "x K", "y", {"group": 2, "dilations": [2, 1], "kernel_shape": [2, 2]})],
              {"K": np.concatenate([KERNEL, KERNEL + 1], 1)}, (1, 2, 2, 3)),
        model([("ConvTranspose", "x K", "y", {"strides": [2], "output_shape": [7]})], {"K": CUBE}, (1, 2, 3)),
        model([("ConvTranspose", "x K", "y", {"strides": [2], "auto_pad": "SAME_UPPER"})], {"K": CUBE}, (1, 2, 3)),
        model([("ConvTranspose", "x K", "y", {"strides": [2], "auto_pad": "SAME_LOWER"})], {"K": CUBE}, (1, 2, 3)),
        model([("MaxPool", "x", "y", {"kernel_shape": [2, 2], "strides": [3, 2], "ceil_mode": 1})], shape=IMAGE),
        model([("MaxPool", "x", "y", {"kernel_shape": [2, 3], "strides": [3, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1,
                                      "dilations": [1, 2]})], shape=(1, 1, 5, 7)),
        model([("AveragePool", "x", "y", {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1})], shape=IMAGE),
        model([("AveragePool", "x", "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1],
                                          "ceil_mode": 1, "count_include_pad": 1})], shape=(1, 1, 5, 6), version=19),
        model([("BatchNormalization", "x a b c d", "y", {"epsilon": 0.1})],
              {"a": W[0], "b": W[1], "c": W[2], "d": np.abs(W[3])}, (1, 3, 2)),
        model([("MatMul", "x W", "h", {}), ("Squeeze", "h", "g", {}), ("Relu", "g", "r", {}), ("Add", "r g", "y", {})],
              {"W": W[:, :1]}),
        model([("Relu", "x", "h", {}), ("MatMul", "h W", "g", {}), ("Relu", "g", "f", {}), ("MatMul", "f V", "e", {}),
               ("Sub", "x e", "d", {}), ("Add", "d h", "y", {})], {"W": W, "V": W.T.copy()}),
    ],
    ids=lambda made: "-".join(node.op_type for node in made.graph.node)[:40],
)  # fmt: skip
def test_operators(tmp_path, made):
    assert_as_runtime(saved(tmp_path, made))


def test_a_constant_that_is_aligned_at_an_axis(tmp_path):
    """As before version 7, which ONNX Runtime does not compute any more."""
    made = model([("Add", "x c", "y", {"broadcast": 1, "axis": 1})], {"c": W[0]}, (2, 3, 2), 6, ir_version=3)
    y = read_onnx(saved(tmp_path, made)).network(np.arange(12.0))
    assert np.array_equal(y, (np.arange(12).reshape(2, 3, 2) + W[0][:, None]).ravel())


def test_what_depends_on_the_input_is_aligned_at_an_axis_too(tmp_path):
    nodes = [("ReduceSum", "x", "h", {"axes": [0, 2], "keepdims": 0}), ("Sub", "x h", "y", {"broadcast": 1, "axis": 1})]
    y = read_onnx(saved(tmp_path, model(nodes, {}, (3, 3, 3), 6, ir_version=3))).network(np.arange(27.0))
    x = np.arange(27.0).reshape(3, 3, 3)
    assert np.array_equal(y, (x - x.sum((0, 2))[:, None]).ravel())


def test_initialisers_among_the_inputs_and_what_is_not_used(tmp_path):
    made = model([("MatMul", "x W", "y", {}), ("Sigmoid", "y", "z", {})], {"W": W, "V": W * np.nan}, ir_version=3)
    assert_as_runtime(saved(tmp_path, made))


def test_packed_files_are_the_same_and_others_are_refused(tmp_path):
    content = model([("MatMul", "x W", "y", {})], {"W": W}).SerializeToString()
    packed = tmp_path / "net.onnx.gz"
    packed.write_bytes(gzip.compress(content))
    assert np.array_equal(read_onnx(packed).network.weights[0], W.T)
    for wrong, message in ((content, "is not packed by gzip"), (gzip.compress(content)[:-9], "cannot be unpacked")):
        packed.write_bytes(wrong)
        with pytest.raises(ValueError, match=message):
            read_onnx(packed)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (model([("Sigmoid", "x", "h", {}), ("MatMul", "h W", "y", {})], {"W": W * np.nan}),
         r"node 'Sigmoid_0' \(Sigmoid\) is not piecewise linear"),
        (model([("Resize", "x  s", "y", {})], {"s": W[0]}), r"node 'Resize_0' \(Resize\) is of an operator"),
        (model([("Mul", "x x", "y", {})]), r"node 'Mul_0' \(Mul\): both factors depend"),
        (model([("Div", "c x", "y", {})], {"c": W[0, :1]}), r"node 'Div_0' \(Div\): the divisor depends"),
        (model([("MatMul", "x W", "y", {})], {"W": W * np.inf}), "constant 'W' has numbers that are not finite"),
        (model([("MatMul", "x W", "y", {})], {"W": W}, (2, 5)), r"node 'MatMul_0' \(MatMul\): .* inner sizes"),
        (model([("Cast", "x", "y", {"to": 7})]), r"node 'Cast_0' \(Cast\): it casts to type 7"),
        (model([("Max", "x c", "y", {})], {"c": W[:, :1]}, version=6), r"node 'Max_0' \(Max\): .* equal shapes"),
        (model([("ConvTranspose", "x K", "y", {"pads": [3, 3, 3, 3]})], {"K": KERNEL[:1]}, IMAGE), "leave nothing of"),
        (model([("MaxPool", "x", ["y", "i"], {"kernel_shape": [2, 2]})], shape=IMAGE), "a second output, of places"),
        (model([("Softmax", "x", "h", {}), ("Relu", "h", "y", {})]), r"node 'Relu_1' \(Relu\) follows a softmax"),
        (model([("Softmax", "x", "y", {"axis": 1})], shape=(1, 2, 2)), "expected a softmax over all elements"),
        (model([("Relu", "x", "y", {})], shape=("a", "b")), "'x' has 2 axes, of which 2 have no size"),
        (model([("Relu", "x", "y", {}), ("Relu", "y", "z", {})], outputs=("y", "z")), "or its name as output="),
        (model([("Conv", "x K", "y", {"pads": [10**6] * 4})], {"K": KERNEL}, IMAGE), "GB"),
        (model([("Dropout", "x", ["h", "m"], {}), ("Cast", "m", "c", {"to": 1}), ("Mul", "h c", "y", {})]),
         r"node 'Cast_1' \(Cast\) takes 'm': expected the input, a dense constant"),
        (model([("Split", "x s", ["y", "z"], {"axis": 1})], {"s": np.float32([1, 3])}, version=1),
         r"node 'Split_0' \(Split\): input 1 is given: expected the attribute 'split'"),
        (model([("Relu", "x", "y", {})], version=99), "names version 99 of ONNX's operators: expected 1 to"),
        (b"", "it has no node|not a network in the ONNX format"),
        (b"(assert (<= X_0 1))", "is not a network in the ONNX format"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path, made, message):
    with pytest.raises((ValueError, UnsupportedLayerError), match=f"net.onnx.*({message})"):
        read_onnx(saved(tmp_path, made))


def test_a_chosen_output_and_a_softmax_at_the_end(tmp_path):
    nodes = [("MatMul", "x W", "z", {}), ("Softmax", "z", "y", {"axis": 1}), ("Relu", "z", "r", {})]
    path = saved(tmp_path, model(nodes, {"W": W}, outputs=("y", "r")))
    assert (read_onnx(path, output="y").softmax, read_onnx(path, output="r").softmax) == ("Softmax_1", "")
    with pytest.raises(ValueError, match="output = 'q'"):
        read_onnx(path, output="q")


def test_weights_outside_the_file_lie_in_its_folder(tmp_path):
    made, folder = model([("MatMul", "x W", "y", {})], {"W": W}), tmp_path / "inner"
    folder.mkdir()
    onnx.save(made, folder / "net.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert np.array_equal(read_onnx(folder / "net.onnx").network.weights[0], W.T)
    (folder / "weights").rename(tmp_path / "weights")
    with pytest.raises(ValueError, match="where no file is"):
        read_onnx(folder / "net.onnx")
    outside = onnx.load(folder / "net.onnx", load_external_data=False)
    outside.graph.initializer[0].external_data[0].value = "../weights"
    with pytest.raises(ValueError, match="expected a file in the same folder"):
        read_onnx(saved(folder, outside))


def test_a_network_is_written_in_32_bits(tmp_path):
    rng = np.random.default_rng(0)
    nets = read_onnx(saved(tmp_path, model([("MatMul", "x W", "h", {}), ("Relu", "h", "y", {})], {"W": W}))).network
    again = read_onnx(saved(tmp_path, as_onnx(nets))).network
    x = rng.normal(size=(5, 4))
    assert np.array_equal(again(x), nets(x))
