"""Networks in the ONNX format."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engram import checks
from engram.extras import missing
from engram.verify.affine_value import Value, check_size, inputs
from engram.verify.network import AffineReLU, Array, UnsupportedLayerError
from engram.verify.onnx_call import Call, Operand
from engram.verify.onnx_operators import NOT_PIECEWISE_LINEAR, OPERATORS, Softmax

GZIP = b"\x1f\x8b"
LARGEST_FILE = 2**31  # of a file that is unpacked; protobuf takes no larger message


class OnnxNetwork(NamedTuple):
    """The network of an ONNX file, with the shapes of its input and output, in which unknown sizes are 1.

    Inputs and outputs of ``network`` are the elements of these tensors in C order. ``softmax`` is the name of a softmax
    at the end of the file's network, which ``network`` leaves out, or "". ``is_double`` says whether inputs are of 64
    bits.
    """

    network: AffineReLU
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    softmax: str
    is_double: bool = False


def read_onnx(path: str | Path, *, output: str | None = None) -> OnnxNetwork:
    """The network of an ONNX file, as affine layers with ReLU between them.

    Weights of 32 bits are taken as they are. What is constant is folded into the layer beside it, which rounds to 64
    bits. Operators are those of small networks with ReLU: matrices, convolutions, also transposed, pooling, batch
    normalisation, sums, means, products with constants, changes of shape, ReLU, leaky ReLU, PReLU, clipping, absolute
    values, maxima and minima.

    Args:
        path: The file, which may be packed by gzip. Weights outside the file have to lie in its folder.
        output: Name of the output, if the network has several; None: its only one.

    Raises:
        UnsupportedLayerError: An operator is not supported; it is named with its node, before anything is computed.
        ValueError: The file is no network, or a node has other inputs or attributes than the operator expects.

    Source: ONNX, Open Neural Network Exchange, intermediate representation and operator schemas.
    """
    checks.arguments()
    model = load_model(path)
    try:
        return _read(model, output)
    except (ValueError, UnsupportedLayerError, RuntimeError, IndexError, KeyError, OverflowError) as error:
        kind = UnsupportedLayerError if isinstance(error, UnsupportedLayerError) else ValueError
        raise kind(f"{path}: {error}") from error


def load_model(path: str | Path) -> Any:
    """The ``onnx.ModelProto`` of a file, checked against the schemas of its operators, with external weights.

    Args:
        path: The file.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise missing("verify", "An ONNX file", error) from error
    content = unpacked(path)
    try:
        model = onnx.ModelProto.FromString(content)
        _load_external(model, Path(path).parent)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, UnicodeDecodeError, RuntimeError) as error:
        raise ValueError(f"{path} is not a network in the ONNX format: {error}") from error
    if not len(model.graph.node):
        raise ValueError(f"{path} is not a network in the ONNX format: it has no node")
    return model


def unpacked(path: str | Path) -> bytes:
    """The content of a file, which may be packed by gzip.

    Args:
        path: The file; a name that ends in ``.gz`` has to be that of a packed file.
    """
    content = Path(path).read_bytes()
    if content[:2] != GZIP:
        if Path(path).suffix == ".gz":
            raise ValueError(f"{path} is not packed by gzip, as its name says")
        return content
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST_FILE)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if len(content) >= LARGEST_FILE:
        raise ValueError(f"{path} is larger than {LARGEST_FILE / 1e9:.0f} GB when unpacked")
    return content


def self_contained(path: str | Path) -> bytes:
    """The content of an ONNX file, with the weights that lie outside it, which ONNX Runtime does not find by itself.

    Args:
        path: The file.
    """
    import onnx

    content = unpacked(path)
    weights = onnx.ModelProto.FromString(content).graph.initializer
    if not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in weights):
        return content
    whole: bytes = load_model(path).SerializeToString()
    return whole


def _load_external(model: Any, folder: Path) -> None:
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            if not (folder / place).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"the weights {tensor.name!r} lie at {place!r}: expected a file in the same folder")
            if not (folder / place).is_file():
                raise ValueError(f"the weights {tensor.name!r} lie at {place!r}, where no file is")
    load_external_data_for_model(model, str(folder))


