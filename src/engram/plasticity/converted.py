"""Conversion of torch's LSTMs to plastic ones, and back."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from engram import checks
from engram.nn.hooks import alteration
from engram.plasticity.alpha import LowRank
from engram.plasticity.plastic_lstm import PlasticLSTM

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # in the order of torch


@torch.no_grad()
def from_lstm(lstm: nn.LSTM, **options: Any) -> PlasticLSTM:
    """A plastic LSTM that computes the same as an ``nn.LSTM`` until training makes it plastic.

    Frozen parameters stay frozen; where the LSTM has no biases, there are biases of zero, which are trained. Its alpha
    is zero at first; if alpha is a product of two factors, only the factor of the receiving units is.

    Args:
        lstm: An LSTM with one direction and without a projection.
        **options: Arguments of ``PlasticLSTM``, such as ``rule``, ``alpha`` and ``generator``.

    Raises:
        ValueError: The LSTM has two directions, a projection, hooks, or a forward pass of its own.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> lstm, x = nn.LSTM(3, 4, num_layers=2), torch.randn(5, 2, 3)
        >>> torch.allclose(from_lstm(lstm)(x)[0], lstm(x)[0], atol=1e-6)
        True
    """
    checks.instance("lstm", lstm, nn.LSTM)
    if type(lstm).forward is not nn.LSTM.forward:
        raise ValueError(f"lstm is a {type(lstm).__name__}: expected an nn.LSTM, whose forward pass is torch's")
    _check_plain("lstm", lstm)
    if lstm.bidirectional or lstm.proj_size:
        raise ValueError(f"lstm = {lstm}: expected one direction and no projection")
    used = zip(itertools.chain.from_iterable(lstm.all_weights), lstm._flat_weights, strict=True)
    if any(named is not weight for named, weight in used):
        raise ValueError("lstm computes with other weights than those of its names, as under a parametrisation")
    net = PlasticLSTM(lstm.input_size, lstm.hidden_size, **_common_arguments(lstm, lstm.weight_hh_l0), **options)
    for layer, (weight_ih, weight_hh, *biases) in zip(_layers(net), lstm.all_weights, strict=True):
        bias_ih, bias_hh = biases or 2 * [weight_hh.new_zeros(len(weight_hh))]
        admit, forget, cell_input, emit = bias_hh.chunk(4)
        layer.weight_ih.copy_(weight_ih)
        layer.weight_hh.copy_(weight_hh)
        layer.bias_ih.copy_(bias_ih)
        layer.bias_ih.chunk(4)[2].add_(cell_input)  # for which a plastic LSTM has only one bias
        layer.bias_hh.copy_(torch.cat((admit, forget, emit)))
        (layer.alpha.post if isinstance(layer.alpha, LowRank) else layer.alpha).zero_()
        for name, source in zip(NAMES, (weight_ih, weight_hh, *biases), strict=False):  # there may be no biases
            getattr(layer, name).requires_grad_(source.requires_grad)
    return net.train(lstm.training)


@torch.no_grad()
def to_lstm(net: PlasticLSTM) -> nn.LSTM:
    """The ``nn.LSTM`` with the fixed weights of a plastic LSTM; alpha, rule and neuromodulator are left out.

    Args:
        net: The plastic LSTM.

    Raises:
        ValueError: The network has hooks, or a forward pass of its own.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
        >>> torch.allclose(to_lstm(from_lstm(lstm))(x)[0], lstm(x)[0], atol=1e-6)
        True
    """
    checks.instance("net", net, PlasticLSTM)
    if type(net).forward is not PlasticLSTM.forward:
        raise ValueError(f"net is a {type(net).__name__}: expected a PlasticLSTM, without a forward pass of its own")
    _check_plain("net", net)
    for k, layer in enumerate(net.upper):
        _check_plain(f"upper[{k}]", layer)
    arguments = _common_arguments(net, net.weight_hh)
    device = arguments.pop("device")  # on "meta" nothing is drawn
    lstm = nn.LSTM(net.input_size, net.hidden_size, device="meta", **arguments).to_empty(device=device)
    for layer, parameters in zip(_layers(net), lstm.all_weights, strict=True):
        admit, forget, emit = layer.bias_hh.chunk(3)
        bias_hh = torch.cat((admit, forget, torch.zeros_like(emit), emit))
        for target, source in zip(parameters, (layer.weight_ih, layer.weight_hh, layer.bias_ih, bias_hh), strict=True):
            target.copy_(source)
        for target, name in zip(parameters, NAMES, strict=True):
            target.requires_grad_(getattr(layer, name).requires_grad)
    return lstm.train(net.training)


def _common_arguments(net: Any, like: Any) -> dict[str, Any]:
    """The arguments that both classes take."""
    shared_options = {name: getattr(net, name) for name in ("num_layers", "dropout", "batch_first")}
    return {**shared_options, "device": like.device, "dtype": like.dtype}


def _check_plain(name: str, module: nn.Module) -> None:
    reason = alteration(module)
    if reason == "has hooks":
        reason += ", such as those of pruning"
    if reason:
        raise ValueError(f"{name} {reason}, which the result would lack: expected none")


def _layers(net: PlasticLSTM) -> list[Any]:
    return [net, *net.upper]
