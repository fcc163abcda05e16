"""The contract of a learning rule: pseudo-gradients by name, explicit state, and the properties that it declares."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from engram.analysis import forward_equivalents
from engram.rules import Backprop, LearningRule, Update, apply_rule, train_step
from engram.testing.promises import (
    BadInput,
    assert_refused,
    check_made,
    check_maker,
    default_dtype,
    gpus,
    hold,
    in_threads,
    no_global_draws,
    same,
    stored,
)

_BATCH, _INPUTS, _HIDDEN, _OUTPUTS = 12, 6, (12, 10), 3
_EXEMPT = ("batch", "zero error", "loss", "black box", "device")


def check_learning_rule(
    rule_class: Callable[[], LearningRule[Any]],
    *,
    activation: Callable[[], nn.Module] = nn.Tanh,
    gradient: bool = False,
    exempt: Mapping[str, str] | None = None,
) -> None:
    """Check a learning rule against its contract, on a network of three ``nn.Linear``, 6-12-10-3.

    Its pseudo-gradients fit the parameters, depend only on generator and state, are means over the batch, are zero
    without an error, lower the loss (both unless the rule is ``unsupervised``), and are about the same in float32 and
    on a GPU, if there is one; one that is not finite is reported by a FloatingPointError. ``init`` and ``update``
    change nothing in place, and an update resumes from a stored state. Frozen layers get no pseudo-gradient, which does
    not affect the others; shared weights are trained, or refused by an error that names the layer; the state of another
    network is refused; networks that are no chain are trained, or refused by a TypeError; torch's default dtype and
    other threads make no difference. Each declared property excludes something that the rule must not use:
    ``no_weight_transport``, the weights of the last layer; ``one_phase``, more multiplications than three forward
    passes have; ``online``, a state that grows; ``unsupervised``, the target; ``black_box``, the derivatives of
    activations. Bad input is refused. Not checked are ``local``, ``spikes``, and whether a state that ``update``
    changes contains weights: the rule may have learned them from activity, as a weight mirror does.

    Args:
        rule_class: The class, or another callable that makes the rule without arguments.
        activation: The activation between the layers, if the rule needs a particular one.
        gradient: Whether its pseudo-gradient is the gradient, to ten digits.
        exempt: Promises that it cannot keep, each with the reason: ``"batch"``, that a batch gives the mean over its
            samples; ``"zero error"``, that nothing changes without an error; ``"loss"``, that it lowers the loss;
            ``"black box"``, that it works with any activation; ``"device"``, that a GPU gives the same as the CPU.

    Raises:
        TypeError: ``rule_class`` does not make a ``LearningRule``.
        ValueError: An exemption is unknown or gives no reason.

    Examples:
        >>> check_learning_rule(Backprop, gradient=True)
    """
    check_maker("rule_class", rule_class)
    exempt = exempt or {}
    if not set(exempt) <= set(_EXEMPT) or not all(exempt.values()):
        raise ValueError(f"exempt = {dict(exempt)!r}: expected reasons for {', '.join(map(repr, _EXEMPT))} at most")
    case = _case(check_made("rule_class", rule_class(), LearningRule), activation)
    knows = case.rule.properties
    checks = [
        _is_determined_by_its_generator,
        _has_the_shapes,
        _changes_no_model_at_the_start,
        _changes_nothing,
        *([] if "batch" in exempt else [_is_a_mean_over_the_batch]),
        *([] if "zero error" in exempt or knows.unsupervised else [_does_not_change_without_error]),
        *([] if "loss" in exempt or knows.unsupervised else [_lowers_the_loss]),
        *([_is_the_gradient] if gradient else []),
        _resumes_from_a_stored_state,
        _is_about_the_same_in_float32,
        _computes_on_a_gpu,
        *([] if "device" in exempt else [_is_about_the_same_on_a_gpu]),
        _is_the_same_whatever_the_default_dtype,
        _is_the_same_in_eight_threads,
        _leaves_frozen_layers_alone,
        _trains_or_refuses_shared_weights,
        _refuses_the_state_of_another_network,
        *(
            [_needs_no_weights_of_the_last_layer, _copies_no_weights]
            if knows.no_weight_transport and not knows.black_box
            else []
        ),
        *([_needs_one_phase] if knows.one_phase else []),
        *([_keeps_no_past] if knows.online else []),
        *([_needs_no_target] if knows.unsupervised else []),
        *([_needs_no_derivative] if knows.black_box and "black box" not in exempt else []),
        _trains_or_refuses_networks_that_are_no_chain,
        _reports_nan,
        _refuses_bad_input,
    ]
    hold(rule_class if isinstance(rule_class, type) else type(case.rule), checks, case)


@dataclass(frozen=True)
class _Case:
    rule: LearningRule[Any]
    model: nn.Sequential
    activation: Callable[[], nn.Module]
    x: Tensor
    classes: Tensor
    values: Tensor

    def update(self, model: nn.Module | None = None, x: Tensor | None = None, target: Tensor | None = None) -> Update:
        """Update from a fresh state; arguments that are not given are those of the case."""
        x, target = self.x if x is None else x, self.classes if target is None else target
        return apply_rule(self.rule, self.model if model is None else model, x, target, self.state(model))

    def state(self, model: nn.Module | None = None) -> Any:
        return self.rule.init(self.model if model is None else model, torch.Generator().manual_seed(1))


def _case(rule: LearningRule[Any], activation: Callable[[], nn.Module]) -> _Case:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    model = _network((_INPUTS, *_HIDDEN, _OUTPUTS), activation, draw)
    x = draw(_BATCH, _INPUTS)
    classes = torch.randint(_OUTPUTS, (_BATCH,), generator=generator)
    return _Case(rule, model, activation, x, classes, draw(_BATCH, _OUTPUTS))


def _network(
    sizes: tuple[int, ...], activation: Callable[[], nn.Module], draw: Callable[..., Tensor] = torch.ones
) -> nn.Sequential:
    modules: list[nn.Module] = []
    with torch.random.fork_rng(devices=()):  # the layers draw weights that are overwritten
        for pre, post in pairwise(sizes):
            linear = nn.Linear(pre, post, dtype=torch.float64)
            linear.weight.data, linear.bias.data = draw(post, pre).double() / pre**0.5, 0.1 * draw(post).double()
            modules += [linear, activation()]
    return nn.Sequential(*modules[:-1])


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _assert_close(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-10) -> None:
    assert actual.keys() == expected.keys(), f"parameters {sorted(actual)}, and {sorted(expected)}"
    for name, value in expected.items():
        off = (actual[name].double() - value.double()).abs().max() / (1 + value.double().abs().max())
        assert off <= tolerance, f"{name} differs by {off:.1e}"


def _is_determined_by_its_generator(case: _Case) -> None:
    """The generator of ``init`` determines all randomness; no global one is used."""
    with no_global_draws():
        first = case.update()
    torch.rand(1)
    second = case.update()
    assert same(_tensors((first.grads, first.state)), _tensors((second.grads, second.state))), "two runs differ"


def _has_the_shapes(case: _Case) -> None:
    """Pseudo-gradients have names, shapes and dtypes of parameters, and no graph; ``info`` begins with the loss."""
    parameters = dict(case.model.named_parameters())
    for target in (case.classes, case.values):
        grads, state, info = case.update(target=target)
        assert grads, "there is no pseudo-gradient"
        assert set(grads) <= set(parameters), f"unknown parameters {sorted(set(grads) - set(parameters))}"
        for name, grad in grads.items():
            param = parameters[name]
            assert grad.shape == param.shape, f"{name} of shape {tuple(grad.shape)}: expected {tuple(param.shape)}"
            assert grad.dtype == param.dtype, f"{name} of {grad.dtype}: expected {param.dtype}"
            assert not grad.requires_grad, f"{name} requires a gradient"
        assert not any(tensor.requires_grad for tensor in _tensors((state, info))), "state or info keeps a graph"
        assert next(iter(info)) == "loss", f"info has {list(info)}: expected loss first"
        assert info["loss"].shape == (), f"the loss has shape {tuple(info['loss'].shape)}"


def _changes_no_model_at_the_start(case: _Case) -> None:
    """``init`` does not change the model."""
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # as weights that an earlier call has clamped or normalised might stay as they are
    before = copy.deepcopy(model.state_dict())
    case.state(model)
    assert same(before.values(), model.state_dict().values()), "it was changed in place"


def _changes_nothing(case: _Case) -> None:
    """``update`` changes neither model, batch nor state: called again, it gives the same."""
    state = case.state()
    involved = [*case.model.state_dict().values(), case.x, case.classes, *_tensors(state)]
    before = [tensor.clone() for tensor in involved]
    first, second = (case.rule.update(case.model, case.x, case.classes, state) for _ in range(2))
    assert same(before, involved), "the model, the batch or the state was changed in place"
    assert all(p.grad is None and p.requires_grad for p in case.model.parameters()), "a parameter's grad was set"
    assert same(_tensors(first[:2]), _tensors(second[:2])), "the second call differs: hidden state"


def _is_a_mean_over_the_batch(case: _Case) -> None:
    """A batch gives the mean of its halves, in any order."""
    usual, order = case.update().grads, torch.arange(_BATCH).flip(0)
    _assert_close(case.update(x=case.x[order], target=case.classes[order]).grads, usual)
    halves = [case.update(x=case.x[s], target=case.classes[s]).grads for s in (slice(0, 6), slice(6, 12))]
    _assert_close({name: (halves[0][name] + halves[1][name]) / 2 for name in usual}, usual)


def _does_not_change_without_error(case: _Case) -> None:
    """Nothing changes if the output equals the target."""
    target = case.rule.predict(case.model, case.x).detach()
    for name, grad in case.update(target=target).grads.items():
        assert grad.abs().max() < 1e-10, f"{name} changes by {grad.abs().max():.1e}"


def _lowers_the_loss(case: _Case) -> None:
    """Gradient descent by its pseudo-gradients lowers the loss by a fifth within 300 steps, at some learning rate."""
    reached = {}
    for rate in (0.1, 0.01, 1.0):
        model, state = copy.deepcopy(case.model), case.state()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        start, loss = _loss(case, model), float("inf")
        for step in range(300):
            state = train_step(case.rule, model, optimizer, (case.x, case.classes), state).state
            if step % 20 == 19 and (loss := _loss(case, model)) < 0.8 * start:
                return
        reached[rate] = round(loss / start, 3)
    raise AssertionError(f"remaining share of the loss, by learning rate: {reached}")


def _loss(case: _Case, model: nn.Module) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(case.rule.predict(model, case.x), case.classes))


def _is_the_gradient(case: _Case) -> None:
    """Its pseudo-gradients are the gradients of the loss."""
    for target in (case.classes, case.values):
        _assert_close(case.update(target=target).grads, Backprop().update(case.model, case.x, target, None).grads)


def _resumes_from_a_stored_state(case: _Case) -> None:
    """A state restored from a checkpoint gives the same update, bit for bit."""
    leaves, form = tree_flatten(case.update().state)
    reloaded = tree_unflatten(stored(leaves), form)
    first, second = (
        case.rule.update(case.model, case.x, case.classes, state) for state in (tree_unflatten(leaves, form), reloaded)
    )
    assert same(_tensors(first[:2]), _tensors(second[:2])), "the continuation differs"


def _is_about_the_same_in_float32(case: _Case) -> None:
    """In float32 it gives the same as in float64, to a few digits; random numbers do not depend on the dtype."""
    single = copy.deepcopy(case.model).float()
    _assert_close(case.update(model=single, x=case.x.float()).grads, case.update().grads, 1e-3)


def _computes_on_a_gpu(case: _Case) -> None:
    """On a GPU its pseudo-gradients are there too, and its generator determines all randomness."""
    for device in gpus():
        model, x, target = copy.deepcopy(case.model).to(device), case.x.to(device), case.classes.to(device)
        first, second = case.update(model, x, target), case.update(model, x, target)
        assert {grad.device.type for grad in first.grads.values()} == {device}, "a pseudo-gradient is elsewhere"
        assert same(_tensors(first[:2]), _tensors(second[:2])), "two runs differ"


def _is_about_the_same_on_a_gpu(case: _Case) -> None:
    """On a GPU it gives the same as on the CPU, to a few digits."""
    for device, target in itertools.product(gpus(), (case.classes, case.values)):
        grads = case.update(copy.deepcopy(case.model).to(device), case.x.to(device), target.to(device)).grads
        _assert_close({name: grad.cpu() for name, grad in grads.items()}, case.update(target=target).grads, 1e-6)


def _is_the_same_whatever_the_default_dtype(case: _Case) -> None:
    """With float64 as torch's default dtype it gives the same as with float32, bit for bit."""
    for model, x in ((case.model, case.x), (copy.deepcopy(case.model).float(), case.x.float())):
        usual = case.update(model, x)
        with default_dtype(torch.float64):
            update = case.update(model, x)
        assert same(_tensors(usual[:2]), _tensors(update[:2])), f"it differs for a network of {x.dtype}"


