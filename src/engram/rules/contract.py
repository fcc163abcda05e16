"""The contracts of rules that change slow weights: of a whole network by a target, or of one layer by its activities.

Both return pseudo-gradients, with the sign of dL/dW and as means over the batch, so that W - lr * gradient is a step,
which any ``torch.optim`` optimiser can take.
"""

from __future__ import annotations

import cmath
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from engram import checks
from engram.nn.parameter_hooks import run_accumulated_hooks, suspended_hooks, through_hooks
from engram.rules.loss import output_loss

State = TypeVar("State")


@dataclass(frozen=True)
class Properties:
    """The requirements of a rule; ``engram.testing.check_learning_rule`` checks these declarations.

    Attributes:
        local: A weight's change depends only on its pre- and postsynaptic activity, its own state, and a broadcast
            signal.
        no_weight_transport: No layer uses the forward weights of another to send errors back.
        one_phase: One forward pass is enough: nothing is clamped, relaxed or run again.
        online: The rule keeps only traces of the past, whose size does not grow with time.
        unsupervised: It needs no target.
        black_box: It needs no derivatives, neither of the activation nor of the loss.
        spikes: It can be used with spikes.
    """

    local: bool = False
    no_weight_transport: bool = False
    one_phase: bool = False
    online: bool = False
    unsupervised: bool = False
    black_box: bool = False
    spikes: bool = False


class Update(NamedTuple):
    """The result of a learning rule's update.

    Attributes:
        grads: Pseudo-gradients of the parameters that the rule trains, by their names in ``model.named_parameters()``.
        state: The state after the update.
        info: Values to log, the loss first: ``info["loss"]``, a scalar.
    """

    grads: dict[str, Tensor]
    state: Any
    info: dict[str, Tensor]


class LearningRule(ABC, Generic[State]):
    """A rule that changes the weights of a network given an input and a target.

    It owns its settings, but neither weights nor state: ``update`` changes nothing in place but the running statistics
    of a model in training mode, and the same call gives the same result, even if the rule is random, since the key of
    its noise is part of the state. So are random feedback weights.

    Attributes:
        properties: Its requirements.
        trains_complex: Whether it gives gradients with respect to complex weights as torch defines them, dL/dRe(W) +
            i dL/dIm(W); ``apply_rule`` refuses complex weights otherwise.

    Examples:
        >>> class LastBias(LearningRule[None]):
        ...     properties = Properties(local=True, no_weight_transport=True, one_phase=True)
        ...     def init(self, model, generator):
        ...         return None
        ...     def update(self, model, x, target, state):
        ...         error = model(x) - target
        ...         return Update({"0.bias": error.mean(0)}, None, {"loss": error.square().mean() / 2})
        >>> model, rule = nn.Sequential(nn.Linear(2, 1)), LastBias()
        >>> state = rule.init(model, torch.Generator().manual_seed(0))
        >>> list(rule.update(model, torch.zeros(4, 2), torch.ones(4, 1), state).grads)
        ['0.bias']
    """

    properties: ClassVar[Properties]
    trains_complex: ClassVar[bool] = False

    __repr__ = checks.described

    @abstractmethod
    def init(self, model: nn.Module, generator: torch.Generator) -> State:
        """The state before the first update: tensors, nested in tuples and dictionaries.

        Args:
            model: The network to train, which is not changed.
            generator: Source of all random numbers in the state.

        Raises:
            TypeError: The rule cannot train a layer of this network; the message names it and what it lacks.
        """

    @abstractmethod
    def update(
        self,
        model: nn.Module,
        x: Shaped[Tensor, "batch *features"],
        target: Shaped[Tensor, "_ *targets"],
        state: State,
    ) -> Update:
        """The pseudo-gradients, the next state, and the loss.

        Args:
            model: The network, which is not changed.
            x: Its input; (time, batch, features) for rules that learn in time. Rules that train any module take a tuple
                if it has several inputs.
            target: Classes (int64), for softmax and cross-entropy, or values, for half the squared error summed over
                outputs; both are averaged over the batch.
            state: The state from ``init`` or the last update.

        Raises:
            ValueError: The batch is empty, or shapes do not match.
            FloatingPointError: A pseudo-gradient is not finite; the message names the rule and the parameter.
        """

    def predict(
        self, model: nn.Module, x: Shaped[Tensor, "*batch_features"] | tuple[Tensor, ...]
    ) -> Float[Tensor, "*batch outputs"]:
        """The network's predictions: ``model(x)``, unless the rule runs the network in another way."""
        checks.arguments()
        with checks.noted(x=x):
            return called(model, x)

    def after_step(self, model: nn.Module, deltas: Mapping[str, Tensor], state: State) -> State:
        """The state after the optimiser's step; unchanged by default.

        Args:
            model: The network after the step.
            deltas: The step's change of each ``watched`` parameter, by name.
            state: The state before the step.
        """
        return state

    def watched(self, state: State) -> Collection[str]:
        """The names of the parameters whose changes ``after_step`` needs; each costs a copy."""
        return ()

    def at(self, optimizer: torch.optim.Optimizer) -> LearningRule[State]:
        """The rule as it takes the optimiser's next step; the rule itself, unless its settings follow the optimiser.

        Args:
            optimizer: The optimiser, with the learning rate of that step.
        """
        return self

    def weight_decay(self, lr: float, momentum: float = 0.0) -> float:
        """The ``weight_decay`` that the rule needs in ``torch.optim.SGD``: 0, unless its feedback weights decay too.

        Args:
            lr: Learning rate, above 0.
            momentum: Momentum, from 0 to below 1.

        Raises:
            ValueError: ``lr`` is not above 0, or ``momentum`` is not from 0 to below 1.
        """
        checks.number("lr", lr, above=0)
        checks.number("momentum", momentum, minimum=0, below=1)
        return 0.0


