"""Synapses changed by a small gated network that sees its own state and its two neurons."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule, by_synapse, fan_in_normal

KEEP, WRITE = 4.0, -1.0  # initial biases of the gates: keep 0.98 of the state at each tick, write 0.27 of the new one


class GatedRule(NeuralUpdateRule):
    """Synapses changed by a small gated network that sees its own state and its two neurons.

    With beta = [b', b, e] for the receiving neuron i and the sending neuron j of a synapse,

        z       = Ws^T s + U^T beta_i + V^T beta_j + cz + (A^T beta_i) (G^T beta_j)
        (p,f,w) = Wo^T tanh(z) + co
        s'      = sigmoid(f) s + sigmoid(w) tanh(p)

    Args:
        body_size: n_b, the length of a body.
        channels: C, the length of a synapse.
        synapse_hidden: h, the hidden units of the synapses' function.
        product: Whether z has its last term, the products of the two neurons; else the function is a plain network
            of [s, beta_i, beta_j].
        types: Number of types of neurons that the rule distinguishes: the groups of the topology, or 1.
        type_size: n_e, the length of a type's embedding; with one type there is none.
        body_hidden: Number of hidden units of the bodies' function.
        generator: Source of the initial values; torch's global one if None.

    Source: Gregor, "Finding online neural update rules by learning to remember" (2020); the form is ours.

    Examples:
        >>> rule = GatedRule(4, 2, generator=torch.Generator().manual_seed(0))
        >>> s, post, pre, forward = (torch.zeros(shape) for shape in ((1, 2, 3, 5), (1, 3, 8), (1, 5, 8), (1, 3, 2)))
        >>> rule.synapse(s, post, pre, forward).shape
        torch.Size([1, 2, 3, 5])
    """

    def __init__(
        self,
        body_size: int = 8,
        channels: int = 4,
        *,
        synapse_hidden: int = 16,
        product: bool = True,
        types: int = 1,
        type_size: int = 4,
        body_hidden: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        options = {"types": types, "type_size": type_size, "body_hidden": body_hidden}
        super().__init__(body_size, channels, generator=generator, **options)
        hidden = self.synapse_hidden = checks.size("synapse_hidden", synapse_hidden)
        self.product = product
        self.own = fan_in_normal(channels, hidden, generator)
        self.post = fan_in_normal(self.known_size, hidden, generator)
        self.pre = fan_in_normal(self.known_size, hidden, generator)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.post_factor = fan_in_normal(self.known_size, hidden, generator) if product else None
        self.pre_factor = fan_in_normal(self.known_size, hidden, generator) if product else None
        self.out = fan_in_normal(hidden, 3 * channels, generator)
        self.out_bias = nn.Parameter(torch.tensor([0.0, KEEP, WRITE]).repeat_interleave(channels))

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
            post: A synapse's inputs from its receiving neuron, [b', b, e].
            pre: The same from the sending neuron.
            forward: m, the messages of the receiving neurons.

        Raises:
            ValueError: Shapes do not match.
        """
        checks.arguments()
        checks.has_shape("synapse", synapse.shape, ("batch", len(self.own), "post", "pre"))
        checks.has_shape("post", post.shape, ("batch", "post", self.known_size))
        with checks.noted(synapse=synapse, post=post, pre=pre):
            flat = synapse.flatten(2)
            # Terms that depend on one neuron are computed once for each neuron, and only those of s for each synapse.
            z = (self.own.T @ flat).view(len(flat), -1, *synapse.shape[2:])
            z = z + by_synapse(post @ self.post + self.bias)[..., None] + by_synapse(pre @ self.pre)[:, :, None]
            if self.post_factor is not None and self.pre_factor is not None:
                z = z + by_synapse(post @ self.post_factor)[..., None] * by_synapse(pre @ self.pre_factor)[:, :, None]
        candidate, keep, write = (self.out.T @ torch.tanh(z).flatten(2) + self.out_bias[:, None]).chunk(3, 1)
        updated = torch.sigmoid(keep) * flat + torch.sigmoid(write) * torch.tanh(candidate)
        return updated.view(synapse.shape)
