"""A last layer for classifiers with a second, fast weight: a running prototype of each class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch.types import Device

from engram import checks
from engram.nn.sequence import check_precision, full_precision, precise


class DHPSoftmax(nn.Module):
    """A last layer for classifiers with a second, fast weight: a running prototype of each class.

        H_c <- (1 - eta) H_c + eta mean{h_b : y_b = c}     for the classes c of the batch, while training
        z = (theta + alpha * H) h

    It replaces ``nn.Linear``, and is called with the labels while training: ``layer(h, labels)``. The prototype of a
    class does not change while that class is absent. Across batches H is a constant; within one, gradients flow through
    the new H.

    A warning about its gain: as published, theta starts larger than the weight of ``nn.Linear``, by sqrt(in / out), and
    that alone explains most of the layer's gain on split digits. Compare it with a linear layer with the same initial
    weights: this layer with ``alpha_scale=0`` and ``alpha`` frozen.

    Args:
        in_features: Units of the layer before.
        out_features: Number of classes.
        eta: Initial rate of the prototypes, from 0 to 1.
        alpha_scale: alpha is initialised uniformly between 0 and this.
        init: Initial values of theta. ``"fan_in"``: as in ``nn.Linear``, uniform within 1 / sqrt(in). ``"author"``: as
            published, uniform within 1 / sqrt(out).
        learn_eta: Whether eta is trained.
        constrain_eta: Whether eta is clamped to [0, 1] before each update of H. Unconstrained, as published, it may
            become negative, and H then grows without bound.
        detach_input: Whether H is a constant within the batch too, so that no gradient reaches the layers below through
            it.
        bias: Whether there is a bias; as published, there is none.
        device: Device of parameters and buffer; None: torch's default.
        dtype: Data type of parameters and buffer; None: torch's default.
        generator: Draws theta and alpha; None: torch's own.

    Attributes:
        weight: theta, (out, in), a slow weight.
        bias: (out,), initially as in ``nn.Linear``, or None.
        alpha: Plasticity of each weight, (out, in).
        eta: Rate of the prototypes, (1,).
        trace: H, (out, in), a buffer; 0 at first.

    Raises:
        ValueError: An argument is out of range.

    Source: Thangarasa, Miconi and Taylor, "Enabling continual learning with differentiable Hebbian plasticity" (2020),
    with the published material of its 2019 version.

    Examples:
        >>> layer = DHPSoftmax(2, 3, eta=0.5)
        >>> _ = layer(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([0, 0, 2]))
        >>> layer.trace.tolist()
        [[1.0, 1.5], [0.0, 0.0], [2.5, 3.0]]
    """

    trace: Tensor
    is_linear_in_weight = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        eta: float = 0.01,
        alpha_scale: float = 0.01,
        init: str = "fan_in",
        learn_eta: bool = True,
        constrain_eta: bool = True,
        detach_input: bool = False,
        bias: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.in_features = checks.size("in_features", in_features)
        self.out_features = checks.size("out_features", out_features)
        self.alpha_scale = checks.number("alpha_scale", alpha_scale, minimum=0)
        self.init = checks.choice("init", init, ("fan_in", "author"))
        self.constrain_eta = constrain_eta
        self.detach_input = detach_input
        checks.number("eta", eta, minimum=0, maximum=1)
        shape = out_features, in_features
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.alpha = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.eta = nn.Parameter(torch.full((1,), float(eta), device=device, dtype=dtype), requires_grad=learn_eta)
        self.register_buffer("trace", torch.zeros(shape, device=device, dtype=dtype))
        self._frozen = False
        self._warned = False
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initialise theta, bias and alpha again; eta and the trace stay.

        Args:
            generator: Draws them; None: torch's own.
        """
        bound = (self.in_features if self.init == "fan_in" else self.out_features) ** -0.5
        self.weight.uniform_(-bound, bound, generator=generator)
        if self.bias is not None:
            bound = self.in_features**-0.5
            self.bias.uniform_(-bound, bound, generator=generator)
        self.alpha.uniform_(0, 1, generator=generator).mul_(self.alpha_scale)

    def forward(
        self, input: Float[Tensor, "batch in"], target: Shaped[Tensor, "_ *out"] | None = None
    ) -> Float[Tensor, "batch out"]:
        """The logits; when training with a target, the prototypes are updated first.

        Args:
            input: h, the activity of the layer before.
            target: Classes, (batch,), int64; or their probabilities, (batch, out), such as those of mixed samples.
                Ignored in evaluation mode; if None in training mode, prototypes are not updated.

        Under ``torch.autocast`` the input is cast, and the layer computes in the precision of its parameters.

        Raises:
            ValueError: ``input`` has another shape or dtype, or the layer has half precision; or, where prototypes are
                updated, ``input`` or eta is not finite, a class is out of range, or rows are no probabilities.
        """
        checks.arguments()
        check_precision(self.weight)
        input = precise(input, self.weight)
        checks.tensor("input", input, ("batch", self.in_features), like=self.weight)
        if target is not None:
            target = precise(target, self.weight)
        with full_precision(input.device):
            trace = self.trace
            if self.training and not self._frozen:
                if target is None:
                    self._warn_once()
                else:
                    trace = self._updated(input, target)
                    self.trace = trace.detach()
            return functional.linear(input, self.weight + self.alpha * trace, self.bias)

    def reset_trace(self, classes: Iterable[int] | None = None) -> None:
        """Forget the prototypes of some classes, or of all.

        Args:
            classes: From 0 to out_features - 1; None: all.

        Raises:
            ValueError: A class is out of range.
        """
        checks.arguments()
        rows = range(self.out_features) if classes is None else classes
        self.trace[[checks.size("classes", row, minimum=0, maximum=self.out_features - 1) for row in rows]] = 0

    @contextmanager
    def frozen_trace(self) -> Iterator[None]:
        """A context that leaves the trace unchanged, for a second forward pass on a batch (closure, checkpointing)."""
        was_frozen, self._frozen = self._frozen, True
        try:
            yield
        finally:
            self._frozen = was_frozen

    def plastic_parameters(self) -> list[nn.Parameter]:
        """The parameters of the fast weights, alpha and eta, to which penalties do not apply."""
        return [self.alpha, self.eta]

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"{self.in_features}, {self.out_features}, init={self.init!r}, bias={self.bias is not None}"

    def _updated(self, input: Tensor, target: Tensor) -> Tensor:
        checks.finite("input", input, ("batch", "feature"))  # a trace that holds NaN never recovers
        checks.finite("eta", self.eta)
        shares = self._shares(target, len(input))
        if self.constrain_eta:
            self.eta.data.clamp_(0, 1)
        count = shares.sum(0)
        activity = input.detach() if self.detach_input else input
        mean = shares.T @ activity / torch.where(count > 0, count, 1.0)[:, None]
        return torch.where((count > 0)[:, None], (1 - self.eta) * self.trace + self.eta * mean, self.trace)

    def _shares(self, target: Tensor, batch: int) -> Float[Tensor, "batch out"]:
        """The probability of each class in each sample."""
        if target.is_floating_point():
            checks.tensor("target", target, (batch, self.out_features), like=self.weight)
            if not ((target >= 0).all() and ((target.sum(1) - 1).abs() <= 1e-4).all()):  # also NaN
                raise ValueError("target has rows that are not probabilities: expected a sum of 1")
            return target
        if target.shape != (batch,):
            raise ValueError(f"target.shape = {tuple(target.shape)}: expected {(batch,)}, a class for each sample")
        if batch and (wrong := target[(target < 0) | (target >= self.out_features)]).numel():
            raise ValueError(f"target = {int(wrong[0])}: expected classes from 0 to {self.out_features - 1}")
        return functional.one_hot(target.long(), self.out_features).to(self.weight.dtype)

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn("target = None while training: the trace is not updated", stacklevel=3)
