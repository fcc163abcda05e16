"""The contract of a continual method: attach, loss, end_task, and a state from which training continues exactly."""

from __future__ import annotations

import copy
import inspect
import operator
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram.checks import noted
from engram.continual import ContinualMethod, TaskData, TrainingStep, random_batches, train_on_tasks
from engram.testing.promises import (
    assert_refused,
    assert_states_are_refused,
    check_maker,
    default_dtype,
    gpus,
    hold,
    in_threads,
    no_global_draws,
    same,
    stored,
)

Make = Callable[..., ContinualMethod]

_INPUTS, _HIDDEN, _CLASSES, _SAMPLES, _STEPS, _LR = 5, 8, 6, 24, 6, 0.05


def check_continual_method(method_class: Make, **options: Any) -> None:
    """Check a continual method against its contract, on a small network that learns three tasks of two classes each.

    Its loss is a finite, differentiable number. It is determined by its generator, does about the same on a GPU, if
    there is one, changes neither batch nor task, and itself changes no weights of the network. It lets the network
    learn a first task, accepts tasks with all classes and tasks in batches, replaces the previous optimiser when a new
    one is attached, and resumes bit for bit from a stored state or a pickled copy. A state of another form is refused
    by an error that names it; networks with frozen layers or shared weights are allowed; torch's default dtype and
    other threads make no difference. With ``strength=0``, if it has one, it equals fine-tuning. Bad input is refused.

    Args:
        method_class: The class, or another callable that makes the method: called as ``method_class(model,
            generator=...)``.
        **options: Further options of its constructor, to check a variant.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.continual import EWC
        >>> check_continual_method(EWC, strength=10.0)
    """
    check_maker("method_class", method_class)

    def make(model: nn.Module, **more: Any) -> ContinualMethod:
        return method_class(model, **{"generator": torch.Generator().manual_seed(1), **options, **more})

    checks = [
        _is_a_continual_method,
        _adds_a_finite_loss,
        _is_determined_by_its_generator,
        _is_about_the_same_on_a_gpu,
        _changes_neither_batch_nor_task,
        _changes_no_weights_itself,
        _lets_the_first_task_be_learned,
        _takes_all_classes_and_batches,
        _is_attached_to_one_optimizer_at_a_time,
        _resumes_from_a_stored_state,
        _refuses_other_states,
        _is_pickled,
        _takes_any_default_dtype,
        _is_the_same_in_eight_threads,
        _takes_frozen_layers,
        _takes_shared_weights,
        *([_is_nothing_without_strength] if "strength" in inspect.signature(method_class).parameters else []),
        _refuses_bad_input,
    ]
    hold(method_class, checks, make)


class _Trained(NamedTuple):
    """A network in training, with its method and optimiser."""

    net: nn.Sequential
    method: ContinualMethod
    optimizer: torch.optim.Optimizer
    draws: torch.Generator

    def parts(self) -> list[Any]:
        return [self.net, self.method, self.optimizer]

    def learn(self, tasks: list[TaskData], loop: range | None = None, steps: int = _STEPS) -> list[TrainingStep]:
        draw = random_batches(4, self.draws)
        return list(train_on_tasks(self.net, tasks, self.method, self.optimizer, steps=steps, draw=draw, loop=loop))


def _new(make: Make, net: nn.Sequential | None = None) -> _Trained:
    net = net or _network()
    optimizer = torch.optim.SGD(net.parameters(), lr=_LR, momentum=0.9)
    return _Trained(net, make(net), optimizer, torch.Generator().manual_seed(2))


def _network(*hidden: int) -> nn.Sequential:
    """A network of linear layers; by default with one hidden layer."""
    sizes = (_INPUTS, *(hidden or (_HIDDEN,)), _CLASSES)
    draws = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for pre, post in pairwise(sizes):
        layers += [nn.utils.skip_init(nn.Linear, pre, post), nn.Tanh()]  # type: ignore[no-untyped-call]
        for p in layers[-2].parameters():
            nn.init.uniform_(p, -(pre**-0.5), pre**-0.5, generator=draws)
    return nn.Sequential(*layers[:-1])


def _tasks() -> list[TaskData]:
    """Three tasks, with the classes 0 and 1, 2 and 3, 4 and 5."""
    generator = torch.Generator().manual_seed(3)
    tasks = []
    for first in range(0, _CLASSES, 2):
        means = 2 * torch.randn(2, _INPUTS, generator=generator)
        labels = torch.randint(2, (_SAMPLES,), generator=generator)
        inputs = means[labels] + 0.5 * torch.randn(_SAMPLES, _INPUTS, generator=generator)
        tasks.append(TaskData((inputs, labels + first), (first, first + 1)))
    return tasks


def _weights(trained: _Trained) -> list[Tensor]:
    return [p.detach().clone() for p in trained.net.parameters()]


