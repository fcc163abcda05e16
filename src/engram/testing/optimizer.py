"""The contract of an optimiser: everything that users of ``torch.optim`` rely on."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.testing.evolution import check_evolution
from engram.testing.promises import assert_refused, check_maker, copy_into, gpus, hold, no_global_draws, same, stored

Build = Callable[..., Optimizer]
Loss = Callable[[], Tensor]

_LEARNING_RATE = 0.01


def check_optimizer(optimizer_class: Callable[..., Any], **options: Any) -> None:
    """Check an optimiser against the contract of ``torch.optim`` or, if it has ask and tell, that of evolution.

    It lowers a loss at some learning rate, does about the same on a GPU, if there is one, steps each parameter group by
    its own rate, takes new groups, resumes bit for bit from its ``state_dict``, obeys schedulers and closures, skips
    parameters without gradient, changes no gradient, does not spread bad ones, treats sparse ones as dense or refuses
    them, draws from no global generator and refuses a negative learning rate. ``maximize`` and ``foreach``, if it has
    them, have their usual meaning.

    Args:
        optimizer_class: The class, or another callable that makes the optimiser; called as ``optimizer_class(params,
            lr=..., **options)``.
        **options: Further options of its constructor, to check a variant.

    Raises:
        TypeError: ``optimizer_class`` is a class that is no ``torch.optim.Optimizer`` and has no ``ask`` and ``tell``,
            or cannot be called.

    Examples:
        >>> check_optimizer(torch.optim.SGD, momentum=0.9)
    """
    if isinstance(optimizer_class, type) and hasattr(optimizer_class, "ask") and hasattr(optimizer_class, "tell"):
        check_evolution(optimizer_class, **options)
        return
    check_maker("optimizer_class", optimizer_class)
    if isinstance(optimizer_class, type) and not issubclass(optimizer_class, Optimizer):
        raise TypeError(f"optimizer_class = {optimizer_class!r}: expected a subclass of torch.optim.Optimizer")

    def build(params: Any, **more: Any) -> Optimizer:
        optimizer: Optimizer = optimizer_class(params, **{"lr": _LEARNING_RATE, **options, **more})
        return optimizer

    parameter_names = set(inspect.signature(optimizer_class).parameters)
    checks = [
        _goes_downhill,
        _calls_the_closure,
        _is_deterministic,
        _is_about_the_same_on_a_gpu,
        _keeps_groups_apart,
        _takes_new_groups,
        _resumes_exactly,
        _obeys_schedulers,
        _skips_absent_gradients,
        _leaves_gradients_alone,
        _contains_bad_gradients,
        _understands_sparse_gradients,
        _refuses_a_negative_learning_rate,
        *([_maximizes] if "maximize" in parameter_names else []),
        *([_agrees_with_foreach] if "foreach" in parameter_names else []),
    ]
    hold(optimizer_class, checks, build)


def _regression(device: str = "cpu") -> tuple[list[Tensor], Loss]:
    """A linear regression, convex and quadratic in its weight (2, 3) and bias (2,)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 3, generator=generator)
    targets = inputs @ torch.randn(3, 2, generator=generator) + torch.randn(2, generator=generator)
    inputs, targets = inputs.to(device), targets.to(device)
    weight, bias = (torch.zeros(shape, device=device, requires_grad=True) for shape in ((2, 3), (2,)))
    return [weight, bias], lambda: (inputs @ weight.T + bias - targets).square().mean()


