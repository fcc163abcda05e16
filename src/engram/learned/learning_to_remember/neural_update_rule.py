"""The base class of rules that learn to remember: updates of neurons, messages of synapses, and the read-out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks


class NeuralUpdateRule(nn.Module, ABC):
    """The meta-parameters that update all bodies and synapses of a network; subclasses define the update of synapses.

    A body b has ``body_size`` numbers and a synapse s has ``channels``. Let x be what a neuron is shown, k whether it
    is shown anything, e the embedding of its type, and m and r the messages that it gets (``RuleNetwork``):

        sent  = P_f^T b,   P_b^T b                                      forwards and backwards
        (a,g) = W2^T tanh(W1^T [b, m, r, x, k, e] + c1) + c2
        b'    = b + sigmoid(g) (tanh(a) - b)
        logit = w_r b' + c_r

    Its size does not depend on that of the network, so that one rule fits networks of any size.

    Args:
        body_size: n_b, the length of a body.
        channels: C, the length of a synapse.
        types: Number of types of neurons that the rule distinguishes: the groups of the topology, or 1.
        type_size: n_e, the length of a type's embedding; with one type there is none.
        body_hidden: Number of hidden units of the bodies' function.
        generator: Source of the initial values, normal with variance 1 / fan-in; torch's global one if None.

    Raises:
        ValueError: A size is below 1.

    Source: Gregor (2020): vector states, two functions shared by all, embeddings of types. Only the abstract and
    introduction of the paper could be read: the form of both functions, all sizes and initial values are ours.
    """

    def __init__(
        self,
        body_size: int = 8,
        channels: int = 4,
        *,
        types: int = 1,
        type_size: int = 4,
        body_hidden: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.body_size, self.channels = checks.size("body_size", body_size), checks.size("channels", channels)
        self.types = checks.size("types", types)
        self.type_size = checks.size("type_size", type_size) if types > 1 else 0
        hidden, width = checks.size("body_hidden", body_hidden), body_size + 2 * channels + 2 + self.type_size
        self.embedding = nn.Parameter(torch.randn(types, self.type_size, generator=generator))
        self.forward_projection = fan_in_normal(body_size, channels, generator)
        self.backward_projection = fan_in_normal(body_size, channels, generator)
        self.body_in, self.body_in_bias = fan_in_normal(width, hidden, generator), nn.Parameter(torch.zeros(hidden))
        self.body_out = fan_in_normal(hidden, 2 * body_size, generator)
        self.body_out_bias = nn.Parameter(torch.zeros(2 * body_size))
        self.readout = nn.Parameter(torch.randn(body_size, generator=generator) / body_size**0.5)
        self.readout_bias = nn.Parameter(torch.zeros(()))

    def body(
        self,
        body: Float[Tensor, "batch neurons body"],
        forward: Float[Tensor, "batch neurons channels"],
        backward: Float[Tensor, "batch neurons channels"],
        shown: Float[Tensor, "batch neurons 2"],
        embedding: Float[Tensor, "batch neurons type"],
    ) -> Float[Tensor, "batch neurons body"]:
        """The next bodies.

        Args:
            body: Bodies b.
            forward: Messages m that came forwards.
            backward: Messages r that came backwards.
            shown: x, what each neuron is shown, and k, whether it is shown anything.
            embedding: e, the embeddings of the neurons' types.

        Raises:
            ValueError: Shapes do not match.
        """
        checks.arguments()
        with checks.noted(body=body, forward=forward, backward=backward, shown=shown, embedding=embedding):
            features = torch.cat((body, forward, backward, shown, embedding), -1)
            hidden = torch.tanh(features @ self.body_in + self.body_in_bias)
        candidate, gate = (hidden @ self.body_out + self.body_out_bias).chunk(2, -1)
        return body + torch.sigmoid(gate) * (torch.tanh(candidate) - body)

    @abstractmethod
    def synapse(
        self,
        synapse: Float[Tensor, "batch channels post pre"],
        post: Float[Tensor, "batch post known"],
        pre: Float[Tensor, "batch pre known"],
        forward: Float[Tensor, "batch post channels"],
    ) -> Float[Tensor, "batch channels post pre"]:
        """The next synapses of a block.

        Args:
            synapse: s.
            post: A synapse's inputs from its receiving neuron, [b', b, e]: the new body, the old one, and the type.
            pre: The same from the sending neuron.
            forward: m, the messages of the receiving neurons.
        """

    @property
    def known_size(self) -> int:
        """The number of values that a synapse knows about each of its two neurons."""
        return 2 * self.body_size + self.type_size


def fan_in_normal(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Parameter:
    """A matrix of normal values with variance 1 / inputs.

    Args:
        inputs: Number of rows.
        outputs: Number of columns.
        generator: Source of the values; torch's global one if None.
    """
    return nn.Parameter(torch.randn(inputs, outputs, generator=generator) / inputs**0.5)


def by_synapse(factor: Float[Tensor, "batch neurons channels"]) -> Float[Tensor, "batch channels neurons"]:
    """The contribution of each neuron, with the channels first, as in synapses."""
    return factor.transpose(1, 2)
