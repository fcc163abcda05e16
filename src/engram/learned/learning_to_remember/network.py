"""A network whose neurons and synapses have vectors as states, both changed by one learned rule."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from engram import checks
from engram.learned.learning_to_remember.fused import Wiring, edges_of, run_fused, runs_fused
from engram.learned.learning_to_remember.gated_rule import GatedRule
from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule
from engram.learned.learning_to_remember.topology import Topology
from engram.nn.sequence import check_precision, full_precision, precise
from engram.rules.unroll import detached, unroll
from engram.state import register_states


class RuleState(NamedTuple):
    """The state of a network with a learned rule: its memory, which can be stored by itself.

    Attributes:
        bodies: b, a vector for each neuron.
        synapses: s, for each block (batch, channels, post, pre).
    """

    bodies: Float[Tensor, "batch neurons body"]
    synapses: tuple[Float[Tensor, "batch channels post pre"], ...]

    def __repr__(self) -> str:
        return checks.described(self)

    def detach(self) -> RuleState:
        """The same state, detached from its autograd graph, for truncated back-propagation."""
        return detached(self)

    def replaced(self, which: Bool[Tensor, " batch"], fresh: RuleState) -> RuleState:
        """The state with the chosen streams replaced by ``fresh``."""
        checks.arguments()
        synapses = zip(fresh.synapses, self.synapses, strict=True)
        synapses_after = tuple(
            torch.where(which[:, None, None, None], fresh_block, old_block) for fresh_block, old_block in synapses
        )
        return RuleState(torch.where(which[:, None, None], fresh.bodies, self.bodies), synapses_after)


register_states(RuleState)


class RuleNetwork(nn.Module):
    """A network whose neurons and synapses have vectors as states, both changed by one learned rule.

    At each tick neurons send messages along their synapses, forwards and back, channel by channel; then bodies change,
    and then synapses, by ``NeuralUpdateRule``:

        m_i = deg_in(i)^-1/2  sum_j s_ij P_f^T b_j            r_j = deg_out(j)^-1/2 sum_i s_ij P_b^T b_i

    Its only parameters are the rule's; its only weights are the synapses, which are part of the state. Each call takes
    a state and returns the next one. With hidden neurons a fresh state is random, since hidden neurons that start equal
    would stay equal.

    Args:
        topology: Groups of neurons and their connections.
        rule: The rule, with one type for each group of the topology, or a single type.
        aggregate: How messages are combined: ``"sqrt"``, as above, or ``"mean"``, divided by the degree, so that a
            memory's signal does not grow with the network.
        sigma: Standard deviation of the first half of a fresh synapse's channels; the others are 0. None: 0.3 if there
            are hidden neurons, else 0.
        backend: ``"auto"``: kernels for gated rules on a CPU; ``"eager"``: the plain definition.
        generator: Source of a sparse topology's connections; torch's global one if None.

    Raises:
        ValueError: An argument is out of range, or the rule's number of types does not fit the topology.

    Source: Gregor, "Finding online neural update rules by learning to remember" (2020): states of bodies and synapses,
    two functions that all share. Only the abstract and introduction of the paper could be read; messages and initial
    states are ours.

    Examples:
        >>> seeded = torch.Generator().manual_seed(0)
        >>> net = RuleNetwork(Topology.visible(12), GatedRule(generator=seeded))
        >>> logits, state = net(torch.ones(5, 3, 12), net.init(3, seeded))
        >>> logits.shape, state.synapses[0].shape
        (torch.Size([5, 3, 12]), torch.Size([3, 4, 12, 12]))
    """

    degree: Tensor
    kind: Tensor
    rule: NeuralUpdateRule

    def __init__(
        self,
        topology: Topology,
        rule: NeuralUpdateRule,
        *,
        aggregate: Literal["sqrt", "mean"] = "sqrt",
        sigma: float | None = None,
        backend: Literal["auto", "eager"] = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.topology = checks.instance("topology", topology, Topology)
        self.rule = checks.instance("rule", rule, NeuralUpdateRule)  # type: ignore[type-abstract]
        self.backend = checks.choice("backend", backend, ("auto", "eager"))
        self._power = {"sqrt": -0.5, "mean": -1.0}[checks.choice("aggregate", aggregate, ("sqrt", "mean"))]
        groups = topology.groups
        if rule.types not in (1, len(groups)):
            raise ValueError(f"rule.types = {rule.types}: expected 1 or {len(groups)}, the groups of the topology")
        self.sigma = 0.3 * topology.hidden if sigma is None else checks.number("sigma", sigma, minimum=0)
        if topology.hidden and not self.sigma:
            text = "sigma = 0: hidden neurons of a type begin alike, and so remain alike for ever"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        group = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
        self.register_buffer("kind", group if rule.types > 1 else torch.zeros_like(group), persistent=False)
        degree, fan_in = torch.zeros(topology.neurons, 2, dtype=torch.int64), topology.fan_in
        self.spans = [(topology.of_group(post), topology.of_group(pre)) for pre, post in topology.blocks]
        for index, (post, pre) in enumerate(self.spans):
            mask = torch.ones(post.stop - post.start, pre.stop - pre.start, dtype=torch.bool)
            if fan_in is not None:
                mask = torch.rand(mask.shape, generator=generator).argsort(1) < fan_in
            self.register_buffer(f"mask_{index}", None if fan_in is None else mask)
            degree[post, 0] += mask.sum(1)
            degree[pre, 1] += mask.sum(0)
        self.register_buffer("degree", degree, persistent=fan_in is not None)
        # The connections of a sparse network may change by ``load_state_dict``.
        self._edges = self._wired() if fan_in is None else None

    def init(self, batch_size: int, generator: torch.Generator | None = None) -> RuleState:
        """A fresh state: bodies are 0, and synapses are drawn with ``sigma``.

        Args:
            batch_size: Number of independent streams.
            generator: Source of the synapses; torch's global one if None.

        Raises:
            ValueError: ``batch_size`` is below 1.
        """
        checks.arguments()
        checks.size("batch_size", batch_size)
        like, channels = self.rule.readout, self.rule.channels
        synapses = []
        for index, (post, pre) in enumerate(self.spans):
            block = torch.zeros(batch_size, channels, post.stop - post.start, pre.stop - pre.start)
            if self.sigma:
                half = block[:, : (channels + 1) // 2]
                half.normal_(0, self.sigma, generator=generator)
            block = block.to(like)
            mask = self._mask(index)
            synapses.append(block if mask is None else block * mask)
        return RuleState(like.new_zeros(batch_size, self.topology.neurons, self.rule.body_size), tuple(synapses))

    def forward(
        self,
        input: Annotated[Tensor, "time batch features"],
        state: RuleState,
        clamp: Annotated[Tensor | None, "time batch features"] = None,
    ) -> tuple[Float[Tensor, "time batch outputs"], RuleState]:
        """The logits after the last tick of each frame, and the state.

        Args:
            input: Frames, with a feature for each neuron of the input group and, if it is another, of the output group.
            state: From ``init``, or returned by the last call.
            clamp: 1 where something is shown, else 0; None: 1 where ``input`` is not 0.

        Returns:
            Logits of +1 against -1, for each output; and the state after the last frame.

        Raises:
            ValueError: A shape, dtype or device does not match, or a frame is not finite.
        """
        checks.arguments()
        like, features = self.rule.readout, self.topology.features
        if len(self.topology.shown) > 1 and input.ndim == 3 and input.shape[2] != features:
            sizes = " inputs and ".join(str(self.topology.groups[group]) for group in self.topology.shown)
            raise ValueError(
                f"input.shape = {tuple(input.shape)}: expected {features} features, for {sizes} outputs, as windows of "
                "mode 'paired' have"
            )
        check_precision(like)
        input, state = precise(input, like), RuleState(*tree_map(lambda tensor: precise(tensor, like), tuple(state)))
        clamp = None if clamp is None else precise(clamp, like)
        checks.tensor("input", input, ("time", "batch", features), like)
        checks.finite("input", input, ("frame", "batch", "feature"))
        batch = input.shape[1]
        if len(state.bodies) != batch:
            raise ValueError(f"state has batch {len(state.bodies)}, input has {batch}: expected the same")
        checks.tensor("state.bodies", state.bodies, (batch, self.topology.neurons, self.rule.body_size), like)
        if len(state.synapses) != len(self.spans):
            raise ValueError(f"state.synapses has {len(state.synapses)} blocks: expected {len(self.spans)}")
        for index, ((post, pre), block) in enumerate(zip(self.spans, state.synapses, strict=True)):
            shape = (batch, self.rule.channels, post.stop - post.start, pre.stop - pre.start)
            checks.tensor(f"state.synapses[{index}]", block, shape, like)
        if clamp is not None:
            checks.tensor("clamp", clamp, tuple(input.shape), like)
        with full_precision(input.device):
            shown = self._shown(input, (input != 0).to(input) if clamp is None else clamp)
            # The kernels have no gradient with respect to the input.
            can_fuse = self.backend == "auto" and len(input) and not shown.requires_grad
            fused = can_fuse and runs_fused(self.rule, input, *state.synapses, state.bodies)
            bodies, state = self._fused(shown, state) if fused else self._plain(shown, state)
            output_bodies = bodies[:, :, self.topology.of_group(self.topology.outputs)]
            return output_bodies @ self.rule.readout + self.rule.readout_bias, state

    def tick(self, state: RuleState, shown: Float[Tensor, "batch neurons 2"]) -> RuleState:
        """The state one tick later, by the plain definition.

        Args:
            state: The state before.
            shown: x and k of every neuron.
        """
        with checks.noted(state=state, shown=shown), full_precision(shown.device):
            return self._after(state, shown)

    def _after(self, state: RuleState, shown: Tensor) -> RuleState:
        rule, old_bodies = self.rule, state.bodies
        sent_on, sent_back = old_bodies @ rule.forward_projection, old_bodies @ rule.backward_projection
        forward, backward = torch.zeros_like(sent_on), torch.zeros_like(sent_back)
        for (post, pre), block in zip(self.spans, state.synapses, strict=True):
            on, back = sent_on[:, pre].transpose(1, 2), sent_back[:, post].transpose(1, 2)
            forward = _added(forward, post, (block @ on[..., None])[..., 0].transpose(1, 2))
            if self.topology.bidirectional:
                arriving = (block.transpose(2, 3) @ back[..., None])[..., 0].transpose(1, 2)
                backward = _added(backward, pre, arriving)
        scale = self._scale(old_bodies)
        forward, backward = forward * scale[:, :1], backward * scale[:, 1:]
        embedding = rule.embedding[self.kind].expand(len(old_bodies), -1, -1)
        new_bodies = rule.body(old_bodies, forward, backward, shown, embedding)
        neuron_features = torch.cat((new_bodies, old_bodies, embedding), 2)
        synapses = []
        for index, ((post, pre), block) in enumerate(zip(self.spans, state.synapses, strict=True)):
            updated, mask = (
                rule.synapse(block, neuron_features[:, post], neuron_features[:, pre], forward[:, post]),
                self._mask(index),
            )
            synapses.append(updated if mask is None else updated * mask)
        return RuleState(new_bodies, tuple(synapses))

    def _plain(self, shown: Tensor, state: RuleState) -> tuple[Tensor, RuleState]:
        def run_frame(state: RuleState, frame: Tensor) -> tuple[RuleState, Tensor]:
            for _ in range(self.topology.ticks):
                state = self._after(state, frame)
            return state, state.bodies

        masks = [self._mask(index) for index in range(len(self.spans))]
        pairs = zip(state.synapses, masks, strict=True)
        state = RuleState(state.bodies, tuple(block if mask is None else block * mask for block, mask in pairs))
        state, bodies = unroll(run_frame, state, shown)
        return torch.stack(bodies) if bodies else state.bodies[None][:0], state

    def _fused(self, shown: Tensor, state: RuleState) -> tuple[Tensor, RuleState]:
        edges, indices = self._edges or self._wired()
        wiring = Wiring(self.kind.numpy(), self._scale(state.bodies), edges, self.topology.ticks)
        flat = [block.flatten(2) for block in state.synapses]
        connected = [block if index is None else block[:, :, index] for block, index in zip(flat, indices, strict=True)]
        assert isinstance(self.rule, GatedRule)
        bodies, new_synapses = run_fused(self.rule, wiring, shown, state.bodies, torch.cat(connected, 2))
        split = torch.split(new_synapses, [block.shape[2] for block in connected], 2)
        synapses = []
        for values, block, index in zip(split, state.synapses, indices, strict=True):
            block_states = values if index is None else torch.zeros_like(block).flatten(2).index_copy(2, index, values)
            synapses.append(block_states.reshape(block.shape))
        return bodies, RuleState(bodies[-1], tuple(synapses))

    def _scale(self, like: Tensor) -> Float[Tensor, "neurons 2"]:
        """Factors of the forward and backward messages that each neuron gets."""
        return like.new_tensor([1, self.topology.bidirectional]) * self.degree.clamp(min=1).to(like) ** self._power

    def _wired(self) -> tuple[Int[np.ndarray, "synapses 2"], list[Tensor | None]]:
        """The synapses, as (post, pre), and the indices of each block's synapses in it; None: all."""
        masks = [self._mask(index) for index in range(len(self.spans))]
        return edges_of([(*span, mask) for span, mask in zip(self.spans, masks, strict=True)])

    def _shown(self, input: Tensor, clamp: Tensor) -> Float[Tensor, "time batch neurons 2"]:
        """The x and k of every neuron; both are 0 for neurons that are never shown anything."""
        if self.topology.features == self.topology.neurons == self.topology.groups[0]:
            return torch.stack((input, clamp), -1)
        frames = input.new_zeros(*input.shape[:2], self.topology.neurons, 2)
        start = 0
        for group in self.topology.shown:
            span, stop = self.topology.of_group(group), start + self.topology.groups[group]
            frames[:, :, span, 0], frames[:, :, span, 1] = input[:, :, start:stop], clamp[:, :, start:stop]
            start = stop
        return frames

    def _mask(self, index: int) -> Tensor | None:
        mask: Tensor | None = getattr(self, f"mask_{index}")
        return mask


def _added(total: Tensor, span: slice, part: Tensor) -> Tensor:
    """``total`` with ``part`` added to the neurons in ``span``; nothing is changed in place."""
    return total + nn.functional.pad(part, (0, 0, span.start, total.shape[1] - span.stop))
