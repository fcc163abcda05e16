"""Statistics of weights and activity of small networks while different rules train them."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks

RATES = {
    "sgd": (0.05, 0.1, 0.2),
    "momentum": (0.05, 0.1, 0.2),  # a tenth of these would be nearly the same as SGD
    "adam": (0.0005, 0.001, 0.002),
    "feedback-alignment": (0.05, 0.1, 0.2),
}
RULES = tuple(RATES)
SIZES = (64, 32, 10)
OBSERVABLES = 8
BATCH = 32


def digits() -> tuple[Float[Tensor, "images pixels"], Int[Tensor, "images"]]:
    """The digit images of scikit-learn, with pixels from 0 to 1, and their classes."""
    from sklearn.datasets import load_digits  # takes as long to import as torch

    bunch = load_digits()
    return torch.from_numpy(bunch.data / 16).float(), torch.from_numpy(bunch.target)


def learning_rule_traces(
    rule: str,
    networks: int,
    generator: torch.Generator,
    *,
    observations: int = 200,
    every: int = 5,
    probes: int = 300,
    order: Int[Tensor, "images"] | None = None,
) -> Float[Tensor, "networks observations observables"]:
    """Observables of networks of 64-32-10 units while they are trained on digits.

    For each layer: mean, standard deviation, norm and largest absolute value of the weights; mean, standard deviation,
    mean absolute value and fraction of positive values of its activity, on images that are not trained on. Hidden units
    are rectified. The networks take the three learning rates of the rule in turn. Feedback alignment sends errors back
    through fixed random weights.

    Args:
        rule: Learning rule, one of ``RULES``.
        networks: Number of networks.
        generator: Draws weights and batches, and the order of the images if it is not given.
        observations: Number of observations.
        every: Number of steps from one observation to the next.
        probes: Number of images on which activity is observed, the same for all steps and networks.
        order: Order of all images, the first of which are observed and the others trained on; give several rules the
            same one to compare them on the same images. By default, it is drawn.

    Raises:
        ValueError: ``rule`` is unknown, a number is out of range, or ``order`` does not hold each image once.

    Source: our design, after the observables of Nayebi et al., "Identifying learning rules from neural network
    observables" (2020), and the case study of Ostrow et al. (2023).

    Examples:
        >>> learning_rule_traces("sgd", 3, torch.Generator().manual_seed(0), observations=4).shape
        torch.Size([3, 4, 16])
    """
    checks.arguments()
    checks.choice("rule", rule, RULES)
    for name, value in {"networks": networks, "observations": observations, "every": every}.items():
        checks.size(name, value)
    images, labels = digits()
    checks.size("probes", probes, maximum=len(images) - 1)
    if order is None:
        order = torch.randperm(len(images), generator=generator)
    elif not torch.equal(order.sort().values, torch.arange(len(images))):
        raise ValueError(f"order = {checks.shown(order)}: expected every number from 0 to {len(images) - 1} once")
    probe, images, labels = images[order[:probes]], images[order[probes:]], labels[order[probes:]]
    weights, biases = [], []
    for width, out in pairwise(SIZES):
        weights.append(torch.randn(networks, width, out, generator=generator, dtype=images.dtype) * (2 / width) ** 0.5)
        biases.append(images.new_zeros(networks, 1, out))
    feedback = (
        torch.randn(networks, SIZES[2], SIZES[1], generator=generator, dtype=images.dtype) * (2 / SIZES[1]) ** 0.5
    )
    rates = images.new_tensor(RATES[rule])[torch.arange(networks) % 3][:, None, None]
    parameters = [*weights, *biases]
    first_moments, second_moments = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    traces = images.new_empty(networks, observations, 2 * OBSERVABLES)
    for step in range(observations * every):
        if step % every == 0:
            hidden = (probe @ weights[0] + biases[0]).relu()
            layers = zip(weights, (hidden, hidden @ weights[1] + biases[1]), strict=True)
            traces[:, step // every] = torch.cat([_observed(*layer) for layer in layers], dim=1)
        rows = torch.randint(len(images), (networks, BATCH), generator=generator)
        x = images[rows]
        hidden = (x @ weights[0] + biases[0]).relu()
        out = hidden @ weights[1] + biases[1]
        error = (out.softmax(2) - torch.nn.functional.one_hot(labels[rows], SIZES[2])) / BATCH
        back = feedback if rule == "feedback-alignment" else weights[1].transpose(1, 2)
        inner = (error @ back) * (hidden > 0)
        gradients = [x.transpose(1, 2) @ inner, hidden.transpose(1, 2) @ error, inner.sum(1, True), error.sum(1, True)]
        for parameter, gradient, m, v in zip(parameters, gradients, first_moments, second_moments, strict=True):
            if rule == "momentum":
                parameter.sub_(rates * m.mul_(0.9).add_(gradient))
            elif rule == "adam":
                m.lerp_(gradient, 0.1)
                v.lerp_(gradient * gradient, 0.001)
                parameter.sub_(rates * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))
            else:
                parameter.sub_(rates * gradient)
    return traces


def _observed(
    weight: Float[Tensor, "networks inputs outputs"], activity: Float[Tensor, "networks batch outputs"]
) -> Float[Tensor, "networks observables"]:
    w, a = weight.flatten(1), activity.flatten(1)
    columns = [w.mean(1), w.std(1), w.norm(dim=1), w.abs().amax(1), a.mean(1), a.std(1), a.abs().mean(1)]
    return torch.stack([*columns, (a > 0).float().mean(1)], dim=1)