def _is_the_same_in_eight_threads(case: _Case) -> None:
    """Called by eight threads at once, each with its own network, it gives the same result as in one thread."""
    expected, updates = case.update(), in_threads(lambda: case.update(copy.deepcopy(case.model)))
    assert all(same(_tensors(expected[:2]), _tensors(update[:2])) for update in updates), "threads differ"


def _leaves_frozen_layers_alone(case: _Case) -> None:
    """Frozen layers get no pseudo-gradient; unless the rule perturbs, the others get the same as without freezing."""
    usual, linear = (
        case.update().grads,
        [name for name, module in case.model.named_children() if [*module.parameters()]],
    )
    for mask in range(1, 2 ** len(linear)):
        frozen, model = {name for bit, name in enumerate(linear) if mask >> bit & 1}, copy.deepcopy(case.model)
        for name in frozen:
            model.get_submodule(name).requires_grad_(False)
        expected = {name: grad for name, grad in usual.items() if name.partition(".")[0] not in frozen}
        grads = case.update(model=model).grads
        assert grads.keys() == expected.keys(), f"with layers {sorted(frozen)} frozen it trains {sorted(grads)}"
        if not case.rule.properties.black_box:
            _assert_close(grads, expected)


def _trains_or_refuses_shared_weights(case: _Case) -> None:
    """If two layers share weights, it trains each parameter once, or names the second layer in its refusal."""
    model = _network((_INPUTS, _INPUTS, _INPUTS, _OUTPUTS), case.activation)
    first, second = (model.get_submodule(name) for name in ("0", "2"))
    second.weight = first.weight
    refusal = ""
    try:
        case.update(model)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    assert not refusal or "'2" in refusal, f"the refusal is {refusal}: expected layer '2'"


