"""The parameters of a module for which a preconditioner is suitable."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from engram import checks


def auto_groups(module: nn.Module, linear: str = "none") -> list[dict[str, Any]]:
    """The parameters of a module as groups for ``FOP``, by the types of its layers.

    Convolution kernels of more than one position have the structure ``"spatial"``, weights of linear layers ``linear``;
    biases, norms, embeddings and all others have none (``"none"``).

    Args:
        module: A module; a shared parameter is in one group only.
        linear: Structure of the weights of linear layers.

    Raises:
        ValueError: ``linear`` is unknown, or the module has no parameters.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> [(group["structure"], len(group["params"])) for group in auto_groups(net)]
        [('spatial', 1), ('none', 3)]
    """
    checks.instance("module", module, nn.Module)
    checks.choice("linear", linear, ("none", "left", "scalar"))
    structures: dict[int, str] = {}
    for layer in module.modules():
        if isinstance(layer, _ConvNd) and layer.weight[0, 0].numel() > 1:
            structures[id(layer.weight)] = "spatial"
        elif isinstance(layer, nn.Linear):
            structures[id(layer.weight)] = linear
    groups: dict[str, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        groups.setdefault(structures.get(id(parameter), "none"), []).append(parameter)
    if not groups:
        raise ValueError(f"module is a {type(module).__name__} without parameters: expected a module with parameters")
    if groups.keys() == {"none"} and any(isinstance(layer, nn.Linear) for layer in module.modules()):
        advice = "linear = 'left' learns matrices of its linear layers"
        warnings.warn(f"module has no kernels of convolutions: all of it is left alone; {advice}", stacklevel=2)
    order = sorted(groups, key=lambda structure: (structure == "none", structure != "spatial"))
    return [{"params": groups[structure], "structure": structure} for structure in order]
