"""The networks that rules with feedback weights train: chains of layers, and any others by a mode of torch.

A chain is run by its own forward and backward passes, which are faster for small networks. Any other module runs as it
is, within a ``FeedbackMode``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram import checks
from engram.copying import copied
from engram.nn.ntk import NTKConv2d, NTKLinear
from engram.rules.chain import Chain, normal, refuse_autocast
from engram.rules.contract import called, gradients
from engram.rules.feedback_mode import FeedbackMode, Substitute, Use, fan_in
from engram.rules.loss import output_loss
from engram.state import check_state

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_HOLDERS = (nn.Embedding, nn.ParameterList, nn.ParameterDict)  # of weights that another module uses
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_REFUSED = {
    nn.RNNBase: "its kernel sends errors back through the weights themselves",
    nn.RNNCellBase: "its kernel sends errors back through the weights themselves",
    nn.Bilinear: "it is not linear in its input",
    torch.jit.ScriptModule: "it is compiled; expected a plain module",
}
_REFUSED_KINDS = tuple(_REFUSED)


@dataclass(frozen=True)
class AnyNetwork:
    """A module as it is, whose linear maps and convolutions send errors back through feedback weights.

    Attributes:
        model: The module.
        rule_name: Name of the rule, for error messages.
        maps: The weights of its maps, by name: those of linear layers, convolutions and the projections of attention,
            and those that a module of one's own may use in ``functional.linear`` or in a convolution: its own
            parameters with at least two axes, and embeddings.
        layers: The names of those that belong to a layer, which must be met in the forward pass.
        fan_ins: The number of inputs of a unit, by name.
    """

    model: nn.Module
    rule_name: str
    maps: dict[str, Tensor]
    layers: frozenset[str]
    fan_ins: dict[str, int]

    @classmethod
    def from_module(cls, model: nn.Module, rule: object) -> AnyNetwork:
        """A module as a network with feedback weights.

        Raises:
            TypeError: A layer does not fit; the message names it and what it lacks.
        """
        rule_name = type(rule).__name__
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        maps: dict[str, Tensor] = {}
        layers: set[str] = set()
        transposed_groups: dict[str, int] = {}
        for path, module in model.named_modules():
            subject = f"model: {rule_name} cannot train layer {path!r}, a {type(module).__name__}"
            if isinstance(module, _REFUSED_KINDS):
                reason = next(reason for kind, reason in _REFUSED.items() if isinstance(module, kind))
                raise TypeError(f"{subject}: {reason}")
            if "_orig_mod" in module._modules:
                raise TypeError(f"{subject}: it is compiled; expected the module that was compiled")
            if isinstance(module, (NTKLinear, NTKConv2d)) and module.scale != 1:
                raise TypeError(
                    f"{subject}: it scales its weights in the forward pass; expected engram.nn.to_standard(model)"
                )
            is_map = isinstance(module, _MAPS)
            if is_map and "weight" not in module._parameters:
                raise TypeError(f"{subject}: its weights are computed from other parameters; expected plain weights")
            if any(isinstance(parameter, nn.UninitializedParameter) for parameter in module._parameters.values()):
                raise TypeError(f"{subject}: it has no weights yet; expected a model that has seen an input")
            # The modules within an exported one are plain.
            is_torch = type(module).__module__.startswith("torch.nn.") and type(module) is not nn.Module
            is_own = not is_torch or isinstance(module, _HOLDERS)
            for key, parameter in module._parameters.items():
                is_layer = (is_map and key == "weight") or key in _PROJECTIONS
                if parameter is None or not (is_layer or (is_own and parameter.ndim > 1)):
                    continue
                name = names[id(parameter)]
                if parameter.is_complex():
                    raise TypeError(f"{subject}: its weights are complex ({parameter.dtype}); expected real ones")
                maps[name] = parameter
                layers |= {name} if is_layer else set()
                if isinstance(module, _TRANSPOSED):
                    transposed_groups[name] = module.groups
        if not layers and not maps:
            raise TypeError(
                f"model: {rule_name} cannot train a {type(model).__name__} without a linear layer or convolution"
            )
        fan_ins = {name: fan_in(weight, transposed_groups.get(name, 0)) for name, weight in maps.items()}
        return cls(model, rule_name, maps, frozenset(layers), fan_ins)

    def weights(self) -> dict[str, Tensor]:
        """W of each map, by name: backpropagation's feedback."""
        return dict(self.maps)

    def random_weights(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random weights with the shapes of ``weights``: N(0, 1 / fan-in)."""
        return {
            name: normal(weight.shape, generator, weight) / math.sqrt(self.fan_ins[name])
            for name, weight in self.maps.items()
        }

    def check_feedback(self, feedback: Mapping[str, Tensor], name: str = "state") -> None:
        """Raise TypeError or ValueError unless a rule's state is feedback of this network."""
        check_state(feedback, self.weights(), name)

    def learn(
        self, x: Tensor | tuple[Tensor, ...], target: Tensor, feedback: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The gradients of all parameters if errors go back through the feedback, and the loss.

        Args:
            x: The input of the module, or several in a tuple.
            target: Classes, int64, or values, as ``output_loss`` takes them.
            feedback: B of each map, by the name of W.

        Raises:
            TypeError: A weight of a layer gets a gradient, but no linear map or convolution of torch used it; or errors
                go back through weights themselves, by another operation.
            ValueError: ``torch.autocast`` is on.
        """
        grads, loss, _ = self.learn_and_note(x, target, feedback)
        return grads, loss

    def learn_and_note(
        self, x: Tensor | tuple[Tensor, ...], target: Tensor, feedback: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Use]]:
        """What ``learn`` gives, and how each map through which an error goes back was used."""
        parameters = dict(self.model.named_parameters())
        output, mode = self._forward(x, feedback, parameters)
        with torch.enable_grad():
            loss = output_loss(output, target)
        mode.refuse_other_uses(loss)
        trained = {name: value for name, value in parameters.items() if value.requires_grad}
        grads = gradients([loss], trained, [None])
        for name in sorted(self.layers & grads.keys() - mode.met):
            raise TypeError(
                f"model: {self.rule_name} cannot train {name!r}: errors go back through the weights themselves, since "
                "no linear map or convolution of torch uses them; expected torch.nn.functional.linear"
            )
        return grads, loss.detach(), mode.uses

    def uses(self, x: Tensor | tuple[Tensor, ...]) -> dict[str, Use]:
        """How each map through which an error goes back is used for an input; the module is not changed."""
        with torch.random.fork_rng():  # dropout may draw
            network = replace(self, model=copied(self.model))
            parameters = dict(network.model.named_parameters())
            network = replace(network, maps={name: parameters[name] for name in self.maps})
            return network._forward(x, network.maps, parameters)[1].uses

    def _forward(
        self, x: Tensor | tuple[Tensor, ...], feedback: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
    ) -> tuple[Tensor, FeedbackMode]:
        refuse_autocast(next(iter(self.maps.values())).device)
        substitutes = [Substitute(name, W, feedback[name]) for name, W in self.maps.items()]
        inputs = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
        mode = FeedbackMode(self.rule_name, substitutes, parameters, inputs)
        with torch.enable_grad():
            try:
                with mode:
                    return called(self.model, x), mode
            except TypeError:
                if mode.refusal:
                    raise TypeError(mode.refusal) from None
                raise


def network_of(model: nn.Module, rule: object, *, scaled: bool = False) -> Chain | AnyNetwork:
    """A chain of layers if the module is one, and else the module as it is.

    Args:
        model: The network.
        rule: The rule, for error messages.
        scaled: Whether layers of a chain may scale their weights in the forward pass.

    Raises:
        TypeError: A layer does not fit; the message names it and what it lacks.
    """
    checks.instance("model", model, nn.Module)
    try:
        return Chain.from_module(model, rule, scaled=scaled)
    except TypeError:
        return AnyNetwork.from_module(model, rule)
