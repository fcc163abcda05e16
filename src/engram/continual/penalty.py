"""A quadratic penalty that holds a network's slow weights where they were, each as firmly as it is important."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.parameters import Select, slow_parameters

_torch: Any = torch  # the types of these functions lack those of lists of tensors


class QuadraticPenalty:
    """A quadratic penalty that holds a network's slow weights where they were, each as firmly as it is important.

        P = strength * sum_k Omega_k (theta_k - theta*_k)^2

    It belongs to no training loop. Of three ways to use it, choose one: ``attach`` it to the optimiser; add
    ``penalty()`` to the loss; or call ``add_grad_()`` after ``backward()``. The importances Omega are given to
    ``consolidate``; those of the subclasses measure them. Parameters are matched by name: what a network grows between
    tasks has importance 0, what it loses is dropped with a warning.

    Args:
        model: Any module.
        strength: At least 0. The lambda of EWC's papers, who write lambda / 2, is twice this.
        select: Which parameters, as in ``slow_parameters``; unless said, not those of fast weights.

    Attributes:
        tasks: How often it was consolidated; before the first time there is no penalty.

    Raises:
        ValueError: ``strength`` is negative or not finite, or ``select`` leaves no parameter.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (2017), equation 3.

    Examples:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> penalty = QuadraticPenalty(net, strength=2.0)
        >>> penalty.consolidate({"weight": torch.tensor([[3.0]])})
        >>> _ = net.weight.data.add_(0.5)
        >>> penalty.penalty().item()
        1.5
    """

    def __init__(self, model: nn.Module, strength: float = 1.0, *, select: Select = None) -> None:
        self.model = model
        self.strength = checks.number("strength", strength, least=0)
        self.select = select
        self.tasks = 0
        self._seen: list[nn.Parameter] = []
        self._shapes: dict[str, torch.Size] = {}
        self._flat: dict[str, Tensor] = {}  # each one buffer for all parameters
        self._views: dict[str, list[Tensor]] = {}  # of these buffers, by parameter
        self._pulled: tuple[Tensor, int, float, list[Tensor]] | None = None  # weights, after what they were made of
        self._hooks: list[Any] = []
        self._checked = 0  # up to which task it was said whether a gradient is stable
        self._parameters: list[nn.Parameter] = []
        self._matched()

    def penalty(self) -> Float[Tensor, ""]:
        """Return the penalty, to be added to the loss."""
        gap = torch.cat([p.flatten() for p in self._matched()]) - self._flat["anchor"]
        return self.strength * (self._flat["importance"] * gap).dot(gap)

    @torch.no_grad()
    def add_grad_(self) -> None:
        """Add the penalty's gradient to that of each parameter: what ``penalty()`` in the loss would have added."""
        parameters = self._matched()
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gaps = _torch._foreach_sub(parameters, self._views["anchor"])
        _torch._foreach_addcmul_([p.grad for p in parameters], gaps, self._views["importance"], 2 * self.strength)

    @torch.no_grad()
    def prox_(self, lr: float) -> None:
        """Take the penalty's own step after the optimiser's, implicitly, which is stable at any strength.

            theta <- (theta + k theta*) / (1 + k),   k = 2 lr strength Omega

        Args:
            lr: Learning rate of the optimiser, at least 0.

        Raises:
            ValueError: ``lr`` is negative or not finite.
        """
        checks.number("lr", lr, least=0)
        self._pull(lr, range(len(self._matched())))

    def attach(self, optimizer: Optimizer, *, implicit: bool = True) -> None:
        """Let each step of an optimiser be followed by the penalty's; the training loop stays as it is.

        Args:
            optimizer: Any optimiser of the model's parameters.
            implicit: Apply ``prox_`` after each step, with the learning rate of each parameter's group. With momentum
                or an adaptive optimiser this is weaker, or stronger, than the gradient would be, which False adds
                before the step; it is unstable under gradient descent where lr 2 strength Omega is above 2.

        Raises:
            TypeError: ``optimizer`` is none of ``torch.optim``.
            ValueError: It has none of the parameters, or a penalty is attached already.
        """
        checks.instance("optimizer", optimizer, Optimizer)
        if self._hooks:
            raise ValueError("optimizer: expected one, but the penalty is attached already; detach it first")
        held = {id(p) for p in self._matched()}
        if not any(id(p) in held for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer has none of the parameters that the penalty holds: expected those of its model")

        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._before_step(optimizer, closure=_closure(*args, **kwargs) is not None, implicit=implicit)

        def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            self._after_step(optimizer, implicit=implicit)

        self._hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]

    def detach(self) -> None:
        """Leave the optimiser that the penalty is attached to."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def consolidate(self, importance: Mapping[str, Tensor]) -> None:
        """Hold the weights where they are now.

        Args:
            importance: Omega, at least 0, by name; of parameters that are not named it is 0.

        Raises:
            ValueError: A name is unknown, or an importance is negative, or of another shape or dtype.
            FloatingPointError: An importance is not finite.
        """
        parameters = dict(zip(self._shapes, self._matched(), strict=True))
        for name, value in importance.items():
            if name not in parameters:
                raise ValueError(f"importance names {name!r}: expected some of {', '.join(map(repr, parameters))}")
            checks.tensor(f"importance[{name!r}]", value, tuple(parameters[name].shape), like=parameters[name])
            if (value < 0).any():
                raise ValueError(f"importance[{name!r}] holds {value.min():g}: expected at least 0")
        whole = {name: importance.get(name, torch.zeros_like(p)) for name, p in parameters.items()}
        self._hold(self._flattened(whole), self._current())

    @property
    def importance(self) -> dict[str, Tensor]:
        """Omega, by parameter; views of what the penalty holds."""
        self._matched()
        return dict(zip(self._shapes, self._views["importance"], strict=True))

    @property
    def anchor(self) -> dict[str, Tensor]:
        """theta*, by parameter; views of what the penalty holds."""
        self._matched()
        return dict(zip(self._shapes, self._views["anchor"], strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """Return what it holds, as tensors by name."""
        self._matched()
        state = {"tasks": torch.tensor(self.tasks)}
        for field in self._flat:
            for name, part in zip(self._shapes, self._views[field], strict=True):
                state[f"{field}.{name}"] = part.clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state_dict`` returned.

        Raises:
            ValueError: An entry is missing or of another shape, or is of a parameter that the model does not have.
        """
        own = self.state_dict()
        if odd := sorted(set(own) ^ set(state)):
            how = "missing" if odd[0] in own else "of nothing that is held"
            raise ValueError(f"state[{odd[0]!r}] is {how}: expected what state_dict of such a network returns")
        for name, value in own.items():
            given = checks.instance(f"state[{name!r}]", state[name], Tensor).to(value)
            checks.tensor(f"state[{name!r}]", given, tuple(value.shape), like=value)
        self.tasks = int(state["tasks"])
        for field, flat in self._flat.items():
            flat.copy_(self._flattened({name: state[f"{field}.{name}"] for name in self._shapes}))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._keep(self._flat)  # as what was pickled is no view any more

    def _hold(self, importance: Tensor, anchor: Tensor) -> None:
        for name, part in zip(self._shapes, self._split(importance), strict=True):
            if not part.isfinite().all():
                raise FloatingPointError(f"the importance of parameter {name!r} is not finite")
        self._flat["importance"].copy_(importance)
        self._flat["anchor"].copy_(anchor)
        self.tasks += 1

    def _before_step(self, optimizer: Optimizer, *, closure: bool, implicit: bool) -> None:
        if implicit or not self.tasks:
            return
        if closure:
            raise ValueError("closure is given to the optimiser's step: expected none, as gradients are made within it")
        self.add_grad_()
        if self._checked == self.tasks:
            return
        self._checked = self.tasks
        rate = 2 * self.strength * self._flat["importance"].max().item() * max(g["lr"] for g in optimizer.param_groups)
        if rate > 2:
            warnings.warn(
                f"the penalty may be unstable under gradient descent: lr 2 strength Omega = {rate:.3g}, above 2; "
                "implicit=True is stable",
                stacklevel=2,
            )

    def _after_step(self, optimizer: Optimizer, *, implicit: bool) -> None:
        if not implicit or not self.tasks:
            return
        places = {id(p): place for place, p in enumerate(self._matched())}
        for group in optimizer.param_groups:
            self._pull(float(group["lr"]), [places[id(p)] for p in group["params"] if id(p) in places])

    @torch.no_grad()
    def _pull(self, lr: float, places: Sequence[int]) -> None:
        if not self.tasks or not places:
            return
        held = self._parameters, self._views["anchor"], self._pulls(2 * lr * self.strength)
        _torch._foreach_lerp_(*([part[place] for place in places] for part in held))

    def _pulls(self, rate: float) -> list[Tensor]:
        """Return k / (1 + k) for k = rate Omega, by parameter; made anew only where a factor changed."""
        importance = self._flat["importance"]
        if self._pulled is not None:
            of, version, last, weights = self._pulled
            if of is importance and version == importance._version and last == rate:
                return weights
        pull = importance * rate
        weights = self._split(pull.div_(pull + 1))
        self._pulled = importance, importance._version, rate, weights
        return weights

    def _keep(self, flat: dict[str, Tensor]) -> None:
        self._flat, self._views = flat, {field: self._split(whole) for field, whole in flat.items()}

    def _split(self, flat: Tensor) -> list[Tensor]:
        shapes = list(self._shapes.values())
        return [
            part.view(shape) for part, shape in zip(torch.split(flat, [s.numel() for s in shapes]), shapes, strict=True)
        ]

    def _flattened(self, named: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([named[name].detach().flatten() for name in self._shapes])

    def _current(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self._parameters])

    def _initial(self, parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return what is held of parameters that are new: fields of tensors by name."""
        anchors = {name: p.detach().clone() for name, p in parameters.items()}
        return {"importance": {name: torch.zeros_like(p) for name, p in anchors.items()}, "anchor": anchors}

    def _matched(self) -> list[nn.Parameter]:
        """Return the parameters held, after matching what is held to those that the model has now, by name."""
        now = list(self.model.parameters())
        same = self._parameters and len(now) == len(self._seen) and all(map(_is, now, self._seen))
        if same and all(p.shape == shape for p, shape in zip(self._parameters, self._shapes.values(), strict=True)):
            flat = self._flat["anchor"]
            if flat.device != self._parameters[0].device or flat.dtype != self._parameters[0].dtype:
                self._keep({field: value.to(self._parameters[0]) for field, value in self._flat.items()})
            return self._parameters
        held = {name: p for name, p in self.model.named_parameters() if name in self._shapes}  # also what is frozen now
        chosen = slow_parameters(self.model, self.select)
        parameters = {name: p for name, p in self.model.named_parameters() if name in held or name in chosen}
        if gone := [name for name in self._shapes if name not in parameters]:
            warnings.warn(f"the model lost {', '.join(gone)}: their importance is dropped", stacklevel=3)
        fields = self._initial(parameters)
        for field in self._flat:
            for name, old in zip(self._shapes, self._views[field], strict=True):
                if name in parameters and old.ndim == parameters[name].ndim:
                    common = tuple(slice(min(sizes)) for sizes in zip(old.shape, parameters[name].shape, strict=True))
                    fields[field][name][common] = old[common].to(parameters[name])
        self._seen, self._parameters = now, list(parameters.values())
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self._keep({field: self._flattened(named) for field, named in fields.items()})
        return self._parameters


def _closure(optimizer: Any, closure: Any = None) -> Any:
    return closure


def _is(one: object, other: object) -> bool:
    return one is other