def known_sizes(name: str, tensor_type: Any) -> tuple[int, ...]:
    """The shape of an input or output, in which an unknown size, of a batch, is 1.

    Args:
        name: Its name.
        tensor_type: Its type.
    """
    dims = list(tensor_type.shape.dim)
    unknown = [not (dim.HasField("dim_value") and dim.dim_value > 0) for dim in dims]
    if sum(unknown) > 1 or not dims:
        raise ValueError(f"{name!r} has {len(dims)} axes, of which {sum(unknown)} have no size: expected at most one")
    return tuple(1 if free else int(dim.dim_value) for dim, free in zip(dims, unknown, strict=True))


def _read(model: Any, output: str | None) -> OnnxNetwork:
    from onnx import TensorProto
    from onnx.defs import onnx_opset_version

    graph = model.graph
    versions = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if len(versions) != 1:
        raise ValueError(f"opset_import names the versions {sorted(versions)} of ONNX's operators: expected one")
    (version,) = versions
    if not 1 <= version <= (newest := onnx_opset_version()):  # a later version may give an operator another meaning
        raise ValueError(f"opset_import names version {version} of ONNX's operators: expected 1 to {newest}")
    constants = {tensor.name for tensor in graph.initializer}
    tensors = [entry for entry in graph.input if entry.name not in constants]
    names = [entry.name for entry in graph.output]
    if len(tensors) != 1:
        raise ValueError(f"the network has the inputs {[entry.name for entry in tensors]}: expected one")
    if output is None and len(names) != 1:
        raise ValueError(f"the network has the outputs {names}: expected one, or its name as output= of `read_onnx`")
    chosen = names[0] if output is None else checks.choice("output", output, names)
    (tensor,) = tensors
    if tensor.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise ValueError(f"input {tensor.name!r} is not of type float32 or float64")
    nodes = _needed(graph.node, chosen)
    _check_operators(nodes)
    shape = known_sizes(tensor.name, tensor.type.tensor_type)
    layers, value = inputs(shape)
    known: dict[str, Operand | Softmax] = {tensor.name: value, **_weights(graph, nodes)}
    for node in nodes:
        _apply(layers, version, node, known)
    last = known.get(chosen)
    softmax = ""
    if isinstance(last, Softmax):
        softmax, last = next(_title(node) for node in nodes if chosen in node.output), last.value
    if not isinstance(last, Value):
        raise ValueError(f"output {chosen!r} does not depend on the input")
    is_double = tensor.type.tensor_type.elem_type == TensorProto.DOUBLE
    return OnnxNetwork(layers.network(last), shape, last.shape, softmax, is_double)


def _title(node: Any) -> str:
    return str(node.name or next(iter(node.output), ""))


def _needed(nodes: Sequence[Any], output: str) -> list[Any]:
    """The nodes on which an output depends, in their order."""
    wanted, needed = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            needed.append(node)
            wanted |= set(node.input)
    return needed[::-1]


def _check_operators(nodes: Sequence[Any]) -> None:
    for node in nodes:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if kind in NOT_PIECEWISE_LINEAR:
            raise UnsupportedLayerError(f"node {_title(node)!r} ({kind}) is not piecewise linear")
        if kind not in OPERATORS and kind != "Constant":
            raise UnsupportedLayerError(f"node {_title(node)!r} ({kind}) is of an operator that is not supported")


def _weights(graph: Any, nodes: Sequence[Any]) -> dict[str, Tensor]:
    """The constants that nodes use."""
    used = {name for node in nodes for name in node.input}
    weights: dict[str, Tensor] = {}
    for tensor in graph.initializer:
        if tensor.name in used:
            if tensor.name in weights:
                raise ValueError(f"there are two constants {tensor.name!r}")
            weights[tensor.name] = _constant(tensor.name, tensor)
    return weights


