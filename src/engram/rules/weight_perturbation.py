"""Weight perturbation: try a random change of all weights and its opposite, and move in the better direction."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.draws import record_draws
from engram.rules.loss import output_loss


class WeightPerturbation(LearningRule[Tensor]):
    """Antithetic weight perturbation of any module: an unbiased estimate of the gradient, as sigma goes to 0.

        dL/dW ~ (L(W + xi) - L(W - xi)) xi / (2 sigma^2),   xi ~ N(0, sigma^2)

    The state is the key of the next noise. All passes of an update get the same random numbers, such as dropout masks.
    Complex weights get complex noise, of this variance in either part.

    Args:
        sigma: Standard deviation of the noise, above 0.
        pairs: Number of pairs of opposite perturbations over which an update averages; each takes two forward passes.

    Source: Jabri and Flower, "Weight perturbation: an optimal architecture and learning technique for analog VLSI
    feedforward and recurrent multilayer networks" (1992); pairs as in Spall, "Multivariate stochastic approximation
    using a simultaneous perturbation gradient approximation" (1992).

    Examples:
        >>> model, rule = nn.Linear(1, 1, bias=False), WeightPerturbation()
        >>> state = rule.init(model, torch.Generator().manual_seed(0))
        >>> rule.update(model, torch.zeros(2, 1), torch.ones(2, 1), state).grads["weight"].tolist()
        [[0.0]]
    """

    properties = Properties(local=True, no_weight_transport=True, online=True, black_box=True, spikes=True)
    trains_complex = True

    def __init__(self, sigma: float = 0.005, pairs: int = 1) -> None:
        self.sigma = checks.number("sigma", sigma, above=0)
        self.pairs = checks.size("pairs", pairs)

    def init(self, model: nn.Module, generator: torch.Generator) -> Int[Tensor, ""]:
        """The key of the noise."""
        checks.arguments()
        chain.refuse_changing(model, self, repeated=True)
        return chain.new_key(generator)

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"] | tuple[Tensor, ...],
        target: Shaped[Tensor, "_ *targets"],
        state: Int[Tensor, ""],
    ) -> Update:
        """The pseudo-gradients, and the next key; ``info["loss"]`` is the mean loss over all perturbed weights.

        Args:
            model: The network, which is not changed.
            x: Its input, as ``model`` takes it; several inputs in a tuple.
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: The key of the noise.
        """
        checks.arguments()
        chain.refuse_changing(model, self, repeated=True)
        weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        # In half precision the two losses would often be the same number, and small terms lost in the sum.
        sums = {name: checks.widened(torch.zeros_like(value)) for name, value in weights.items()}
        target = checks.widened(target)
        generator = chain.generator_of(state, next(model.parameters()))
        losses: list[Tensor] = []
        repeat = record_draws(model)
        for _ in range(self.pairs):
            noise = {n: _normal(w, generator).mul_(self.sigma) for n, w in weights.items()}
            outputs: list[Tensor] = []
            with checks.noted(x=x):
                for sign in (1, -1):
                    repeat()
                    shifted = {n: w + sign * noise[n] for n, w in weights.items()}
                    outputs.append(torch.func.functional_call(model, shifted, x))
            loss_plus, loss_minus = (output_loss(checks.widened(output), target) for output in outputs)
            slope = (loss_plus - loss_minus) / (2 * self.sigma**2 * self.pairs)
            for name, perturbation in noise.items():
                sums[name].addcmul_(checks.widened(perturbation), slope)
            losses += [loss_plus, loss_minus]
        grads = {name: total.to(weights[name].dtype) for name, total in sums.items()}
        return checked_update(self, grads, chain.new_key(generator), torch.stack(losses).mean())


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers; complex ones in both parts."""
    if like.is_complex():
        parts = chain.normal((*like.shape, 2), generator, torch.view_as_real(like.resolve_conj()))
        return torch.view_as_complex(parts)
    return chain.normal(like.shape, generator, like)
