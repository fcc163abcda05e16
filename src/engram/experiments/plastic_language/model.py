"""Layers of LSTM units, plastic or not, as a model of text: what is carried on, its predictions, and its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity import (
    ClippedHebb,
    Modulated,
    Neuromodulator,
    PlasticityRule,
    PlasticLSTM,
    PlasticLSTMState,
    Retroactive,
)

BOUND = 2.0  # of the traces
INITIAL_ALPHA = 1e-4  # of PlasticLSTM

Carried = list[tuple[Tensor, ...]]
"""What each layer carries on: hidden and cell state and, if plastic, traces."""


@dataclass(frozen=True)
class Model:
    """The network."""

    network: Literal["lstm", "plastic", "modulated", "retroactive"] = "lstm"
    """LSTM, the same with plastic connections, or with plasticity that the network itself modulates, that of the moment
    or, retroactively, of what an eligibility trace remembers; each arm's own."""
    layers: Annotated[int, Ge(1)] = 1
    """Layers of LSTM units."""
    embedding_size: Annotated[int, Ge(1)] = 20
    """Features of a word."""
    weight_init: Annotated[float, Ge(0), Le(1)] = 0.0
    """Weights and biases, and the features of words, are initially uniform within this; at 0, they are as usual in
    torch, and the features as follows."""
    embedding_init: Annotated[float, Gt(0), Le(10)] = 1.5
    """The features of words are initially normal with this standard deviation, if not uniform."""
    gate_bias: Annotated[float, Ge(0), Le(10)] = 1.0
    """Added to the initial biases of the three gates, which are then open at first."""
    hidden_size: Annotated[int, Ge(1)] = 40
    """Units of a layer of the LSTM; the other networks have as many as fit into the same number of parameters."""
    alpha: Literal["connection", "post"] = "connection"
    """What has a plasticity coefficient of its own: each connection, or each receiving unit."""
    rates: Literal["layer", "connection"] = "layer"
    """What has a rate of plasticity of its own: the layer, or each connection. In its place a network that modulates
    its plasticity has a weight of the signal for each receiving unit, or for each connection; then, as published, the
    signal is of the activity of the step before."""
    alpha_init: Annotated[float, Gt(0), Le(10)] = 0.1
    """Plasticity coefficients are initially uniform between 0 and this; at 1, ten times as much, modulated networks
    stay on the plateau of guessing in most runs."""
    eta_init: Annotated[float, Gt(0), Le(1)] = 0.3
    """Initial rate of plasticity that is not modulated, or of the eligibility trace."""

    def count(self, types: int) -> int:
        """Return the number of parameters of the LSTM layers and of what reads them, for so many words."""
        size = self.hidden_size
        total = (size + 1) * types
        for layer in range(self.layers):
            inputs = size if layer else self.embedding_size
            total += 4 * size * (inputs + size)
            if self.network == "lstm":
                total += 8 * size  # each gate has a bias of its inputs and one of its recurrent connections
            else:
                total += 7 * size + (size**2 if self.alpha == "connection" else size)
                each = self.rates == "connection"
                total += {"plastic": size**2 if each else 1, "modulated": 0, "retroactive": 1}[self.network]  # eta
                if self.network != "plastic":  # the modulating unit and its fan-out
                    total += size + 1 + (size**2 if each else 2 * size)
        return total

    def matched(self, types: int) -> dict[str, Model]:
        """Return the four networks; the plastic ones have the most units that fit into the parameters of the LSTM."""
        lstm = replace(self, network="lstm")
        found = {"lstm": lstm}
        networks: tuple[Literal["plastic", "modulated", "retroactive"], ...] = ("plastic", "modulated", "retroactive")
        for network in networks:
            sizes = (replace(self, network=network, hidden_size=size) for size in range(self.hidden_size, 0, -1))
            found[network] = next(model for model in sizes if model.count(types) <= lstm.count(types))
        return found

    def seconds(self, batch_size: int) -> float:
        """Return the time of one step of the layers on one core: of each, and of each synapse that it touches."""
        plastic = {"plastic": (110e-6, 2e-9), "modulated": (120e-6, 2e-9), "retroactive": (150e-6, 2.5e-9)}
        if self.rates == "connection":  # which no kernel runs
            plastic = {"plastic": (2e-4, 9e-9), "modulated": (2e-4, 9e-9), "retroactive": (2e-4, 1.2e-8)}
        step, synapse = {"lstm": (30e-6, 0.5e-9), **plastic}[self.network]
        return self.layers * (step + synapse * batch_size * self.hidden_size**2)