def _refuses_the_state_of_another_network(case: _Case) -> None:
    """The state of a network of other sizes is refused, by an error that names it."""
    other_network = _network((_INPUTS, 7, 8, _OUTPUTS), case.activation)
    state = case.rule.update(other_network, case.x, case.classes, case.state(other_network)).state
    if any(tensor.ndim for tensor in _tensors(state)):
        assert_refused([(lambda: apply_rule(case.rule, case.model, case.x, case.classes, state), ValueError, "state")])


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer, self.head = (
            nn.Linear(pre, post) for pre, post in ((_INPUTS, 8), (8, 8), (8, 8), (8, _OUTPUTS))
        )

    def features(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.first(x).tanh()
        residual: Tensor = self.outer(self.inner(hidden).tanh())
        return hidden + residual

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.features(x))
        return output


class _Attention(_Residual):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def features(self, x: Tensor) -> Tensor:
        places: Tensor = self.first(x.reshape(len(x), -1, 2))
        normal = self.norm(self.inner(places))
        residual: Tensor = self.outer(self.attention(normal, normal, normal)[0])
        return (places + residual.tanh()).mean(1)


def _trains_or_refuses_networks_that_are_no_chain(case: _Case) -> None:
    """A residual network and one with attention are refused by a TypeError, or trained as a chain is.

    Trained, pseudo-gradients fit the parameters; what is frozen gets none, which does not affect the others; and with
    ``no_weight_transport`` the weights of the head do not matter to the layers below.
    """
    for kind in (_Residual, _Attention):
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = kind().double()
        x, target = case.x[:4], case.classes[:4]
        try:
            state = case.state(model)
            update = partial(apply_rule, case.rule, x=x, target=target, state=state)
            grads = update(model).grads
        except TypeError:  # as the rule refuses any network that it cannot train
            continue
        parameters = dict(model.named_parameters())
        assert grads, f"it trains nothing of a {kind.__name__}"
        assert {n: g.shape for n, g in grads.items()} == {n: parameters[n].shape for n in grads}, "the shapes differ"
        if case.rule.properties.black_box:
            continue
        frozen = copy.deepcopy(model)
        frozen.outer.requires_grad_(False)
        expected = {name: grad for name, grad in grads.items() if not name.startswith("outer.")}
        _assert_close(update(frozen).grads, expected)
        if case.rule.properties.no_weight_transport:
            altered = copy.deepcopy(model)
            with torch.no_grad():
                hidden = model.features(x)
                null_space = torch.eye(8, dtype=x.dtype) - torch.linalg.pinv(hidden) @ hidden
                altered.head.weight.add_(altered.head.weight.flip(0) @ null_space)
            below, expected = (
                {name: grad for name, grad in gradient.items() if not name.startswith("head.")}
                for gradient in (update(altered).grads, grads)
            )
            _assert_close(below, expected)