def called(model: nn.Module, x: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The output of a module for its input, or for several inputs in a tuple.

    Examples:
        >>> called(nn.Bilinear(2, 3, 1), (torch.ones(5, 2), torch.ones(5, 3))).shape
        torch.Size([5, 1])
    """
    output: Tensor = model(*x) if isinstance(x, tuple) and not isinstance(x, PackedSequence) else model(x)
    return output


def checked_update(
    rule: LearningRule[State],
    grads: dict[str, Tensor],
    state: State,
    loss: Float[Tensor, ""],
    **info: Tensor,
) -> Update:
    """An update whose pseudo-gradients are checked to be finite; every ``LearningRule.update`` ends with it.

    Args:
        rule: The rule, for error messages.
        grads: Pseudo-gradients by parameter name.
        state: The next state.
        loss: The loss, which becomes ``info["loss"]``.
        **info: Other values to log.

    Raises:
        FloatingPointError: A pseudo-gradient is not finite; the message names the rule and the parameter.

    Examples:
        >>> from engram.rules import Backprop
        >>> grads, loss = {"0.bias": torch.ones(1)}, torch.tensor(2.0)
        >>> checked_update(Backprop(), grads, None, loss, reward=torch.tensor(3.0)).info
        {'loss': tensor(2.), 'reward': tensor(3.)}
    """
    checks.arguments()
    # The sum is cheap to check, and not finite if any number is not. As it may also overflow, all numbers are checked
    # then.
    if grads and not cmath.isfinite(torch.stack([grad.sum() for grad in grads.values()]).sum().item()):
        for name, grad in grads.items():
            if not grad.isfinite().all():
                raise FloatingPointError(f"{type(rule).__name__}: the pseudo-gradient of {name} is not finite")
    return Update(grads, state, {"loss": loss, **info})


def gradients(
    outputs: Sequence[Tensor], parameters: Mapping[str, Tensor], errors: Sequence[Tensor | None]
) -> dict[str, Tensor]:
    """The gradients of those parameters on which an output depends.

    Args:
        outputs: Tensors with a graph, or without one if everything that they depend on is frozen.
        parameters: Parameters by name.
        errors: Derivative of the loss with respect to each output; None if the output is a loss.

    Examples:
        >>> w, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> gradients([3 * w.sum(), torch.ones(1)], {"w": w, "b": b}, [None, None])
        {'w': tensor([3., 3.])}
    """
    live = [pair for pair in zip(outputs, errors, strict=True) if pair[0].requires_grad]
    if not live or not parameters:
        return {}
    outputs, errors = zip(*live, strict=True)
    values = torch.autograd.grad(outputs, list(parameters.values()), errors, allow_unused=True)
    return {name: value for name, value in zip(parameters, values, strict=True) if value is not None}


class SynapticUpdate(NamedTuple):
    """The result of a synaptic rule: the pseudo-gradient, (post, pre), which is minus the change, and the new state."""

    grad: Float[Tensor, "post pre"]
    state: Any


class SynapticRule(ABC, Generic[State]):
    """A rule that changes the weights of one layer by the activities on both sides of it.

    It owns its settings, but neither weights nor state, and changes nothing in place. What it returns has no graph,
    whatever it is given, or a state would keep the graphs of all steps before it.

    Attributes:
        properties: Its requirements.

    Examples:
        >>> class Decay(SynapticRule[None]):
        ...     properties = Properties(local=True, no_weight_transport=True, one_phase=True, online=True)
        ...     def init(self, weight):
        ...         return None
        ...     @torch.no_grad()
        ...     def update(self, pre, post, weight, state):
        ...         return SynapticUpdate(weight.clone(), None)
        >>> Decay().update(torch.zeros(1, 2), torch.zeros(1, 1), torch.ones(1, 2), None).grad
        tensor([[1., 1.]])
    """

    properties: ClassVar[Properties]

    __repr__ = checks.described

    @abstractmethod
    def init(self, weight: Float[Tensor, "post pre"]) -> State:
        """The state before the first update of these weights."""

    @abstractmethod
    def update(
        self,
        pre: Float[Tensor, "batch pre"],
        post: Float[Tensor, "batch post"],
        weight: Float[Tensor, "post pre"],
        state: State,
    ) -> SynapticUpdate:
        """The pseudo-gradient of the weights, a mean over the batch, and the next state.

        Args:
            pre: Presynaptic activity.
            post: Postsynaptic activity.
            weight: W.
            state: The state from ``init`` or the last update.

        Raises:
            ValueError: The batch is empty, or shapes do not match.
        """


def apply_rule(
    rule: LearningRule[State],
    model: nn.Module,
    x: Shaped[Tensor, "*batch_features"] | tuple[Tensor, ...] | PackedSequence,
    target: Shaped[Tensor, "*batch_targets"] | PackedSequence,
    state: State,
) -> Update:
    """The update of ``rule.update``, with the input checks that all rules share, so that your own need not repeat them.

    If the rule fails because of the batch or the state, the error says what is wrong with them. An error also names a
    pseudo-gradient that is not finite or belongs to no parameter. Those of frozen parameters are left out. Hooks that
    ``register_hook`` has added to a parameter, such as masks, run on its pseudo-gradient, whatever the rule.

    Args:
        rule: The rule.
        model: The network.
        x: Its input; several inputs in a tuple, if the rule takes them; for ``EProp`` it may be packed sequences.
        target: Classes or values.
        state: The state from ``rule.init`` or the last update.

    Returns:
        The update.

    Raises:
        TypeError: The rule cannot train the model, which averages gradients over processes, or has complex weights.
        ValueError: The batch is empty, or shapes, dtypes or classes do not match.
        FloatingPointError: A pseudo-gradient is not finite; the message names the rule and the parameter.
        RuntimeError: ``torch.inference_mode`` is on.

    Examples:
        >>> from engram.rules import Backprop
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> list(apply_rule(Backprop(), model, torch.eye(2), torch.tensor([0, 1]), None).grads)
        ['0.weight', '0.bias']
    """
    checks.arguments()
    if torch.is_inference_mode_enabled():
        raise RuntimeError("torch.inference_mode is on: expected it off, since a rule needs derivatives")
    parameters = dict(model.named_parameters())
    _refuse_wrappers(model, rule)
    _refuse_complex(parameters, rule)
    for values in (x.data,) if isinstance(x, (Tensor, PackedSequence)) else x:
        if not values.numel():
            raise ValueError(f"x has the shape {tuple(values.shape)}: expected at least one sample")
    dtypes, values = {parameter.dtype.to_real() for parameter in parameters.values()}, target.data
    if values.is_floating_point() and values.dtype not in dtypes:
        raise ValueError(f"target is {values.dtype}: expected {' or '.join(map(str, dtypes))}, as the weights are")
    with suspended_hooks(parameters.values()):
        grads, after, info = _updated(rule, model, x, target, state)
    for name, grad in grads.items():
        if name not in parameters or grad.shape != parameters[name].shape:
            shape = (
                f"expected {tuple(parameters[name].shape)}" if name in parameters else "the model has no such parameter"
            )
            raise ValueError(f"{type(rule).__name__}: pseudo-gradient {name!r} of {tuple(grad.shape)}: {shape}")
    if "loss" not in info:
        raise ValueError(f"{type(rule).__name__}: info has {list(info)}: expected the loss, as 'loss'")
    trained = {name: grad for name, grad in grads.items() if parameters[name].requires_grad}
    return checked_update(rule, through_hooks(parameters, trained), after, **info)


def _updated(
    rule: LearningRule[State],
    model: nn.Module,
    x: Tensor | tuple[Tensor, ...] | PackedSequence,
    target: Tensor | PackedSequence,
    state: State,
) -> Update:
    """The rule's update; if it fails because of the batch or the state, the error says what is wrong with them."""
    try:
        return rule.update(model, x, target, state)  # type: ignore[arg-type]  # not all take packed or several ones
    except (FloatingPointError, NotImplementedError):
        raise
    except Exception as error:
        if isinstance(x, PackedSequence) or isinstance(target, PackedSequence):
            raise
        with torch.no_grad():
            output_loss(rule.predict(model, x), target)  # raises an error that says what is wrong with the batch
        fresh = rule.init(model, torch.Generator().manual_seed(0))
        form = _form(fresh)
        if _form(state) != form:
            try:  # some states grow in the first update
                form = _form(rule.update(model, x, target, fresh).state)  # type: ignore[arg-type]
            except Exception:  # the state is not to blame, as a new one fails too
                raise error from None
        if _form(state) != form:
            raise ValueError(
                f"state: expected tensors of shapes {form}, as for this network, not {_form(state)}"
            ) from None
        raise


# By name, since importing all of them would take longer than many training steps.
_WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule", "DDP", "DeepSpeedEngine"}


@cache
def _averages(kind: Any) -> bool:
    """Whether a class of modules averages the gradients of several processes, which it does in ``backward`` alone."""
    bases = [base for base in kind.__mro__ if base.__name__ in _WRAPPERS]
    return any(base.__module__.split(".")[0] in {"torch", "deepspeed"} for base in bases)


def _refuse_wrappers(model: nn.Module, rule: object) -> None:
    for name, module in model.named_modules():
        kind: Any = type(module)
        if _averages(kind):
            at = f"{name!r}, " if name else ""
            raise TypeError(
                f"model: {type(rule).__name__} cannot train {at}a {kind.__name__}, which averages the gradients "
                "of several processes, but only in backward: expected the module within it, and the gradients of "
                "apply_rule averaged before the optimiser's step"
            )


def _refuse_complex(parameters: Mapping[str, Tensor], rule: LearningRule[Any]) -> None:
    """Raise TypeError if a parameter to be trained is complex and the rule is right for real ones only."""
    for name, parameter in parameters.items():
        if parameter.is_complex() and parameter.requires_grad and not rule.trains_complex:
            raise TypeError(
                f"model: {type(rule).__name__} cannot train {name!r}, which is complex ({parameter.dtype}): expected "
                "real weights, or the rule Backprop or WeightPerturbation"
            )


def _form(state: Any) -> list[tuple[int, ...]]:
    """The shapes of a state's tensors."""
    return [tuple(leaf.shape) for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def train_step(
    rule: LearningRule[State],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[
        Shaped[Tensor, "*batch_features"] | tuple[Tensor, ...] | PackedSequence,
        Shaped[Tensor, "*batch_targets"] | PackedSequence,
    ]
    | list[Tensor],
    state: State,
) -> Update:
    """Update a network on one batch: write pseudo-gradients to ``.grad``, take a step, and call ``after_step``.

    Args:
        rule: The rule.
        model: The network, which the optimiser changes.
        optimizer: Any optimiser of its parameters whose step needs no closure; a parameter that the rule does not train
            gets no gradient.
        batch: Input and target, as a tuple or, as a ``DataLoader`` gives them, as a list.
        state: The state from ``rule.init`` or the last step.

    Returns:
        The update, with the state after the step. Its gradients are those in ``.grad``, which some optimisers change.

    Raises:
        ValueError: ``batch`` does not hold two parts; or as ``apply_rule``, which also raises the other errors.

    Examples:
        >>> from engram.rules import Backprop
        >>> model, rule = nn.Sequential(nn.Linear(2, 2)), Backprop()
        >>> sgd, state = torch.optim.SGD(model.parameters(), lr=0.1), rule.init(model, torch.Generator())
        >>> batch = torch.eye(2), torch.tensor([0, 1])
        >>> losses = [train_step(rule, model, sgd, batch, state).info["loss"] for _ in range(9)]
        >>> bool(losses[-1] < losses[0])
        True
    """
    checks.arguments()
    if len(batch) != 2:
        raise ValueError(f"batch holds {len(batch)} tensors: expected two, input and target")
    optimizer.zero_grad()  # frees memory for the new gradients
    rule = rule.at(optimizer)
    grads, state, info = apply_rule(rule, model, *batch, state)  # type: ignore[call-arg]  # mypy counts a list as many
    parameters: dict[str, Any] = dict(model.named_parameters())
    weights_before = {name: parameters[name].detach().clone() for name in rule.watched(state)}
    for name, gradient in grads.items():
        parameters[name].grad = gradient
    run_accumulated_hooks(parameters[name] for name in grads)
    optimizer.step()
    deltas = {name: parameters[name].detach() - value for name, value in weights_before.items()}
    return Update(grads, rule.after_step(model, deltas, state), info)
