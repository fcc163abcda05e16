"""The baseline that cannot forget features: all but the head is frozen after the first task."""

from __future__ import annotations

from torch import nn

from engram import checks


def freeze_body(model: nn.Module, head: str) -> list[nn.Parameter]:
    """Freeze all parameters but those of the head, and return these, for the optimiser of the next tasks.

    Layers that normalise by batches go on moving their running means while they train: put them into evaluation mode.

    Args:
        model: Any module.
        head: Name of a submodule.

    Raises:
        ValueError: There is no such submodule, or it has no parameters.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [p.shape for p in freeze_body(net, "2")], net[0].weight.requires_grad
        ([torch.Size([2, 3]), torch.Size([2])], False)
    """
    modules = dict(checks.instance("model", model, nn.Module).named_modules())
    kept = list(modules[checks.choice("head", head, modules)].parameters())
    if not kept:
        raise ValueError(f"head = {head!r}: expected a submodule with parameters")
    mine = {id(p) for p in kept}
    for p in model.parameters():
        p.requires_grad_(id(p) in mine)
    return kept
