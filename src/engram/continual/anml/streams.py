"""Learning a stream of classes, each image once, and the accuracy at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.continual.anml.gated_net import GatedNet, zap_
from engram.continual.anml.meta_learner import labels
from engram.copying import copied

BATCH = 256  # images in a forward pass without learning


class Stream(NamedTuple):
    """A stream of classes to learn, in the order of their labels, and held-out images of the same classes."""

    x: Float[Tensor, "images ..."]
    y: Int[Tensor, " images"]
    test_x: Float[Tensor, "tests ..."]
    test_y: Int[Tensor, " tests"]


class Remembered(NamedTuple):
    """A network's accuracies at the end of streams of one length.

    Attributes:
        classes: Number of classes.
        lr: The chosen learning rate.
        seen: Accuracy on the images of the stream, for each run.
        held_out: Accuracy on held-out images of the same classes, for each run.
        by_class: Accuracy on the held-out images by class, in the order of the stream, (runs, classes).
    """

    classes: int
    lr: float
    seen: tuple[float, ...]
    held_out: tuple[float, ...]
    by_class: Float[Tensor, "runs classes"]


def learn_stream(
    net: GatedNet,
    x: Float[Tensor, "images ..."],
    y: Int[Tensor, " images"],
    *,
    generator: torch.Generator,
    lr: float = 1e-3,
    train: Collection[str] = ("head",),
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
) -> GatedNet:
    """Learn images one after another, with one optimiser step each, after redrawing the last layer, with biases of 0.

    If only the head learns, features are computed once for all images, with the same result, since body and gate treat
    each image by itself.

    Args:
        net: The network, which is not changed.
        x: The images, in order.
        y: Their classes.
        generator: Source of the last layer's weights.
        lr: Learning rate.
        train: The parts that learn: ``"body"``, ``"gate"``, ``"head"``, or submodules or parameters of them.
        optimizer: Class of the optimiser, such as ``torch.optim.Adam``, called with ``lr``; None: Adam, as in the
            released code (the paper says SGD).

    Returns:
        A copy of the network that has learned.

    Raises:
        TypeError: Labels are not integers.
        ValueError: Labels are beyond the network's outputs, or there is not one for each image; a name in ``train`` is
            not in the network; or ``lr`` is negative or not finite.

    Source: Beaulieu et al., "Learning to continually learn" (2020), section 3, meta-testing.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> net = GatedNet(nn.Flatten(), nn.Linear(4, 2))
        >>> x = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]).reshape(2, 1, 2, 2)
        >>> learn_stream(net, x, torch.tensor([0, 1]), generator=generator, lr=10.0)(x).argmax(1)
        tensor([0, 1])
    """
    y = labels("y", y, checks.instance("x", x, Tensor), checks.instance("net", net, GatedNet))
    checks.number("lr", lr, minimum=0)
    checks.instance("train", train, Collection)  # type: ignore[type-abstract]
    trained = copied(net).requires_grad_(False)
    moving: dict[int, Tensor] = {}  # each once, also if it is named twice
    for name in train:
        selected = [p for n, p in trained.named_parameters() if f"{n}.".startswith(f"{name}.")]
        if not selected:
            raise ValueError(f"train has {name!r}: expected names of submodules or parameters, as 'head'")
        moving |= {id(parameter): parameter.requires_grad_() for parameter in selected}
    moving_parameters = list(moving.values())
    zap_(trained.readout, None, generator)
    if trained.readout.bias is not None:
        nn.init.zeros_(trained.readout.bias)
    inputs, model = (_features(trained, x), trained.head) if _head_alone(train) else (x, trained)
    with checks.noted(optimizer=optimizer):
        solver = (
            torch.optim.Adam(moving_parameters, lr=lr, fused=True)
            if optimizer is None
            else optimizer(moving_parameters, lr=lr)
        )
    for i in range(len(inputs)):
        loss = functional.cross_entropy(model(inputs[i : i + 1]), y[i : i + 1])
        solver.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        solver.step()
    return trained.requires_grad_()


def evaluate_lengths(
    net: GatedNet,
    pool: Float[Tensor, "classes drawings channels height width"],
    lengths: Sequence[int],
    *,
    generator: torch.Generator,
    lrs: Sequence[float] = (1e-3,),
    shots: int = 15,
    selections: int = 10,
    runs: int = 10,
    shuffled: bool = False,
    train: Collection[str] = ("head",),
) -> list[Remembered]:
    """Learn streams of new classes, of several lengths, and measure the accuracy at their end, over all outputs.

    The learning rate for a length is chosen on separate streams, which are not counted: it is the rate that most often
    gives the best accuracy on the learned images.

    Args:
        net: The network, which is not changed.
        pool: Images of classes that the network has not seen.
        lengths: Numbers of classes in a stream.
        generator: Source of classes, orders and weights.
        lrs: Learning rates to choose from.
        shots: Number of images of each class to learn, the first ones; the others are held out.
        selections: Number of streams for choosing among several learning rates.
        runs: Number of streams of each length.
        shuffled: Whether the images come in random order, which causes no forgetting: the oracle.
        train: The parts that learn: ``"body"``, ``"gate"``, ``"head"``, or submodules or parameters of them.

    Raises:
        ValueError: There are more classes than in the pool or than outputs of the network, no images left to hold out,
            or no learning rates.

    Source: Beaulieu et al., "Learning to continually learn" (2020), section 4.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> pool = torch.eye(4).reshape(4, 1, 1, 2, 2).repeat(1, 3, 1, 1, 1)
        >>> net = GatedNet(nn.Flatten(), nn.Linear(4, 4))
        >>> evaluate_lengths(net, pool, (2, 4), generator=generator, shots=2)[1].by_class.shape
        torch.Size([10, 4])
    """
    checks.instance("net", net, GatedNet)
    checks.instance("pool", pool, Tensor)
    for name, value in (("lengths", lengths), ("lrs", lrs)):
        checks.instance(name, value, Sequence)  # type: ignore[type-abstract]
    checks.instance("train", train, Collection)  # type: ignore[type-abstract]
    for index, length in enumerate(lengths):
        if checks.size(f"lengths[{index}]", length) > len(pool):
            raise ValueError(f"lengths[{index}] = {length}: expected at most {len(pool)}, the classes of the pool")
        if length > net.readout_size:
            raise ValueError(f"lengths[{index}] = {length}: expected at most {net.readout_size}, the network's outputs")
    if checks.size("shots", shots) >= pool.shape[1]:
        raise ValueError(f"shots = {shots}: expected fewer than the {pool.shape[1]} images of each class in the pool")
    if not lrs:
        raise ValueError("lrs is empty: expected at least one learning rate")
    checks.size("runs", runs)
    checks.size("selections", selections)
    if _head_alone(train):  # features once for all streams
        learner = GatedNet(nn.Identity(), net.head)
        features = _features(net, pool.flatten(0, 1))
        pool = features.reshape(*pool.shape[:2], -1)
    else:
        learner = net

    def learn(stream: Stream, lr: float) -> GatedNet:
        return learn_stream(learner, stream.x, stream.y, generator=generator, lr=lr, train=train)

    remembered = []
    for length in lengths:
        draw = partial(_draw, pool, length, shots, shuffled, generator)
        lr = lrs[0]
        if len(lrs) > 1:
            best_rates = []
            for _ in range(selections):
                stream = draw()
                best_rates.append(
                    max(lrs, key=lambda rate: _correct(learn(stream, rate), stream.x, stream.y).mean().item())
                )
            lr = Counter(best_rates).most_common(1)[0][0]
        trained_accuracies, by_class = [], []
        for _ in range(runs):
            stream = draw()
            trained = learn(stream, lr)
            trained_accuracies.append(_correct(trained, stream.x, stream.y).mean().item())
            by_class.append(_correct(trained, stream.test_x, stream.test_y).reshape(length, -1).mean(1))
        held_out = tuple(accuracies.mean().item() for accuracies in by_class)
        remembered.append(Remembered(length, lr, tuple(trained_accuracies), held_out, torch.stack(by_class)))
    return remembered


def _draw(pool: Tensor, length: int, shots: int, shuffled: bool, generator: torch.Generator) -> Stream:
    """Draw classes in random order and shuffle the images to learn within each class, or all of them."""
    class_images = pool[torch.randperm(len(pool), generator=generator)[:length]]
    labels = torch.arange(length, device=pool.device)
    y = labels.repeat_interleave(shots)
    x = torch.cat([images[torch.randperm(shots, generator=generator)] for images in class_images])
    if shuffled:
        order = torch.randperm(len(y), generator=generator)
        x, y = x[order], y[order]
    tests = pool.shape[1] - shots
    return Stream(x, y, class_images[:, shots:].flatten(0, 1), labels.repeat_interleave(tests))


def _head_alone(train: Collection[str]) -> bool:
    return all(f"{name}.".startswith("head.") for name in train)


@torch.no_grad()
def _features(net: GatedNet, x: Tensor) -> Tensor:
    return torch.cat([net.features(batch).post for batch in torch.split(x, BATCH)])


@torch.no_grad()
def _correct(net: GatedNet, x: Tensor, y: Tensor) -> Tensor:
    """1 for each image that is classified correctly among all outputs, else 0."""
    batches = zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True)
    return torch.cat([(net(images).argmax(1) == classes).float() for images, classes in batches])
