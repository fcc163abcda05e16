"""Plasticity rules: a recursion on the trace of every connection, with coefficients for the receiving units."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from engram import checks
from engram.nn.sequence import check_precision, full_precision
from engram.plasticity.state import EligibilityState, RuleState, TraceState


class Coefficients(NamedTuple):
    """Coefficients of the receiving units, each broadcastable to (batch, post).

    A decay or gain for every connection has three axes, and is broadcastable to (batch, post, pre).

    Attributes:
        decay: D, the fraction of the trace that is lost.
        gain: M, the rate of additions.
        post: z, the postsynaptic term that is multiplied by the presynaptic activity.
    """

    decay: Float[Tensor, "..."]
    gain: Float[Tensor, "..."]
    post: Float[Tensor, "batch post"]


class PlasticityRule(nn.Module, ABC):
    """A rule for the Hebbian traces H of a layer of plastic connections; subclasses give its coefficients.

    With presynaptic activity x, and coefficients D, M and z of the receiving unit j,

        H'[j, i] = clip((1 - D[j]) H[j, i] + M[j] z[j] x[i], -c, c)

    where the bound c is None for a rule without one. A value beyond the bound passes no gradient, but one exactly on
    it does, as with ``torch.clamp``.

    A rule of another form defines ``update`` instead, and calls ``check_step`` first.

    A rule owns its parameters but never the state: ``update`` returns a new one. It has no sizes, so that one rule
    serves a layer of any shape, unless every connection has its own rate; if it has no parameters, ``device`` and
    ``dtype`` are those of its states. As rules of one ``recursion`` differ only in their coefficients, one kernel can
    run them all.

    Args:
        device: Device of the states of a rule without parameters.
        dtype: Data type of these.

    Attributes:
        modulated: Whether ``update`` needs a neuromodulatory signal.
        clip: The bound c of the trace, or None.
        state_type: The type of states: a NamedTuple of (batch, post, pre) tensors, the Hebbian traces first.
        recursion: How ``update`` applies the coefficients. ``"linear"``: as above. ``"soft"``: with
            d[j, i] = M[j] z[j] x[i], H' = clip((1 - D[j] - abs(d)) H + d). ``"retroactive"``: they apply to the
            eligibility trace, E'[j, i] = (1 - D[j]) E[j, i] + M[j] z[j] x[i] without a bound, and the modulatory
            signal m makes it permanent, H' = clip(H + m[j] E), with E' in place of E if ``trace_first``. ``"own"``:
            something else, which no kernel can run.
        forgets: The form of D for the kernels, given the rate M and z = y. ``"nothing"``: D = 0. ``"rate"``: D = M.
            ``"share"``: the same, with M clamped to [0, 1]. ``"oja"``: D = M y^2. None: something else, for which
            ``coefficients`` is called in every step. Kernels run a soft rule only with ``"nothing"``. M is the
            parameter ``eta``, or m for a modulated rule that is not retroactive. It is not inherited, because a
            subclass may change anything.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), whose rules are written here in one form.

    Examples:
        >>> class Accumulate(PlasticityRule):
        ...     def coefficients(self, post, modulator=None):
        ...         return Coefficients(decay=torch.zeros(()), gain=torch.tensor(0.1), post=post)
        >>> rule = Accumulate()
        >>> rule.update(rule.init(1, 1, 2), pre=torch.tensor([[1.0, 2.0]]), post=torch.tensor([[5.0]])).trace
        tensor([[[0.5000, 1.0000]]])
    """

    modulated: bool = False
    clip: float | None = None
    state_type: type[TraceState] | type[EligibilityState] = TraceState
    recursion: Literal["linear", "soft", "retroactive", "own"] = "linear"
    forgets: Literal["nothing", "rate", "share", "oja"] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Coefficients describe the base class's update; a rule with its own update need not have any.
        if "update" in vars(cls) and getattr(cls.coefficients, "__isabstractmethod__", False):
            cls.coefficients, cls.recursion = _no_coefficients, "own"  # type: ignore[assignment, method-assign]

    def __init__(self, device: Device = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        # A buffer that keeps device and dtype, since a rule may have no parameters.
        with checks.noted(device=device):
            self.register_buffer("_like", torch.empty(0, device=device, dtype=dtype), persistent=False)

    def __getattr__(self, name: str) -> Any:
        # Called only if there is no parameter eta; readers of the rate need not know which form is trained.
        if name == "eta" and (
            "eta_logit" in self._parameters or "eta_logit" in self.__dict__ or hasattr(type(self), "eta_logit")
        ):
            return self.eta_logit.sigmoid()
        return super().__getattr__(name)

    @abstractmethod
    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """The coefficients of one step, with the arguments of ``update``."""

    def init(self, batch_size: int, post_size: int, pre_size: int) -> RuleState:
        """The state at the start of an episode: traces of zero, in the dtype and on the device of the rule.

        Args:
            batch_size: Number of episodes.
            post_size: Number of receiving units.
            pre_size: Number of sending units.

        Raises:
            ValueError: A size is less than one, or the rule has half precision, which loses what is added to a trace.
        """
        sizes = {"batch_size": batch_size, "post_size": post_size, "pre_size": pre_size}
        for name, size in sizes.items():
            checks.size(name, size)
        like = next(itertools.chain(self.parameters(), self.buffers()))
        check_precision(like)
        zeros = [torch.zeros(*sizes.values(), dtype=like.dtype, device=like.device) for _ in self.state_type._fields]
        return self.state_type(*zeros)

    def update(
        self,
        state: RuleState,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        modulator: Annotated[Tensor, "batch *post"] | None = None,
    ) -> RuleState:
        """The state after one step; values that are not finite pass through, as in torch's own modules.

        Args:
            state: The state before the step, with traces (batch, post, pre).
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal, (batch, 1), (batch, post) or (batch, post, pre). A rule that is not
                modulated ignores it.

        Raises:
            TypeError: An activity is not a tensor, or the state is that of another kind of rule.
            ValueError: The shapes, dtypes or devices do not match, or a modulated rule gets no signal.
        """
        self.check_step(state, pre, post, modulator)
        trace = accumulated(state.trace, self._checked(self.coefficients(post, modulator)), pre)
        return TraceState(bounded(trace, self.clip))

    def check_state(self, state: RuleState, shape: tuple[int | str, ...], like: Tensor) -> None:
        """Raise unless ``state`` is a state of this rule, with traces of the expected shape, dtype and device.

        Args:
            state: The state to check.
            shape: Expected shape of its traces, with a name where any size is allowed.
            like: A tensor of the expected dtype and device.

        Raises:
            TypeError: The state is that of another kind of rule.
            ValueError: A trace has another shape, dtype or device.
        """
        checks.instance("state", state, self.state_type)
        with checks.noted(like=like):
            for name, trace in zip(self.state_type._fields, state, strict=True):
                checks.tensor(f"state.{name}", trace, shape, like)

    def check_step(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None) -> None:
        """Raise unless the arguments of ``update`` fit each other.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).

        Raises:
            TypeError: An activity is not a tensor, or the state is that of another kind of rule.
            ValueError: The shapes, dtypes or devices do not match, or a modulated rule gets no signal.
        """
        checks.instance("state", state, self.state_type)
        self.check_state(state, ("batch", "post", "pre"), like=state.trace)
        batch_size, post_size, pre_size = state.trace.shape
        checks.tensor("pre", pre, (batch_size, pre_size), like=state.trace)
        checks.tensor("post", post, (batch_size, post_size), like=state.trace)
        if modulator is None:
            if self.modulated:
                raise ValueError(f"modulator = None: expected a tensor, because {type(self).__name__} is modulated")
            return
        checks.instance("modulator", modulator, Tensor)
        # No other shape: with as many units as episodes, one signal per unit would look the same as one per episode.
        shapes = (batch_size, 1), (batch_size, post_size), (batch_size, post_size, pre_size)
        if modulator.shape not in shapes:
            expected = "{}, {} or {}".format(*shapes)
            raise ValueError(f"modulator.shape = {tuple(modulator.shape)}: expected {expected}")
        checks.tensor("modulator", modulator, tuple(modulator.shape), like=state.trace)

    def _checked(self, coefficients: Coefficients) -> Coefficients:
        """The coefficients as they are; a subclass may raise if they do not fit its parameters."""
        return coefficients

    def saturation(self, state: RuleState) -> float:
        """The fraction of the traces in a state that are at the bound; 0 for a rule without one.

        Where a trace is at its bound and pushed further, no gradient reaches the modulatory signal.
        """
        checks.arguments()
        return 0.0 if self.clip is None else (state.trace.abs() >= self.clip).float().mean().item()

    def warn_if_saturated(self, state: RuleState) -> None:
        """Warn, once under Python's default filter, if over 90 % of the first episode's traces are at the bound."""
        checks.instance("state", state, self.state_type)
        if self.clip is None or not checks.readable(state.trace) or not len(state.trace):
            return
        first = state.trace.detach()[0]
        # So many at the bound imply this mean magnitude, which costs a single operation.
        suspected = torch.linalg.vector_norm(first, 1).item() > 0.89 * self.clip * first.numel()
        if suspected and self.saturation(self.state_type(*(t[:1] for t in state))) > 0.9:
            message = (
                f"over 90 % of the traces of {type(self).__name__} are at their bound, where they pass no gradient"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def warn_if_unstable(self) -> None:
        """Warn, once under Python's default filter, if ``eta`` is outside [0, 1] and the trace has no bound."""
        eta = getattr(self, "eta", None)
        unbounded = self.clip is None or self.state_type is EligibilityState
        if not unbounded or eta is None or not checks.readable(eta):
            return
        low, high = torch.aminmax(eta.detach())
        if not (low >= 0 and high <= 1):
            message = f"eta of {type(self).__name__} is outside [0, 1]: the trace may grow without bound"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


