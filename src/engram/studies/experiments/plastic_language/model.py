"""A language model of plastic or plain LSTM layers: its carried state, predictions and size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from engram import registry
from engram.lab import setting, settings
from engram.plasticity import (
    ClippedHebb,
    Modulated,
    Neuromodulator,
    PlasticityRule,
    PlasticLSTM,
    PlasticLSTMState,
    Retroactive,
)
from engram.state import Maybe, check_state
from engram.studies.experiments.reinforcement import rule_of

NETWORKS = ("lstm", "plastic", "modulated", "retroactive")
BOUND = 2.0  # bound of the traces
INITIAL_ALPHA = 1e-4  # the initial scale in PlasticLSTM

Carried = list[tuple[Tensor, ...]]
"""The state that each layer carries over: hidden and cell states and, if plastic, traces."""


def most_units(name: str, largest: int, count: Callable[[int], int], budget: int) -> int:
    """The largest size of a network with no more than ``budget`` parameters.

    Args:
        name: Name of the setting of the size, for the error if no size fits.
        largest: The largest size that is tried.
        count: The number of parameters of a network of a size.
        budget: The most parameters.
    """
    for size in range(largest, 0, -1):
        if count(size) <= budget:
            return size
    raise ValueError(f"{name} = {largest}: expected more, since no plastic network is as small")


@settings
class Model:
    """The settings of the network."""

    network: str = setting(
        "lstm",
        "lstm; plastic, with plastic connections; modulated or retroactive, with plasticity that it modulates "
        "immediately or retroactively; or the name of another plasticity rule",
    )
    layers: int = setting(1, "layers of LSTM units", ge=1)
    embedding_size: int = setting(20, "features of a word", ge=1)
    weight_init: float = setting(
        0.0, "bound of initial weights, biases and features; 0: torch's initialisation", ge=0, le=1
    )
    embedding_init: float = setting(1.5, "standard deviation of initial features if they are not uniform", gt=0, le=10)
    gate_bias: float = setting(
        1.0, "added to the biases of the three gates, which are then initially open", ge=0, le=10
    )
    hidden_size: int = setting(40, "units per layer; plastic networks have fewer, for as many parameters", ge=1)
    alpha: Literal["connection", "post"] = setting(
        "connection", "whether each connection or each receiving unit has its own plasticity coefficient"
    )
    # Instead of a rate, a modulated network has a weight of the signal for each receiving unit or each connection; with
    # the latter, as published, the signal depends on the activity of the previous step.
    rates: Literal["layer", "connection"] = setting(
        "layer", "whether each layer or each connection has its own plasticity rate"
    )
    # At 1 modulated networks stay at chance in most runs.
    alpha_init: float = setting(0.1, "upper bound of initial plasticity coefficients", gt=0, le=10)
    eta_init: float = setting(0.3, "initial rate of unmodulated plasticity, or of the eligibility trace", gt=0, le=1)

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            registry.check("plasticity_rules", self.network, "network")

    def rule(self) -> PlasticityRule | None:
        """The plasticity rule of each layer."""
        if self.network in ("lstm", "modulated"):
            return None if self.network == "lstm" else Modulated(BOUND)
        if self.network == "retroactive":
            return Retroactive(self.eta_init, BOUND)
        connections = (self.hidden_size, self.hidden_size) if self.rates == "connection" else None
        if self.network == "plastic":
            return ClippedHebb(self.eta_init, BOUND, connections=connections)
        return rule_of(self.network, self.eta_init)

    def count(self, types: int) -> int:
        """The number of parameters of the LSTM layers and of the decoder, for a number of words."""
        size = self.hidden_size
        total, rule = (size + 1) * types, self.rule()
        for layer in range(self.layers):
            inputs = size if layer else self.embedding_size
            total += 4 * size * (inputs + size)
            if rule is None:
                total += 8 * size  # each gate has one bias for its inputs and one for its recurrent connections
            else:
                total += 7 * size + (size**2 if self.alpha == "connection" else size)
                total += sum(parameter.numel() for parameter in rule.parameters())
                if rule.modulated:  # the modulating unit and its fan-out
                    total += size + 1 + (size**2 if self.rates == "connection" else 2 * size)
        return total


class LanguageModel(nn.Module):
    """Word features, plastic or plain LSTM layers, and a linear prediction of the next word."""

    def __init__(self, model: Model, types: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Embedding(types, model.embedding_size)
        inputs = [model.embedding_size] + [model.hidden_size] * (model.layers - 1)
        self.layers = nn.ModuleList(_layer(model, size, generator) for size in inputs)
        self.decoder = nn.Linear(model.hidden_size, types)
        if model.weight_init:
            uniform(self.embedding, model.weight_init, generator)
        else:
            nn.init.normal_(self.embedding.weight, std=model.embedding_init, generator=generator)
        uniform(self.decoder, model.weight_init or model.hidden_size**-0.5, generator)

    def forward(
        self, words: Int64[Tensor, "time batch"], carried: Carried | None = None
    ) -> tuple[Float[Tensor, "time batch types"], Carried]:
        """The logits of the next word at each step, and the state carried over."""
        activity = self.embedding(words)
        next_states: Carried = []
        for number, layer in enumerate(self.layers):
            activity, state = through(layer, activity, None if carried is None else carried[number])
            next_states.append(state)
        return self.decoder(activity), next_states


@torch.no_grad()
def _layer(model: Model, inputs: int, generator: torch.Generator) -> nn.LSTM | PlasticLSTM:
    size, rule = model.hidden_size, model.rule()
    layer: nn.LSTM | PlasticLSTM
    if rule is None:
        layer = nn.LSTM(inputs, size)
        uniform(layer, model.weight_init or size**-0.5, generator)
        bias = layer.get_parameter("bias_ih_l0")
    else:
        each = model.rates == "connection"
        layer = PlasticLSTM(
            inputs,
            size,
            rule=rule,
            alpha=model.alpha,
            neuromodulator=Neuromodulator(size, "connection", generator=generator) if each and rule.modulated else None,
            modulator_source="previous" if each else "hidden",
            generator=generator,
        )
        layer.get_parameter("alpha").mul_(model.alpha_init / INITIAL_ALPHA)
        if model.weight_init:
            for parameter in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh):
                parameter.uniform_(-model.weight_init, model.weight_init, generator=generator)
        bias = layer.bias_ih
    input_gate, forget_gate, _, output_gate = bias.chunk(4)
    for gate in (input_gate, forget_gate, output_gate):
        gate.add_(model.gate_bias)
    return layer


@torch.no_grad()
def uniform(layer: nn.Module, bound: float, generator: torch.Generator | None) -> None:
    """Initialise all parameters of a layer uniformly within a bound.

    Args:
        layer: The layer, which is changed.
        bound: Largest magnitude of a parameter.
        generator: Source of the values; None: torch's global generator.
    """
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound, generator=generator)


def through(
    layer: nn.Module, activity: Float[Tensor, "time batch features"], carried: tuple[Tensor, ...] | None
) -> tuple[Float[Tensor, "time batch units"], tuple[Tensor, ...]]:
    """The activity of a plastic or plain LSTM layer, and the state carried over.

    Args:
        layer: The layer.
        activity: Its input.
        carried: The state carried over from the window before; None: the initial state.
    """
    if not isinstance(layer, PlasticLSTM):
        output, next_state = layer(activity, carried)
        return output, next_state
    state = None if carried is None else PlasticLSTMState(carried[0], carried[1], layer.rule.state_type(*carried[2:]))
    output, (hidden, cell, rule) = layer(activity, state)
    return output, (hidden, cell, *rule)


class Memory:
    """The state that a network carries from one window of a text to the next, as part of a checkpoint."""

    def __init__(self) -> None:
        self.carried: Carried | None = None

    def keep(self, carried: Sequence[tuple[Tensor, ...]]) -> None:
        """Store a state without its gradient."""
        self.carried = [tuple(tensor.detach() for tensor in layer) for layer in carried]

    def state_dict(self) -> dict[str, Any]:
        """The tensors of each layer."""
        return {"layers": None if self.carried is None else [list(layer) for layer in self.carried]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the tensors."""
        check_state(state, {"layers": Maybe(list)})
        self.carried = None if state["layers"] is None else [tuple(layer) for layer in state["layers"]]


def in_rows(tokens: Int64[Tensor, " tokens"], rows: int) -> Int64[Tensor, "time rows"]:
    """A text cut into ``rows`` parallel parts of equal length, without the remainder at the end."""
    return tokens[: len(tokens) // rows * rows].view(rows, -1).t().contiguous()


def losses(
    logits: Float[Tensor, "time batch types"], following: Int64[Tensor, "time batch"]
) -> Float[Tensor, "time batch"]:
    """The cross-entropy of each word, in nats."""
    return functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(following)


def perplexity(net: nn.Module, text: Int64[Tensor, "time rows"], window: int) -> float:
    """The exponential of the mean cross-entropy of a text, read from its start with the state carried over.

    Args:
        net: The language model.
        text: Word indices, with parts of the text that are read in parallel as columns.
        window: Number of words read at a time.
    """
    total, memory = 0.0, None
    with torch.no_grad():
        for start in range(0, len(text) - 1, window):
            words = text[start : start + window + 1]
            logits, memory = net(words[:-1], memory)
            total += float(losses(logits, words[1:]).sum())
    return math.exp(total / text[1:].numel())
