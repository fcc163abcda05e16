"""Provable input regions of ReLU networks, by decision patterns and by structure (Dingliwal, Pareek and Arora, 2020).

On random networks the regions of both methods are measured by their share of the box; on data, by their support. Then
certified radii of networks whose hidden layers learned by different rules, and the order of the bounds. Only the
abstract of the paper could be read: its figures are not known, and criteria are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import plotly.graph_objects as go

from engram.experiments.property_verification import engines, patterns, radii, regions
from engram.experiments.property_verification.engines import AcasXu, Advice
from engram.experiments.property_verification.networks import RandomNetworks, Sizes
from engram.experiments.property_verification.patterns import Patterns
from engram.experiments.property_verification.radii import Radii, Training
from engram.experiments.property_verification.regions import Data, DataSet
from engram.lab import Arm, Experiment, Measure, Preset, Results, arms_of, claimed, largest, least, value
from engram.lab.curves import PALETTE
from engram.tasks.data import fetch, load

SIZES: tuple[Sizes, ...] = ("2-4-2", "5-8-8-2", "5-2-5-4-3")
DATA_SETS = get_args(DataSet)


@dataclass(frozen=True)
class Config:
    """The studies."""

    random: RandomNetworks = RandomNetworks()
    data: Data = Data()
    radii: Radii = Radii()
    acasxu: AcasXu = AcasXu()
    advice: Advice = Advice()
    patterns: Patterns = Patterns()
    scope: Literal["few", "offline", "all", "published"] = "all"
    """A first look at a few arms, all that need no files, MNIST and ACAS Xu as well, or a network of ten layers too."""


def arms(config: Config) -> dict[str, Arm]:
    """Random networks, data sets, seven ways to learn on two sets of images, the order of bounds, ACAS Xu."""
    random: dict[str, RandomNetworks] = {size: replace(config.random, sizes=size) for size in SIZES}
    # Those where the direct proof fails are looked at by themselves: there have to be some.
    random["2-4-2"] = replace(random["2-4-2"], networks=2 * config.random.networks)
    sets = {name: replace(config.data, data=name) for name in DATA_SETS}
    learned = {f"radius-{way}": replace(config.radii, training=way) for way in get_args(Training)}
    # The specified network and training on MNIST: 49-32-10 for 15 epochs.
    mnist = replace(config.radii, images="mnist", hidden=32, epochs=15)
    files = config.scope in ("all", "published")
    if files:
        learned |= {f"mnist-{way}": replace(mnist, training=way) for way in get_args(Training)}
    found = arms_of(regions.random_regions, random, regions.random_seconds)
    found |= arms_of(regions.data_regions, sets, regions.data_seconds)
    found |= arms_of(radii.trial, learned, radii.seconds)
    found["bounds"] = Arm(engines.order, replace(config.random, sizes="5-8-8-3"), config.random.networks * 0.18)
    found["advice"] = Arm(engines.advice, config.advice, config.advice.epochs * config.advice.samples * 1.5e-5 + 1.0)
    if files:
        found["acasxu"] = Arm(engines.acasxu, config.acasxu, 0.2 * config.acasxu.questions)
    if config.scope == "published":
        found["ten-layers"] = Arm(patterns.trial, config.patterns, patterns.seconds(config.patterns))
    if config.scope == "few":
        return {arm: found[arm] for arm in ("2-4-2", "moons", "radius-hebbian", "bounds", "advice")}
    return found


def ready(config: Any) -> None:
    """Look for MNIST or the ACAS Xu networks, so that a run without them does not begin."""
    if isinstance(config, AcasXu):
        fetch("acasxu")
    elif isinstance(config, Radii) and config.images == "mnist":
        load("mnist", split="test")


def lead(arm: str, above: str, below: str, times: float = 1.0) -> Measure:
    """Return by how much one mean share of the box is above a multiple of another."""
    return Measure(lambda results: float(results[arm][above]) - times * float(results[arm][below]), (arm,))


paper = partial(claimed, source="abstract; criterion ours")
ours = partial(claimed, source="ours", published="no figure")
identity = partial(claimed, published="derived", sameness="identity")
images = {"digits": "radius", "mnist": "mnist"}
claims = [
    *(
        paper(
            f"larger-{size}",
            f"On random networks {size}, the structural region (best of three slacks) is at least as large "
            "as the direct one (difference of the mean volumes)",
            lead(size, "structural", "direct") >= 0.0,
            published="a larger input region than the existing approach (no figure)",
        )
        for size in SIZES
    ),
    paper(
        "larger-where-direct-fails",
        "Where the direct proof fails at the start, on 2-4-2, the structural region is 1.5 times as large as the "
        "fallback (difference of the mean volume and 1.5 times the fallback's)",
        lead("2-4-2", "structural_where_direct_fails", "direct_where_direct_fails", 1.5) >= 0.0,
        published="a larger input region (no figure)",
    ),
    *(
        paper(
            f"larger-on-{name}",
            f"Around test inputs of {name}, structural regions (one half of the margin) hold at least as many training "
            "inputs as direct ones (difference of the means)",
            lead(name, "support_structural", "support_direct") >= 0.0,
            published="a larger input region (no figure)",
        )
        for name in DATA_SETS
    ),
    paper(
        "larger-on-ten-layers",
        "In balls around images of MNIST of the most frequent patterns, the inner box of the structural region (best "
        "of four slacks) of a network 784-10x10-10 is at least as large as that of the direct one (difference of the "
        "log volumes)",
        lead("ten-layers", "log_volume_structural", "log_volume_direct") >= 0.0,
        published="a larger input region (no figure)",
        presets=("paper",),
    ),
    identity(
        "never-smaller-where-direct-fails",
        "Where the direct proof fails at the start, the structural region holds all of the fallback beyond the shell "
        "of the slack (sampled points that it lacks, of the worst size)",
        largest("lost", *SIZES) <= 0.0,
        source="elementary; ours",
    ),
    *(
        ours(
            f"tightening-pays-{size}",
            f"On {size}, a loose slack that is tightened after relaxing is better than one half of the "
            "margin as published (difference of the mean volumes)",
            lead(size, "tight", "half") >= 0.0,
        )
        for size in SIZES[:2]
    ),
    ours(
        "both-are-better-than-one",
        "The larger of direct and tightened regions has 1.05 times the mean volume of direct ones, on 2-4-2 "
        "and on 5-8-8-2 (the smaller difference to that)",
        least(*(lead(size, "best", "direct", 1.05) for size in SIZES[:2])) >= 0.0,
    ),
    identity(
        "regions-are-sound",
        "No sampled input of any region is answered otherwise (their number, in the worst arm)",
        largest("wrong", *SIZES, *DATA_SETS) <= 0.0,
        source="theorems of both papers",
    ),
    *(
        ours(
            f"hebbian-radius-{other}-{name}",
            f"On {name}, the median certified radius with a winner-take-all Hebbian layer is {times} times that "
            f"of {what}",
            value(f"{arm}-hebbian", "radius") / value(f"{arm}-{other}", "radius") >= times,
        )
        for name, arm in images.items()
        for other, what, times in [
            ("matched", "back-propagation stopped at the same accuracy", 1.1),
            ("backprop", "back-propagation to the end", 1.3),
            ("random", "a layer that was drawn and learned nothing", 1.1),
            ("feedback", "feedback alignment", 1.3),
            ("align", "align-ada", 1.3),
        ]
    ),
    *(
        ours(
            f"soft-radius-{name}",
            f"On {name}, the median certified radius with a soft winner-take-all layer is 1.1 times that of a layer "
            "that was drawn and learned nothing",
            value(f"{arm}-soft", "radius") / value(f"{arm}-random", "radius") >= 1.1,
        )
        for name, arm in images.items()
    ),
    identity(
        "bounds-are-ordered",
        "Bounds by intervals, by CROWN cut with them, with steps of alpha, by linear and mixed-integer programs never "
        "cross those that are tighter, nor do samples cross them, nor certified radii exact ones",
        largest("disorder", "bounds", *(f"radius-{way}" for way in get_args(Training))) <= 0.0,
        source="theory",
    ),
    ours(
        "alpha-closes-the-gap",
        "On random networks 5-8-8-3, 20 steps of alpha close a third of the mean gap between the bounds by "
        "CROWN and the exact maximum",
        value("bounds", "closed") >= 1 / 3,
    ),
    ours(
        "collision-advice",
        "On networks fitted to the costs of manoeuvres, the questions of properties 1 and 3 are decided within "
        "20,000 boxes, and certificates check (share of the questions)",
        value("advice", "settled") >= 0.95,
    ),
    claimed(
        "acas-xu",
        "Properties 1, 3 and 4 are proved for their ACAS Xu networks (share of the questions that were drawn)",
        value("acasxu", "proved") >= 0.95,
        source="Katz et al. 2017; VNN-COMP 2021",
        published="hold, for all",
    ),
]


def figure(results: Results) -> go.Figure:
    """Certified regions of a network that tells two moons apart, of the first seed; direct dotted, tightened solid."""
    plot = go.Figure()
    first = next((arms["moons"] for _, arms in sorted(results.by_seed.items()) if "moons" in arms), {})
    for label, name, corners in first.get("polygons", []):
        if not corners:
            continue
        x, y = zip(*corners, corners[0], strict=True)
        style = {"fill": "toself"} if name == "tight" else {"line_dash": "dot"}
        style |= {"name": f"class {label}, {name}", "line_color": PALETTE[int(label)]}
        plot.add_scatter(x=x, y=y, mode="lines", opacity=0.6, **style)
    plot.update_layout(
        title="Certified regions of a network that tells two moons apart: direct dotted, tightened filled",
        xaxis={"title": "first input", "range": [0, 1]},
        yaxis={"title": "second input", "range": [0, 1], "scaleanchor": "x"},
        showlegend=False,
    )
    return plot


SMOKE = Config(
    random=RandomNetworks(networks=2, points=1000),
    data=Data(inputs=2, points=1000, epochs=1),
    radii=Radii(epochs=1, hidden=8, exact=1),
    advice=Advice(samples=1000, epochs=1),
    scope="few",
)
PAPER = Config(
    random=RandomNetworks(networks=50),
    data=Data(inputs=50),
    radii=Radii(exact=50),
    acasxu=AcasXu(questions=129),
    scope="published",
)
experiment = Experiment(
    name="property-verification",
    summary="Input regions with a proof for ReLU networks, by decision patterns and by structure; certified radii",
    paper="Dingliwal, Pareek & Arora, Finding input characterizations for output properties in ReLU neural networks, "
    "2020 (arXiv 2003.04273)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="",
    ready=ready,
)
