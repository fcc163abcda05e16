"""The memories that are compared, each between the same embedding and readout, and the controls."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity import PlasticRNN
from engram.plasticity.sequence import FastWeightLayer

WRITES = ("hebbian", "decayed", "delta", "gated-delta", "momentum-delta", "gradient", "least-squares")
RECURRENT = ("plastic-rnn", "lstm")
CONTROLS = ("attention", "table", "no-memory")


class Attention(nn.Module):
    """Causal softmax attention to all steps so far, without positions: it keeps everything.

    Args:
        width: Number of features of input and output.
        key_size: Features of queries, keys and values.
    """

    def __init__(self, width: int, key_size: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 3 * key_size), nn.Linear(key_size, width, bias=False)

    def forward(self, input: Float[Tensor, "time batch width"]) -> tuple[Float[Tensor, "time batch width"], None]:
        """The output at every step; there is no state."""
        query, key, value = self.into(input).transpose(0, 1).chunk(3, -1)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(attended.transpose(0, 1)), None


class NoMemory(nn.Module):
    """A network of one hidden layer that sees one step at a time.

    Args:
        width: Number of features of input and output.
        hidden_size: Number of hidden units.
    """

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, hidden_size), nn.Linear(hidden_size, width, bias=False)

    def forward(self, input: Float[Tensor, "time batch width"]) -> tuple[Float[Tensor, "time batch width"], None]:
        """The output at every step; there is no state."""
        return self.out(functional.silu(self.into(input))), None


class Network(nn.Module):
    """A linear embedding, a memory, and a linear readout.

    Args:
        memory: Name of the memory.
        features: Number of input features.
        answers: Number of output features.
        width: Features of the embedding, and of what a memory returns.
        key_size: Features of keys and values of the one head; recurrent networks get as many parameters as the delta
            rule has.
        backend: Of ``PlasticRNN``.
        generator: Source of the initial values.
    """

    def __init__(
        self,
        memory: str,
        features: int,
        answers: int,
        *,
        width: int,
        key_size: int,
        backend: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        reference = FastWeightLayer(width, key_size=key_size, generator=generator)
        parameters = sum(p.numel() for p in reference.parameters())
        kinds: dict[str, Any] = {
            "attention": lambda: Attention(width, key_size),
            "no-memory": lambda: NoMemory(width, max(1, parameters // (2 * width + 1))),
            "lstm": lambda: nn.LSTM(width, fitting(parameters, lambda h: 4 * h * (width + h + 2) + h * width)),
            "plastic-rnn": lambda: PlasticRNN(
                width,
                fitting(parameters, lambda h: h * (2 * width + 2 * h + 1)),
                backend=backend,
                generator=generator,
            ),
        }
        self.memory: nn.Module
        self.back: nn.Module = nn.Identity()
        if memory in kinds:
            with torch.random.fork_rng(devices=[]):  # torch's layers draw from its global generator
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                self.memory = kinds[memory]()
                if memory in RECURRENT:
                    self.back = nn.Linear(self.memory.hidden_size, width, bias=False)  # type: ignore[arg-type]
        else:
            self.memory = FastWeightLayer(width, key_size=key_size, rule=memory, generator=generator)
        self.embedding = nn.Parameter(torch.randn(width, features, generator=generator))
        self.readout = nn.Parameter(torch.randn(answers, width, generator=generator) / width**0.5)

    def forward(self, inputs: Float[Tensor, "time batch features"]) -> Float[Tensor, "time batch answers"]:
        """The output at every step."""
        output, _ = self.memory(functional.linear(inputs, self.embedding))
        return functional.linear(self.back(output), self.readout)


def fitting(parameters: int, count: Any) -> int:
    """The largest number of hidden units with which a network has at most so many parameters."""
    hidden_size = 1
    while count(hidden_size + 1) <= parameters:
        hidden_size += 1
    return hidden_size


def look_up(inputs: Float[Tensor, "time batch features"], keys: int, values: int) -> Float[Tensor, "time batch values"]:
    """The value of the last step that had one and was nearest to the key of each step: a table of all pairs.

    Args:
        inputs: Inputs of an episode.
        keys: Number of features that are keys.
        values: Number of features that are values.
    """
    key, value = inputs[..., :keys].transpose(0, 1), inputs[..., keys : keys + values].transpose(0, 1)
    steps = torch.arange(len(inputs), device=inputs.device)
    match = key @ key.transpose(1, 2) + steps / (2 * len(inputs))  # of equal keys the last one
    match = match.masked_fill(value.sum(-1).eq(0).unsqueeze(1), -torch.inf).masked_fill(
        steps > steps[:, None], -torch.inf
    )
    return value.gather(1, match.argmax(2, keepdim=True).expand(-1, -1, values)).transpose(0, 1)
