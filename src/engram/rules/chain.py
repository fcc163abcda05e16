"""A feed-forward network read as a chain of layers, run forward and backward without an autograd graph of the whole.

    a[l] = W[l] h[l-1] + b[l],   h[l] = phi(a[l])
    delta[l] = (delta[l+1] B[l+1]) phi'(a[l]),   dL/dW[l] = delta[l]^T h[l-1]

With B = W this is backpropagation; the rules differ in where their errors come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from engram import checks
from engram.nn.hooks import alteration
from engram.nn.ntk import BatchOnlyNorm, NTKConv2d, NTKLinear
from engram.nn.sequence import autocast
from engram.rules.feedback_mode import Convolution
from engram.rules.loss import loss_and_error
from engram.state import check_state

# Derivatives in terms of the output: fused, and without a graph.
_CLOSED: dict[type[nn.Module], Any] = {
    nn.Identity: lambda error, output: error,
    nn.Tanh: torch.ops.aten.tanh_backward,
    nn.Sigmoid: torch.ops.aten.sigmoid_backward,
    nn.ReLU: lambda error, output: torch.ops.aten.threshold_backward(error, output, 0),
}
_BETWEEN = (
    *(nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(nn.Hardtanh, nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.Softmax, nn.Flatten, nn.Unflatten, nn.MaxPool2d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LayerNorm, nn.GroupNorm),
)
_SCALED = (NTKLinear, NTKConv2d)
_CHANGING = (BatchOnlyNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)


class Activity(NamedTuple):
    """The input and the activity of a layer.

    Attributes:
        input: h[l-1].
        pre: a[l].
        output: h[l].
        graph: h[l] with the graph from a[l], if the modules between have no derivative in closed form; else None.
    """

    input: Tensor
    pre: Tensor
    output: Tensor
    graph: Tensor | None


@dataclass(frozen=True)
class Layer:
    """A module with weights, and the modules between it and the next one.

    Attributes:
        name: Name of the module with weights in ``named_modules``.
        module: The module.
        after: The modules after it, by name: activation, pooling, reshaping.
        any_activation: Whether these may be of any kind, because no derivative is needed.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    after: tuple[tuple[str, nn.Module], ...]
    any_activation: bool = False

    @property
    def weight_name(self) -> str:
        """The name of its weights among the network's parameters."""
        return _joined(self.name, "weight")

    @property
    def units(self) -> int:
        """The number of its outputs, or output channels."""
        return len(self.module.weight)

    @property
    def scale(self) -> float:
        """The factor on its weights in the forward pass: 1, except in the neural tangent kernel parameterisation."""
        return getattr(self.module, "scale", 1.0)

    @property
    def weight(self) -> Tensor:
        """Its weights, scaled as in the forward pass."""
        weight: Tensor = self.module.weight
        return weight if self.scale == 1 else weight * self.scale

    def forward(self, input: Tensor, noise: Tensor | None = None) -> Activity:
        """Its activity for an input, with noise added to a[l] if given."""
        pre = self.module(input)
        return self.activated(input, pre if noise is None else pre + noise)

    def activated(self, input: Tensor, pre: Tensor) -> Activity:
        """The activity of the units, given a[l]."""
        if not self.after:
            return Activity(input, pre, pre, None)
        if len(self.after) == 1 and type(self.after[0][1]) in _CLOSED:
            return Activity(input, pre, self.after[0][1](pre), None)
        if self.any_activation:
            output = pre.clone()  # an activation may work in place
            for _, module in self.after:
                output = module(output)
            return Activity(input, pre, output, None)
        with torch.enable_grad():
            pre = pre.detach().requires_grad_()
            output = pre.clone()
            for _, module in self.after:
                output = module(output)
        return Activity(input, pre, output.detach(), output)

    def through(self, activity: Activity, error: Tensor) -> Tensor:
        """The error at a[l], given the error at h[l]."""
        return self._through(activity, error)[0]

    def gradients(self, activity: Activity, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The error at a[l], and the gradients of the layer's parameters, given the error at h[l]."""
        delta, grads = self._through(activity, error)
        return delta, self.weight_gradients(activity.input, delta) | grads

    def weight_gradients(self, input: Tensor, delta: Tensor) -> dict[str, Tensor]:
        """The gradients of weights and bias, summed over the batch, given h[l-1] and the error at a[l]."""
        module, grads = self.module, {}
        weight, bias = module.weight.requires_grad, module.bias is not None and module.bias.requires_grad
        if isinstance(module, nn.Linear):
            delta = delta.reshape(-1, delta.shape[-1])  # a linear layer may be applied at each of several places
            if weight:
                grads[self.weight_name] = delta.t() @ input.reshape(-1, input.shape[-1])
            if bias:
                grads[_joined(self.name, "bias")] = delta.sum(0)
        else:
            _, weight_grad, bias_grad = self._convolution_backward(delta, input, module.weight, [False, weight, bias])
            grads = {self.weight_name: weight_grad} if weight else {}
            grads |= {_joined(self.name, "bias"): bias_grad} if bias else {}
        if weight and self.scale != 1:
            grads[self.weight_name] = grads[self.weight_name] * self.scale
        return grads

    def back(self, delta: Tensor, feedback: Tensor, input: Tensor) -> Tensor:
        """The error at h[l-1].

        Args:
            delta: The error at a[l].
            feedback: The weights through which it goes back, of the shape of W[l].
            input: h[l-1].
        """
        if isinstance(self.module, nn.Linear):
            return delta @ feedback
        error: Tensor = self._convolution_backward(delta, input, feedback, [True, False, False])[0]
        return error

    def _through(self, activity: Activity, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if activity.graph is not None:
            inside = {
                _joined(name, parameter): value
                for name, module in self.after
                for parameter, value in module.named_parameters()
                if value.requires_grad
            }
            # Some rules send two errors through the same activity.
            delta, *grads = torch.autograd.grad(
                activity.graph, [activity.pre, *inside.values()], error, retain_graph=True
            )
            return delta, dict(zip(inside, grads, strict=True))
        if not self.after:
            return error, {}
        return _CLOSED[type(self.after[0][1])](error, activity.output), {}

    def _convolution_backward(self, delta: Tensor, input: Tensor, weight: Tensor, output_mask: list[bool]) -> Any:
        module: Any = self.module
        margins = module.margins((input.shape[2], input.shape[3])) if isinstance(module, NTKConv2d) else (0, 0, 0, 0)
        input = functional.pad(input, margins) if any(margins) else input
        padding = [0, 0] if module.padding == "valid" else list(module.padding)
        if module.padding == "same":
            padding = [d * (k - 1) // 2 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        form = Convolution(list(module.stride), padding, list(module.dilation), False, [0, 0], module.groups)
        grads = form.backward(delta, input, weight, output_mask)
        if not (any(margins) and output_mask[0]):
            return grads
        return (functional.pad(grads[0], tuple(-margin for margin in margins)), *grads[1:])


class Chain(NamedTuple):
    """A network as a chain, rebuilt by ``from_module`` at every update, since a rule keeps no module.

    Attributes:
        before: Modules without parameters before the first layer.
        layers: The layers.
    """

    before: tuple[nn.Module, ...]
    layers: tuple[Layer, ...]

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        rule: object,
        *,
        linear: bool = False,
        deterministic: bool = False,
        any_activation: bool = False,
        scaled: bool = False,
    ) -> Chain:
        """A network as a chain of layers.

        Args:
            model: An ``nn.Sequential``, nested or not, of ``nn.Linear``, ``nn.Conv2d`` and supported modules between.
            rule: The rule, for error messages.
            linear: Whether ``nn.Linear`` is the only layer type that is accepted.
            deterministic: Whether the same input must always give the same output, which excludes batch norm and
                dropout.
            any_activation: Whether any modules without parameters are accepted between layers, since no derivative is
                needed.
            scaled: Whether ``NTKLinear`` and ``NTKConv2d``, whose weights are scaled in the forward pass, are accepted
                too.

        Raises:
            TypeError: A layer does not fit; the message names it and what it lacks.
        """
        checks.instance("model", model, nn.Module)
        rule_name = type(rule).__name__
        before: list[nn.Module] = []
        layers: list[tuple[str, Any, list[tuple[str, nn.Module]]]] = []
        parameters_so_far: set[int] = set()
        for name, module in _leaves(model):
            subject = f"model: {rule_name} cannot train layer {name!r}, a {type(module).__name__}"
            if isinstance(module, _SCALED) and module.scale != 1 and not scaled:
                raise TypeError(
                    f"{subject}: it scales its weights in the forward pass; expected engram.nn.to_standard(model)"
                )
            # A module without submodules is read directly, since this runs at every update.
            parameters = module.parameters() if module._modules else module._parameters.values()
            ids = {id(parameter) for parameter in parameters if parameter is not None}
            if ids & parameters_so_far:
                raise TypeError(f"{subject}: it shares weights with another layer; expected weights of its own")
            parameters_so_far |= ids
            if reason := alteration(module):
                raise TypeError(f"{subject}: it {reason}, which its backward pass would miss; expected none")
            dense = type(module) in {nn.Linear, NTKLinear}
            if dense or (type(module) in {nn.Conv2d, NTKConv2d} and not linear):
                if module._parameters.keys() != {"weight", "bias"}:
                    raise TypeError(
                        f"{subject}: its weights are computed from other parameters; expected plain weights"
                    )
                weight: Any = module.weight
                if weight.is_complex():
                    raise TypeError(f"{subject}: its weights are complex ({weight.dtype}); expected real ones")
                if not dense and not _plain(module):
                    raise TypeError(f"{subject}: expected padding with zeros, equally many on both sides")
                layers.append((name, module, []))
                continue
            if isinstance(module, _CHANGING) and deterministic:
                raise TypeError(f"{subject}: it can give several outputs for one input, but all phases need the same")
            is_supported = type(module) in _CLOSED or isinstance(module, (*_BETWEEN, *_CHANGING))
            is_trained = any_activation and any(parameter.requires_grad for parameter in module.parameters())
            if is_trained or not (is_supported or (any_activation and not ids)):
                supported = "nn.Linear" if linear else "nn.Linear, nn.Conv2d"
                reason = "its weights have no known gradients" if ids else "it has no known derivative"
                raise TypeError(
                    f"{subject}: {reason}; expected an nn.Sequential of {supported}, activations, pooling, Flatten"
                )
            if layers:
                layers[-1][2].append((name, module))
            elif ids:
                raise TypeError(
                    f"{subject}: it has parameters before the first nn.Linear or nn.Conv2d, which no error reaches"
                )
            else:
                before.append(module)
        if not layers:
            kind = type(model).__name__
            raise TypeError(f"model: {rule_name} cannot train a {kind} without an nn.Linear or nn.Conv2d")
        return cls(
            tuple(before), tuple(Layer(name, module, tuple(after), any_activation) for name, module, after in layers)
        )

    def enter(self, x: Tensor) -> Tensor:
        """The input of the first layer.

        Raises:
            ValueError: ``x`` is empty, or has another shape, dtype or device than the network takes; or autocast is on.
        """
        refuse_autocast(x.device)
        for module in self.before:
            x = module(x)
        layer = self.layers[0].module
        size = (layer.in_features,) if isinstance(layer, nn.Linear) else (layer.in_channels, "height", "width")
        checks.tensor("x", x, ("batch", *size), like=layer.weight)
        if not len(x):
            raise ValueError(f"x.shape = {tuple(x.shape)}: expected at least one sample")
        return x

    def forward(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> list[Activity]:
        """The activity of every layer, with noise added to each a[l] if given; raises as ``enter`` does."""
        h = self.enter(x)
        activities: list[Activity] = []
        for index, layer in enumerate(self.layers):
            activities.append(layer.forward(h, None if noise is None else noise[index]))
            h = activities[-1].output
        return activities

    def backward(self, activities: list[Activity], error: Tensor, feedback: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients that follow from an error at the output, sent back through the feedback.

        Args:
            activities: Result of ``forward``; the list is emptied, so that memory is freed early.
            error: Derivative of the loss, a mean over the batch, with respect to the output.
            feedback: B[l] for each layer but the first, by the name of its weights.
        """
        grads: dict[str, Tensor] = {}
        for index in range(len(self.layers) - 1, -1, -1):
            layer, activity = self.layers[index], activities.pop()
            delta, layer_grads = layer.gradients(activity, error)
            grads |= layer_grads
            if index:
                error = layer.back(delta, feedback[layer.weight_name], activity.input)
        return grads

    def learn(
        self, x: Tensor | tuple[Tensor, ...], target: Tensor, feedback: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients that follow if the error of a batch goes back through the feedback, and the loss.

        Args:
            x: The input, the batch first; a chain has one.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            feedback: B[l] for each layer but the first, by the name of its weights.
        """
        activities = self.forward(checks.instance("x", x, Tensor))
        loss, error = loss_and_error(activities[-1].output, target)
        return self.backward(activities, error, feedback), loss

    def check_feedback(self, feedback: Mapping[str, Tensor], name: str = "state") -> None:
        """Raise TypeError or ValueError unless a rule's state is feedback of this network."""
        weights = {layer.weight_name: layer.module.weight for layer in self.layers[1:]}
        # ``check_state``, which reports the difference, would take a tenth of the time of a small network's update.
        if not isinstance(feedback, Mapping) or _forms(feedback) != _forms(weights):
            check_state(feedback, weights, name)

    def weights(self) -> dict[str, Tensor]:
        """W[l] of each layer but the first, by name, scaled as in the forward pass: backpropagation's feedback."""
        return {layer.weight_name: layer.weight for layer in self.layers[1:]}

    def random_weights(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random weights with the shapes of ``weights``: N(0, 1 / fan-in), or N(0, 1) times the layer's scale."""
        weights = {}
        for layer in self.layers[1:]:
            weight: Tensor = layer.module.weight
            std = 1 / math.sqrt(weight[0].numel()) if layer.scale == 1 else layer.scale
            weights[layer.weight_name] = normal(weight.shape, generator, weight) * std
        return weights


def _forms(weights: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (getattr(W, "shape", None), getattr(W, "dtype", None)) for name, W in weights.items()}


def refuse_autocast(device: torch.device) -> None:
    """Raise ValueError if ``torch.autocast`` is on for a device."""
    if autocast(device):
        raise ValueError(
            "torch.autocast is on: expected it off, since errors are sent back in the precision of the parameters"
        )


def refuse_changing(model: nn.Module, rule: object, *, repeated: bool = False) -> None:
    """Raise TypeError if two passes would differ, since a module in training mode changes.

    Args:
        model: The network.
        rule: The rule, for error messages.
        repeated: Whether all passes get the same random numbers, as by ``record_draws``, so that modules may be random.
    """
    for name, module in model.named_modules():
        subject = f"{type(rule).__name__} cannot train layer {name!r}, a {type(module).__name__} in training mode"
        if not module.training:
            continue
        # Attention and torch's recurrent networks have their dropout as a number.
        share = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
        is_random = (isinstance(share, float) and share > 0) or isinstance(module, nn.RReLU)
        # cuDNN keeps the state of its dropout to itself.
        is_repeated = repeated and not (isinstance(module, nn.RNNBase) and next(module.parameters()).is_cuda)
        if is_random and not is_repeated:
            raise TypeError(f"{subject}: it draws another mask in each pass; expected model.eval(), or no dropout")
        if isinstance(module, _NormBase) and module.track_running_stats:
            raise TypeError(
                f"{subject}: it adds to its running statistics in each pass; expected an engram.nn.BatchOnlyNorm"
            )


def normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Float[Tensor, "*shape"]:
    """Standard normal numbers, the same ones for every dtype.

    Args:
        shape: The shape.
        generator: Source of the numbers.
        like: A tensor whose dtype and device they get.
    """
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device=generator.device).to(like)


def new_key(generator: torch.Generator) -> Tensor:
    """A key from which ``generator_of`` always makes the same generator, so that noise can be part of a state."""
    return torch.randint(2**62, (), generator=generator, device=generator.device)


def generator_of(key: Tensor, like: Tensor) -> torch.Generator:
    """The generator of a key, on the device of ``like``."""
    return torch.Generator(like.device).manual_seed(int(key))


def _leaves(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a nested ``nn.Sequential`` in order, one that occurs twice is twice; one with hooks is a leaf."""
    if type(model).forward is not nn.Sequential.forward or alteration(model):
        yield name, model
        return
    for child, module in model._modules.items():
        if module is not None:
            yield from _leaves(module, _joined(name, child))


def _plain(module: Any) -> bool:
    if module.padding_mode != "zeros":
        return False
    spans = zip(module.dilation, module.kernel_size, strict=True)
    return module.padding != "same" or all(d * (k - 1) % 2 == 0 for d, k in spans)


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
