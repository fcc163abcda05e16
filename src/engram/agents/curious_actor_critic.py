"""An actor-critic with two values: one for extrinsic and one for intrinsic rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.nn.initial import uniform

LEAST_SIDE = 36  # smallest height and width of an image for the two convolutions


class CuriousOutput(NamedTuple):
    """Unnormalised log-probabilities of the actions, and the extrinsic and the intrinsic value of each state."""

    logits: Float[Tensor, "time batch actions"]
    values: Float[Tensor, "time batch 2"]


class CuriousActorCritic(nn.Module):
    """A policy with memory, and a value for each of two streams of reward.

        x(t) = body((o(t) - mean) / std), one-hot a(t-1)
        h(t) = LSTM(x(t), h(t-1)),   h = 0 where an episode starts
        pi(a | t) = softmax(W h(t) + b)[a],   V_k(t) = w_k . h(t) + b_k,  k extrinsic, intrinsic

    Images of at least 36 x 36 pass two convolutions and a dense layer, other observations two dense layers.

    Args:
        obs_shape: Shape of one observation; images with the channels first.
        actions: Number of actions.
        hidden: Units of a dense layer.
        memory: Units of the LSTM; None: no LSTM, and so no memory of earlier steps.
        mean: Subtracted from the observations, of shape ``obs_shape``; None: 0.
        std: Divisor of the observations after that, of shape ``obs_shape``; None: 1.
        generator: Source of the initial values, torch's own distributions; torch's global one if None.

    Source: Hwang et al., "Neuro-inspired fragmentation and recall" (2023): the networks; Burda et al., "Exploration by
    random network distillation" (2018): two values.

    Examples:
        >>> agent = CuriousActorCritic((3,), actions=2, hidden=8, memory=5, generator=torch.Generator().manual_seed(0))
        >>> starts = torch.tensor([[True], [False]])
        >>> agent(torch.zeros(2, 1, 3), torch.zeros(2, 1, dtype=torch.int64), starts)[0].values.shape
        torch.Size([2, 1, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        obs_shape: Sequence[int],
        actions: int,
        *,
        hidden: int = 512,
        memory: int | None = 512,
        mean: Float[Tensor, "..."] | None = None,
        std: Float[Tensor, "..."] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.obs_shape = tuple(checks.size("obs_shape", side) for side in obs_shape)
        self.actions, self.memory = checks.size("actions", actions), memory
        checks.size("hidden", hidden)
        for name, tensor, value in (("mean", mean, 0.0), ("std", std, 1.0)):
            numbers = torch.full(self.obs_shape, value) if tensor is None else tensor.float().clone()
            checks.has_shape(name, tuple(numbers.shape), self.obs_shape)
            if name == "std" and not (numbers > 0).all():
                raise ValueError(f"std = {checks.shown(numbers)}: expected numbers above 0")
            self.register_buffer(name, numbers)
        options: dict[str, Any] = {"generator": generator}
        if len(self.obs_shape) == 3 and min(self.obs_shape[1:]) >= LEAST_SIDE:
            channels = self.obs_shape[0]
            sides = [((side - 8) // 4 + 1 - 2) // 2 + 1 for side in self.obs_shape[1:]]
            layers = [uniform(nn.Conv2d, channels, 16, 8, stride=4, **options), nn.ReLU()]
            layers += [uniform(nn.Conv2d, 16, 32, 4, stride=2, padding=1, **options), nn.ReLU(), nn.Flatten()]
            sizes = [32 * math.prod(sides), hidden]
        else:
            layers = [nn.Flatten() if self.obs_shape else nn.Unflatten(0, (-1, 1))]
            sizes = [math.prod(self.obs_shape), hidden, hidden]
        for pre, post in pairwise(sizes):
            layers += [uniform(nn.Linear, pre, post, **options), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        size, self.lstm = hidden + self.actions, None
        if memory is not None:
            bound = checks.size("memory", memory) ** -0.5
            self.lstm = uniform(nn.LSTM, size, memory, bound=bound, **options)
            size = memory
        self.policy = uniform(nn.Linear, size, self.actions, **options)
        self.value = uniform(nn.Linear, size, 2, **options)

    def initial(self, batch_size: int) -> tuple[Tensor, ...]:
        """The state before an episode: hidden and cell, (1, batch, memory) each; () without memory."""
        zeros = self.mean.new_zeros(1, checks.size("batch_size", batch_size), self.memory or 1)
        return () if self.lstm is None else (zeros, zeros.clone())

    def forward(
        self,
        observations: Shaped[Tensor, "time batch *features"],
        previous_actions: Int[Tensor, "time batch"],
        starts: Bool[Tensor, "time batch"],
        state: tuple[Tensor, ...] | None = None,
    ) -> tuple[CuriousOutput, tuple[Tensor, ...]]:
        """Policy and values at each step, and the state after them.

        Args:
            observations: The observations.
            previous_actions: The action before each observation; where an episode starts, any action, which is ignored.
            starts: Whether an episode starts at each step.
            state: The state before the first step, from ``initial`` or an earlier call; None: that before an episode.

        Raises:
            ValueError: Shapes do not match, or ``state`` does not fit the memory and the batch.
        """
        checks.arguments()
        steps = tuple(starts.shape)
        checks.has_shape("observations", tuple(observations.shape), (*steps, *self.obs_shape))
        obs = observations.flatten(0, 1)
        obs = obs.to(self.mean.device) if obs.dtype == torch.float64 else obs.to(self.mean)
        x = self.body(((obs - self.mean) / self.std).to(self.std)).unflatten(0, steps)
        starts = starts.to(x.device)
        previous = functional.one_hot(previous_actions, self.actions).to(x).masked_fill(starts.unsqueeze(-1), 0)
        features = torch.cat((x, previous), -1)
        state = self.initial(steps[1]) if state is None else state
        if self.lstm is not None:
            if len(state) != 2:
                raise ValueError(f"state has {len(state)} tensors: expected 2, as initial({steps[1]}) returns them")
            for number, tensor in enumerate(state):
                checks.has_shape(f"state[{number}]", tuple(tensor.shape), (1, steps[1], self.lstm.hidden_size))
            outputs, cuts = [], [0, *(starts[1:].any(1).nonzero().flatten() + 1).tolist(), steps[0]]
            for begin, end in pairwise(cuts):
                state = tuple(tensor.masked_fill(starts[begin].unsqueeze(-1), 0) for tensor in state)
                output, state = self.lstm(features[begin:end], state)
                outputs.append(output)
            features = torch.cat(outputs)
        return CuriousOutput(self.policy(features), self.value(features)), state
