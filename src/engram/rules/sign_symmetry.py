"""Sign symmetry: errors go back through weights with the signs of the forward ones, but their own magnitudes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules.chain import Chain, new_key
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.network import AnyNetwork, network_of
from engram.state import check_state, register_states


class SignSymmetryState(NamedTuple):
    """Magnitudes M of the feedback weights by name, scalars or with the shapes of W, and the key of the next draw."""

    magnitudes: dict[str, Tensor]
    key: Int[Tensor, ""]


register_states(SignSymmetryState)


class SignSymmetry(LearningRule[SignSymmetryState]):
    """Errors go back through weights with the signs of the forward ones.

        delta[l] = (delta[l+1] B[l+1]) phi'(a[l]),   B = sign(W) M,   where sign(0) = 1

    Args:
        magnitude: Kind of M. ``"uniform"`` (uSF): one number per layer, the mean of abs(W) when training begins.
            ``"fixed"`` (frSF): abs(N(0, 1 / fan-in)) for each weight, drawn once. ``"redrawn"`` (brSF): drawn again for
            each batch.

    Source: Liao, Leibo and Poggio, "How important is weight symmetry in backpropagation?" (2016), section 3; Xiao et
    al., "Biologically-plausible learning algorithms can scale to large datasets" (2019).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), SignSymmetry()
        >>> state = rule.init(model, torch.Generator())
        >>> bool(state.magnitudes["2.weight"] == model[2].weight.abs().mean())
        True
    """

    properties = Properties(one_phase=True, online=True, spikes=True)

    def __init__(self, magnitude: Literal["uniform", "fixed", "redrawn"] = "uniform") -> None:
        self.magnitude = checks.choice("magnitude", magnitude, ("uniform", "fixed", "redrawn"))

    @classmethod
    def fixed(cls) -> SignSymmetry:
        """The rule with fixed random magnitudes (frSF)."""
        return cls("fixed")

    @classmethod
    def redrawn(cls) -> SignSymmetry:
        """The rule with magnitudes redrawn for each batch (brSF)."""
        return cls("redrawn")

    def init(self, model: nn.Module, generator: torch.Generator) -> SignSymmetryState:
        """The magnitudes, measured or drawn."""
        checks.arguments()
        network = network_of(model, self)
        if self.magnitude == "uniform":
            magnitudes = {name: weight.detach().abs().mean() for name, weight in network.weights().items()}
        else:
            magnitudes = _random_magnitudes(network, generator)
        return SignSymmetryState(magnitudes, new_key(generator))

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: SignSymmetryState,
    ) -> Update:
        """The pseudo-gradients, and the next magnitudes if they are redrawn.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: Magnitudes M, and the key of the next ones.
        """
        checks.arguments()
        network = network_of(model, self)
        weights = network.weights()
        uniform = self.magnitude == "uniform"
        form = {name: weight.new_zeros(()) if uniform else weight for name, weight in weights.items()}
        check_state(state.magnitudes, form, "state.magnitudes")
        feedback = {name: torch.copysign(state.magnitudes[name], weight + 0.0) for name, weight in weights.items()}
        grads, loss = network.learn(x, target, feedback)
        if self.magnitude == "redrawn":
            generator = torch.Generator().manual_seed(int(state.key))
            state = SignSymmetryState(_random_magnitudes(network, generator), new_key(generator))
        return checked_update(self, grads, state, loss)


def _random_magnitudes(network: Chain | AnyNetwork, generator: torch.Generator) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in network.random_weights(generator).items()}