def _rosenbrock() -> tuple[list[Tensor], Loss]:
    point = torch.tensor([-1.2, 1.0], requires_grad=True)
    return [point], lambda: (1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2


def _train(optimizer: Optimizer, loss: Loss, steps: int = 5) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _trained(build: Build, steps: int = 5, **more: Any) -> list[Tensor]:
    """The parameters of the regression after some steps."""
    params, loss = _regression()
    _train(build(params, **more), loss, steps)
    return params


def _close(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(first, second, strict=True))


def _goes_downhill(build: Build) -> None:
    """Some learning rate reduces a convex quadratic and Rosenbrock's function to a third within 300 steps."""
    for problem in (_regression, _rosenbrock):
        lowest: dict[float, float] = {}  # as a share of the initial loss
        for rate, _ in itertools.product((0.1, 0.01, 0.001, 1.0), range(300)):
            if rate not in lowest:
                params, loss = problem()
                optimizer, start, lowest[rate] = build(params, lr=rate), loss().item(), 1.0
            _train(optimizer, loss, steps=1)
            lowest[rate] = min(lowest[rate], loss().item() / start)  # never a loss that is NaN
            if lowest[rate] < 1 / 3:
                break
        assert min(lowest.values()) < 1 / 3, f"on {problem.__name__[1:]} the loss fell to {lowest}, by learning rate"


def _calls_the_closure(build: Build) -> None:
    """``step(closure)`` calls the closure with gradients enabled and returns its loss."""
    params, loss = _regression()
    optimizer = build(params)
    losses: list[float] = []

    def closure() -> Any:
        assert torch.is_grad_enabled(), "the closure was called without gradients enabled"
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(value.item())
        return value

    before = loss().item()
    returned = optimizer.step(closure)
    assert losses, "the closure was not called"
    assert returned is not None, "step returned None"
    assert torch.as_tensor(returned).item() == losses[0], f"step returned {returned}, the closure {losses[0]}"
    assert loss().item() < before, "the parameters did not move"


def _is_deterministic(build: Build) -> None:
    """The same parameters and gradients give the same steps, and no global generator is used."""
    with no_global_draws():
        first, second = _trained(build), _trained(build)
    assert same(first, second), "two runs differ"


def _is_about_the_same_on_a_gpu(build: Build) -> None:
    """On a GPU it takes the same steps as on the CPU, to a few digits."""
    for device in gpus():
        params, loss = _regression(device)
        _train(build(params), loss)
        assert _close([p.cpu() for p in params], _trained(build)), "on the GPU the parameters differ"


def _keeps_groups_apart(build: Build) -> None:
    """Each parameter group moves by its own learning rate."""
    twins = [torch.ones(2, 3, requires_grad=True) for _ in range(2)]
    optimizer = build([{"params": twins[:1], "lr": 0.1}, {"params": twins[1:], "lr": 0.001}])
    _train(optimizer, lambda: torch.stack(twins).square().sum(), steps=2)
    distances = [float((twin - 1).detach().abs().max()) for twin in twins]
    assert min(distances) > 0, f"parameters moved by {distances}: one group was not stepped"
    assert distances[0] > 2 * distances[1], f"with learning rates 0.1 and 0.001 twin parameters moved by {distances}"


def _takes_new_groups(build: Build) -> None:
    """``add_param_group`` adds parameters in the middle of training."""
    (weight, bias), loss = _regression()
    optimizer = build([weight])
    _train(optimizer, loss, steps=2)
    optimizer.add_param_group({"params": [bias], "lr": _LEARNING_RATE})
    before = [param.detach().clone() for param in (weight, bias)]
    _train(optimizer, loss, steps=2)
    assert not torch.equal(bias, before[1]), "the added parameter does not move"
    assert not torch.equal(weight, before[0]), "the first parameter stopped moving"


def _resumes_exactly(build: Build) -> None:
    """A new optimiser that loads the ``state_dict`` from a file continues bit for bit."""
    params, loss = _regression()
    optimizer = build(params)
    _train(optimizer, loss)
    resumed, loss_again = _regression()
    copy_into(resumed, params)
    state = stored(optimizer.state_dict())
    _train(optimizer, loss)
    restored = build(resumed, lr=_LEARNING_RATE / 2)  # the loaded state must override this
    restored.load_state_dict(state)
    _train(restored, loss_again)
    assert same(params, resumed), "the continuation differs"


def _obeys_schedulers(build: Build) -> None:
    """A learning rate scheduler, and nothing else, sets the learning rate of the next step."""
    params, loss = _regression()
    optimizer = build(params)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3], gamma=0.01)
    lengths = []
    for _ in range(6):
        before = params[0].detach().clone()
        _train(optimizer, loss, steps=1)
        lr, expected = optimizer.param_groups[0]["lr"], scheduler.get_last_lr()[0]
        assert lr == expected, f"the learning rate is {lr}, the scheduler set {expected}"
        scheduler.step()
        lengths.append(float((params[0].detach() - before).norm()))
    fast, slow = lengths[2], lengths[5]
    assert slow < fast / 2, f"steps of length {fast} became {slow} when the learning rate fell to a hundredth"


