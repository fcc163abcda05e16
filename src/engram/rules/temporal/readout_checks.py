"""Requirements of temporal learning rules on a network and its sequences."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from engram import checks
from engram.nn import ReadoutNetwork
from engram.nn.hooks import alteration
from engram.nn.sequence import autocast, check_precision


def check_network(model: nn.Module, rule: str) -> ReadoutNetwork:
    """The network; TypeError if it is not of the form that temporal learning rules train, ValueError if it is half."""
    if isinstance(model, ReadoutNetwork):
        check_as_defined(rule, {"": model, "core": model.core, "readout": model.readout})
        check_precision(model.core.weight_hh)
        return model
    raise TypeError(
        f"{rule} cannot train a {type(model).__name__}, which lacks a leaky recurrent core: expected model to be an "
        "engram.nn.ReadoutNetwork"
    )


def check_as_defined(rule: str, modules: Mapping[str, nn.Module]) -> None:
    """Raise TypeError if a rule would not see what one of the modules, which it runs by their parameters, computes.

    Args:
        rule: Name of the rule, for error messages.
        modules: The modules by name.
    """
    for name, module in modules.items():
        kind = type(module).__name__
        subject = (
            f"model: {rule} cannot train layer {name!r}, a {kind}" if name else f"model: {rule} cannot train a {kind}"
        )
        if reason := alteration(module, backward=False):
            raise TypeError(f"{subject}: it {reason}, which the rule does not run; expected none")
        if not str(type(module).forward.__module__).startswith(("engram.", "torch.nn.")):
            raise TypeError(f"{subject}: its class has a forward of its own, which the rule does not run")
        if isinstance(module, nn.Linear) and "weight" not in module._parameters:
            raise TypeError(f"{subject}: its weights are computed from other parameters; expected plain weights")


def trained(model: ReadoutNetwork, grads: dict[str, Tensor]) -> dict[str, Tensor]:
    """The pseudo-gradients of the parameters that are not frozen."""
    return {name: grad for name, grad in grads.items() if model.get_parameter(name).requires_grad}


def padded(
    model: ReadoutNetwork, x: PackedSequence, target: Tensor | PackedSequence
) -> tuple[Tensor, Tensor, Bool[Tensor, "time batch"]]:
    """Packed sequences and their targets, padded by zeros, and the steps at which an output has a target.

    Args:
        model: The network.
        x: Its input, packed.
        target: A tensor with a target for each sequence or, if ``model.every_step``, packed as ``x`` is.

    Raises:
        TypeError: The targets have another form.
        ValueError: They are packed in another way.
    """
    sequences, lengths = pad_packed_sequence(x)
    steps = torch.arange(len(sequences))[:, None]
    if not model.every_step:
        return sequences, checks.instance("target", target, Tensor), (steps == lengths - 1).to(sequences.device)
    packed = checks.instance("target", target, PackedSequence)
    targets, target_lengths = pad_packed_sequence(packed)
    if not torch.equal(lengths, target_lengths):
        raise ValueError(f"target has sequences of {target_lengths.tolist()} steps: expected {lengths.tolist()}, as x")
    return sequences, targets, (steps < lengths).to(sequences.device)


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
