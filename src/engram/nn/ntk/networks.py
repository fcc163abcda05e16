"""Wide networks in the neural tangent kernel parameterisation, and conversion to and from the standard one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from engram import checks
from engram.copying import copied
from engram.nn.hooks import alteration
from engram.nn.ntk.batch_only_norm import BatchOnlyNorm
from engram.nn.ntk.direct_reads import refuse_direct_reads
from engram.nn.ntk.layers import NTKConv2d, NTKLinear
from engram.nn.ntk.rnn import NTKRNN, WideRNN


def wide_mlp(
    sizes: Sequence[int],
    *,
    norm: bool = True,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A network of ReLU units, either normalised over the batch or with weights of gain sqrt(2) after each ReLU.

    Args:
        sizes: Numbers of inputs, of units in each hidden layer, and of outputs.
        norm: Whether a ``BatchOnlyNorm`` precedes each ReLU.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Raises:
        ValueError: There are fewer than two sizes, or one is below 1.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022).

    Examples:
        >>> net = wide_mlp((64, 128, 10), generator=torch.Generator().manual_seed(0))
        >>> [type(layer).__name__ for layer in net]
        ['NTKLinear', 'BatchOnlyNorm', 'ReLU', 'NTKLinear']
    """
    checks.arguments()
    if len(sizes) < 2:
        raise ValueError(f"sizes = {tuple(sizes)}: expected inputs, units of hidden layers, outputs")
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        gain = math.sqrt(2) if index and not norm else 1.0
        if index:
            layers += [BatchOnlyNorm(), nn.ReLU()] if norm else [nn.ReLU()]
        layers.append(NTKLinear(inputs, outputs, gain=gain, dtype=dtype, generator=generator))
    return nn.Sequential(*layers)


def wide_cnn(
    width: int,
    strides: Sequence[int] = (1, 2, 2),
    *,
    channels: int = 1,
    outputs: int = 10,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A network of 3 x 3 convolutions, normalised over the batch, then a mean over positions and a linear layer.

    Args:
        width: Number of channels in every hidden layer.
        strides: Stride of each convolution; the default is published for KMNIST, (1, 1, 1, 2, 1, 2, 1) for CIFAR-10.
        channels: Number of channels of the images.
        outputs: Number of outputs.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Raises:
        ValueError: There is no convolution, or a number is below 1.

    Source: Boopathy and Fiete, "How to train your wide neural network without backprop" (2022).

    Examples:
        >>> net = wide_cnn(8, generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    checks.arguments()
    if not len(strides):
        raise ValueError("strides is empty: expected one for each convolution")
    for name, size in (("width", width), ("channels", channels), ("outputs", outputs)):
        checks.size(name, size)
    layers: list[nn.Module] = []
    for inputs, stride in zip([channels, *[width] * (len(strides) - 1)], strides, strict=True):
        convolution = NTKConv2d(inputs, width, 3, stride, dtype=dtype, generator=generator)
        layers += [convolution, BatchOnlyNorm(), nn.ReLU()]
    # A 1 x 1 convolution of an input with one position is a linear layer.
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), NTKLinear(width, outputs, dtype=dtype, generator=generator)]
    return nn.Sequential(*layers)


