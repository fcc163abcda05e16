"""Synapses that do not change: such a network can remember only in its bodies."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule


class StaticRule(NeuralUpdateRule):
    """Synapses that keep their initial values, s' = s: such a network can remember only in its bodies.

    Args:
        body_size: n_b, the length of a body.
        channels: C, the length of a synapse.
        types: Number of types of neurons that the rule distinguishes: the groups of the topology, or 1.
        type_size: n_e, the length of a type's embedding; with one type there is none.
        body_hidden: Number of hidden units of the bodies' function.
        generator: Source of the initial values; torch's global one if None.

    Source: a control for Gregor, "Finding online neural update rules by learning to remember" (2020); ours.

    Examples:
        >>> import torch
        >>> rule = StaticRule(4, 2, generator=torch.Generator().manual_seed(0))
        >>> s = torch.ones(1, 2, 3, 5)
        >>> rule.synapse(s, torch.zeros(1, 3, 8), torch.zeros(1, 5, 8), torch.zeros(1, 3, 2)) is s
        True
    """

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
        """
        return synapse
