"""Optimisers learn a preconditioning matrix from consecutive gradients alone (Moskovitz et al., 2019).

Only the abstract of the paper could be read, so tasks and criteria are ours. Every gain is compared with that of a
control, which learns one scalar in place of each matrix: what the control gains is due to an adapted learning rate, and
only the rest to directions. Baselines at other learning rates, and at rates that decay, show how much the choice of
the rate matters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.lab import Experiment, Measure, Preset, Quantity, Results, Study, claims_from, maximum, met, metric, minimum
from engram.studies.experiments.first_order_preconditioning import bowl, cartpole, cifar, digits, overhead
from engram.studies.experiments.small_images import check_files

SCALAR: dict[str, Any] = {"structure": "scalar"}
MOMENTUM: dict[str, Any] = {"momentum": 0.9}
ALONE: dict[str, Any] = {"rho": 0.0}  # the base optimiser, without a preconditioner
at_one_rate: dict[str, Any] = {"rates": (0.1,)}
bowl_arms: dict[str, dict[str, Any]] = {
    "bowl-sgd": ALONE,
    "bowl-momentum": {**ALONE, **MOMENTUM},
    "bowl-fop": {},
    "bowl-fop-0.1": at_one_rate,
    **{f"bowl-scalar-{rho}": {**at_one_rate, "rho": rho, **SCALAR} for rho in (0.01, 0.03)},
    **{f"bowl-plain-{rho}": {**at_one_rate, "rho": rho, "hypergrad_norm": "none"} for rho in (0.0, 0.01, 0.02, 0.05)},
}
for batch in (64, 16):
    noisy: dict[str, Any] = {"batch_size": batch, "rho": 0.03, "steps": 1500}
    half: dict[str, Any] = {**noisy, **MOMENTUM, "rho": 0.01, "rates": (0.05,)}
    bowl_arms |= {
        f"noisy-{batch}-sgd": {**noisy, **ALONE},
        f"noisy-{batch}-momentum": {**noisy, **ALONE, **MOMENTUM},
        f"noisy-{batch}-fop": noisy,
        f"noisy-{batch}-scalar": {**noisy, **SCALAR},
        f"noisy-{batch}-half-momentum": {**half, **ALONE},
        f"noisy-{batch}-half-momentum-fop": half,
        f"noisy-{batch}-half-momentum-scalar": {**half, **SCALAR},
    }
BASES: dict[str, dict[str, Any]] = {
    "sgd": {"rates": (0.02, 0.06, 0.2)},
    "momentum": {**MOMENTUM, "clamp": False, "rates": (0.006, 0.02, 0.06)},
    "adam": {"base": "adam", "rates": (1e-3, 3e-3, 1e-2)},
}
SMALL = {"sgd": (0.02,), "momentum": (0.02,), "adam": (1e-3,)}
digits_arms: dict[str, dict[str, Any]] = {}
for base, settings in BASES.items():
    for learned, changes in (("", ALONE), ("-fop", {}), ("-scalar", SCALAR)):
        digits_arms[f"digits-{base}{learned}"] = {**settings, **changes, "rates": SMALL[base]}
        digits_arms[f"digits-{base}{learned}-tuned"] = {**settings, **changes}
for learned, changes in (("-fop", {}), ("-scalar", SCALAR)):
    free = {**changes, "rho": 0.1, "clamp": False}
    digits_arms |= {f"digits-sgd{learned}-free": free, f"digits-sgd{learned}-free-fast": {**free, "rates": (0.1,)}}
digits_arms["digits-sgd-fast"] = {**ALONE, "rates": (0.1,)}
before: dict[str, Any] = {**MOMENTUM, "placement": "gradient"}
digits_arms |= {"digits-momentum-before": {**before, "clamp": False}, "digits-momentum-before-clamped": before}
for same_arms, decaying in (
    (bowl_arms, ("noisy-64-momentum", "noisy-64-fop")),
    (digits_arms, ("digits-momentum-tuned", "digits-momentum-fop-tuned")),
):
    same_arms |= {f"{arm}-decay": {**same_arms[arm], "decays": True} for arm in decaying}
pole_arms: dict[str, dict[str, Any]] = {"pole-adam": ALONE, "pole-fop": {}, "pole-scalar": SCALAR}
pole_arms |= {
    f"{arm}-tuned": {**pole_arms[arm], "rates": (3e-4, 1e-3, 3e-3, 1e-2)} for arm in ("pole-adam", "pole-fop")
}
photographs: dict[str, Any] = {**MOMENTUM, "rates": (0.006, 0.02, 0.06)}
cifar_arms: dict[str, dict[str, Any]] = {
    f"cifar-momentum{learned}": {**photographs, **changes}
    for learned, changes in (("", ALONE), ("-fop", {}), ("-scalar", SCALAR))
}
overhead_arms: dict[str, dict[str, Any]] = {
    "overhead-momentum": {**MOMENTUM, "rates": (1e-3,)},
    "overhead-adam": {"base": "adam", "rates": (1e-3,)},
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "bowl": {"steps": 70},
            "digits": {"steps": 4},
            "cartpole": {"worlds": 4, "rollout": 16, "updates": 4},
            "cifar": {"images": "digits", "train_images": 40, "validation_images": 10, "test_images": 10}
            | {"channels": (2, 3), "steps": 2, "batch_size": 8},
            "overhead": {"channels": (2, 3), "steps": 8, "batch_size": 4},
            **{arm: {"steps": 20} for arm in bowl_arms if arm.startswith("noisy")},
        },
        arms=[
            *("bowl-sgd", "bowl-momentum", "bowl-fop", "bowl-fop-0.1", "bowl-scalar-0.01", "bowl-plain-0.02"),
            *("noisy-64-fop", "noisy-16-half-momentum-scalar", "noisy-64-momentum-decay"),
            *("digits-adam-fop", "digits-sgd-scalar-free", "digits-momentum-before", "digits-momentum-before-clamped"),
            *("digits-momentum-fop-tuned-decay", "pole-adam", "pole-fop-tuned"),
            *("cifar-momentum", "cifar-momentum-scalar", *overhead_arms),
        ],
    ),
    "laptop": Preset(seeds=15, looks=(5, 10, 20, 40, 80, 160)),
    # All images of the data set, a network of three convolutions and ten epochs: 40 minutes of one core per seed. In so
    # many steps preconditioners that learn at the default rate harm the network, so their own rate is chosen too.
    "large": Preset(
        seeds=5,
        changes={
            "cifar": {"train_images": 45_000, "validation_images": 5000, "test_images": 10_000}
            | {"channels": (32, 64, 128), "steps": 7000},
            **{f"cifar-momentum-{kind}": {"rho": 1e-3, "rhos": (3e-4, 1e-3, 3e-3)} for kind in ("fop", "scalar")},
        },
        arms=tuple(cifar_arms),
        looks=(5, 10),
    ),
}

loss, steps, accuracy, length = map(metric, ("loss", "steps", "accuracy", "length"))
highest, condition, step_length, unseen = map(metric, ("highest", "condition", "step_length", "unseen_loss"))
LESS, MORE = 0.9, 1.1  # the smallest relevant ratios
STANDARD = "improves standard optimisers (no figure was read)"
paper = claims_from("abstract; task and criterion ours", presets=("laptop",), published=STANDARD)
ours = claims_from("ours", presets=("laptop",))
EVERY, TYPICAL = {"sameness": "numeric"}, {"seeds": 10}  # for medians: few seeds give them no bounded interval


def tamed(kind: str) -> Measure:
    """The ratio of the loss at the smaller of two learning rates to that at the larger."""
    return loss(f"digits-{kind}") / loss(f"digits-{kind}-fast")


bowl_claims = [
    ours("bowl-slow", "Without a learned matrix gradient descent takes three times as many steps down a bowl with "
        "condition number 647 as with one, each at its best rate", steps("bowl-sgd") / steps("bowl-fop") >= 3),
    ours("bowl-momentum-as-fast", "Momentum descends a bowl as fast as a learned matrix, each at its best rate",
        (steps("bowl-momentum") / steps("bowl-fop")).within(1, 1 / 3)),
    ours("bowl-condition", "A learned matrix makes a bowl with condition number 647 nearly round",
        condition("bowl-fop") <= 60, **EVERY),
    ours("bowl-control", "With a scalar in place of the matrix the loss rises during training, at two rates of "
        "learning the scalar", minimum(highest("bowl-scalar-0.01"), highest("bowl-scalar-0.03")) >= 1000, **EVERY),
    ours("noisy-gain-over-momentum", "With batches of 64 a learned matrix lowers the loss of momentum several times, "
        "each at its best constant rate", loss("noisy-64-fop") / loss("noisy-64-momentum") <= 1 / 4),
    ours("noisy-decay", "With batches of 64 momentum with a rate that decays to 0 ends at no higher a loss than a "
        "learned matrix with a constant rate, each at its best rate",
        loss("noisy-64-momentum-decay") / loss("noisy-64-fop") <= MORE),
    ours("noisy-decay-gain", "With batches of 64 and rates that decay to 0, a learned matrix lowers the loss of "
        "momentum several times, each at its best rate",
        loss("noisy-64-fop-decay") / loss("noisy-64-momentum-decay") <= 1 / 4),
    ours("noisy-control", "With batches of 64 a learned scalar ends at a far higher loss than a learned matrix, both "
        "with gradient descent at its best rate",
        loss("noisy-64-scalar") / loss("noisy-64-fop") >= 10),
]  # fmt: skip
for n in (64, 16):
    bowl_claims += [
        ours(f"momentum-control-{n}",
            f"A learned scalar does not halve the loss of momentum at half the rate, with batches of {n}",
            loss(f"noisy-{n}-half-momentum-scalar") / loss(f"noisy-{n}-half-momentum") >= 0.5),
    ]  # fmt: skip
NAMES = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}
digits_claims = [
    *(paper(f"digits-{base}-gain", "At a small learning rate, preconditioning kernels with matrices lowers the final "
        f"training loss of {NAMES[base]} by at least {round(100 - 100 * threshold)} %",
        loss(f"digits-{base}-fop") / loss(f"digits-{base}") <= threshold)
        for base, threshold in (("sgd", 0.65), ("momentum", 0.65), ("adam", 0.6))),
    *(ours(f"digits-{base}-control", "At a small learning rate, a learned scalar per layer typically speeds up "
        f"{NAMES[base]} as much as matrices do",
        (loss(f"digits-{base}-scalar") / loss(f"digits-{base}-fop")).median() <= MORE, **TYPICAL)
        for base in BASES),
    *(paper(f"digits-{base}-tuned", f"Each at its best rate, matrices lower the loss of {NAMES[base]} on unseen digits",
        unseen(f"digits-{base}-fop-tuned") / unseen(f"digits-{base}-tuned") <= LESS) for base in BASES),
    ours("digits-momentum-decay-gain", "With rates that decay to 0, each at its best, matrices lower the loss of "
        "momentum on unseen digits",
        unseen("digits-momentum-fop-tuned-decay") / unseen("digits-momentum-tuned-decay") <= LESS),
]  # fmt: skip
pole_claims = [
    paper("pole-gain", "Adam with matrices balances a pole longer than Adam, over all of training and at the "
        "learning rate at which Stable-Baselines3's zoo begins",
        length("pole-fop") - length("pole-adam") >= 25,
        source="abstract; task and criterion ours, a twentieth of an episode", revised="the same without a margin"),
    ours("pole-control", "Matrices balance a pole longer than scalars, over all of training and at one learning rate",
        length("pole-fop") - length("pole-scalar") >= 25),
    paper("pole-gain-tuned", "Adam with matrices balances a pole longer than Adam by a twentieth of an episode, over "
        "all of training and each at its best rate",
        length("pole-fop-tuned") - length("pole-adam-tuned") >= 25),
]  # fmt: skip
# A point is the smallest gain that reports of optimisers on this data set count, and a tenth the share of a step beyond
# which ten steps alone are as cheap as nine preconditioned ones.
POINT, TENTH = 0.01, 1.1
PART = "On CIFAR-10 (its JPEG copy; laptop: 14,000 images), each at its best rate, "
BOTH = {"presets": ("laptop", "large")}
cifar_claims = [
    paper("cifar-momentum-gain", f"{PART}matrices raise the accuracy of momentum on unseen images by at least a point",
        accuracy("cifar-momentum-fop") - accuracy("cifar-momentum") >= POINT,
        published="improves standard optimisers on several visual classification tasks (no figure was read)", **BOTH),
    ours("cifar-momentum-control", f"{PART}momentum with matrices has an accuracy on unseen images at least a point "
        "above that with a scalar per layer",
        accuracy("cifar-momentum-fop") - accuracy("cifar-momentum-scalar") >= POINT, **BOTH),
    *(paper(f"overhead-{base}", f"A step of {NAMES[base]} with matrices takes at most a tenth longer than one of "
        "torch's own, in a network of three convolutions on images of 32 x 32 pixels in batches of 64 (ratio)",
        metric("ratio_of_seconds")(f"overhead-{base}") <= TENTH,
        published="minimal computational overhead (no figure was read)") for base in ("momentum", "adam")),
]  # fmt: skip
claims = [*bowl_claims, *digits_claims, *pole_claims, *cifar_claims]
quantities = [
    *(
        Quantity(
            f"momentum-gain-{n}",
            f"Loss of momentum at half the rate with a learned matrix over that without, with batches of {n}",
            loss(f"noisy-{n}-half-momentum-fop") / loss(f"noisy-{n}-half-momentum"),
        )
        for n in (64, 16)
    ),
    *(
        Quantity(
            f"digits-{base}-over-scalars",
            f"Loss on unseen digits of {name} with matrices over that with a scalar per layer, each at its best rate",
            unseen(f"digits-{base}-fop-tuned") / unseen(f"digits-{base}-scalar-tuned"),
        )
        for base, name in NAMES.items()
    ),
    Quantity(
        "plain-at-0.01",
        "Share of bowls in which the plain hypergradient at rho 0.01 changes nothing",
        met((steps("bowl-plain-0.01") / steps("bowl-plain-0.0")).within(1.0, 0.03)),
    ),
    Quantity(
        "plain-diverges",
        "Share of bowls in which the plain hypergradient at rho 0.02 and 0.05 diverges",
        met(minimum(highest("bowl-plain-0.02"), highest("bowl-plain-0.05")) >= bowl.LOST),
    ),
    Quantity(
        "steepest-direction",
        "Cosine between the highest curvature and where the matrix is smallest, after 60 steps",
        metric("alignment")("bowl-fop-0.1"),
    ),
    Quantity(
        "newton-steepest",
        "Step of a learned matrix over Newton's along the highest curvature, after 60 steps",
        metric("steepest")("bowl-fop-0.1"),
    ),
    Quantity(
        "newton-flattest",
        "Step of a learned matrix over Newton's along the lowest curvature, after 60 steps",
        metric("flattest")("bowl-fop-0.1"),
    ),
    Quantity(
        "noisy-gain",
        "Loss of a learned matrix over that of gradient descent with batches of 64, each at its best rate",
        loss("noisy-64-fop") / loss("noisy-64-sgd"),
    ),
    Quantity(
        "gain-of-small-batches",
        "Gain of a matrix with batches of 16 over that with batches of 64",
        (loss("noisy-16-sgd") / loss("noisy-16-fop")) / (loss("noisy-64-sgd") / loss("noisy-64-fop")),
    ),
    Quantity(
        "steps-with-noise",
        "Length of the steps of a learned matrix with batches of 16 over that with batches of 64",
        step_length("noisy-16-fop") / step_length("noisy-64-fop"),
    ),
    Quantity(
        "digits-momentum-decay",
        "Loss on unseen digits of momentum with a decaying rate over that with matrices and a constant one",
        unseen("digits-momentum-tuned-decay") / unseen("digits-momentum-fop-tuned"),
    ),
    Quantity(
        "digits-accuracy",
        "Accuracy on unseen digits with kernel matrices minus that of SGD, at a small learning rate",
        accuracy("digits-sgd-fop") - accuracy("digits-sgd"),
    ),
    Quantity(
        "rate-with-matrices",
        "Ratio of losses at rates of 0.02 and 0.1 with matrices over that with SGD (median)",
        (tamed("sgd-fop-free") / tamed("sgd")).median(),
    ),
    Quantity(
        "rate-with-scalars",
        "Ratio of losses at rates of 0.02 and 0.1 with a scalar per layer over that with matrices (median)",
        (tamed("sgd-scalar-free") / tamed("sgd-fop-free")).median(),
    ),
    Quantity(
        "before-momentum",
        "Share of networks with matrices before the momentum that learn nothing, bounded or not",
        met(maximum(accuracy("digits-momentum-before"), accuracy("digits-momentum-before-clamped")) <= 0.2),
    ),
]


def figure(results: Results) -> go.Figure:
    """Step sizes against curvature, and learned matrices: of the bowl as a mean over seeds, of digits of one seed."""
    digits_matrices = results.shown("digits-sgd-fop")
    panels = {
        "of the bowl, after 60 steps": results.values("bowl-fop-0.1", "matrix"),
        "of digits, layer 1, one seed": [matrix for name, matrix in digits_matrices.items() if name == "matrix_1"],
        "of digits, layer 2, one seed": [matrix for name, matrix in digits_matrices.items() if name == "matrix_2"],
    }
    plot = make_subplots(2, 2, subplot_titles=["step along a direction, relative to Newton's", *panels])
    for bowl_result in results.values("bowl-fop-0.1"):
        line: dict[str, Any] = {"x": bowl_result["curvature"], "y": bowl_result["newton"], "mode": "lines+markers"}
        plot.add_scatter(**line, showlegend=False, row=1, col=1)
    for number, matrices in enumerate(panels.values(), 1):
        if matrices:
            mean = np.mean(matrices, axis=0).reshape(bowl.PLACES, bowl.PLACES)
            scale = {"colorscale": "RdBu_r", "zmid": 0, "showscale": False}
            plot.add_heatmap(z=mean[::-1], row=1 + number // 2, col=1 + number % 2, **scale)
    plot.add_hline(y=1, line_dash="dot", row=1, col=1)
    plot.update_xaxes(type="log", title="curvature", row=1, col=1)
    title = "Learned preconditioners: step lengths by curvature, and matrices over the 9 positions of a 3 x 3 kernel"
    return plot.update_layout(title=title, height=820)


def check_requirements(config: Any) -> None:
    """Raise DataError if the images of CIFAR-10 are missing and cannot be fetched."""
    if isinstance(config, cifar.Cifar):
        check_files(config.images)


experiment = Experiment(
    name="first-order-preconditioning",
    about=__doc__,
    paper="Moskovitz, Wang, Lan, Kapoor, Miconi, Yosinski & Rawal, First-Order Preconditioning via Hypergradient "
    "Descent, 2019 (arXiv 1910.08461)",
    studies={
        "bowl": Study(bowl.trial, bowl_arms),
        "digits": Study(digits.trial, digits_arms, gpu=True),
        "cartpole": Study(cartpole.trial, pole_arms),
        "cifar": Study(cifar.trial, cifar_arms, gpu=True),
        "overhead": Study(overhead.trial, overhead_arms),  # processor time says little about a GPU
    },
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    check_requirements=check_requirements,
    answer="""A learned matrix makes a bowl round in the end {bowl-condition} and descends it several times as fast as
    gradient descent {bowl-slow}, though momentum at its best rate needs only a quarter more steps
    {bowl-momentum-as-fast}; after 60 steps its own step is {newton-steepest:0.00} times Newton's along the highest
    curvature, and {newton-flattest:.000} times along the lowest. With noisy batches it divides the loss of momentum by
    nine at constant rates {noisy-gain-over-momentum}, but momentum at a rate that decays ends at {noisy-decay:0 %} of
    the loss that the matrix reaches at a constant one {noisy-decay}, and if both rates decay, the matrix ends at
    {noisy-decay-gain:0 %} of momentum's loss, not at a quarter {noisy-decay-gain}, and in one of ten seeds at twelve
    times; with gradient descent a learned scalar does not come close {noisy-control}, but with momentum at half its
    rate it does as well {momentum-control-64} {momentum-control-16}. On digits at a small learning rate matrices lower
    the training loss of momentum and Adam by more than half {digits-momentum-gain} {digits-adam-gain} and that of SGD
    by 32 % {digits-sgd-gain}, but a learned scalar per layer typically does so too {digits-momentum-control}
    {digits-adam-control}: there, what is learned is the learning rate. With each at its best rate, matrices make none
    of SGD, momentum and Adam better by a tenth on unseen digits {digits-sgd-tuned} {digits-momentum-tuned}
    {digits-adam-tuned}, nor momentum at a rate that decays {digits-momentum-decay-gain}, which without a matrix has
    {digits-momentum-decay:.00} times the loss of one at a constant rate; on CIFAR-10 they raise the accuracy of
    momentum by 1.5 points in 400 steps, which took 40 seeds to decide {cifar-momentum-gain}, and only .4 points above
    that with a scalar {cifar-momentum-control}, but in ten epochs (preset large) by .3 points, and a scalar by .8,
    which five seeds leave open; a step takes 1 to 2 % longer with them {overhead-momentum} {overhead-adam}; at one rate
    they balance a pole no longer than Adam alone {pole-gain} and than scalars do {pole-control}, and at the end of
    training for 418 steps, where Adam alone reaches 475 of 500; whether they balance it longer with each at its best
    rate, five seeds leave open {pole-gain-tuned}. So let the learning rate decay before you try a matrix on badly
    conditioned problems with noisy gradients, and on ordinary networks tune it first.""",
)