def _copies_no_weights(case: _Case) -> None:
    """no_weight_transport: ``after_step`` depends on the weights only through their decay.

    A rule may know the change u of the weights. The step u - d W of an optimiser with weight decay d reveals W itself,
    and a rule that reads W to recover u is right for a single d, here at most 1/2.
    """
    for name, parameter in case.model.named_parameters():
        if parameter.ndim > 1:
            _copies_no_weight(case, name)


def _copies_no_weight(case: _Case, name: str) -> None:
    state = case.state()
    weight = case.model.get_parameter(name).detach()
    step, unknown = (0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(n)) for n in (4, 5))

    def after(change: Tensor | float, decay: float) -> Tensor:
        model = copy.deepcopy(case.model)
        parameters = dict(model.named_parameters())
        deltas = {watched: torch.zeros_like(parameters[watched]) for watched in case.rule.watched(state)}
        deltas |= {name: step - decay * change} if name in deltas else {}
        with torch.no_grad():
            parameters[name].copy_(weight + change + (step - decay * change))
        tensors = _tensors(case.rule.after_step(model, deltas, state))
        return torch.cat([tensor.double().flatten() for tensor in tensors]) if tensors else torch.zeros(0)

    base = after(0.0, 0.0)
    without, half = (after(unknown.to(weight), decay) - base for decay in (0.0, 0.5))
    slope = 2 * (half - without)
    decay = float((-without @ slope / (slope @ slope)).clamp(0, 0.5)) if slope.any() else 0.0
    off = (after(unknown.to(weight), decay) - base).abs().max() if base.numel() else 0.0
    assert off < 1e-10, f"with other values of {name!r} and the same change it differs by {off:.1e}"