class LanguageModel(nn.Module):
    """Word features, layers of LSTM units, plastic or not, and a linear prediction of the next word."""

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
        """Return the logits of the next word at each step, and what the layers carry on."""
        activity = self.embedding(words)
        after: Carried = []
        for number, layer in enumerate(self.layers):
            activity, state = through(layer, activity, None if carried is None else carried[number])
            after.append(state)
        return self.decoder(activity), after


@torch.no_grad()
def _layer(model: Model, inputs: int, generator: torch.Generator) -> nn.LSTM | PlasticLSTM:
    size = model.hidden_size
    layer: nn.LSTM | PlasticLSTM
    if model.network == "lstm":
        layer = nn.LSTM(inputs, size)
        uniform(layer, model.weight_init or size**-0.5, generator)
        bias = layer.get_parameter("bias_ih_l0")
    else:
        each = model.rates == "connection"
        rules: dict[str, PlasticityRule] = {
            "plastic": ClippedHebb(model.eta_init, BOUND, connections=(size, size) if each else None),
            "modulated": Modulated(BOUND),
            "retroactive": Retroactive(model.eta_init, BOUND),
        }
        modulating = each and model.network != "plastic"
        layer = PlasticLSTM(
            inputs,
            size,
            rule=rules[model.network],
            alpha=model.alpha,
            neuromodulator=Neuromodulator(size, "connection", generator=generator) if modulating else None,
            modulator_source="previous" if each else "hidden",
            generator=generator,
        )
        layer.get_parameter("alpha").mul_(model.alpha_init / INITIAL_ALPHA)
        if model.weight_init:
            for parameter in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh):
                parameter.uniform_(-model.weight_init, model.weight_init, generator=generator)
        bias = layer.bias_ih
    admit, forget, _, emit = bias.chunk(4)
    for gate in (admit, forget, emit):
        gate.add_(model.gate_bias)
    return layer


@torch.no_grad()
def uniform(layer: nn.Module, bound: float, generator: torch.Generator | None) -> None:
    """Draw all parameters of a layer, uniformly within this."""
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound, generator=generator)


def through(
    layer: nn.Module, activity: Float[Tensor, "time batch features"], carried: tuple[Tensor, ...] | None
) -> tuple[Float[Tensor, "time batch units"], tuple[Tensor, ...]]:
    """Return the activity of a layer of LSTM units, plastic or not, and what it carries on."""
    if not isinstance(layer, PlasticLSTM):
        output, after = layer(activity, carried)
        return output, after
    state = None if carried is None else PlasticLSTMState(carried[0], carried[1], layer.rule.state_type(*carried[2:]))
    output, (hidden, cell, rule) = layer(activity, state)
    return output, (hidden, cell, *rule)


class Memory:
    """What a network carries from one window of a text to the next, as part of a checkpoint."""

    def __init__(self) -> None:
        self.carried: Carried | None = None

    def keep(self, carried: Sequence[tuple[Tensor, ...]]) -> None:
        """Carry this on, without its gradient."""
        self.carried = [tuple(tensor.detach() for tensor in layer) for layer in carried]

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors, layer by layer."""
        return {"layers": None if self.carried is None else [list(layer) for layer in self.carried]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these."""
        self.carried = None if state["layers"] is None else [tuple(layer) for layer in state["layers"]]


def in_rows(tokens: Int64[Tensor, " tokens"], rows: int) -> Int64[Tensor, "time rows"]:
    """Cut a text into ``rows`` parts of equal length, side by side; what is left over at the end is dropped."""
    return tokens[: len(tokens) // rows * rows].view(rows, -1).t().contiguous()


def losses(logits: Float[Tensor, "time batch types"], following: Int64[Tensor, "time batch"]) -> Tensor:
    """Return the cross-entropy of each word, in nats, (time, batch)."""
    return functional.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view_as(following)


def perplexity(net: nn.Module, text: Int64[Tensor, "time rows"], window: int) -> float:
    """Return the exponential of the mean cross-entropy of a text, read from its start with all that is carried on."""
    total, memory = 0.0, None
    with torch.no_grad():
        for start in range(0, len(text) - 1, window):
            words = text[start : start + window + 1]
            logits, memory = net(words[:-1], memory)
            total += float(losses(logits, words[1:]).sum())
    return math.exp(total / text[1:].numel())
