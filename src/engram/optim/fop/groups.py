"""Which parameters of a module a preconditioner suits."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from engram import checks


def auto_groups(module: nn.Module, linear: str = "none") -> list[dict[str, Any]]:
    """Return the parameters of a module as groups for ``FOP``: kernels ``"spatial"``, weights of linear layers as said.

    Biases, norms, embeddings, kernels of one place and all else are left alone, ``"none"``. By the types of layers,
    which the shape of a tensor does not always tell.

    Args:
        module: A module; of what it shares, each parameter is taken once.
        linear: Structure of the weights of linear layers.

    Raises:
        ValueError: ``linear`` is not known, or the module has no parameters.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> [(group["structure"], len(group["params"])) for group in auto_groups(net)]
        [('spatial', 1), ('none', 3)]
    """
    checks.instance("module", module, nn.Module)
    checks.choice("linear", linear, ("none", "left", "right", "kron", "lowrank", "diag", "scalar"))
    of_weight: dict[int, str] = {}
    for part in module.modules():
        if isinstance(part, _ConvNd) and part.weight[0, 0].numel() > 1:
            of_weight[id(part.weight)] = "spatial"
        elif isinstance(part, nn.Linear):
            of_weight[id(part.weight)] = linear
    groups: dict[str, list[nn.Parameter]] = {}
    for p in module.parameters():
        groups.setdefault(of_weight.get(id(p), "none"), []).append(p)
    if not groups:
        raise ValueError(f"module is a {type(module).__name__} without parameters: expected one that has some")
    order = sorted(groups, key=lambda structure: (structure == "none", structure != "spatial"))
    return [{"params": groups[structure], "structure": structure} for structure in order]
