"""Requirements of temporal learning rules on a network and its sequences."""

from __future__ import annotations

from torch import Tensor, nn

from engram import checks
from engram.nn import ReadoutNetwork
from engram.nn.sequence import autocast


def check_network(model: nn.Module, rule: str) -> ReadoutNetwork:
    """The network; TypeError if it is not of the form that temporal learning rules train."""
    if isinstance(model, ReadoutNetwork):
        return model
    raise TypeError(
        f"{rule} cannot train a {type(model).__name__}, which lacks a leaky recurrent core: expected model to be an "
        "engram.nn.ReadoutNetwork"
    )


def trained(model: ReadoutNetwork, grads: dict[str, Tensor]) -> dict[str, Tensor]:
    """The pseudo-gradients of the parameters that are not frozen."""
    return {name: grad for name, grad in grads.items() if model.get_parameter(name).requires_grad}


def check_sequences(model: ReadoutNetwork, x: Tensor, target: Tensor) -> None:
    """Raise ValueError unless there is at least one time step, each output has a target, and autocast is off.

    Args:
        model: The network.
        x: Its input.
        target: Targets.
    """
    if autocast(x.device):
        raise ValueError("torch.autocast is on: expected it off, as traces are kept in the parameters' precision")
    shape = x.shape[: 2 if model.every_step else 0] or x.shape[1:2]
    if not len(x):
        raise ValueError(f"x.shape = {tuple(x.shape)}: expected (time, batch, features), with a step at least")
    if checks.instance("target", target, Tensor).shape[: len(shape)] != shape:
        expected = "a target at each step of each sample" if model.every_step else "a target for each sample"
        raise ValueError(f"target.shape = {tuple(target.shape)}: expected to begin with {tuple(shape)}, {expected}")