def _trained_weights(make: Make, tasks: list[TaskData]) -> list[Tensor]:
    """The weights of a new network after learning the tasks."""
    trained = _new(make)
    trained.learn(tasks)
    return _weights(trained)


def _is_a_continual_method(make: Make) -> None:
    """It is a ``ContinualMethod`` for the network that it was given."""
    trained = _new(make)
    assert isinstance(trained.method, ContinualMethod), f"a {type(trained.method).__name__}"
    assert trained.method.model is trained.net, "its model is another network"


def _adds_a_finite_loss(make: Make) -> None:
    """Its loss is a finite number, or a tensor with one, both before and after the end of the first task."""
    trained, tasks = _new(make), _tasks()
    for task in tasks[:2]:
        x, y = task.train
        loss = torch.as_tensor(trained.method.loss(x, y, trained.net(x)))
        assert loss.shape == (), f"the loss has shape {tuple(loss.shape)}"
        assert loss.isfinite(), f"the loss is {loss.item()}"
        trained.learn([task])


def _is_determined_by_its_generator(make: Make) -> None:
    """The same generator gives the same training, and no global one is used."""
    with no_global_draws():
        first = _trained_weights(make, _tasks())
    torch.rand(1)
    assert same(first, _trained_weights(make, _tasks())), "two runs differ"


def _is_about_the_same_on_a_gpu(make: Make) -> None:
    """On a GPU the network learns as on the CPU, to a few digits."""
    for device in gpus():
        trained = _new(make, _network().to(device))
        trained.learn([task._replace(train=tuple(part.to(device) for part in task.train)) for task in _tasks()])
        for weight, expected in zip(_weights(trained), _trained_weights(make, _tasks()), strict=True):
            torch.testing.assert_close(weight.cpu(), expected, rtol=1e-3, atol=1e-3)


def _changes_neither_batch_nor_task(make: Make) -> None:
    """Neither ``loss`` nor ``end_task`` changes its input data."""
    tasks = _tasks()
    _trained_weights(make, tasks)
    for task, untouched in zip(tasks, _tasks(), strict=True):
        assert same(task.train, untouched.train), "training data were changed in place"


def _changes_no_weights_itself(make: Make) -> None:
    """``loss`` and ``end_task`` change no weight, no running statistic, and no training mode of the network."""
    trained, tasks = _new(make), _tasks()
    trained.learn(tasks, range(2 * _STEPS - 1))  # all but the last step of the second task
    before = [part.clone() for part in trained.net.state_dict().values()]
    x, y = tasks[1].train
    trained.method.loss(x, y, trained.net(x))
    trained.method.end_task(tasks[1])
    assert same(before, trained.net.state_dict().values()), "a weight was changed"
    assert all(module.training for module in trained.net.modules()), "the network is in evaluation mode"


def _lets_the_first_task_be_learned(make: Make) -> None:
    """The network learns its first task: the loss falls by half."""
    losses = [float(step.loss) for step in _new(make).learn(_tasks()[:1], steps=100)]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert last < first / 2, f"the loss falls from {first:.3g} to {last:.3g}"


def _takes_all_classes_and_batches(make: Make) -> None:
    """It accepts tasks with all classes, and data in batches: ``task_batches(task)`` gives either as batches."""
    inputs, labels = _tasks()[0].train
    trained = _new(make)
    trained.learn([TaskData((inputs, labels), None)] * 2)
    net, method, optimizer, _ = _new(make)
    batches = list(zip(inputs.split(8), labels.split(8), strict=True))
    with noted(**{"task.train": "several batches, for x, y in task_batches(task)"}):
        draw = lambda _, step: batches[step]  # noqa: E731
        list(train_on_tasks(net, [TaskData(batches)] * 2, method, optimizer, steps=3, draw=draw))


def _is_attached_to_one_optimizer_at_a_time(make: Make) -> None:
    """Attaching it again, to the same optimiser or another, replaces the first: training is as if attached once."""
    attached_once, attached_twice = _new(make), _new(make)
    for optimizer in (torch.optim.SGD(attached_twice.net.parameters(), lr=1.0), attached_twice.optimizer):
        attached_twice.method.attach(optimizer)
    for trained in (attached_once, attached_twice):
        trained.learn(_tasks())
    assert same(_weights(attached_once), _weights(attached_twice)), "training differs"


