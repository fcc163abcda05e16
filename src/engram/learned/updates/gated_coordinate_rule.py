"""Gated coordinate rule: a small network, shared by all weights, that opens and closes the plasticity of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.learned.updates.update_rule import EPS, Memory, Moments, TaskMemory, UpdateRule, rates_of
from engram.meta.inner_updates import Weights

INPUTS = 14
VERSION = 1  # of the inputs' definition; a rule that was trained on other inputs is meaningless


class GatedCoordinateRule(UpdateRule):
    """A network that gates Adam's step for each weight, and may add to it, from inputs about this weight alone.

        direction = exp(c_l) [2 sigmoid(a) u + 0.1 r],   (a, r) = MLP(14 inputs),   u = m_0.9 / (sqrt(v) + 1e-8)

    2 sigmoid(a) is the plasticity of the weight, from 0 (consolidated) to 2; r can pull it back to where an old task
    left it. Inputs are the gradient, its running means with decays 0.5, 0.9 and 0.99, the weight, its distance from the
    last task's end and its importance for old tasks, each relative to its tensor; four describe the tensor, and three
    the number of steps since the task began. All are between -10 and 10, and no outer gradient passes through them.
    Untrained, the rule is nearly Adam with decays 0.9 and 0.99.

    Args:
        tensors: Number of tensors, each with a learned rate exp(c_l); 0: no rates, for networks of any depth.
        hidden: Units of each of the two hidden layers.
        residual: Whether r is added.
        remembers: Whether the network sees distance and importance; else these inputs are 0.
        generator: Draws the initial parameters.

    Source: a method after Xiong, Ren and Urtasun, "Learning to remember from a multi-task teacher" (2019), re-designed
        from its abstract; inputs and network are ours, after Andrychowicz et al. (2016).

    Examples:
        >>> rule = GatedCoordinateRule(generator=torch.Generator().manual_seed(0))
        >>> w, g = {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, -0.1])}
        >>> [round(d, 1) for d in rule(g, w, rule.init(w), {})[0]["w"].tolist()]
        [1.0, -1.0]
    """

    DECAYS = (0.9, 0.5, 0.99)  # Adam's first

    def __init__(
        self,
        tensors: int = 0,
        *,
        hidden: int = 32,
        residual: bool = True,
        remembers: bool = True,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        checks.size("tensors", tensors, minimum=0)
        checks.size("hidden", hidden)
        checks.generator(generator)
        self.residual, self.remembers = residual, remembers
        sizes = (INPUTS, hidden, hidden, 2)
        layers = [nn.utils.skip_init(nn.Linear, *pair) for pair in pairwise(sizes)]  # type: ignore[no-untyped-call]
        for layer in layers:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(layers[-1].weight, std=1e-3, generator=generator)
        self.network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.log_rates = nn.Parameter(torch.zeros(tensors)) if tensors else None
        self.register_buffer("version", torch.tensor(VERSION))
        self.register_load_state_dict_pre_hook(_refuse_other_inputs)  # type: ignore[no-untyped-call]
        self._sampling: tuple[int, torch.Generator] | None = None

    def estimated(self, every: int, generator: torch.Generator) -> AbstractContextManager[None]:
        """A context in which the gradient uses one in ``every`` weights, the first of them drawn at each step.

        Args:
            every: The gradient uses one in this many weights, at least 1.
            generator: Draws the first of them.
        """
        super().estimated(every, generator)
        return self._sampled((every, generator)) if every > 1 else nullcontext()

    @contextmanager
    def _sampled(self, sampling: tuple[int, torch.Generator]) -> Iterator[None]:
        self._sampling = sampling
        try:
            yield
        finally:
            self._sampling = None

    def forward(
        self, grads: Weights, params: Weights, state: dict[str, Moments], memory: Memory
    ) -> tuple[Weights, dict[str, Moments]]:
        """The directions and the new moments.

        Args:
            grads: Gradient of the loss with respect to each tensor, in the order of depth.
            params: The weights.
            state: Moments of the gradients, from ``init``.
            memory: The rule's memory of old tasks, by tensor.
        """
        state, rates = self.advanced(grads, state), rates_of(self.log_rates, grads)
        adam = {name: self.normalised(moments) for name, moments in state.items()}
        outputs = self._outputs(grads, params, adam, state, memory)
        directions = {}
        for name, relative in adam.items():
            a, r = outputs[name]
            step = 2 * torch.sigmoid(a) * relative[0]
            directions[name] = rates[name] * (step + 0.1 * r if self.residual else step)
        return directions, state

    def gates(self, grads: Weights, params: Weights, state: dict[str, Moments], memory: Memory) -> Weights:
        """The plasticity of each weight, 2 sigmoid(a), at the step that ``forward`` would take.

        Args:
            grads: Gradient of the loss with respect to each tensor, in the order of depth.
            params: The weights.
            state: Moments of the gradients, from ``init``.
            memory: The rule's memory of old tasks, by tensor.
        """
        state = self.advanced(grads, state)
        adam = {name: self.normalised(moments) for name, moments in state.items()}
        outputs = self._outputs(grads, params, adam, state, memory)
        return {name: 2 * torch.sigmoid(a) for name, (a, _) in outputs.items()}

    def _outputs(
        self, grads: Weights, params: Weights, adam: Weights, state: dict[str, Moments], memory: Memory
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """The network's outputs a and r for each weight."""
        features = []
        for index, (name, g) in enumerate(grads.items()):
            with checks.noted(params=params, memory=memory):
                weight_inputs = self._of_weights(g, params[name], adam[name], memory.get(name))
                tensor_inputs = _of_tensor(g, params[name], index / max(1, len(grads) - 1), state[name].steps)
            features.append(torch.cat((weight_inputs, tensor_inputs.expand(g.numel(), -1)), 1))
        inputs = torch.cat(features).clamp_(-10, 10).to(next(self.network.parameters()))
        by_tensor = torch.split(self._outputs_of(inputs), [g.numel() for g in grads.values()])
        named_outputs = [(name, g, output.to(g)) for (name, g), output in zip(grads.items(), by_tensor, strict=True)]
        return {name: (output[:, 0].view_as(g), output[:, 1].view_as(g)) for name, g, output in named_outputs}

    def _outputs_of(self, inputs: Float[Tensor, "weights 14"]) -> Float[Tensor, "weights 2"]:
        """The network's outputs, with a gradient that may be estimated."""
        if self._sampling is None or not torch.is_grad_enabled():
            return self.network(inputs)  # type: ignore[no-any-return]
        every, generator = self._sampling
        with torch.no_grad():
            outputs: Tensor = self.network(inputs)
        offset = int(torch.randint(every, (), generator=generator))
        sampled = self.network(inputs[offset::every])
        outputs[offset::every] = sampled.detach() + every * (sampled - sampled.detach())
        return outputs

    @torch.no_grad()
    def _of_weights(
        self, g: Tensor, w: Tensor, relative: Tensor, memory: TaskMemory | None
    ) -> Float[Tensor, "weights 7"]:
        """The inputs for each weight of a tensor."""
        remembered = [torch.zeros_like(g)] * 2
        if memory is not None and self.remembers:
            logarithm = (memory.importance + 1e-12).log()
            remembered = [
                (w - memory.anchor) / (_rms(memory.anchor) + EPS),
                (logarithm - logarithm.mean()) / (logarithm.std(correction=0) + 1e-6),
            ]
        columns = [g / (_rms(g) + EPS), *relative[[1, 0, 2]], w / (_rms(w) + EPS), *remembered]
        return torch.stack([column.reshape(-1) for column in columns], 1)


@torch.no_grad()
def _of_tensor(g: Tensor, w: Tensor, depth: float, steps: int) -> Float[Tensor, " 7"]:
    """The inputs that a whole tensor shares, including the number of steps since the task began."""
    sizes = torch.log10(torch.stack((_rms(g), _rms(w))) + 1e-12)
    tensor_features = [
        depth,
        math.log10(math.prod(w.shape[1:])) / 4,
        *(math.tanh(steps / scale) for scale in (10, 100, 1000)),
    ]
    return torch.cat((sizes / sizes.new_tensor([4, 1]), sizes.new_tensor(tensor_features)))


def _rms(tensor: Tensor) -> Tensor:
    return tensor.square().mean().sqrt()


def _refuse_other_inputs(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Raise ValueError for a rule that was trained on inputs of another version."""
    version = state.get(f"{prefix}version")
    if version is not None and int(version) != VERSION:
        raise ValueError(
            f"version = {int(version)} of the inputs in state_dict: expected {VERSION}, train the rule anew"
        )
