"""The importance of each parameter for a network's output: exact means over samples of per-sample gradients.

The square, or the magnitude, of a batch's mean gradient differs from these, since opposite gradients cancel in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.continual.parameters import Select, slow_parameters
from engram.meta.per_sample import at_least_single, power_sums
from engram.nn.modes import evaluation_mode
from engram.nn.sequence import full_precision

Data = Iterable[Any]
FISHERS = ("auto", "all", "sample", "true", "predicted")
OUTPUTS = ("logits", "softmax")
NORMS = ("l2sq", "l1", "vector")
FEW = 10  # largest number of classes for which "auto" is "all"


def fisher_diagonal(
    model: nn.Module,
    data: Data,
    *,
    fisher: str = "auto",
    n_samples: int | None = None,
    classes: Sequence[int] | None = None,
    select: Select = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of a classifier, by parameter.

        F_k = (1/N) sum_n E_{c ~ q(x_n)} (d log p(c | x_n) / d theta_k)^2

    The network runs in evaluation mode, and is left as it was. Linear and convolutional layers cost one pass for a
    batch; other layers cost a gradient for each sample.

    Args:
        model: Returns logits, (batch, classes).
        data: Batches, as a ``DataLoader`` yields them: (inputs, labels), or inputs alone where no labels are needed.
        fisher: q. ``"all"``: the network's own probabilities, exactly. ``"sample"``: one class drawn from them.
            ``"true"``: the given label, the "empirical Fisher". ``"predicted"``: the most probable class. ``"auto"``:
            ``"all"`` for at most 10 classes, else ``"sample"``.
        n_samples: Number of samples to use, from the front of the data (which should then be shuffled); None: all.
        classes: The outputs over which the softmax runs, such as those of one task; None: all.
        select: The parameters, as in ``slow_parameters``.
        generator: Draws the classes of ``"sample"``; None: torch's own.

    Raises:
        TypeError: ``data`` yields something other than batches of tensors.
        ValueError: An argument is out of range, there is no sample, or a label is not among the classes.
        FloatingPointError: An importance is not finite.

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (2017); the kinds are compared
    by van de Ven, "On the computation of the Fisher information in continual learning" (2025).

    Examples:
        >>> net = nn.Linear(1, 2, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> fisher_diagonal(net, [torch.tensor([[2.0], [0.0]])])["weight"]
        tensor([[0.5000], [0.5000]])
    """
    checks.arguments()
    checks.choice("fisher", fisher, FISHERS)

    def cotangents(output: Tensor, labels: Tensor | None) -> Tensor:
        active = _active(output, classes)
        # In float64, as 1 - p of a confident network is 0 in float32.
        logarithms = output[:, active].double().log_softmax(1)
        p = logarithms.exp()
        kind = fisher if fisher != "auto" else "all" if len(active) <= FEW else "sample"
        if kind == "all":
            one_hot = torch.eye(len(active), dtype=p.dtype, device=p.device)[:, None]
            directions = (logarithms.T / 2).exp()[:, :, None] * (one_hot - p)
        else:
            if kind == "sample":
                class_indices = (
                    p.to(generator.device if generator else p.device).multinomial(1, generator=generator).to(p.device)
                )
            elif kind == "predicted":
                class_indices = p.argmax(1, keepdim=True)
            else:
                class_indices = _class_indices(labels, active)[:, None]
            directions = (-p).scatter_add(1, class_indices, torch.ones_like(p))[None]
        padded = output.new_zeros(len(directions), *output.shape)
        padded[:, :, active] = directions.to(output.dtype)
        return padded

    return _mean(model, data, select, n_samples, cotangents, power=2)


def gradient_magnitude(
    model: nn.Module,
    data: Data,
    *,
    output: str = "logits",
    norm: str = "l2sq",
    batched: bool = False,
    n_samples: int | None = None,
    classes: Sequence[int] | None = None,
    select: Select = None,
) -> dict[str, Tensor]:
    """The mean magnitude of the gradient of a network's output, by parameter; no labels are needed.

        (1/N) sum_n |d ||F(x_n)||_2^2 / d theta_k|

    Args:
        model: Returns (batch, outputs).
        data: Batches, as a ``DataLoader`` yields them: inputs, or pairs (inputs, labels).
        output: F: ``"logits"``, the model's output, or its ``"softmax"``.
        norm: ``"l2sq"``: as above. ``"l1"``: with ||F(x_n)||_1 instead. ``"vector"``: the magnitude of each output's
            gradient, summed over outputs.
        batched: Take the magnitude of the gradient of a whole batch, in which opposite gradients cancel, as the
            authors' code does.
        n_samples: Number of samples to use, from the front of the data; None: all.
        classes: The outputs to use; None: all.
        select: The parameters, as in ``slow_parameters``.

    Raises:
        TypeError: ``data`` yields something other than batches of tensors.
        ValueError: An argument is out of range, or there is no sample.
        FloatingPointError: An importance is not finite.

    Source: Aljundi et al., "Memory aware synapses: learning what (not) to forget" (2018), equations 2 and 4.

    Examples:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -1.0]]))
        >>> gradient_magnitude(net, [torch.tensor([[2.0, 1.0]])])["weight"].tolist()
        [[4.0, 2.0]]
    """
    checks.choice("output", output, OUTPUTS)
    checks.choice("norm", norm, NORMS)

    def cotangents(outputs: Tensor, labels: Tensor | None) -> Tensor:
        logits = outputs.detach().requires_grad_()
        f = logits[:, _active(outputs, classes)]
        f = f.softmax(1) if output == "softmax" else f
        norms = {"l2sq": f.square().sum()[None], "l1": f.abs().sum()[None], "vector": f.sum(0)}[norm]
        return torch.stack([torch.autograd.grad(value, logits, retain_graph=True)[0] for value in norms])

    return _mean(model, data, select, n_samples, cotangents, power=1, batched=batched)


