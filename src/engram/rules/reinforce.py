"""REINFORCE: stochastic units become more likely to repeat what they did when the reward was above its mean."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.rules import chain
from engram.rules.contract import LearningRule, Properties, Update, checked_update
from engram.rules.loss import output_loss
from engram.state import register_states


class ReinforceState(NamedTuple):
    """The running mean of the reward, and the key of the next draws."""

    baseline: Float[Tensor, ""]
    key: Int[Tensor, ""]


register_states(ReinforceState)


class Reinforce(LearningRule[ReinforceState]):
    """REINFORCE with Bernoulli units: hidden sigmoid units fire or do not, and the output is drawn too.

        s[l] ~ Bernoulli(p[l]),   p[l] = sigmoid(W[l] s[l-1] + b[l]),   dL/dW[l] = -(R - base) (s[l] - p[l])^T s[l-1]

    For classes, the output is drawn from softmax(a[L]), R is 1 if it is right and 0 otherwise, and s is the one-hot
    code of the class drawn. For values, the output is a[L] + sigma xi, R is minus its loss, and xi / sigma takes the
    place of s - p. If the network is called without draws, sigmoid units give their mean.

    Args:
        rate: Rate of the running mean ``base`` of R, from 0 to 1; it starts at 0.
        sigma: Standard deviation of the output if targets are values, above 0.

    Source: Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning"
    (1992), sections 4 and 6.

    Examples:
        >>> model, rule = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)), Reinforce()
        >>> state = rule.init(model, torch.Generator().manual_seed(0))
        >>> sorted(rule.update(model, torch.eye(2), torch.tensor([0, 1]), state).info)
        ['loss', 'reward']
    """

    properties = Properties(
        local=True, no_weight_transport=True, one_phase=True, online=True, black_box=True, spikes=True
    )

    def __init__(self, rate: float = 0.05, sigma: float = 0.1) -> None:
        self.rate = checks.number("rate", rate, minimum=0, maximum=1)
        self.sigma = checks.number("sigma", sigma, above=0)

    def init(self, model: nn.Module, generator: torch.Generator) -> ReinforceState:
        """A baseline of 0, and the key of the draws."""
        checks.arguments()
        first = self._read(model).layers[0].module.weight
        # At least single precision, in which the small steps of a running mean are not lost.
        baseline = checks.widened(first.new_zeros((), requires_grad=False))
        return ReinforceState(baseline, chain.new_key(generator))

    @torch.no_grad()
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: ReinforceState,
    ) -> Update:
        """The pseudo-gradients, the next baseline and key; ``info["loss"]`` is that of a[L], given the hidden draws.

        Args:
            model: The network, which is not changed.
            x: Its input, (batch, features).
            target: Classes, (batch,), int64, or values, (batch, outputs).
            state: The running mean of the reward, and the key of the draws.
        """
        checks.arguments()
        network = self._read(model)
        generator = chain.generator_of(state.key, network.layers[0].module.weight)
        inputs, surprises = [network.enter(x)], []
        for layer in network.layers[:-1]:
            probability = layer.module(inputs[-1]).sigmoid()
            uniform = torch.rand(probability.shape, generator=generator, dtype=torch.float32, device=generator.device)
            inputs.append((uniform < probability).to(probability))
            surprises.append(inputs[-1] - probability)
        output = network.layers[-1].module(inputs[-1])
        loss = output_loss(output, target)
        if target.is_floating_point():
            noise = chain.normal(output.shape, generator, output)
            reward = checks.widened(output + self.sigma * noise - target).square().sum(1) / -2
            surprises.append(noise / self.sigma)
        else:
            probability = output.softmax(1)
            sampled_class = torch.multinomial(probability.float(), 1, generator=generator)
            reward = (sampled_class.squeeze(1) == target).to(state.baseline)
            surprises.append((-probability).scatter_add(1, sampled_class, torch.ones_like(output[:, :1])))
        negative_advantage = ((state.baseline - reward) / len(reward)).unsqueeze(1)
        grads: dict[str, Tensor] = {}
        for layer, input, surprise in zip(network.layers, inputs, surprises, strict=True):
            grads |= layer.weight_gradients(input, (negative_advantage * surprise).to(input.dtype))
        baseline = torch.lerp(state.baseline, reward.mean(), self.rate)
        next_state = ReinforceState(baseline, chain.new_key(generator))
        return checked_update(self, grads, next_state, loss, reward=reward.mean())

    def _read(self, model: nn.Module) -> chain.Chain:
        network = chain.Chain.from_module(model, self, linear=True, deterministic=True)
        for index, layer in enumerate(network.layers):
            expected_modules = [nn.Sigmoid] if index + 1 < len(network.layers) else []
            if [type(module) for _, module in layer.after] != expected_modules:
                expected = "one nn.Sigmoid behind it" if expected_modules else "nothing behind the last layer"
                raise TypeError(
                    f"Reinforce cannot train layer {layer.name!r}: its units cannot be drawn; expected {expected}"
                )
        return network
