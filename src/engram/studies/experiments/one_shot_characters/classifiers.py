"""Classifiers of drawings: networks with or without a plastic output layer, and discriminants."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from scipy import linalg
from torch import Tensor, nn
from torch.nn import functional

from engram.nn.initial import uniform
from engram.plasticity import Hebb, PlasticLinear, plastic_current
from engram.studies.experiments.one_shot_characters.config import Config
from engram.studies.experiments.reinforcement import rule_of

FEATURES = 64
INITIAL_ALPHA = 0.01  # the initial scale in PlasticLinear
MOST = 256  # largest number of discriminants
SHOWN = 1000.0  # added to the logit of a shown label, so that the softmax is one-hot in float32


class Classifier(nn.Module):
    """An encoder of drawings and an output layer from features to labels, plastic, non-plastic or absent."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        if config.encoder == "convolution":
            channels = (1, FEATURES, FEATURES, FEATURES, FEATURES)
            pairs = itertools.pairwise(channels)
            layers = [uniform(nn.Conv2d, *pair, 3, stride=2, generator=generator) for pair in pairs]
            steps = [step for layer in layers for step in (layer, nn.Tanh())]
            self.encoder = nn.Sequential(nn.Unflatten(1, (1, config.size)), *steps, nn.Flatten())
        else:
            pairs = itertools.pairwise([config.size**2, 2 * FEATURES, FEATURES])
            first, second = (uniform(nn.Linear, *pair, generator=generator) for pair in pairs)
            self.encoder = nn.Sequential(nn.Flatten(), first, nn.Tanh(), second, nn.Tanh())
        rule = rule_of(config.rule, config.eta_init)
        alpha: Literal["connection", "homogeneous"] = "homogeneous" if config.network == "homogeneous" else "connection"
        self.head = PlasticLinear(
            FEATURES, config.ways, rule=rule, alpha=alpha, bias=False, nonlinearity="softmax", generator=generator
        )
        with torch.no_grad():
            self.head.get_parameter("alpha").mul_(config.alpha_init / INITIAL_ALPHA)
        self.network = config.network
        if config.network == "matching":
            del self.head
        elif config.network == "non-plastic":
            self.head.get_parameter("alpha").requires_grad_(False).zero_()
            self.head.rule.requires_grad_(False)

    def forward(
        self, images: Float[Tensor, "time batch size size"], labels: Float[Tensor, "time batch ways"]
    ) -> Float[Tensor, "batch ways"]:
        """The logits of the labels at the last step."""
        if self.network == "non-plastic":
            return functional.linear(self.encoder(images[-1]), self.head.weight)
        features = self.encoder(images.flatten(0, 1)).view(*images.shape[:2], FEATURES)
        if self.network == "matching":
            return nearest_logits(features, labels)
        return (stepwise_logits if self.network == "stepwise" else query_logits)(self.head, features, labels)


def query_logits(
    head: PlasticLinear, features: Float[Tensor, "time batch features"], labels: Float[Tensor, "time batch ways"]
) -> Float[Tensor, "batch ways"]:
    """The logits of the last step after each label was shown once, in closed form.

        oja:   H[k] = eta x_k                        hebb: H[k] = eta (1 - eta)^(shots after k) x_k
        logits = (W + alpha * H) x

    In the published loop 1000 is added to the logit of a shown label, which makes the softmax exactly one-hot in
    float32. So only the features shown with a label are written into its row of the trace, and the steps need not be
    simulated one by one.

    Args:
        head: The output layer, whose rule is ``Oja`` or ``Hebb``.
        features: Features of the drawings, the last one to be classified.
        labels: Their labels, one-hot, no label twice; the last is not read.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the Omniglot experiment; own derivation.

    Examples:
        >>> from engram.plasticity import Oja
        >>> _ = torch.manual_seed(0)
        >>> head = PlasticLinear(2, 2, rule=Oja(0.1), alpha="homogeneous", bias=False)
        >>> features, labels = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 2.0]]]), torch.eye(3, 2).unsqueeze(1)
        >>> (query_logits(head, features, labels) - features[-1] @ head.weight.T).detach()
        tensor([[0.0000, 0.0020]])
    """
    shots, query = features[:-1], features[-1]
    eta: Tensor = head.get_parameter("rule.eta")
    weights = eta.expand(len(shots))
    if isinstance(head.rule, Hebb):
        weights = weights * (1 - eta) ** torch.arange(len(shots) - 1, -1, -1, device=eta.device)
    trace = torch.einsum("t,tbk,tbf->bkf", weights, labels[:-1], shots)
    return plastic_current(functional.linear(query, head.weight), query, head.get_parameter("alpha"), trace)


