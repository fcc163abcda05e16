"""Convolutional and linear layers that learn by Hebb's rule, each on its own, whenever called in training mode."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import check_precision, full_precision, precise
from engram.rules.hebbian_conv.passes import Activation, Competition, Pass, hebbian_pass, plain_pass
from engram.rules.hebbian_conv.update import Rule

LARGEST_STEP = 0.5


"""The largest share of a filter that a batch may replace; above 1 its old part would change sign."""


def fixed_fan_in(
    units: int, inputs: int, fan_in: int, generator: torch.Generator | None = None
) -> Int[Tensor, "units fan_in"]:
    """The indices of the inputs to which each unit is connected, drawn without replacement, in ascending order.

    Args:
        units: Number of units.
        inputs: Number of inputs.
        fan_in: Number of inputs that each unit sees.
        generator: Source of the choice; torch's global one if None.

    Raises:
        ValueError: A number is out of range.

    Examples:
        >>> fixed_fan_in(3, 900, 9).shape
        torch.Size([3, 9])
    """
    checks.size("units", units)
    checks.size("fan_in", fan_in, maximum=checks.size("inputs", inputs))
    indices = torch.rand(units, inputs, generator=generator).argsort(1)[:, :fan_in]
    return indices.sort(1).values


def checked_input(input: Tensor, shape: tuple[int | str, ...], weight: Tensor) -> Tensor:
    """The input of a Hebbian layer in the precision of its weight, if it has this shape and is not empty.

    Args:
        input: The input.
        shape: Its axes: sizes, or names of those that are free.
        weight: The weights of the layer.
    """
    checks.instance("input", input, Tensor)
    check_precision(weight)
    if not input.is_floating_point():
        raise TypeError(f"input.dtype = {input.dtype}: expected {weight.dtype}; of bytes, divide by 255")
    if len(shape) == 4 and input.ndim == 4 and input.shape[1] != shape[1] == input.shape[3]:
        raise ValueError(
            f"input.shape = {tuple(input.shape)}: expected (batch, {shape[1]}, height, width); the channels seem "
            "to be last, and input.permute(0, 3, 1, 2) puts them where they belong"
        )
    input = precise(input, weight)
    checks.tensor("input", input, shape, weight)
    if not len(input):
        raise ValueError(f"input.shape = {tuple(input.shape)}: expected at least one sample")
    return input


class _HebbianLayer(nn.Module):
    """The common part of both layers; a linear layer is a convolution on images of one pixel."""

    connections: Tensor | None
    steps: Tensor
    win_rate: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        competition: Competition,
        *,
        lr: float,
        threshold_rate: float,
        fan_in: int | None,
        burn_in: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        units, inputs = shape[0], int(torch.Size(shape[1:]).numel())
        self.competition = competition
        n_winners = checks.size("n_winners", competition.n_winners, maximum=units)
        if n_winners == units:
            message = f"n_winners = {n_winners}, as many as units: nothing competes, and thresholds fall without end"
            warnings.warn(message, stacklevel=3)
        self.lr = checks.number("lr", lr, minimum=0)
        self.burn_in = checks.size("burn_in", burn_in, minimum=0)
        connections = None if fan_in is None else fixed_fan_in(units, inputs, fan_in, generator)
        self.register_buffer("connections", connections)
        checks.number("threshold_rate", threshold_rate, minimum=0)
        self.threshold = AdaptiveThreshold(units, n_winners / units, threshold_rate)
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("win_rate", torch.zeros(units))
        weight = torch.empty(units, inputs).normal_(generator=generator)
        if connections is not None:
            weight = torch.zeros_like(weight).scatter(1, connections, weight.gather(1, connections))
        weight /= weight.norm(dim=1, keepdim=True)
        # It requires no gradient, so that no optimiser changes it, not even by weight decay.
        self.weight = nn.Parameter(weight.view(shape), requires_grad=False)

    @property
    def mask(self) -> Tensor:
        """A tensor like the weight, 1 where there is a connection and 0 elsewhere."""
        if self.connections is None:
            return torch.ones_like(self.weight)
        return torch.zeros_like(self.weight).flatten(1).scatter(1, self.connections, 1).reshape(self.weight.shape)

    def extra_repr(self) -> str:
        units, *inputs = self.weight.shape
        fan_in = "all" if self.connections is None else self.connections.shape[1]
        return f"{inputs} -> {units}, fan_in={fan_in}, lr={self.lr}, {self.competition}"

    def _run(self, input: Tensor) -> Tensor:
        """The output for images; in training mode, also learn from them."""
        weight = self.weight.reshape(*self.weight.shape, *[1] * (4 - self.weight.ndim))
        layer: Any = weight, self.threshold.theta, self.competition, self.connections
        if not self.training and torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
            with full_precision(input.device):
                return plain_pass(input, *layer).output
        with torch.no_grad(), full_precision(input.device):
            result = hebbian_pass(input, *layer)
            if self.training:
                positions = len(input) * (input.shape[2] - weight.shape[2] + 1) * (input.shape[3] - weight.shape[3] + 1)
                self._learn(result, positions)
        return result.output

    def _learn(self, result: Pass, places: int) -> None:
        weight, units = self.weight.flatten(1), len(self.weight)
        if self.lr and int(self.steps) >= self.burn_in:
            rate = self.lr * units / (self.competition.n_winners * places)
            replaced = rate * result.decay
            if replaced.max() >= 1:
                message = f"lr = {self.lr}: a batch would replace a filter more than once; steps are cut to 1/2"
                warnings.warn(message, stacklevel=4)
            rates = torch.where(replaced > LARGEST_STEP, LARGEST_STEP / result.decay, rate)[:, None]
            filters = weight if self.connections is None else weight.gather(1, self.connections)
            updated = filters + rates * (result.sums - result.decay[:, None] * filters)
            updated /= 1e-10 + updated.norm(dim=1, keepdim=True)
            if self.connections is not None:
                updated = weight.scatter(1, self.connections, updated)
            self.weight.copy_(updated.reshape(self.weight.shape))
        self.threshold.adapt(result.win_rate)
        self.win_rate.copy_(result.win_rate)
        self.steps += 1


class HebbianConv2d(_HebbianLayer):
    """A convolution whose filters learn by a Hebbian rule from the patches that they win, in training mode.

    Each image is standardised. The filters at a position compete with z = conv(x, W) minus adaptive thresholds; the
    winner moves towards the patch that it won and is scaled back to length 1. The others do not learn, but with the
    activation ``"triangle"`` the next layer sees them. There is neither bias nor padding.

        u = z - theta,   y = k_winners(u),   dW[j] = sum_p y[j, p] x[p] - d[j] W[j],   W[j] <- W[j] / |W[j]|

    In eval mode it is a pure function of its input, and nothing adapts. In training no gradient passes through it.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of filters.
        kernel_size: Side of the filters.
        n_winners: Maximum number of filters that win at a position.
        rule: ``"instar"``, ``"hebb"`` or ``"oja"``; see ``hebbian_update``.
        lr: Share of a filter that a batch replaces if the filter wins as often as it should; with 0 filters do not
            learn, but thresholds adapt. A rate eta for sums over a batch corresponds to eta * positions * n_winners /
            filters, with all positions of the batch.
        threshold_rate: Rate at which thresholds adapt; see ``AdaptiveThreshold``.
        activation: The output: ``"triangle"`` of u, or ``"wta"``, the winners' y alone.
        binary: Whether winners have activity 1, as published; otherwise their drive, at most 50.
        pool: Side of the windows over which the output is averaged; 1: none.
        fan_in: Number of inputs that each filter sees, drawn once; None: all in_channels * kernel_size^2. Inputs that
            are left out cost no time.
        burn_in: Number of batches before filters learn, in which thresholds settle.
        generator: Source of the initial filters and connections; torch's global one if None.

    Attributes:
        weight: W, (out_channels, in_channels, kernel_size, kernel_size), filters of length 1, initially Gaussian.
        connections: Inputs that each filter sees, (out_channels, fan_in), as indices of ``weight[j].flatten()``, or
            None for all.
        threshold: The ``AdaptiveThreshold``.
        win_rate: Share of the positions in the last batch at which each filter won, (out_channels,).
        steps: Number of batches so far.

    Raises:
        ValueError: An argument is out of range.

    Warns:
        UserWarning: ``n_winners`` is ``out_channels``, so that nothing competes; or, in training, a batch would replace
            a filter more than once, so that its step is cut to 1/2.

    Source: Miconi, "Hebbian learning with gradients: Hebbian convolutional neural networks with modern deep learning
    frameworks" (2021).

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = HebbianConv2d(3, 8, 5, pool=2, generator=generator)
        >>> layer(torch.randn(10, 3, 32, 32, generator=generator)).shape
        torch.Size([10, 8, 14, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        n_winners: int = 1,
        rule: Rule = "instar",
        lr: float = 0.03,
        threshold_rate: float = 3.0,
        activation: Activation = "triangle",
        binary: bool = True,
        pool: int = 1,
        fan_in: int | None = None,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.size("out_channels", out_channels)
        side = checks.size("kernel_size", kernel_size, maximum=checks.LIMIT)
        shape = out_channels, checks.size("in_channels", in_channels), side, side
        competition = Competition(n_winners, binary, activation, pool, rule)
        learning: Any = {"lr": lr, "threshold_rate": threshold_rate, "fan_in": fan_in, "burn_in": burn_in}
        super().__init__(shape, competition, **learning, generator=generator)

    def forward(
        self, input: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """The activity for images; in training mode, also learn from them.

        The batch may be the last axis of the result in memory, so use ``flatten`` or ``reshape`` on it, not ``view``.
        """
        input = checked_input(input, ("batch", self.weight.shape[1], "height", "width"), self.weight)
        side = self.weight.shape[2] + self.competition.pool - 1
        if min(input.shape[2:]) < side:
            sides = f"kernel_size = {self.weight.shape[2]} and pool = {self.competition.pool}"
            raise ValueError(
                f"input.shape = {tuple(input.shape)}: expected height and width of at least {side}, with {sides}"
            )
        return self._run(input)


class HebbianLinear(_HebbianLayer):
    """A linear layer whose units learn by a Hebbian rule, as ``HebbianConv2d`` does.

    Args:
        in_features: Number of inputs.
        out_features: Number of units.
        n_winners: Maximum number of units that win.
        rule: ``"instar"``, ``"hebb"`` or ``"oja"``; see ``hebbian_update``.
        lr: Share of a unit's weights that a batch replaces if the unit wins as often as it should.
        threshold_rate: Rate at which thresholds adapt; see ``AdaptiveThreshold``.
        activation: The output: ``"triangle"`` of u, or ``"wta"``, the winners' y alone.
        binary: Whether winners have activity 1; otherwise their drive, at most 50.
        fan_in: Number of inputs that each unit sees, drawn once; None: all.
        burn_in: Number of batches before weights learn, in which thresholds settle.
        generator: Source of the initial weights and connections; torch's global one if None.

    Attributes:
        weight: W, (out_features, in_features), each row of length 1.

    Raises:
        ValueError: An argument is out of range.

    Source: as for ``HebbianConv2d``.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = HebbianLinear(64, 8, generator=generator)
        >>> layer(torch.randn(10, 64, generator=generator)).shape
        torch.Size([10, 8])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        n_winners: int = 1,
        rule: Rule = "instar",
        lr: float = 0.03,
        threshold_rate: float = 3.0,
        activation: Activation = "triangle",
        binary: bool = True,
        fan_in: int | None = None,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = checks.size("out_features", out_features), checks.size("in_features", in_features)
        competition = Competition(n_winners, binary, activation, 1, rule)
        learning: Any = {"lr": lr, "threshold_rate": threshold_rate, "fan_in": fan_in, "burn_in": burn_in}
        super().__init__(shape, competition, **learning, generator=generator)

    def forward(self, input: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """The activity for samples; in training mode, also learn from them."""
        input = checked_input(input, ("batch", self.weight.shape[1]), self.weight)
        return self._run(input[:, :, None, None])[:, :, 0, 0]


class AdaptiveThreshold(nn.Module):
    """A threshold for each unit, which rises while the unit wins more often than it should, and falls otherwise.

        u = z - theta,   theta <- theta + rate * (win_rate - target)

    Args:
        units: Number of units.
        target: Share of the positions at which a unit should win: k / units if k units win at each position.
        rate: Rate of adaptation per batch; 0: none.

    Attributes:
        theta: The thresholds, (units,), a buffer; initially 0. Only ``adapt`` changes them.

    Raises:
        ValueError: An argument is out of range.

    Source: Miconi (2021).

    Examples:
        >>> threshold = AdaptiveThreshold(2, target=0.5)
        >>> threshold.adapt(torch.tensor([0.75, 0.25]))
        >>> threshold(torch.ones(1, 2))
        tensor([[0.2500, 1.7500]])
    """

    theta: Tensor

    def __init__(self, units: int, target: float, rate: float = 3.0) -> None:
        super().__init__()
        self.target = checks.number("target", target, above=0, maximum=1)
        self.rate = checks.number("rate", rate, minimum=0)
        self.register_buffer("theta", torch.zeros(checks.size("units", units)))

    def forward(self, z: Float[Tensor, "batch units ..."]) -> Float[Tensor, "batch units ..."]:
        """The drives minus the thresholds."""
        checks.instance("z", z, Tensor)
        check_precision(self.theta)
        z = precise(z, self.theta)
        checks.tensor("z", z, ("batch", len(self.theta), *z.shape[2:]), self.theta)
        return z - self.theta.view(-1, *[1] * (z.ndim - 2))

    @torch.no_grad()
    def adapt(self, win_rate: Float[Tensor, " units"]) -> None:
        """Adapt to the share of positions that each unit won in a batch, such as ``(y > 0).float().mean((0, 2, 3))``.

        Mix the classes in every batch, or the thresholds follow the classes.
        """
        check_precision(self.theta)
        checks.tensor("win_rate", win_rate, (len(self.theta),), self.theta)
        self.theta.add_(win_rate - self.target, alpha=self.rate)
