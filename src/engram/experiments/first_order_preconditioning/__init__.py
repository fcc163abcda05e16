"""Optimisers that learn by which matrix to multiply their steps (Moskovitz et al., 2019).

Of the paper the abstract could be read and no figure, so that tasks and criteria are ours. Beside every gain stands the
control, one learned number in the place of each matrix: what it gains as well is an adapted learning rate, and only the
rest comes of directions. Baselines at other learning rates say what the choice of one is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import plotly.graph_objects as go
from annotated_types import Ge
from plotly.subplots import make_subplots

from engram.experiments.first_order_preconditioning import bowl, cartpole, digits
from engram.experiments.first_order_preconditioning.bowl import Bowl
from engram.experiments.first_order_preconditioning.cartpole import CartPole
from engram.experiments.first_order_preconditioning.digits import Digits
from engram.lab import Arm, Experiment, Measure, Preset, Results, arms_of, claimed, least, most, value


@dataclass(frozen=True)
class Config:
    """The studies."""

    bowl: Bowl = Bowl()
    noisy_steps: Annotated[int, Ge(1)] = 1500
    """Steps on the bowl where gradients are noisy."""
    digits: Digits = Digits()
    cartpole: CartPole = CartPole()


def arms(config: Config) -> dict[str, Arm]:
    """On each task the base, the base with matrices, and the base with numbers in their place; and other rates."""
    exact, net, pole = config.bowl, config.digits, config.cartpole
    bowls = {
        "bowl-sgd": replace(exact, rho=0.0),
        "bowl-momentum": replace(exact, rho=0.0, momentum=0.9),
        "bowl-fop": exact,
        **{f"bowl-scalar-{rho}": replace(exact, rho=rho, structure="scalar") for rho in (0.01, 0.03)},
        **{f"bowl-plain-{rho}": replace(exact, rho=rho, hypergrad_norm="none") for rho in (0.01, 0.02, 0.05)},
    }
    for batch in (64, 16):
        noisy = replace(exact, batch_size=batch, rho=0.03, steps=config.noisy_steps)
        fast = replace(noisy, lr=noisy.lr / 2, momentum=0.9, rho=0.01)
        bowls |= {
            f"noisy-{batch}-sgd": replace(noisy, rho=0.0),
            f"noisy-{batch}-momentum": replace(noisy, rho=0.0, momentum=0.9),
            f"noisy-{batch}-fop": noisy,
            f"noisy-{batch}-scalar": replace(noisy, structure="scalar"),
            f"noisy-{batch}-half-momentum": replace(fast, rho=0.0),
            f"noisy-{batch}-half-momentum-fop": fast,
            f"noisy-{batch}-half-momentum-scalar": replace(fast, structure="scalar"),
        }
    free = replace(net, rho=0.1, clamp=False)
    moving = replace(net, momentum=0.9, clamp=False)
    adam = replace(net, base="adam", lr=1e-3)
    nets = {
        "digits-sgd": replace(net, rho=0.0),
        "digits-fop": net,
        "digits-scalar": replace(net, structure="scalar"),
        "digits-fop-free": free,
        "digits-scalar-free": replace(free, structure="scalar"),
        "digits-sgd-fast": replace(net, lr=0.1, rho=0.0),
        "digits-fop-free-fast": replace(free, lr=0.1),
        "digits-scalar-free-fast": replace(free, lr=0.1, structure="scalar"),
        "digits-momentum": replace(moving, rho=0.0),
        "digits-momentum-tuned": replace(moving, rho=0.0, lr=0.05),
        "digits-momentum-fop": moving,
        "digits-momentum-scalar": replace(moving, structure="scalar"),
        "digits-momentum-before": replace(moving, placement="gradient"),
        "digits-momentum-before-clamped": replace(moving, placement="gradient", clamp=True),
        "digits-adam": replace(adam, rho=0.0),
        "digits-adam-fast": replace(adam, rho=0.0, lr=3e-3),
        "digits-adam-fop": adam,
        "digits-adam-scalar": replace(adam, structure="scalar"),
    }
    poles = {
        "pole-adam": replace(pole, rho=0.0),
        "pole-fop": pole,
        "pole-scalar": replace(pole, structure="scalar"),
    }
    return {
        **arms_of(bowl.trial, bowls, bowl.seconds),
        **arms_of(digits.trial, nets, digits.seconds),
        **arms_of(cartpole.trial, poles, cartpole.seconds),
    }


def over(one: str, other: str, key: str = "loss") -> Measure:
    """Return one arm's value as a part of another's."""
    return value(one, key) / value(other, key)


published = partial(
    claimed,
    source="abstract; task and criterion ours",
    published="improves standard optimisers (no figure was read)",
    presets=("laptop",),
)
ours = partial(claimed, source="ours", published="no figure", presets=("laptop",))
every = {"sameness": "numeric"}
bowl_claims = [
    published(
        "bowl-fast",
        "With a learned matrix gradient descent on a bowl of condition 647 takes at most 90 steps to a thousandth of "
        "the loss",
        value("bowl-fop", "steps") <= 90,
        **every,
    ),
    ours("bowl-slow", "Without one it takes at least 450", value("bowl-sgd", "steps") >= 450, **every),
    ours(
        "bowl-momentum-as-fast",
        "Momentum of 0.9 at the same rate takes as many steps as a learned matrix (a third more or less)",
        over("bowl-momentum", "bowl-fop", "steps").within(1.0, 1 / 3),
    ),
    published(
        "bowl-condition",
        "In 2000 steps the condition of the bowl, multiplied by the learned matrix, falls below 60",
        value("bowl-fop", "condition") <= 60,
        **every,
    ),
    ours(
        "bowl-control",
        "With a learned number in the place of the matrix the loss rises on its way to a thousand times that of the "
        "start or more, at both rates tried",
        least(*(value(f"bowl-scalar-{rho}", "highest") for rho in (0.01, 0.03))) >= 1000,
        **every,
    ),
    ours(
        "plain-does-little",
        "By the plain hypergradient at rho 0.01 gradient descent takes as many steps as without (3 % more or less)",
        over("bowl-plain-0.01", "bowl-sgd", "steps").within(1.0, 0.03),
    ),
    ours(
        "plain-diverges",
        "By the plain hypergradient at rho 0.02 and 0.05 gradient descent diverges (a million times its loss)",
        least(*(value(f"bowl-plain-{rho}", "highest") for rho in (0.02, 0.05))) >= 1e6,
        **every,
    ),
    published(
        "steep-first",
        "After 60 steps the direction in which the matrix is least is that of the highest curvature (cosine)",
        value("bowl-fop", "alignment") >= 0.99,
        published="learned matrices are looked at (no figure was read)",
        **every,
    ),
    ours(
        "steep-is-newton",
        "After 60 steps the step along the highest curvature is Newton's (a tenth more or less)",
        value("bowl-fop", "steepest").within(1.0, 0.1),
    ),
    ours(
        "flat-is-not",
        "After 60 steps the step along the lowest curvature is at most a tenth of Newton's",
        value("bowl-fop", "flattest") <= 0.1,
    ),
    published(
        "noisy-gain",
        "By batches of 64 a learned matrix ends at an eighth of the loss of plain gradient descent or less",
        over("noisy-64-fop", "noisy-64-sgd") <= 1 / 8,
    ),
    published(
        "noisy-gain-over-momentum",
        "By batches of 64 a learned matrix ends at an eighth of the loss of momentum at the same rate or less",
        over("noisy-64-fop", "noisy-64-momentum") <= 1 / 8,
    ),
    ours(
        "noisy-control",
        "By batches of 64 a learned number in the place of the matrix ends at ten times its loss or more",
        over("noisy-64-scalar", "noisy-64-fop") >= 10,
    ),
    ours(
        "smaller-batches-gain-less",
        "By batches of 16 the loss that a learned matrix saves is at most half as many times its own as by batches of "
        "64",
        over("noisy-16-sgd", "noisy-16-fop") / over("noisy-64-sgd", "noisy-64-fop") <= 0.5,
    ),
    ours(
        "noise-shrinks",
        "By batches of 16 the learned matrix has a smaller trace than by batches of 64",
        over("noisy-16-fop", "noisy-64-fop", "trace") <= 1.0,
    ),
    *(
        published(
            f"momentum-gains-{batch}",
            f"By batches of {batch} a learned matrix halves the loss at which momentum at half the rate ends",
            over(f"noisy-{batch}-half-momentum-fop", f"noisy-{batch}-half-momentum") <= 0.5,
        )
        for batch in (64, 16)
    ),
    *(
        ours(
            f"momentum-control-{batch}",
            f"By batches of {batch} a learned number does not halve the loss at which momentum at half the rate ends",
            over(f"noisy-{batch}-half-momentum-scalar", f"noisy-{batch}-half-momentum") >= 0.5,
        )
        for batch in (64, 16)
    ),
]
digits_claims = [
    published(
        "digits-gain",
        "Learned matrices of kernels bring the training loss on digits to 0.65 of that of SGD or less",
        over("digits-fop", "digits-sgd") <= 0.65,
    ),
    published(
        "digits-accuracy",
        "Learned matrices of kernels tell no fewer unseen digits than SGD does",
        value("digits-fop", "accuracy") - value("digits-sgd", "accuracy") >= 0.0,
    ),
    ours(
        "digits-control",
        "A learned number for each layer brings the training loss on digits as low as matrices do, or lower",
        over("digits-scalar", "digits-fop") <= 1.0,
    ),
    published(
        "digits-rate",
        "Learned matrices of kernels make the training loss depend less on the learning rate, 0.02 or 0.1",
        over("digits-fop-free", "digits-fop-free-fast") / over("digits-sgd", "digits-sgd-fast") <= 1.0,
    ),
    ours(
        "digits-rate-control",
        "A learned number for each layer makes the training loss depend on the rate no more than matrices do",
        over("digits-scalar-free", "digits-scalar-free-fast") / over("digits-fop-free", "digits-fop-free-fast") <= 1.0,
    ),
    published(
        "digits-momentum-gain",
        "Learned matrices of kernels bring the training loss of momentum to 0.65 or less",
        over("digits-momentum-fop", "digits-momentum") <= 0.65,
    ),
    ours(
        "digits-momentum-control",
        "A learned number for each layer brings the training loss of momentum as low as matrices do, or lower",
        over("digits-momentum-scalar", "digits-momentum-fop") <= 1.0,
    ),
    ours(
        "digits-tuned",
        "Momentum at a rate of 0.05, without anything learned, ends at a lower training loss than SGD with matrices",
        over("digits-momentum-tuned", "digits-fop-free-fast") <= 1.0,
    ),
    ours(
        "before-momentum-fails",
        "Matrices that multiply the gradient before the momentum learn nothing, with and without bounds (accuracy)",
        most(*(value(f"digits-momentum-before{clamped}", "accuracy") for clamped in ("", "-clamped"))) <= 0.2,
    ),
    published(
        "digits-adam-gain",
        "Learned matrices of kernels bring the training loss of Adam to 0.6 or less",
        over("digits-adam-fop", "digits-adam") <= 0.6,
    ),
    ours(
        "digits-adam-control",
        "A learned number for each layer brings the training loss of Adam as low as matrices do, or lower",
        over("digits-adam-scalar", "digits-adam-fop") <= 1.0,
    ),
    ours(
        "digits-adam-tuned",
        "Adam at a rate of 0.003, without anything learned, ends at a lower training loss than with matrices at 0.001",
        over("digits-adam-fast", "digits-adam-fop") <= 1.0,
    ),
]
pole_claims = [
    published(
        "pole",
        "Adam with learned matrices balances a pole no less long, over all of training, than Adam (at most 25 steps)",
        value("pole-fop", "length") - value("pole-adam", "length") >= -25,
    ),
    ours(
        "pole-control",
        "Learned matrices balance a pole longer, over all of training, than learned numbers do",
        value("pole-fop", "length") - value("pole-scalar", "length") >= 0,
    ),
]
claims = [*bowl_claims, *digits_claims, *pole_claims]


def figure(results: Results) -> go.Figure:
    """Step sizes against curvature, and the matrices that were learned: means over seeds."""
    shown = {
        "of the bowl, after 60 steps": ("bowl-fop", "matrix"),
        "of digits, layer 1": ("digits-fop", "matrix_1"),
        "of digits, layer 2": ("digits-fop", "matrix_2"),
    }
    plot = make_subplots(2, 2, subplot_titles=["step along a direction, as part of Newton's", *shown])
    for seed, found in results.by_seed.items():
        if fop := found.get("bowl-fop"):
            style: dict[str, Any] = {"mode": "lines+markers", "name": f"seed {seed}", "showlegend": False}
            plot.add_scatter(x=fop["curvature"], y=fop["newton"], row=1, col=1, **style)
    for place, (arm, key) in enumerate(shown.values(), 1):
        matrices = [found[arm][key] for found in results.by_seed.values() if arm in found]
        if matrices:
            mean = np.mean(matrices, axis=0).reshape(bowl.PLACES, bowl.PLACES)
            scale = {"colorscale": "RdBu_r", "zmid": 0, "showscale": False}
            plot.add_heatmap(z=mean[::-1], row=1 + place // 2, col=1 + place % 2, **scale)
    plot.add_hline(y=1, line_dash="dot", row=1, col=1)
    plot.update_xaxes(type="log", title="curvature", row=1, col=1)
    title = "What is learned: long steps where the loss is flat, and matrices over the 9 places of a 3 x 3 kernel"
    return plot.update_layout(title=title, height=820)


SMOKE = Config(
    bowl=Bowl(steps=70), noisy_steps=20, digits=Digits(steps=4), cartpole=CartPole(worlds=4, rollout=16, updates=4)
)
PAPER = Config(digits=Digits(steps=4500), cartpole=CartPole(updates=400))
experiment = Experiment(
    name="first-order-preconditioning",
    summary="Optimisers learn, from consecutive gradients alone, by which matrix to multiply their steps",
    paper="Moskovitz, Wang, Lan, Kapoor, Miconi, Yosinski & Rawal, First-Order Preconditioning via Hypergradient "
    "Descent, 2019 (arXiv 1910.08461)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=15), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
)