def stepwise_logits(
    head: PlasticLinear, features: Float[Tensor, "time batch features"], labels: Float[Tensor, "time batch ways"]
) -> Float[Tensor, "batch ways"]:
    """The logits of the last step after each label was shown once, for any rule; a modulated one gets the signal 1.

    Args:
        head: The output layer.
        features: Features of the drawings, the last one to be classified.
        labels: Their labels, one-hot, no label twice; the last is not read.
    """
    shots, query = features[:-1], features[-1]
    signal = shots.new_ones(*shots.shape[:2], 1) if head.rule.modulated else None
    _, state = head(shots, drive=SHOWN * labels[:-1], modulator=signal)
    return plastic_current(functional.linear(query, head.weight), query, head.get_parameter("alpha"), state.trace)


def nearest_logits(
    images: Float[Tensor, "time batch *shape"], labels: Float[Tensor, "time batch ways"]
) -> Float[Tensor, "batch ways"]:
    """The negative squared distance of each label's drawing, or its features, to the last one."""
    return -torch.einsum("tb,tbk->bk", (images[:-1] - images[-1]).square().flatten(2).sum(2), labels[:-1])


class Discriminants(NamedTuple):
    """A Gaussian model of characters, with the directions of largest variance between relative to that within them.

    Attributes:
        mean: The mean of all features.
        directions: The discriminants, best first, scaled to variance 1 within characters.
        variances: The variance between characters along each discriminant.
    """

    mean: Float[Tensor, " features"]
    directions: Float[Tensor, "features discriminants"]
    variances: Float[Tensor, " discriminants"]


def discriminants(features: Float[Tensor, "characters drawings features"], shrinkage: float) -> Discriminants:
    """Fit a Gaussian model with the same covariance within all characters.

        S_b v = lambda (S_w + shrinkage tr(S_w) / n I) v

    Args:
        features: Features of drawings, by character.
        shrinkage: The weight of an isotropic term added to the covariance within characters.

    Source: Ioffe, "Probabilistic linear discriminant analysis" (2006).
    """
    means = features.double().mean(1)
    mean, count = means.mean(0), features.shape[2]
    deviations = (features - means.unsqueeze(1)).flatten(0, 1)
    within, between = (
        deviations.T @ deviations / len(deviations),
        (means - mean).T @ (means - mean) / len(means),
    )
    within += shrinkage * within.trace() / count * torch.eye(count)
    subset = (max(0, count - MOST), count - 1)
    variances, directions = linalg.eigh(between.numpy(), within.numpy(), subset_by_index=subset)
    return Discriminants(
        mean.float(),
        torch.from_numpy(directions[:, ::-1].copy()).float(),
        torch.from_numpy(variances[::-1].copy()).float().clamp(min=0),
    )


def gaussian_logits(
    model: Discriminants,
    features: Float[Tensor, "time batch features"],
    labels: Float[Tensor, "time batch ways"],
    number: int = MOST,
) -> Float[Tensor, "batch ways"]:
    """The log-likelihoods, up to a constant, of the last drawing given the drawing with each label.

        logit[k] = -sum_j (q_j - a_j s[k]_j)^2 / (2 + 2 a_j),   a_j = lambda_j / (1 + lambda_j)

    Args:
        model: The model.
        features: Features of the drawings, the last one to be classified.
        labels: Their labels, one-hot, no label twice; the last is not read.
        number: The number of discriminants.

    Source: Ioffe, "Probabilistic linear discriminant analysis" (2006).
    """
    leading = slice(None, number)
    likeness = model.variances[leading] / (1 + model.variances[leading])
    projected = (features - model.mean) @ model.directions[:, leading]
    expected = torch.cat((likeness * projected[:-1], projected[-1:]))
    return nearest_logits(expected / (2 + 2 * likeness).sqrt(), labels)
