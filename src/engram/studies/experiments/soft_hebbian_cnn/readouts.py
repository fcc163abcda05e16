"""Linear readouts, the same for all networks: by ridge from quadrants of each layer, and the published one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram.lab import Run
from engram.rules import quadrants
from engram.studies.experiments.soft_hebbian_cnn.networks import EVALUATED

PENALTIES = (1e0, 1e1, 1e2, 1e3, 1e4, 1e5)
CLASSES = 10
BATCH, RATE = 64, 0.001
HALVED_AT = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the epochs of the published readout


class Readout(NamedTuple):
    """A ridge readout.

    Attributes:
        validated: Accuracy on the second half of the training samples, when fitted to the first.
        accuracy: Accuracy on test samples, when fitted to all training samples; NaN without test samples.
        penalty: The penalty, chosen by ``validated``.
    """

    validated: float
    accuracy: float
    penalty: float


@torch.no_grad()
def features(net: nn.Sequential, images: Tensor) -> list[Float[Tensor, "samples features"]]:
    """The means of each layer's maps over their quadrants.

    Args:
        net: The layers.
        images: The images.
    """
    rows: list[list[Tensor]] = [[] for _ in net]
    for part in torch.split(images, EVALUATED):
        activity = part
        for block, row in zip(net, rows, strict=True):
            activity = block(activity)
            row.append(quadrants(activity))
    return [torch.cat(row) for row in rows]


def weights_of(
    x: Float[Tensor, "samples features"], y: Float[Tensor, "samples classes"], penalties: tuple[float, ...]
) -> list[Float[Tensor, "features classes"]]:
    """The coefficients of ridge regressions of centred samples, one for each penalty."""
    moments, products = (x.T @ x).double(), (x.T @ y).double()
    eye = torch.eye(len(moments), dtype=torch.float64, device=x.device)
    return [torch.linalg.solve(moments + penalty * eye, products).to(x) for penalty in penalties]


def ridge(
    train: Float[Tensor, "samples features"],
    labels: Int[Tensor, " samples"],
    test: Float[Tensor, "unseen features"] | None = None,
    test_labels: Int[Tensor, " unseen"] | None = None,
) -> Readout:
    """The accuracy of a ridge classifier of standardised features, whose penalty is chosen by validation.

    Args:
        train: Features of the training samples.
        labels: Their classes.
        test: Features of test samples.
        test_labels: Their classes.
    """
    half = len(train) // 2

    def accuracies(fitted: slice, unseen: Tensor, answers: Tensor, penalties: tuple[float, ...]) -> list[float]:
        x, y = train[fitted], functional.one_hot(labels[fitted], CLASSES).to(train)
        mean, spread, offset = x.mean(0), x.std(0) + 1e-6, y.mean(0)
        weights = weights_of((x - mean) / spread, y - offset, penalties)
        unseen = (unseen - mean) / spread
        return [float(((unseen @ weight + offset).argmax(1) == answers).double().mean()) for weight in weights]

    validated = accuracies(slice(half), train[half:], labels[half:], PENALTIES)
    best = max(range(len(PENALTIES)), key=validated.__getitem__)
    accuracy = float("nan")
    if test is not None and test_labels is not None:
        (accuracy,) = accuracies(slice(None), test, test_labels, PENALTIES[best : best + 1])
    return Readout(validated[best], accuracy, PENALTIES[best])


@torch.no_grad()
def activities(net: nn.Sequential, images: Tensor) -> Float[Tensor, "samples features"]:
    """The whole output of the last layer, in half precision."""
    return torch.cat([net(part).flatten(1).half() for part in torch.split(images, EVALUATED)])


def train_with_dropout(
    net: nn.Sequential,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    epochs: int,
    run: Run,
) -> float:
    """The test accuracy of the published readout: a linear layer of all activities of layer 3, with dropout, by Adam.

    Args:
        net: The layers.
        train: Training images and their classes.
        test: Test images and their classes.
        epochs: Number of passes; at fixed shares of them the rate is halved.
        run: The run.
    """
    x, unseen = activities(net, train[0]), activities(net, test[0])
    head = nn.Linear(x.shape[1], CLASSES).to(run.device)
    nn.init.uniform_(head.weight, -(x.shape[1] ** -0.5), x.shape[1] ** -0.5, generator=run.generator)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam(head.parameters(), RATE)
    milestones = [round(share * epochs) for share in HALVED_AT]
    order = run.rng.permutation(len(x))
    for epoch in run.steps(epochs, head=head, optimizer=optimizer, order=order):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 ** sum(epoch >= milestone for milestone in milestones)
        run.rng.shuffle(order)
        for rows in torch.split(torch.from_numpy(order), BATCH):
            kept = torch.rand(len(rows), x.shape[1], generator=run.generator) < 0.5
            loss = functional.cross_entropy(head(2 * x[rows].float() * kept.to(run.device)), train[1][rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        run.log(epoch + 1, readout_loss=loss)
    with torch.no_grad():
        answers = torch.cat([head(part.float()).argmax(1) for part in torch.split(unseen, 500)])
    return float((answers == test[1]).double().mean())
