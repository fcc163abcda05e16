"""Node perturbation: all units get noise at once; each correlates its own noise with the change of the loss."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.draws import record_draws
from engram.rules.loss import sample_losses


class NodePerturbation(LearningRule[Tensor]):
    """Node perturbation of a feed-forward network: an unbiased estimate of the gradient, as sigma goes to 0.

        delta[l] = (L(noise) - L(clean)) xi[l] / sigma^2,   a[l] + xi[l],   xi ~ N(0, sigma^2),   for each sample
        dL/dW[l] ~ delta[l]^T h[l-1] / B

    The state is the key of the next noise. Activations may be of any kind, even step functions, or random ones, which
    draw the same random numbers in all passes of an update.

    Args:
        sigma: Standard deviation of the noise, above 0.
        draws: Number of noise samples over which an update averages; each takes a forward pass.

    Source: Flower and Jabri, "Summed weight neuron perturbation" (1992); Werfel, Xie and Seung, "Learning curves for
    stochastic gradient descent in linear feedforward networks" (2005).

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), NodePerturbation()
        >>> state = rule.init(model, torch.Generator().manual_seed(0))
        >>> bool(rule.update(model, torch.eye(2), torch.ones(2, 1), state).state != state)
        True
    """

    properties = Properties(local=True, no_weight_transport=True, online=True, black_box=True, spikes=True)

    def __init__(self, sigma: float = 0.05, draws: int = 1) -> None:
        self.sigma = checks.number("sigma", sigma, above=0)
        self.draws = checks.size("draws", draws)

    def init(self, model: nn.Module, generator: torch.Generator) -> Int[Tensor, ""]:
        """The key of the noise."""
        checks.arguments()
        chain.Chain.from_module(model, self, deterministic=True, any_activation=True)
        return chain.new_key(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: Int[Tensor, ""],
    ) -> Update:
        """The pseudo-gradients, and the next key.

        Args:
            model: The network, which is not changed.
            x: Its input, the batch first.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: The key of the noise.
        """
        checks.arguments()
        network = chain.Chain.from_module(model, self, deterministic=True, any_activation=True)
        repeat = record_draws(model)
        clean = network.forward(x)
        # In half precision two losses would often be the same number, and small terms lost in the sum.
        target = checks.widened(target)
        losses = sample_losses(checks.widened(clean[-1].output), target)
        generator = chain.generator_of(state, losses)
        deltas = [checks.widened(torch.zeros_like(activity.pre)) for activity in clean]
        for _ in range(self.draws):
            noise = [self.sigma * chain.normal(activity.pre.shape, generator, activity.pre) for activity in clean]
            repeat()
            rise = sample_losses(checks.widened(network.forward(x, noise)[-1].output), target) - losses
            rise /= self.sigma**2 * self.draws * len(rise)
            for delta, layer_noise in zip(deltas, noise, strict=True):
                delta.addcmul_(checks.widened(layer_noise), rise.view(-1, *[1] * (layer_noise.ndim - 1)))
        grads: dict[str, Tensor] = {}
        for layer, activity, delta in zip(network.layers, clean, deltas, strict=True):
            grads |= layer.weight_gradients(activity.input, delta.to(activity.input.dtype))
        return checked_update(self, grads, chain.new_key(generator), losses.mean())