def _resumes_from_a_stored_state(make: Make) -> None:
    """A new method that loads the ``state_dict`` from a file continues bit for bit, within a task and at its end."""
    tasks = _tasks()
    total = len(tasks) * _STEPS
    for stop in (_STEPS, _STEPS + _STEPS // 2):
        uninterrupted, resumed = _new(make), _new(make)
        uninterrupted.learn(tasks, range(stop))
        states = [stored(part.state_dict()) for part in uninterrupted.parts()]
        draws = uninterrupted.draws.get_state()
        uninterrupted.learn(tasks, range(stop, total))
        resumed.method.attach(resumed.optimizer)
        for part, state in zip(resumed.parts(), states, strict=True):
            part.load_state_dict(state)
        resumed.draws.set_state(draws)
        resumed.learn(tasks, range(stop, total))
        assert same(_weights(uninterrupted), _weights(resumed)), f"the continuation from step {stop} differs"


def _refuses_other_states(make: Make) -> None:
    """A state of another form is refused, by an error that names the entry, and changes nothing."""
    trained, other = _new(make), _new(make, _network(7, 9))
    for each in (trained, other):
        each.learn(_tasks()[:2])
    own_state, other_state = (each.method.state_dict() for each in (trained, other))
    shapes = ([getattr(leaf, "shape", ()) for leaf in tree_leaves(state)] for state in (own_state, other_state))
    # A method without a form of its own uses the base class, which cannot recognise the state of another network.
    is_plain = type(trained.method)._form is ContinualMethod._form
    assert_states_are_refused(trained.method, 3 if is_plain or operator.eq(*shapes) else other_state)


def _is_pickled(make: Make) -> None:
    """Pickled with its network, attached or not, it is restored unchanged, but attached to nothing."""
    uninterrupted = _new(make)
    uninterrupted.learn(_tasks()[:1])
    net, method = pickle.loads(pickle.dumps((uninterrupted.net, uninterrupted.method)))  # noqa: S301
    assert method.model is net, "its model is another network than the one that was pickled with it"
    optimizer = torch.optim.SGD(net.parameters(), lr=_LR, momentum=0.9)
    method.attach(optimizer)
    optimizer.load_state_dict(stored(uninterrupted.optimizer.state_dict()))
    draws = torch.Generator()
    draws.set_state(uninterrupted.draws.get_state())
    copied = _Trained(net, method, optimizer, draws)
    for trained in (uninterrupted, copied):
        trained.learn(_tasks()[1:])
    assert same(_weights(uninterrupted), _weights(copied)), "the continuation differs"


def _takes_any_default_dtype(make: Make) -> None:
    """With float64 as torch's default dtype it trains networks of either dtype."""
    with default_dtype(torch.float64):
        _trained_weights(make, _tasks())
        single = _new(make, _network().float())
        single.learn([TaskData((x.float(), y), classes) for (x, y), classes in _tasks()])
    assert all(weight.dtype == torch.float32 for weight in _weights(single)), "the network's dtype was changed"


def _is_the_same_in_eight_threads(make: Make) -> None:
    """In eight threads at once, each with its own network, training is the same as in one thread."""
    expected = _trained_weights(make, _tasks()[:2])
    assert all(same(expected, weights) for weights in in_threads(lambda: _trained_weights(make, _tasks()[:2]))), (
        "threads differ"
    )


def _takes_frozen_layers(make: Make) -> None:
    """Frozen layers stay as they are, and the others are trained."""
    for layer, num_tasks in ((0, 0), (2, 0), (0, 1), (2, 1)):  # before the method is made, or after a task
        net = _network(_HIDDEN, _HIDDEN)
        net[layer].requires_grad_(bool(num_tasks))
        trained = _new(make, net)
        for task in _tasks()[:num_tasks]:
            trained.learn([task])
        net[layer].requires_grad_(False)
        before = [p.detach().clone() for p in net[layer].parameters()]
        trained.learn(_tasks()[num_tasks:])
        assert same(before, net[layer].parameters()), f"frozen layer {layer} was changed"


def _takes_shared_weights(make: Make) -> None:
    """Two layers may share their weights."""
    net = _network(_HIDDEN, _HIDDEN, _HIDDEN)
    net.get_submodule("4").weight = net.get_submodule("2").weight
    trained = _new(make, net)
    trained.learn(_tasks())
    assert all(weight.isfinite().all() for weight in _weights(trained)), "a weight is not finite"


def _is_nothing_without_strength(make: Make) -> None:
    """``strength=0`` equals fine-tuning, bit for bit."""
    tasks = _tasks()
    without = _trained_weights(lambda model: make(model, strength=0.0), tasks)
    assert same(without, _trained_weights(ContinualMethod, tasks)), "the weights differ from those of fine-tuning"


def _refuses_bad_input(make: Make) -> None:
    """Invalid networks, generators and optimisers are refused, and the message names them."""
    trained = _new(make)
    assert_refused(
        [
            (lambda: make(3), TypeError, "model"),
            (lambda: make(copy.deepcopy(trained.net), generator=3), TypeError, "generator"),
            (lambda: trained.method.attach(3), TypeError, "optimizer"),  # type: ignore[arg-type]
        ]
    )
