"""The connections of a network with a learned rule, and its visible neurons."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from engram import checks


@dataclass(frozen=True)
class Topology:
    """Groups of neurons, blocks of synapses between them, and the groups that see a frame and answer it.

    Args:
        groups: Number of neurons in each group; each group is a type of neuron.
        blocks: The connected groups, all to all, as (pre, post).
        inputs: The group to which frames are shown.
        outputs: The group that answers, and to which targets can be shown; it may be the same.
        ticks: Steps of the network for each frame.
        bidirectional: Whether messages also go from post to pre.
        fan_in: Number of presynaptic neurons, drawn at random, that each neuron keeps in each block; None: all.

    Raises:
        ValueError: A size is below 1, there is no such group, or no way from inputs to outputs.

    Source: Gregor, "Finding online neural update rules by learning to remember" (2020), studies types of
    networks; only its abstract and introduction could be read, so the ones here are ours.

    Examples:
        >>> Topology.layered(4, 8, 2).blocks
        ((0, 1), (1, 2))
    """

    groups: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]
    inputs: int = 0
    outputs: int = 0
    ticks: int = 1
    bidirectional: bool = True
    fan_in: int | None = None

    def __post_init__(self) -> None:
        checks.arguments()
        if not self.groups:
            raise ValueError("groups = (): expected one group at least")
        for group, neurons in enumerate(self.groups):
            checks.size(f"groups[{group}]", neurons)
        checks.size("ticks", self.ticks)
        named = [*(("group in blocks", group) for pair in self.blocks for group in pair)]
        for name, group in (*named, ("inputs", self.inputs), ("outputs", self.outputs)):
            checks.size(name, group, minimum=0, maximum=len(self.groups) - 1)
        if not self.blocks:
            raise ValueError("blocks = (): expected a pair (pre, post) of groups at least")
        if self.fan_in is not None:
            checks.size("fan_in", self.fan_in, maximum=min(self.groups[pre] for pre, _ in self.blocks))
        min_ticks = self._hops() + 1
        if self.inputs != self.outputs and self.ticks < min_ticks:
            text = f"ticks = {self.ticks}: the output cannot see the input of its frame before tick {min_ticks}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    @classmethod
    def visible(cls, bits: int, bidirectional: bool = True) -> Topology:
        """Neurons that are input and output at once, all connected to all."""
        return cls((bits,), ((0, 0),), bidirectional=bidirectional)

    @classmethod
    def recurrent(cls, bits: int, hidden: int, ticks: int = 1) -> Topology:
        """Visible and hidden neurons, all connected to all; hidden paths within a frame take two ticks.

        Args:
            bits: Visible neurons.
            hidden: Hidden neurons.
            ticks: Steps for each frame.
        """
        return cls((bits, hidden), ((0, 0), (0, 1), (1, 0), (1, 1)), ticks=ticks)

    @classmethod
    def sparse(cls, bits: int, hidden: int, fan_in: int = 4, ticks: int = 2) -> Topology:
        """A recurrent network with a few connections to each neuron, drawn at random.

        Args:
            bits: Visible neurons.
            hidden: Hidden neurons.
            fan_in: Number of visible, and of hidden, neurons that send to each neuron.
            ticks: Steps for each frame.
        """
        return cls((bits, hidden), ((0, 0), (0, 1), (1, 0), (1, 1)), ticks=ticks, fan_in=fan_in)

    @classmethod
    def layered(cls, inputs: int, hidden: int, outputs: int, bidirectional: bool = True) -> Topology:
        """An input, one hidden layer, and an output.

        Args:
            inputs: Input neurons.
            hidden: Hidden neurons.
            outputs: Output neurons.
            bidirectional: Whether messages go both ways.
        """
        return cls((inputs, hidden, outputs), ((0, 1), (1, 2)), 0, 2, 3, bidirectional)

    @classmethod
    def feedforward(cls, inputs: int, hidden: int, outputs: int) -> Topology:
        """A layered network whose synapses send no messages back.

        Args:
            inputs: Input neurons.
            hidden: Hidden neurons.
            outputs: Output neurons.
        """
        return cls.layered(inputs, hidden, outputs, bidirectional=False)

    @classmethod
    def layered_skip(cls, inputs: int, hidden: int, outputs: int) -> Topology:
        """A layered network with a block from input to output as well.

        Args:
            inputs: Input neurons.
            hidden: Hidden neurons.
            outputs: Output neurons.
        """
        return cls((inputs, hidden, outputs), ((0, 1), (1, 2), (0, 2)), 0, 2, 3)

    @classmethod
    def deep(cls, inputs: int, first: int, second: int, outputs: int) -> Topology:
        """A layered network with two hidden layers.

        Args:
            inputs: Input neurons.
            first: Neurons of the first hidden layer.
            second: Neurons of the second hidden layer.
            outputs: Output neurons.
        """
        return cls((inputs, first, second, outputs), ((0, 1), (1, 2), (2, 3)), 0, 3, 4)

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(self.groups)

    @property
    def shown(self) -> tuple[int, ...]:
        """The groups that can be shown something; a frame has a feature for each of their neurons, in this order."""
        return (self.inputs,) if self.inputs == self.outputs else (self.inputs, self.outputs)

    @property
    def hidden(self) -> bool:
        """Whether there are neurons that are never shown anything."""
        return len(self.shown) < len(self.groups)

    @property
    def features(self) -> int:
        """Number of features of a frame."""
        return sum(self.groups[group] for group in self.shown)

    def of_group(self, group: int) -> slice:
        """The slice of a group among all neurons."""
        checks.size("group", group, minimum=0, maximum=len(self.groups) - 1)
        start = sum(self.groups[:group])
        return slice(start, start + self.groups[group])

    def _hops(self) -> int:
        """Number of blocks on the shortest path from input to output."""
        reached, hops = {self.inputs}, 0
        while self.outputs not in reached:
            further = reached | {post for pre, post in self.blocks if pre in reached}
            if further == reached:
                raise ValueError(f"blocks = {self.blocks}: expected a way from inputs to outputs")
            reached, hops = further, hops + 1
        return hops