def wide_rnn(
    inputs: int,
    hidden: int,
    outputs: int,
    *,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> WideRNN:
    """An ``NTKRNN`` with a readout at every step.

    Args:
        inputs: Number of input features.
        hidden: Number of units.
        outputs: Number of outputs.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Raises:
        ValueError: A number is below 1.

    Examples:
        >>> net = wide_rnn(1, 16, 1, generator=torch.Generator().manual_seed(0))
        >>> net(torch.ones(5, 3, 1)).shape
        torch.Size([5, 3, 1])
    """
    checks.arguments()
    for name, size in (("inputs", inputs), ("hidden", hidden), ("outputs", outputs)):
        checks.size(name, size)
    core = NTKRNN(inputs, hidden, dtype=dtype, generator=generator)
    return WideRNN(core, NTKLinear(hidden, outputs, dtype=dtype, generator=generator))


def to_standard(model: nn.Module) -> nn.Module:
    """A copy of a network in the standard parameterisation, W_standard = c W, with the same outputs.

    ``NTKLinear`` becomes ``nn.Linear``. ``NTKConv2d`` becomes ``nn.Conv2d``, but with padding ``"same_tf"``, which
    torch lacks, an ``NTKConv2d`` of scale 1. Gradient descent at the rates of ``standard_rates`` keeps the outputs of
    both networks the same.

    Args:
        model: A network with NTK layers; it is not changed.

    Raises:
        TypeError: The model has no NTK layer, or is recurrent; or a copy of it would compute with its weights.
        ValueError: A layer to be converted has hooks, a parametrisation or a forward of its own, shares weights with
            one of another kind, or has weights that are read without a call of the layer.

    Examples:
        >>> model = wide_mlp((4, 8, 2), generator=torch.Generator().manual_seed(0))
        >>> x = torch.eye(4)
        >>> torch.allclose(to_standard(model)(x), model(x), atol=1e-6)
        True
    """
    _scales(model)
    refuse_direct_reads(model, [layer for layer in model.modules() if isinstance(layer, NTKLinear | NTKConv2d)])
    return _converted(copied(model), _standard)


def from_standard(model: nn.Module) -> nn.Module:
    """A copy of a network in the neural tangent kernel parameterisation, W = W_standard / c, with gain 1.

    Args:
        model: A network with ``nn.Linear``, or with ``nn.Conv2d`` of square kernels, with equal strides and numbers of
            zeros along both axes, without groups or dilation; it is not changed.

    Raises:
        TypeError: The model has no such layer; or a convolution of another form or an ``nn.TransformerEncoderLayer``,
            which reads the weights of its layers without calling them; the message names it.
        ValueError: As for ``to_standard``.

    Examples:
        >>> model = nn.Sequential(nn.Linear(4, 2))
        >>> torch.allclose(from_standard(model)(torch.eye(4)), model(torch.eye(4)), atol=1e-6)
        True
    """
    checks.arguments()
    standard_layers = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            raise TypeError(f"layer {name!r} is a {type(module).__name__}, which does not call its linear layers")
        if _plain_type(module) in {nn.Linear, nn.Conv2d}:
            _check_plain(name, module)
            standard_layers += 1
    if not standard_layers:
        raise TypeError(f"model is a {type(model).__name__} without nn.Linear or nn.Conv2d: expected at least one")
    refuse_direct_reads(model, [layer for layer in model.modules() if type(layer) in {nn.Linear, nn.Conv2d}])
    return _converted(copied(model), _ntk)


def standard_rates(model: nn.Module, rate: float) -> dict[str, float]:
    """The learning rates at which ``to_standard(model)`` learns the same as ``model``: rate c^2 for weights.

    Args:
        model: The network with NTK layers.
        rate: Its learning rate.

    Returns:
        The rates by parameter name; the names are the same in both networks.

    Raises:
        TypeError: The model has no NTK layer, or is recurrent.
        ValueError: The rate is not above 0, or a layer has hooks or a parametrisation.

    Examples:
        >>> standard_rates(wide_mlp((4, 2), generator=torch.Generator().manual_seed(0)), 2.0)
        {'0.weight': 0.5, '0.bias': 2.0}
    """
    checks.number("rate", rate, above=0)
    scales = _scales(model)
    return {name: rate * scales.get(name, 1.0) ** 2 for name, _ in model.named_parameters()}


def _scales(model: nn.Module) -> dict[str, float]:
    checks.arguments()
    scales = {}
    for name, module in model.named_modules():
        if isinstance(module, NTKRNN):
            raise TypeError(f"layer {name!r} is an NTKRNN, which has no other parameterisation here")
        if isinstance(module, NTKLinear | NTKConv2d):
            _check_plain(name, module)
            scales[f"{name}.weight" if name else "weight"] = module.scale
    if not scales:
        raise TypeError(f"model is a {type(model).__name__} without NTKLinear or NTKConv2d: expected at least one")
    return scales


def _plain_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module, without the subclass that a parametrisation puts in its place."""
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def _check_plain(name: str, module: nn.Module) -> None:
    """Raise ValueError if a layer has hooks or a parametrisation, which the converted one would lack."""
    reason = alteration(module)
    if reason == "has hooks" or parametrize.is_parametrized(module):
        raise ValueError(f"layer {name!r} has hooks or a parametrisation, such as pruning: expected neither")
    if reason or "weight" not in module._parameters:
        reason = reason or "computes its weights from others"
        raise ValueError(f"layer {name!r} {reason}, which the converted one would lack: expected it as its class is")


def _converted(model: nn.Module, convert: Any) -> nn.Module:
    scales: dict[int, float] = {}  # of the weights that were scaled, by id: a tied weight is scaled once
    converted: nn.Module = convert("", model, scales)
    if converted is not model:
        return converted
    unchanged: list[nn.Module] = []
    converted_by_id: dict[int, nn.Module] = {}  # a layer that occurs twice stays one layer
    for name, module in list(model.named_modules()):
        for child, child_module in list(module._modules.items()):
            if child_module is None:
                continue
            if id(child_module) not in converted_by_id:
                converted_by_id[id(child_module)] = convert(f"{name}.{child}" if name else child, child_module, scales)
                if converted_by_id[id(child_module)] is child_module and not isinstance(child_module, NTKConv2d):
                    unchanged.append(child_module)
            setattr(module, child, converted_by_id[id(child_module)])
    for module in unchanged:
        if any(id(parameter) in scales for parameter in module._parameters.values()):
            raise ValueError(
                f"a {type(module).__name__} shares weights with a layer that is converted: expected its own"
            )
    return model


@torch.no_grad()
def _standard(name: str, module: Any, scales: dict[int, float]) -> nn.Module:
    if not isinstance(module, NTKLinear | NTKConv2d):
        return module  # type: ignore[no-any-return]
    if _is_new(name, module.weight, module.scale, scales):
        module.weight.mul_(module.scale)
    bias = module.bias is not None
    if isinstance(module, NTKLinear):
        return _filled(nn.Linear(module.in_features, module.out_features, bias, "meta"), module)
    if module.same:
        module.scale = 1.0
        return module
    conv: Any = module
    sizes = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
    return _filled(nn.Conv2d(*sizes, bias=bias, device="meta"), module)


@torch.no_grad()
def _ntk(name: str, module: Any, scales: dict[int, float]) -> nn.Module:
    bias = getattr(module, "bias", None) is not None
    if type(module) is nn.Linear:
        layer: Any = NTKLinear(module.in_features, module.out_features, bias=bias, device="meta")
    elif type(module) is nn.Conv2d:
        k, stride, padding = module.kernel_size, module.stride, module.padding
        is_plain = module.padding_mode == "zeros" and module.groups == 1 and module.dilation == (1, 1)
        if not is_plain or isinstance(padding, str) or any(len(set(pair)) > 1 for pair in (k, stride, padding)):
            raise TypeError(f"layer {name!r} is {module}: expected a square kernel, stride and padding by zeros")
        sizes = module.in_channels, module.out_channels, k[0], stride[0]
        layer = NTKConv2d(*sizes, padding=int(padding[0]), bias=bias, device="meta")
    else:
        return module  # type: ignore[no-any-return]
    if _is_new(name, module.weight, layer.scale, scales):
        module.weight.div_(layer.scale)
    return _filled(layer, module)


def _is_new(name: str, weight: Tensor, scale: float, scales: dict[int, float]) -> bool:
    """Whether a weight was not scaled yet; raise ValueError if another layer that shares it has another scale."""
    is_new = id(weight) not in scales
    if scales.setdefault(id(weight), scale) != scale:
        raise ValueError(
            f"layer {name!r} has the scale {scale:g}: expected {scales[id(weight)]:g}, the scale of its tied weights"
        )
    return is_new


def _filled(layer: Any, source: Any) -> nn.Module:
    """The layer with the parameters of another one."""
    layer.weight, layer.bias = source.weight, source.bias
    return layer.train(source.training)  # type: ignore[no-any-return]