def _skips_absent_gradients(build: Build) -> None:
    """A parameter whose gradient is None stays as it is, and ``zero_grad`` sets gradients to None or to zero."""
    params, loss = _regression()
    idle = torch.ones(3, requires_grad=True)
    optimizer = build([*params, idle])
    _train(optimizer, loss)
    assert torch.equal(idle, torch.ones(3)), f"a parameter without gradient moved to {idle.tolist()}"
    assert _close(params, _trained(build)), "the other parameters were disturbed"
    optimizer.zero_grad(set_to_none=False)
    assert all(param.grad is not None and not param.grad.any() for param in params), "set_to_none=False"
    optimizer.zero_grad()
    assert all(param.grad is None for param in params), "set_to_none=True left a gradient"


def _leaves_gradients_alone(build: Build) -> None:
    """A step changes parameters, not their gradients."""
    params, loss = _regression()
    optimizer = build(params)
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        gradients = [param.grad for param in params if param.grad is not None]
        before = [gradient.clone() for gradient in gradients]
        optimizer.step()
        assert same(gradients, before), "a gradient changed during the step"


def _contains_bad_gradients(build: Build) -> None:
    """A gradient that is not finite is refused, or affects no other parameter."""
    for bad in (math.nan, math.inf):
        params, loss = _regression()
        victim = torch.ones(3, requires_grad=True)
        optimizer = build([victim, *params])
        for _ in range(3):
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            victim.grad = torch.full((3,), bad)
            try:
                optimizer.step()
            except (RuntimeError, ValueError):
                break
        for param in params:
            assert param.isfinite().all(), f"a gradient of {bad} made another parameter {param.tolist()}"


def _understands_sparse_gradients(build: Build) -> None:
    """A sparse gradient is refused, or has the same effect as a dense one."""
    dense, sparse = (torch.ones(4, 2, requires_grad=True) for _ in range(2))
    dense.grad = torch.zeros(4, 2)
    dense.grad[1] = 1.0
    build([dense]).step()
    with torch.sparse.check_sparse_tensor_invariants():  # type: ignore[no-untyped-call]
        sparse.grad = dense.grad.to_sparse(1)
        try:
            build([sparse]).step()
        except (RuntimeError, ValueError):
            return
    assert torch.allclose(dense, sparse), f"dense: {dense.tolist()}, sparse: {sparse.tolist()}"


def _refuses_a_negative_learning_rate(build: Build) -> None:
    """A negative learning rate raises ValueError, and the message names the value."""
    params, _ = _regression()
    try:
        assert_refused([(lambda: build(params, lr=-0.125), ValueError, "-0.125")])
    except AssertionError as error:
        advice = "begin __init__ with: if lr < 0: raise ValueError(f'lr = {lr}: expected at least 0')"
        raise AssertionError(f"{error}; {advice}") from error


def _maximizes(build: Build) -> None:
    """``maximize=True`` ascends as the default descends."""
    params, loss = _regression()
    _train(build(params, maximize=True), lambda: -loss())
    assert _close(params, _trained(build, maximize=False)), "climbing -loss is not descending loss"


def _agrees_with_foreach(build: Build) -> None:
    """``foreach=True`` takes the same steps as ``foreach=False``."""
    runs = [_trained(partial(build, foreach=foreach), steps=20) for foreach in (True, False)]
    assert _close(*runs), "the parameters differ after 20 steps"
