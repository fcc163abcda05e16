"""A quadratic penalty that keeps a network's slow weights near an anchor, each in proportion to its importance."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.method import ContinualMethod, refuse_maximising
from engram.continual.parameters import Select, slow_parameters, uncompiled
from engram.meta.per_sample import at_least_single
from engram.nn.parameter_hooks import through_hooks

APPLIED = ("proximal", "gradient", "loss")
_torch: Any = torch  # the types of these functions lack those of lists of tensors


class QuadraticPenalty(ContinualMethod):
    """A quadratic penalty that keeps a network's slow weights near an anchor, each in proportion to its importance.

        P = strength * sum_k Omega_k (theta_k - theta*_k)^2

    The importances Omega are given to ``consolidate``; the subclasses measure them at the end of a task. Parameters are
    matched by name: parameters that a network gains between tasks have importance 0, and parameters that it loses are
    dropped with a warning.

    Args:
        model: Any module.
        strength: At least 0. The lambda of the papers on EWC, which write lambda / 2, is twice this.
        applied: How to apply it. ``"proximal"``: the attached optimiser's step is followed by an implicit step of the
            penalty (``prox_``), with the learning rate of each parameter's group; it is stable at any strength, but
            with momentum or an adaptive optimiser weaker or stronger than the gradient would be. ``"gradient"``: the
            penalty's gradient is added before the optimiser's step; unstable under gradient descent where
            lr 2 strength Omega is above 2. ``"loss"``: the penalty is the method's ``loss``.
        select: The parameters, as in ``slow_parameters``; by default not those of fast weights.
        generator: Source of randomness in subclasses; None: a new one with the seed 0.

    Attributes:
        tasks: Number of calls of ``consolidate``; before the first there is no penalty.

    Raises:
        ValueError: ``strength`` is negative or not finite, ``applied`` is unknown, or ``select`` leaves no parameter.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (2017), equation 3.

    Examples:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> penalty = QuadraticPenalty(net, strength=2.0)
        >>> penalty.consolidate({"weight": torch.tensor([[3.0]])})
        >>> _ = net.weight.data.add_(0.5)
        >>> penalty.penalty().item()
        1.5
    """

    summed: ClassVar[tuple[str, ...]] = ()  # the fields that are sums over many steps

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        applied: str = "proximal",
        select: Select = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator=generator)
        self.strength = checks.number("strength", strength, minimum=0)
        self.applied = checks.choice("applied", applied, APPLIED)
        self.select = select
        self.tasks = 0
        self._of_model: list[nn.Parameter] = []  # all parameters of the model when last matched
        self._frozen: list[bool] = []  # which of them were frozen then
        self._parameters: list[nn.Parameter] = []  # those that the penalty applies to
        self._shapes: dict[str, torch.Size] = {}  # their shapes, by name
        self._flat: dict[str, Tensor] = {}  # importance, anchor etc., each one vector for all parameters
        self._views: dict[str, list[Tensor]] = {}  # views of these vectors, by parameter
        self._proximal: tuple[Any, list[Tensor]] | None = None  # cached weights of the proximal step, after their key
        self._hooks: list[Any] = []
        self._warned = 0  # the last task whose gradient was checked for stability
        self._match_parameters()

    def penalty(self) -> Float[Tensor, ""]:
        """The value of the penalty."""
        self._match_parameters()
        gap = torch.cat([parameter.flatten() for parameter in self._parameters]) - self._flat["anchor"]
        return self.strength * (self._flat["importance"] * gap).dot(gap)

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor | float:
        """The penalty if ``applied="loss"``, else 0.

        Args:
            x: Inputs of the batch; not used.
            y: Labels of the batch; not used.
            logits: Outputs for the batch; not used.
        """
        return self.penalty() if self.applied == "loss" and self.tasks else 0.0

    @torch.no_grad()
    def add_grad_(self) -> None:
        """Add the penalty's gradient to the gradient of each parameter, as if ``penalty()`` were part of the loss.

        It passes the hooks of the parameters, such as masks, as that of the loss has.
        """
        self._match_parameters()
        trained = [index for index, parameter in enumerate(self._parameters) if parameter.requires_grad]
        fields = self._parameters, self._views["anchor"], self._views["importance"]
        parameters, anchors, importances = ([field[index] for index in trained] for field in fields)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gaps = _torch._foreach_sub(parameters, anchors)
        if any(parameter._backward_hooks for parameter in parameters):
            by_index = {str(index): parameter for index, parameter in enumerate(parameters)}
            pulls = [2 * self.strength * Omega * gap for Omega, gap in zip(importances, gaps, strict=True)]
            pulls = [*through_hooks(by_index, dict(zip(by_index, pulls, strict=True))).values()]
            _torch._foreach_add_([parameter.grad for parameter in parameters], pulls)
            return
        _torch._foreach_addcmul_([parameter.grad for parameter in parameters], gaps, importances, 2 * self.strength)

    @torch.no_grad()
    def prox_(self, lr: float) -> None:
        """Take an implicit step on the penalty after the optimiser's step; it is stable at any strength.

            theta <- (theta + k theta*) / (1 + k),   k = 2 lr strength Omega

        Args:
            lr: Learning rate of the optimiser, at least 0.

        Raises:
            ValueError: ``lr`` is negative or not finite.
        """
        checks.number("lr", lr, minimum=0)
        self._match_parameters()
        self._proximal_step(lr, range(len(self._parameters)))

    def attach(self, optimizer: Optimizer) -> None:
        """Attach to an optimiser, in place of an earlier one; the training loop needs no change.

        Args:
            optimizer: Any optimiser of the model's parameters.

        Raises:
            TypeError: ``optimizer`` is not an optimiser of ``torch.optim``.
            ValueError: It maximises, or has none of the parameters.
        """
        super().attach(optimizer)
        self._match_parameters()
        penalised_ids = {id(parameter) for parameter in self._parameters}
        if not any(id(parameter) in penalised_ids for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                "optimizer has none of the penalised parameters: expected an optimiser of the penalty's model"
            )
        self.detach()
        before, after = self._before_step, self._after_step
        self._hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]

    def detach(self) -> None:
        """Detach the penalty from its optimiser."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def consolidate(self, importance: Mapping[str, Tensor]) -> None:
        """Anchor the weights at their current values.

        Args:
            importance: Omega, at least 0, by name; 0 for parameters that are not named.

        Raises:
            TypeError: ``importance`` is not a mapping; the data of a task are for ``end_task``.
            ValueError: A name is unknown, or an importance is negative or has another shape or dtype.
            FloatingPointError: An importance is not finite.
        """
        checks.arguments()
        self._match_parameters()
        parameters = dict(zip(self._shapes, self._parameters, strict=True))
        own_names = {uncompiled(name): name for name in parameters}
        importance = {own_names.get(uncompiled(name), name): value for name, value in importance.items()}
        for name, value in importance.items():
            if name not in parameters:
                raise ValueError(f"importance names {name!r}: expected some of {', '.join(map(repr, parameters))}")
            checks.tensor(f"importance[{name!r}]", value, tuple(parameters[name].shape), like=parameters[name])
            if (value < 0).any():
                raise ValueError(f"importance[{name!r}] has {value.min():g}: expected at least 0")
        self._hold(self._flattened(importance), self._current())

    @property
    def importance(self) -> dict[str, Tensor]:
        """The importance Omega of each parameter, by name, as views of the stored values."""
        self._match_parameters()
        return dict(zip(self._shapes, self._views["importance"], strict=True))

    @property
    def anchor(self) -> dict[str, Tensor]:
        """The anchor theta* of each parameter, by name, as views of the stored values."""
        self._match_parameters()
        return dict(zip(self._shapes, self._views["anchor"], strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The state, as tensors by name."""
        self._match_parameters()
        fields = {
            f"{field}.{uncompiled(name)}": view.clone()
            for field, views in self._views.items()
            for name, view in zip(self._shapes, views, strict=True)
        }
        return {**super().state_dict(), "tasks": torch.tensor(self.tasks), **fields}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned.

        Args:
            state: State of the same kind of penalty on the same kind of network.

        Raises:
            TypeError, ValueError: It is the state of another penalty or network; nothing was changed.
        """
        checks.arguments()
        state = {uncompiled(name): value for name, value in state.items()}
        super().load_state_dict(state)
        self.tasks = int(state["tasks"])
        for field, flat in self._flat.items():
            values = {name: state[f"{field}.{uncompiled(name)}"] for name in self._shapes}
            flat.copy_(self._flattened(values, flat.dtype))

    def _form(self) -> dict[str, Any]:
        state = self.state_dict()
        return super()._form() | {name: state[name] for name in state.keys() - {*self.stored, "generator"}}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hooks": [], "_proximal": None}  # a copy is not attached

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._set_flat(self._flat)  # unpickled tensors are no longer views

    def _hold(self, importance: Tensor, anchor: Tensor) -> None:
        for name, values in zip(self._shapes, self._split(importance), strict=True):
            if not values.isfinite().all():
                raise FloatingPointError(f"the importance of parameter {name!r} is not finite")
        self._flat["importance"].copy_(importance)
        self._flat["anchor"].copy_(anchor)
        self.tasks += 1

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        refuse_maximising(optimizer)
        if self.applied != "gradient" or not self.tasks:
            return
        refuse_closure(args, kwargs)
        refuse_scaled(optimizer)
        self.add_grad_()
        if self._warned < self.tasks:
            self._warned = self.tasks
            importance, lr = self._flat["importance"].max().item(), max(g["lr"] for g in optimizer.param_groups)
            if (rate := 2 * self.strength * importance * lr) > 2:
                message = (
                    f"the penalty may be unstable under gradient descent: lr 2 strength Omega = {rate:.3g}, above 2"
                )
                warnings.warn(f'{message}; applied="proximal" is stable', stacklevel=2)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.applied != "proximal" or not self.tasks or skipped(optimizer):
            return
        self._match_parameters()
        indices = {id(parameter): index for index, parameter in enumerate(self._parameters)}
        for group in optimizer.param_groups:
            self._proximal_step(
                float(group["lr"]),
                [indices[id(parameter)] for parameter in group["params"] if id(parameter) in indices],
            )

    @torch.no_grad()
    def _proximal_step(self, lr: float, indices: Sequence[int]) -> None:
        indices = [index for index in indices if self._parameters[index].requires_grad]  # frozen ones stay
        if self.tasks and indices:
            fields = self._parameters, self._views["anchor"], self._proximal_weights(2 * lr * self.strength)
            _torch._foreach_lerp_(*([field[index] for index in indices] for field in fields))

    def _proximal_weights(self, rate: float) -> list[Tensor]:
        """The weights k / (1 + k), k = rate Omega, by parameter; computed again only if a factor changed."""
        importance = self._flat["importance"]
        origin = id(importance), importance._version, rate
        if self._proximal is None or self._proximal[0] != origin:
            k = importance * rate
            self._proximal = origin, self._split(k.div_(k + 1))
        return self._proximal[1]

    def _set_flat(self, flat: dict[str, Tensor]) -> None:
        self._flat, self._views = flat, {field: self._split(vector) for field, vector in flat.items()}
        self._proximal = None

    def _split(self, flat: Tensor) -> list[Tensor]:
        vectors = torch.split(flat, [shape.numel() for shape in self._shapes.values()])
        return [vector.view(shape) for vector, shape in zip(vectors, self._shapes.values(), strict=True)]

    def _flattened(self, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """Tensors by name as one vector, of the parameters' dtype if None; 0 where a name is missing."""
        flat = torch.zeros_like(self._current(), dtype=dtype)
        for name, view in zip(self._shapes, self._split(flat), strict=True):
            if name in tensors:
                view.copy_(tensors[name])
        return flat

    def _dtype(self, field: str, like: Tensor) -> torch.dtype:
        """The dtype of a field: that of the parameters, but at least float32 if it is a sum over many steps."""
        return at_least_single(like.dtype) if field in self.summed else like.dtype

    def _current(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self._parameters])

    def _new_fields(self, parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The initial fields for parameters: tensors by name."""
        anchor = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        return {
            "importance": {name: torch.zeros_like(parameter) for name, parameter in anchor.items()},
            "anchor": anchor,
        }

    def _trained(self) -> list[str]:
        """The names of the selected parameters that are not frozen."""
        return [name for name, parameter in zip(self._shapes, self._parameters, strict=True) if parameter.requires_grad]

    def _match_parameters(self) -> None:
        """Match the stored fields to the current parameters of the model, by name."""
        current = list(self.model.parameters())
        shapes = [parameter.shape for parameter in self._parameters]
        frozen = [not parameter.requires_grad for parameter in current]
        same_parameters = len(current) == len(self._of_model) and all(map(operator.is_, current, self._of_model))
        if same_parameters and frozen == self._frozen and self._parameters and shapes == list(self._shapes.values()):
            like, flat = self._parameters[0], self._flat["anchor"]
            if flat.device != like.device or flat.dtype != like.dtype:
                self._set_flat({f: value.to(like.device, self._dtype(f, like)) for f, value in self._flat.items()})
            return
        try:
            selected = set(slow_parameters(self.model, self.select))
        except ValueError:
            if not self._shapes:
                raise
            selected = set()  # all that are selected have been frozen, or some that are named
        selected_names = self._shapes.keys() | selected  # also parameters that have been frozen since
        parameters = {name: parameter for name, parameter in self.model.named_parameters() if name in selected_names}
        if lost := [name for name in self._shapes if name not in parameters]:
            warnings.warn(f"the model lost {', '.join(lost)}: their importance is dropped", stacklevel=3)
        fields = self._new_fields(parameters)
        for field, views in self._views.items():
            for name, old_values in zip(self._shapes, views, strict=True):
                if name in parameters and old_values.ndim == parameters[name].ndim:
                    common = tuple(
                        slice(min(sizes)) for sizes in zip(old_values.shape, parameters[name].shape, strict=True)
                    )
                    fields[field][name][common] = old_values[common].to(fields[field][name])
        self._of_model, self._frozen, self._parameters = current, frozen, list(parameters.values())
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        like = self._parameters[0]
        self._set_flat({field: self._flattened(tensors, self._dtype(field, like)) for field, tensors in fields.items()})


def refuse_closure(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise ValueError if an optimiser's step has a closure, which would recompute the gradients."""
    if kwargs.get("closure") is not None or any(argument is not None for argument in args[1:]):
        raise ValueError("closure is given to the optimiser's step: expected none, as gradients are made within it")


def skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimiser was told by a ``GradScaler`` to skip its step, which its hooks follow all the same."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf > 0)


def refuse_scaled(optimizer: Optimizer) -> None:
    """Raise ValueError if a fused optimiser is to unscale the gradients of a ``GradScaler`` itself, within its step."""
    if getattr(optimizer, "grad_scale", None) is not None:
        raise ValueError("the gradients of optimizer are scaled: expected scaler.unscale_(optimizer) before its step")