def _needs_no_weights_of_the_last_layer(case: _Case) -> None:
    """no_weight_transport: if the last layer has other weights but the same output, the layers below change alike."""
    altered, last = copy.deepcopy(case.model), f"{len(case.model) - 1}."
    x, target, state = case.x[:4], case.classes[:4], case.state()
    with torch.no_grad():
        hidden = case.model[:-1](x)
        null_space = torch.eye(_HIDDEN[-1], dtype=x.dtype) - torch.linalg.pinv(hidden) @ hidden
        weight = altered.get_parameter(f"{last}weight")
        weight.add_(weight.flip(0) @ null_space)  # does not affect the output for these few samples
    actual, expected = (
        {
            name: grad
            for name, grad in case.rule.update(model, x, target, state).grads.items()
            if not name.startswith(last)
        }
        for model in (altered, case.model)
    )
    _assert_close(actual, expected)


def _needs_one_phase(case: _Case) -> None:
    """one_phase: it multiplies no more matrices than a forward pass, a backward pass and their outer products."""
    state = case.update().state
    passes = forward_equivalents(
        lambda: case.rule.update(case.model, case.x, case.classes, state), lambda: case.model(case.x)
    )
    assert passes <= 3, f"it takes {passes:.2f} forward passes"


def _keeps_no_past(case: _Case) -> None:
    """online: its state does not grow."""
    state, sizes, parameters = case.state(), [], dict(case.model.named_parameters())
    for _ in range(3):
        state = case.rule.update(case.model, case.x, case.classes, state).state
        watched = [name for name in case.rule.watched(state) if name in parameters]
        deltas = {name: torch.zeros_like(parameters[name].detach()) for name in watched}
        state = case.rule.after_step(case.model, deltas, state)
        sizes.append(sum(tensor.nbytes for tensor in _tensors(state)))
    assert sizes[0] == sizes[-1], f"after updates it has {sizes} bytes"