def _no_coefficients(rule: PlasticityRule, *_: object) -> Coefficients:
    raise TypeError(f"{type(rule).__name__} has an update of its own, and no coefficients")


class RatedRule(PlasticityRule):
    """A rule with a trained rate, whose parameter is ``eta`` itself or its logit.

    Subclasses take the rate from ``rate``, so that every connection may have its own.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``.
        connections: The layer's numbers of receiving and sending units, (post, pre), to give every connection its own
            rate eta[j, i], which no kernel supports; all are ``eta`` at first. None: one rate for all connections.
        eta_param: ``"raw"``: the parameter is eta. ``"sigmoid"``: it is the logit of eta.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: ``eta``, ``eta_param`` or ``connections`` is out of range.
    """

    connections: tuple[int, ...] | None = None

    def __init__(
        self,
        eta: float = 0.01,
        *,
        connections: Sequence[int] | None = None,
        eta_param: str = "raw",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(device, dtype)
        if connections is not None:
            checks.array("connections", connections, (2,))
            self.connections = tuple(checks.size("connections", size) for size in connections)
        shape = self.connections or ()
        checks.number("eta", eta)  # values that are not finite are reported as such
        checks.number("eta", eta, minimum=0)
        if checks.choice("eta_param", eta_param, ("raw", "sigmoid")) == "raw":
            self.eta = trained_rate(eta, device, dtype, shape)
            return
        if not 0 < eta < 1:
            raise ValueError(f"eta = {eta}: expected a number between 0 and 1, because eta_param = 'sigmoid'")
        self.eta_logit = trained_rate(math.log(eta / (1 - eta)), device, dtype, shape)

    def rate(self, factor: Float[Tensor, "batch post"] | None = None) -> Float[Tensor, "..."]:
        """The coefficient eta, or eta times a factor of the receiving units.

        Args:
            factor: The factor; None: 1.

        Returns:
            The coefficient; with ``connections`` of shape (1, post, pre) or (batch, post, pre).
        """
        eta = self.eta
        if eta.dim() == 0:
            return eta if factor is None else eta * factor
        return eta.unsqueeze(0) if factor is None else eta * factor.unsqueeze(2)

    def check_step(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None) -> None:
        """Raise unless the arguments of ``update`` fit each other and the shape of ``eta``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        super().check_step(state, pre, post, modulator)
        if self.connections is None:
            return
        if state.trace.shape[1:] != self.connections:
            expected = ", ".join(map(str, ("batch", *self.connections)))
            raise ValueError(f"state.trace.shape = {tuple(state.trace.shape)}: expected ({expected}), as eta has")

    def _checked(self, coefficients: Coefficients) -> Coefficients:
        """The coefficients; raises if every connection has its own rate and the gain does not contain it."""
        if self.connections is not None and coefficients.gain.dim() < 3:
            raise TypeError(f"coefficients of {type(self).__name__}: expected a gain that contains self.rate()")
        return coefficients

    def extra_repr(self) -> str:
        """The current rate, for ``repr``."""
        is_scalar = checks.readable(self.eta) and self.eta.ndim == 0
        return f"eta={self.eta.item():.4g}" if is_scalar else f"eta of shape {tuple(self.eta.shape)}"


def accumulated(
    trace: Float[Tensor, "batch post pre"], coefficients: Coefficients, pre: Float[Tensor, "batch pre"]
) -> Float[Tensor, "batch post pre"]:
    """(1 - D[j]) H[j, i] + M[j] z[j] x[i], the linear recursion before its bound.

    Args:
        trace: H.
        coefficients: D, M and z.
        pre: x.
    """
    decay, gain, post = coefficients
    remaining = (1 - (decay if decay.dim() == 0 else of_connections(decay))) * trace
    if gain.dim() == 3:
        return torch.addcmul(remaining, gain, post.unsqueeze(2) * pre.unsqueeze(1))
    with full_precision(trace.device):
        return torch.baddbmm(remaining, (gain * post).unsqueeze(2), pre.unsqueeze(1))


def softly_accumulated(
    trace: Float[Tensor, "batch post pre"], coefficients: Coefficients, pre: Float[Tensor, "batch pre"]
) -> Float[Tensor, "batch post pre"]:
    """(1 - D - |d[j, i]|) H[j, i] + d[j, i], the soft recursion before its bound, with d = M[j] z[j] x[i] and one D.

    Args:
        trace: H.
        coefficients: D, M and z.
        pre: x.
    """
    decay, gain, post = coefficients
    increment = of_connections(gain) * post.unsqueeze(2) * pre.unsqueeze(1)
    return torch.addcmul(increment, 1 - decay - increment.abs(), trace)


def of_connections(coefficient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A tensor that broadcasts to (batch, post) or (batch, post, pre), reshaped to broadcast to the latter."""
    return coefficient if coefficient.dim() == 3 else coefficient.unsqueeze(-1)


def bounded(trace: Float[Tensor, "batch post pre"], clip: float | None) -> Float[Tensor, "batch post pre"]:
    """The trace clamped to [-clip, clip], with the gradient of ``torch.clamp``; unchanged if None."""
    return trace if clip is None else trace.clamp(-clip, clip)


def first_half(post: Float[Tensor, "batch post"]) -> Bool[Tensor, " post"]:
    """Mask of the first floor(N / 2) receiving units, for rules that treat them differently."""
    size = post.shape[-1]
    return torch.arange(size, device=post.device) < size // 2


def trained_rate(
    eta: float, device: Device = None, dtype: torch.dtype | None = None, shape: tuple[int, ...] = ()
) -> nn.Parameter:
    """A plasticity rate, which must be finite, as a parameter that training may change freely.

    Args:
        eta: Its value.
        device: Device of the parameter.
        dtype: Data type of the parameter.
        shape: Shape of the parameter; () for a scalar.
    """
    with checks.noted(eta=eta):
        return nn.Parameter(torch.full(shape, checks.number("eta", eta), device=device, dtype=dtype))


def checked_bound(clip: float | None, name: str = "clip") -> float | None:
    """The checked bound of a trace, None or positive and finite; errors call it ``name``."""
    return None if clip is None else checks.number(name, clip, above=0)
