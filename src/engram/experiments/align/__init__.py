"""Wide networks trained with the feedback of their initial weights: align-zero, align-ada, align-prop (2022).

The published accuracies could not be read, so that criteria are ours, as are the small tasks; rules, networks, losses
and the recurrent task are as published, but for the defects of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.align import adding, convergence
from engram.experiments.align.adding import Adding
from engram.experiments.align.convergence import Convergence
from engram.experiments.align.digits import (
    RULES,
    FewSamples,
    Widths,
    few_samples,
    seconds_of_few_samples,
    seconds_of_widths,
    widths,
)
from engram.lab import Arm, Experiment, Measure, Preset, Results, arms_of, claimed, largest, least, most, value
from engram.lab.curves import colors

RHOS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Config:
    """The studies."""

    digits: Widths = Widths()
    convergence: Convergence = Convergence()
    few_samples: FewSamples = FewSamples()
    adding: Adding = Adding()
    hidden: tuple[int, ...] = (16, 128)
    """Units of the recurrent networks."""


def arms(config: Config) -> dict[str, Arm]:
    """All rules at all widths; feedback of any correlation; few images; nearness to backpropagation; late inputs."""
    every = {rule: replace(config.digits, rule=rule) for rule in RULES}
    middle = config.digits.widths[-2:][:1]
    every |= {
        f"rho-{rho:g}": replace(config.digits, rule="align-prop", rho=rho, widths=middle, rates=()) for rho in RHOS
    }
    few = {f"few-{rule}": replace(config.few_samples, rule=rule) for rule in RULES}
    add = {
        f"add-{rule}-{hidden}": replace(config.adding, rule=rule, hidden=hidden)
        for hidden in config.hidden
        for rule in ("backprop", "align-ada", "align-ada-author", "align-zero", "readout")
    }
    return {
        **arms_of(widths, every, seconds_of_widths),
        **arms_of(convergence.trial, {"convergence": config.convergence}, convergence.seconds),
        **arms_of(few_samples, few, seconds_of_few_samples),
        **arms_of(adding.trial, add, adding.seconds),
    }


def lead(one: str, other: str, key: str) -> Measure:
    """Return by how much one arm is above another."""
    return value(one, key) - value(other, key)


def gap(one: str, other: str, key: str) -> Measure:
    """Return how far two arms are from one another."""
    return most(lead(one, other, key), lead(other, one, key))


def over_random(prefix: str, rule: str, *sizes: int) -> Measure:
    """Return by how much a rule is above the better rule of random feedback, where that is least."""
    random = [largest(f"accuracy_{size}", f"{prefix}fa", f"{prefix}dfa") for size in sizes]
    own = [value(f"{prefix}{rule}", f"accuracy_{size}") for size in sizes]
    return least(*(mine - theirs for mine, theirs in zip(own, random, strict=True)))


published = partial(claimed, source="abstract; criterion ours", published="comparable to backpropagation (no figure)")
ours = partial(claimed, source="ours", published="no figure")
NAMES = {"align-zero": "Align-zero", "align-ada": "Align-ada", "align-prop": "Align-prop"}
claims = [
    *(
        published(
            f"{rule}-near-backprop",
            f"In networks of width 128 and 256 {name} comes within 0.03 of backpropagation's accuracy",
            most(*(gap(rule, "backprop", f"accuracy_{n}") for n in (128, 256))) <= 0.03,
        )
        for rule, name in NAMES.items()
    ),
    *(
        published(
            f"{rule}-before-random-feedback",
            f"In networks of width 128 and 256 {name} is above feedback alignment, also direct, by 0.04 or more",
            over_random("", rule, 128, 256) >= 0.04,
            published="better than rules of random feedback (no figure)",
        )
        for rule, name in NAMES.items()
    ),
    ours(
        "random-feedback-helps",
        "In networks of width 128 and 256 feedback alignment, also direct, is no more than 0.02 below training the "
        "last layer alone",
        least(*(lead(rule, "last-layer", f"accuracy_{n}") for rule in ("fa", "dfa") for n in (128, 256))) >= -0.02,
    ),
    ours(
        "zero-needs-width",
        "In a network of width 8 Align-zero is below backpropagation by 0.3 or more",
        lead("align-zero", "backprop", "accuracy_8") <= -0.3,
    ),
    ours(
        "random-feedback-when-narrow",
        "In a network of width 8 feedback alignment, also direct, is within 0.1 of backpropagation",
        most(*(gap(rule, "backprop", "accuracy_8") for rule in ("fa", "dfa"))) <= 0.1,
    ),
    *(
        published(
            f"{rule}-converges",
            f"The distance of what {name} learns from what backpropagation learns falls with the width, from 16 to "
            "512 (slope of the logarithms)",
            value("convergence", f"slope_{rule}") <= -0.6,
            published="equal at infinite width",
        )
        for rule, name in NAMES.items()
    ),
    ours(
        "fa-does-not-converge",
        "The distance of what feedback alignment learns from what backpropagation learns hardly falls with the width "
        "(slope of the logarithms)",
        value("convergence", "slope_fa") >= -0.4,
    ),
    published(
        "weights-align",
        "In a network of width 512 backpropagation changes all weights as the initial network predicts (least "
        "alignment score of the layers)",
        least(*(value("convergence", f"widest_score_{layer}") for layer in (1, 2, 3))) >= 0.98,
        published="weights align with input correlations, weighted by errors (no figure)",
    ),
    ours(
        "shuffled-first-layer",
        "In a network of width 512 shuffled weights of the first layer do not align",
        value("convergence", "widest_shuffled_1") <= 0.45,
    ),
    ours(
        "shuffled-upper-layers",
        "In a network of width 512 shuffled weights of the other layers do not align (the larger score)",
        most(value("convergence", "widest_shuffled_2"), value("convergence", "widest_shuffled_3")) <= 0.15,
    ),
    ours(
        "correlation-helps",
        "The more the feedback is correlated with the initial weights the better (least gain from one of five "
        "correlations to the next)",
        least(*(lead(f"rho-{after:g}", f"rho-{before:g}", "accuracy") for before, after in pairwise(RHOS))) >= -0.02,
        source="Bordelon and Pehlevan 2023; criterion ours",
    ),
    ours(
        "correlation-matters",
        "Feedback that is the initial weights is better than random feedback by 0.04 or more",
        lead("rho-1", "rho-0", "accuracy") >= 0.04,
        source="Bordelon and Pehlevan 2023; criterion ours",
    ),
    published(
        "zero-near-backprop-with-few-images",
        "Trained on 50, 150 or 500 images Align-zero is no more than 0.03 below backpropagation",
        least(*(lead("few-align-zero", "few-backprop", f"accuracy_{n}") for n in (50, 150, 500))) >= -0.03,
        published="particularly effective with little data (no figure)",
    ),
    *(
        published(
            f"{rule}-before-random-feedback-with-few-images",
            f"Trained on 150 or 500 images {NAMES[rule]} is above feedback alignment, also direct, by 0.02 or more",
            over_random("few-", rule, 150, 500) >= 0.02,
            published="better than rules of random feedback, mainly with little data (no figure)",
        )
        for rule in ("align-zero", "align-ada")
    ),
    *(
        published(
            f"{rule}-in-time",
            f"With 128 recurrent units {NAMES[rule]} ends at an error at most 0.4 above backpropagation's through time",
            lead(f"add-{rule}-128", "add-backprop-128", "loss") <= 0.4,
        )
        for rule in ("align-ada", "align-zero")
    ),
    ours(
        "recurrent-weights-matter",
        "With 128 recurrent units training the readout alone ends at an error 2.5 or more above backpropagation's",
        lead("add-readout-128", "add-backprop-128", "loss") >= 2.5,
    ),
    ours(
        "zero-needs-width-in-time",
        "With 16 recurrent units Align-zero ends at an error 2 or more above backpropagation's",
        lead("add-align-zero-16", "add-backprop-16", "loss") >= 2.0,
    ),
]


def figure(results: Results) -> go.Figure:
    """Accuracy, and distance from what backpropagation learns, against width: means over seeds."""
    titles = "accuracy on unseen digits", "distance from backpropagation's function"
    plot = make_subplots(1, 2, subplot_titles=titles)
    shades = colors(RULES)
    for rule in RULES:
        for place, arm, key in ((1, rule, "accuracy_"), (2, "convergence", f"distance_{rule}_")):
            found: dict[int, list[float]] = {}
            for of_seed in results.by_seed.values():
                for name, number in of_seed.get(arm, {}).items():
                    if name.startswith(key):
                        found.setdefault(int(name.removeprefix(key)), []).append(number)
            means = [sum(numbers) / len(numbers) for numbers in found.values()]
            style = {"line_color": shades[rule], "legendgroup": rule, "showlegend": place == 1}
            if means:
                plot.add_scatter(x=list(found), y=means, mode="lines+markers", name=rule, row=1, col=place, **style)
    plot.update_xaxes(title="width", type="log")
    plot.update_yaxes(type="log", col=2)
    return plot.update_layout(title="Rules with the feedback of the initial weights, as networks get wider")


SMOKE = Config(
    digits=Widths(widths=(8, 16), rates=(4.0,), epochs=1),
    convergence=Convergence(widths=(8, 16), samples=50, steps=3),
    few_samples=FewSamples(sizes=(50,), width=16, epochs=1),
    adding=Adding(epochs=1),
    hidden=(8,),
)
PAPER = Config(
    digits=Widths(widths=(8, 16, 32, 64, 128, 256, 512), epochs=100),
    few_samples=FewSamples(width=512),
    adding=Adding(epochs=200),
    hidden=(16, 128, 512, 2048),
)
experiment = Experiment(
    name="align",
    summary="Wide networks learn as by backpropagation with errors sent back through their initial weights",
    paper="Boopathy & Fiete, How to Train Your Wide Neural Network Without Backprop: An Input-Weight Alignment "
    "Perspective, ICML 2022 (arXiv 2106.08453)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