Cotangents = Callable[..., Float[Tensor, "cotangents batch outputs"]]  # of outputs and labels


def _mean(
    model: nn.Module,
    data: Data,
    select: Select,
    n_samples: int | None,
    cotangents: Cotangents,
    *,
    power: int,
    batched: bool = False,
) -> dict[str, Tensor]:
    """The mean over samples of sum_v |J^T v|^power; J is the Jacobian of the outputs, v are the cotangents."""
    checks.arguments()
    parameters = slow_parameters(model, select)
    sums = {name: torch.zeros_like(p, dtype=at_least_single(p.dtype)).detach() for name, p in parameters.items()}
    verified: dict[str, bool] = {}
    count = 0
    device = next(iter(parameters.values())).device
    with _evaluation_mode(model, device):
        for inputs, labels in _batches(data, n_samples, device):
            cotangents_of = partial(cotangents, labels=labels)
            power_sums(model, parameters, inputs, cotangents_of, sums, verified=verified, power=power, batched=batched)
            count += len(inputs)
    if not count:
        raise ValueError("data holds no sample: expected at least one")
    sums = {name: total.div_(count).to(parameters[name].dtype) for name, total in sums.items()}
    for name, total in sums.items():
        if not total.isfinite().all():
            raise FloatingPointError(f"the importance of parameter {name!r} is not finite: does the network diverge?")
    if not any(total.any() for total in sums.values()):
        message = "every importance is 0: the network is certain of all its answers, or ignores its input"
        warnings.warn(message, stacklevel=3)
    return sums


@contextmanager
def _evaluation_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Run the network in evaluation mode, without autocast and uncompiled, then restore the mode of each module.

    Recurrent layers run without cuDNN, which cannot differentiate them in evaluation mode. What is compiled cannot be
    looked into.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("torch.inference_mode is on: expected it off, since importance needs derivatives")
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(full_precision(device))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _batches(data: Data, n_samples: int | None, device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield inputs and labels, at most ``n_samples`` samples in all."""
    remaining = None if n_samples is None else checks.size("n_samples", n_samples)
    for batch in data:
        inputs, labels, *_ = (*batch, None) if isinstance(batch, tuple | list) else (batch, None)
        for tensor in (inputs, *([] if labels is None else [labels])):
            if not isinstance(tensor, Tensor) or not tensor.ndim:
                raise TypeError(f"data yields a {type(batch).__name__}: expected batches of tensors, (inputs, labels)")
        if labels is not None and len(labels) != len(inputs):
            raise ValueError(f"data yields {len(inputs)} inputs with {len(labels)} labels: expected equal numbers")
        if not len(inputs):
            continue
        inputs, labels = inputs[:remaining].to(device), None if labels is None else labels[:remaining].to(device)
        yield inputs, labels
        if remaining is not None and not (remaining := remaining - len(inputs)):
            return


def _active(output: Tensor, classes: Sequence[int] | None) -> Tensor:
    """The indices of the outputs that count."""
    all_outputs = torch.arange(output.shape[1], device=output.device)
    if classes is None:
        return all_outputs
    with checks.noted(classes=classes):
        active = torch.as_tensor(classes, device=output.device)
    are_indices = active.ndim == 1 and len(active) and not active.is_floating_point() and active.dtype != torch.bool
    if not are_indices or not torch.isin(active, all_outputs).all() or len(set(active.tolist())) < len(active):
        expected = f"different indices of the model's {len(all_outputs)} outputs"
        raise ValueError(f"classes = {checks.shown(classes)}: expected {expected}")
    return active


def _class_indices(labels: Tensor | None, active: Tensor) -> Tensor:
    """The index of each label among the active classes."""
    if labels is None:
        raise ValueError("fisher = 'true': expected data of (inputs, labels), not inputs alone")
    matches = labels[:, None] == active
    if not matches.any(1).all():
        unknown_label = int(labels[~matches.any(1)][0])
        raise ValueError(f"labels hold {unknown_label}: expected classes among {active.tolist()}")
    return matches.long().argmax(1)