def _constant(name: str, tensor: Any) -> Tensor:
    """A constant, of 64 bits."""
    from onnx import numpy_helper

    check_size(1, tuple(tensor.dims))
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise ValueError(f"constant {name!r} cannot be read: {error}") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"constant {name!r} has the type {array.dtype}: expected numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"constant {name!r} has numbers that are not finite")
    return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else np.int64))


def _apply(layers: Any, version: int, node: Any, known: dict[str, Operand | Softmax]) -> None:
    """Add the outputs of a node to what is known."""
    import onnx

    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes = {name: text.decode() if isinstance(text, bytes) else text for name, text in attributes.items()}
    operands: list[Operand | None] = []
    for name in node.input:
        if name and name not in known:
            raise ValueError(
                f"node {_title(node)!r} ({node.op_type}) takes {name!r}: expected the input, a dense constant, or an "
                "output of another node that is read"
            )
        operand = known[name] if name else None
        if isinstance(operand, Softmax):
            raise UnsupportedLayerError(f"node {_title(node)!r} ({node.op_type}) follows a softmax: expected it last")
        operands.append(operand)
    try:
        if node.op_type == "Constant":
            outputs: Any = _stated(node, attributes)
        else:
            attributes[":outputs"] = sum(bool(name) for name in node.output)
            outputs = OPERATORS[node.op_type](Call(layers, version, operands, attributes))
    except (ValueError, RuntimeError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"node {_title(node)!r} ({node.op_type}): {error}") from error
    known.update(zip(node.output, outputs if isinstance(outputs, list) else [outputs], strict=False))


def _stated(node: Any, attributes: Mapping[str, Any]) -> Tensor:
    """The tensor of a node ``Constant``."""
    if "value" in attributes:
        return _constant(_title(node), attributes["value"])
    for kind, dtype in (("float", torch.float64), ("int", torch.long)):
        for name in (f"value_{kind}", f"value_{kind}s"):
            if name in attributes:
                return torch.tensor(attributes[name], dtype=dtype)
    raise ValueError("expected a tensor, or numbers")


class Session:
    """What ONNX Runtime computes for inputs of an ONNX network, one at a time, on one thread of the CPU.

    Args:
        model: The content of an ONNX file.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        content = _with_free_sizes(model)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self._input,) = self._session.get_inputs()
        self._shape = [size if isinstance(size, int) and size > 0 else 1 for size in self._input.shape]

    def __call__(self, x: Array, output: str | None = None) -> Array:
        """The outputs, in C order, of one input in C order.

        Args:
            x: The input.
            output: Name of the output; None: the first.
        """
        dtype = np.float64 if "double" in self._input.type else np.float32
        named = {self._input.name: x.reshape(self._shape).astype(dtype)}
        y = self._session.run(None if output is None else [output], named)[0]
        return np.asarray(y, dtype=np.float64).ravel()


def _with_free_sizes(content: bytes) -> bytes:
    """A network in which sizes of 0, by which some say that they are unknown, are unknown to ONNX Runtime too."""
    import onnx

    model = onnx.ModelProto.FromString(content)
    dims = [dim for end in (*model.graph.input, *model.graph.output) for dim in end.type.tensor_type.shape.dim]
    unknown = [dim for dim in dims if dim.HasField("dim_value") and dim.dim_value <= 0]
    for dim in unknown:
        dim.Clear()
    return model.SerializeToString() if unknown else content


def as_onnx(net: AffineReLU) -> bytes:
    """A network with weights cast to 32 bits as the content of an ONNX file.

    Args:
        net: The network.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for k, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        last = k == len(net.weights) - 1
        nodes.append(helper.make_node("Gemm", [name, f"W{k}", f"b{k}"], ["y" if last else f"z{k}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{k}"], [f"h{k}"]))
            name = f"h{k}"
        constants += [
            numpy_helper.from_array(array.astype(np.float32), f"{kind}{k}") for kind, array in (("W", W), ("b", b))
        ]
    ends = (("x", net.sizes[0]), ("y", net.sizes[-1]))
    x, y = (helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, size]) for end, size in ends)
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()
    return content
