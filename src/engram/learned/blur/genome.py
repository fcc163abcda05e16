"""The genome of a learned bidirectional rule: a few small matrices and numbers that all neurons and layers share."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.state import register_states

MATRICES = 4
SCALARS = 7


class Genome(NamedTuple):
    """A learning rule as 4 k^2 + 7 numbers: how neurons of k states and the synapses between them are updated.

    Matrices are (source, target). Any field may have leading axes, which then hold several genomes.

    Attributes:
        nu: Mixing of states in the forward pass, (states, states).
        mu: Mixing of states in the backward pass, (states, states).
        P: Presynaptic factor of a synapse's change, (states, channels).
        Q: Postsynaptic factor of a synapse's change, (channels, states).
        keep_n: Factor of a neuron's old state in an update.
        gain_n: Gain of a neuron's input.
        keep_s: Factor of the old synapse in an update.
        gain_s: Gain of a synapse's change: below 0 it descends.
        norm_gain: Standard deviation of normalised inputs.
        norm_shift: Mean of normalised inputs.
        oja: Strength of Oja's decay; only its absolute value counts.

    Source: Sandler et al., "Meta-learning bidirectional update rules" (2021), equations 5 to 8; nu~ and mu~ are P and
    Q; f and eta are ``keep`` and ``gain``, with a tilde those of synapses.

    Examples:
        >>> Genome.backprop(0.1).to_vector().shape
        torch.Size([23])
    """

    nu: Float[Tensor, "*members states states"]
    mu: Float[Tensor, "*members states states"]
    P: Float[Tensor, "*members states channels"]
    Q: Float[Tensor, "*members channels states"]
    keep_n: Float[Tensor, "*members"]
    gain_n: Float[Tensor, "*members"]
    keep_s: Float[Tensor, "*members"]
    gain_s: Float[Tensor, "*members"]
    norm_gain: Float[Tensor, "*members"]
    norm_shift: Float[Tensor, "*members"]
    oja: Float[Tensor, "*members"]

    @property
    def n_states(self) -> int:
        """Number of states of a neuron, k."""
        return int(self.nu.shape[-1])

    @classmethod
    def random(cls, n_states: int, generator: torch.Generator, *, dtype: torch.dtype | None = None) -> Genome:
        """A random genome: matrices from N(0, 1), and the numbers as published.

        The published gain of synapses applies to a sum over 512 samples; here it is 512 times that, for a mean.

        Args:
            n_states: Number of states of a neuron, k.
            generator: Source of the matrices.
            dtype: Data type of all numbers; torch's default if None.

        Raises:
            ValueError: ``n_states`` is below 1.
        """
        shape = MATRICES, checks.size("n_states", n_states), n_states
        matrices = torch.randn(shape, generator=checks.generator(generator), device=generator.device, dtype=dtype)
        return cls(*matrices, *matrices.new_tensor([1.0, 1.0, 1.0, -0.512, 1.0, 0.0, 1.0]))

    @classmethod
    def backprop(cls, learning_rate: float, *, dtype: torch.dtype | None = None) -> Genome:
        """The genome that is gradient descent in a network made by ``BlurNetwork.backprop``.

        State 0 is the activity, state 1 its derivative in the forward pass and the gradient in the backward pass; a
        synapse changes by the presynaptic activity times the postsynaptic gradient. With fixed random synapses in the
        backward pass it is feedback alignment.

        Raises:
            ValueError: ``learning_rate`` is not above 0.

        Source: Sandler et al. (2021), section 3.1.
        """
        rate = checks.number("learning_rate", learning_rate, above=0)
        eye = torch.eye(2, dtype=dtype)
        numbers = eye.new_tensor([1.0, 1.0, 1.0, -rate, 1.0, 0.0, 0.0])
        return cls(eye.new_tensor([[1.0, 1.0], [0.0, 0.0]]), eye, eye.clone(), eye.flip(0), *numbers)

    @classmethod
    def near_backprop(cls, std: float, generator: torch.Generator, *, learning_rate: float = 0.512) -> Genome:
        """The genome of backpropagation plus noise from N(0, std^2) on each number, as the start of a search.

        The feedback is the label, which has a minus sign in the error, so ``gain_s`` is above 0. Oja's decay is 1.

        Args:
            std: Standard deviation of the noise.
            generator: Source of the noise.
            learning_rate: Learning rate of the backpropagation.

        Raises:
            ValueError: ``std`` is below 0, or ``learning_rate`` not above 0.
        """
        backprop = cls.backprop(learning_rate)
        mean = backprop._replace(gain_s=-backprop.gain_s, oja=torch.ones_like(backprop.oja)).to_vector()
        noise = torch.randn(mean.shape, generator=checks.generator(generator), device=generator.device)
        return cls.from_vector(mean.to(noise) + checks.number("std", std, minimum=0) * noise)

    def to_vector(self) -> Float[Tensor, "*members numbers"]:
        """All its numbers in one vector, which an optimiser can search."""
        matrices = [matrix.flatten(-2) for matrix in self[:MATRICES]]
        return torch.cat([*matrices, torch.stack(self[MATRICES:], -1)], -1)

    @classmethod
    def from_vector(cls, vector: Float[Tensor, "*members numbers"]) -> Genome:
        """The inverse of ``to_vector``, on the same graph.

        Raises:
            ValueError: It does not hold 4 k^2 + 7 numbers for any k.
        """
        checks.instance("vector", vector, Tensor)
        numbers = vector.shape[-1] if vector.ndim else 0
        states = math.isqrt(max(numbers - SCALARS, 0) // MATRICES)
        if not states or numbers != MATRICES * states**2 + SCALARS:
            raise ValueError(f"vector.shape = {tuple(vector.shape)}: expected a last axis of 4 k^2 + 7 numbers")
        matrices, scalars = torch.split(vector, [MATRICES * states**2, SCALARS], -1)
        matrices = matrices.reshape(*vector.shape[:-1], MATRICES, states, states)
        return cls(*matrices.unbind(-3), *scalars.unbind(-1))

    def to_dict(self) -> dict[str, list[object] | float]:
        """The fields of a genome without leading axes, as lists and numbers by name, for storage."""
        return {name: value.tolist() for name, value in self._asdict().items()}


register_states(Genome)