def _needs_no_target(case: _Case) -> None:
    """unsupervised: the target makes no difference."""
    _assert_close(case.update(target=(case.classes + 1) % _OUTPUTS).grads, case.update().grads, 0.0)


def _needs_no_derivative(case: _Case) -> None:
    """black_box: it trains the first layer of a network with step activations, which have no derivative."""
    steps = nn.Sequential(*(m if isinstance(m, nn.Linear) else _Steps() for m in case.model))
    grads = case.update(model=steps).grads
    first = [grad for name, grad in grads.items() if name.startswith("0.")]
    assert first, "the first layer has no pseudo-gradient"
    assert all(grad.any() for grad in first), "the first layer does not change"


class _Steps(nn.Module):
    """A staircase of eight steps, for which torch has no derivative."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.from_numpy((4 * input.detach().tanh().numpy()).round() / 4)


def _reports_nan(case: _Case) -> None:
    """A pseudo-gradient that is not finite raises FloatingPointError, which names rule and parameter."""
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        model.get_parameter(f"{len(model) - 1}.bias")[0] = torch.nan
    refusal = ""
    try:
        grads = case.update(model=model, target=case.values).grads
        wrong = [name for name, grad in grads.items() if not grad.isfinite().all()]
        assert not wrong, f"nothing was raised, and {', '.join(wrong)} is not finite"
    except FloatingPointError as error:
        refusal = str(error)
    is_named = re.search(f"{type(case.rule).__name__}.*(weight|bias)", refusal)
    assert is_named or not refusal, f"the message is {refusal!r}"


def _refuses_bad_input(case: _Case) -> None:
    """Bad input gets a clear error."""
    bad: list[BadInput] = [
        (lambda: case.update(x=case.x[:0], target=case.classes[:0]), ValueError, r"\(0, "),
        (lambda: case.update(target=case.classes[:-1]), ValueError, r"target.*\(11,\).*12"),
        (lambda: case.update(target=case.values[:, :2]), ValueError, r"target.*\(12, 2\).*3"),
        (lambda: case.update(target=case.values.float()), ValueError, "target.*float32.*float64"),
        (lambda: case.update(target=case.classes + 2), ValueError, "target = [34].*0 to 2"),
    ]
    assert_refused(bad)
