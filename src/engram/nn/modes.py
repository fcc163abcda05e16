"""Training and evaluation modes, which each submodule has for itself: a user may have frozen the statistics of some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

Modes = dict[nn.Module, bool]


def modes_of(model: nn.Module) -> Modes:
    """Whether each submodule, the network itself included, is in training mode."""
    return {module: module.training for module in model.modules()}


def restore_modes(modes: Modes) -> None:
    """Put each module back into its own mode; ``model.train()`` would put all of them into the same.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
        >>> modes = modes_of(net)
        >>> _ = net.train()
        >>> restore_modes(modes)
        >>> net[0].training, net[1].training
        (True, False)
    """
    for module, training in modes.items():
        module.training = training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode, then put each submodule back into its own mode.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
        >>> with evaluation_mode(net):
        ...     print(net[0].training)
        False
        >>> net[0].training, net[1].training
        (True, False)
    """
    modes = modes_of(model)
    model.eval()
    try:
        yield
    finally:
        restore_modes(modes)


def training_modes(model: nn.Module, modes: Modes | None) -> Modes:
    """Put a network into training mode for a step, without undoing what a user did to its parts.

    A network that is wholly in evaluation mode, as one that was just tried, goes back to its modes; a submodule that
    was put into another mode by itself stays in it.

    Args:
        model: The network.
        modes: Those of the last step; None before the first.

    Returns:
        The modes of this step.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
        >>> modes = training_modes(net, None)
        >>> _ = training_modes(net.eval(), modes)
        >>> net[0].training, net[1].training
        (True, False)
    """
    current = modes_of(model)
    if current == modes:
        return current
    whole_evaluation, whole_training = modes_of(model.eval()), modes_of(model.train())
    if modes is None:
        modes = whole_training if current == whole_evaluation else current
    elif current not in (whole_evaluation, whole_training):
        modes = current
    restore_modes(modes)
    return modes
