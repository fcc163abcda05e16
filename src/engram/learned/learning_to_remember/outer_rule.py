"""Synapses changed by a learned outer product: the family of Hebb's rule, and with an error the delta rule's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.learned.learning_to_remember.gated_rule import KEEP, WRITE
from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule, by_synapse, fan_in_normal


class OuterRule(NeuralUpdateRule):
    """Synapses changed by a learned outer product: the family of Hebb's rule, and with an error the delta rule's.

        s'[c] = lambda[c] s[c] + eta[c] (A^T beta_i - m_i)[c] (G^T beta_j)[c]          m_i only if ``delta``

    with beta = [b', b, e] for the receiving neuron i and the sending neuron j; lambda is the sigmoid, and eta the
    softplus, of a parameter.

    Args:
        body_size: n_b, the length of a body.
        channels: C, the length of a synapse.
        delta: Whether the message that arrives is subtracted from the receiving neuron's factor.
        types: Number of types of neurons that the rule distinguishes: the groups of the topology, or 1.
        type_size: n_e, the length of a type's embedding; with one type there is none.
        body_hidden: Number of hidden units of the bodies' function.
        generator: Source of the initial values; torch's global one if None.

    Source: Gregor, "Finding online neural update rules by learning to remember" (2020); the form is ours.

    Examples:
        >>> rule = OuterRule(4, 2, generator=torch.Generator().manual_seed(0))
        >>> s, post, pre, forward = (torch.zeros(shape) for shape in ((1, 2, 3, 5), (1, 3, 8), (1, 5, 8), (1, 3, 2)))
        >>> rule.synapse(s, post, pre, forward).shape
        torch.Size([1, 2, 3, 5])
    """

    def __init__(
        self,
        body_size: int = 8,
        channels: int = 4,
        *,
        delta: bool = False,
        types: int = 1,
        type_size: int = 4,
        body_hidden: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        options = {"types": types, "type_size": type_size, "body_hidden": body_hidden}
        super().__init__(body_size, channels, generator=generator, **options)
        self.delta = delta
        self.post_factor = fan_in_normal(self.known_size, channels, generator)
        self.pre_factor = fan_in_normal(self.known_size, channels, generator)
        self.keep = nn.Parameter(torch.full((channels,), KEEP))
        self.rate = nn.Parameter(torch.full((channels,), WRITE))

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
        with checks.noted(synapse=synapse, post=post, pre=pre, forward=forward):
            error = post @ self.post_factor
            if self.delta:
                error = error - forward
            post_term = by_synapse(functional.softplus(self.rate) * error)
            product = post_term[..., None] * by_synapse(pre @ self.pre_factor)[:, :, None]
            return torch.sigmoid(self.keep)[:, None, None] * synapse + product
