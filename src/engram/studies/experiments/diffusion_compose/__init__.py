"""A diffusion model composes new pairs of seen factor values better than it interpolates values (Liang et al., 2024).

A small conditional diffusion model draws a bump at a labelled position. It is studied during training (phases), with
one factor sampled ten times as finely as the other (coupling), with a square or a band of positions held out
(composition or interpolation), and with few bumps, alone or together with stripes that show one factor each. Its
controls are the nearest training image, stripes alone, and the same noise for all labels. Only the abstracts and
captions of the papers were known; networks, sizes and criteria are ours.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from engram.analysis import intrinsic_dimension
from engram.analysis.composition import (
    BumpScore,
    bump_score,
    coupling,
    factorization,
    percolation_ratio,
    representation_order,
)
from engram.generative.diffusion import CondUNet, GaussianDiffusion
from engram.lab import Experiment, Preset, Results, Run, Study, setting, settings
from engram.lab.output.figures import add_line, colors
from engram.studies.experiments.diffusion_compose.claims import claims, quantities
from engram.tasks import GaussianBumps

LAYER = 4  # the last block before the bottleneck
GRID, HELD, LOW, HIGH = 8, 7, 5.0, 10.0  # sampled labels per side; bounds of the held-out part, in 16 pixels
PICKED = 0, 2, 5, 7  # indices, along x and y of the grid, of the labels whose images are shown
ORDERED, EARLY = 0.6, 0.1  # the order that counts as ordered, and the accuracy that counts as none
SOME, SINGLE, CORRECT = 0.25, 0.5, 0.8  # shares of images: some or most with one bump; with it in the right position


@settings
class Config:
    """The settings of a trial."""

    data: Literal["all", "square", "band-x", "band-y", "stripe-x"] = setting(
        "all", "what is held out, or the only data used"
    )
    dx: float = setting(0.5, "spacing of positions along x", gt=0)
    dy: float = setting(0.5, "spacing of positions along y", gt=0)
    bumps: int = setting(0, "bumps drawn from the lattice; 0: all", ge=0)
    stripes: bool = setting(False, "whether to train also on stripes that show one factor each, as often as on bumps")
    size: int = setting(16, "pixels per side, a multiple of 4", ge=8, le=64)
    width: int = setting(16, "channels at the first resolution, a multiple of 4", ge=4)
    sigma: float = setting(1.0, "width of a bump in pixels", gt=0)
    noise_steps: int = setting(100, "steps of the diffusion", ge=2)
    samples: int = setting(20, "network calls per sampled image", ge=1)
    steps: int = setting(700, "steps of training", ge=2)
    checks: int = setting(28, "number of times at which images are sampled and scored", ge=1)
    batch_size: int = setting(128, "images in a batch", ge=1)
    learning_rate: float = setting(2e-3, "learning rate of AdamW, without weight decay", gt=0)
    decay: float = setting(0.99, "decay of the weight average used for sampling", ge=0, lt=1)


arms: dict[str, dict[str, Any]] = {
    "balanced": {},
    "fine-x": {"dx": 0.1, "dy": 1.0},
    "fine-y": {"dx": 1.0, "dy": 0.1},
    "fine-stripe": {"data": "stripe-x", "dx": 0.1, "checks": 35},
    "coarse-stripe": {"data": "stripe-x", "dx": 1.0, "checks": 35},
    "square": {"data": "square"},
    "band-x": {"data": "band-x"},
    "band-y": {"data": "band-y"},
    "few": {"bumps": 14, "steps": 500},
    "few-stripes": {"bumps": 14, "stripes": True, "steps": 500},
}
tiny = {"size": 8, "width": 4, "steps": 4, "checks": 2, "samples": 2, "batch_size": 8, "noise_steps": 10}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={"drawing": tiny, "lattices": {"draws": 2}}
        | {arm: {"steps": 4, "checks": 2} for arm, changes in arms.items() if "steps" in changes},
    ),
    "laptop": Preset(seeds=3, looks=(5, 10, 20, 40), planned=10),
    "large": Preset(
        seeds=3,
        changes={
            "drawing": {"size": 32, "width": 64, "steps": 20_000, "noise_steps": 1000, "samples": 50}
            | {"learning_rate": 3e-4, "decay": 0.999, "checks": 200},  # the phases are short
            **{arm: {"checks": 200} for arm, changes in arms.items() if "checks" in changes},
            **{arm: {"steps": 20_000} for arm, changes in arms.items() if "steps" in changes},
        },
    ),
}


def training_data(config: Config, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The training images and labels."""
    low, high = LOW * config.size / 16, HIGH * config.size / 16
    holdout: Any = {"square": ("square", low, high), "band-x": ("band", 0, low, high), "band-y": ("band", 1, low, high)}
    common: dict[str, Any] = {"sigma": config.sigma, "margin": 0.0}
    lattice = config.size, config.dx, config.dy
    if config.data == "stripe-x":
        stripe = GaussianBumps(*lattice, kind="stripe_x", **common)
        return stripe.images, stripe.labels
    bumps = GaussianBumps(*lattice, holdout=holdout.get(config.data), **common)
    images, labels = bumps.images, bumps.labels
    if config.bumps:
        rows = torch.from_numpy(rng.permutation(len(labels))[: config.bumps])
        images, labels = images[rows], labels[rows]
    if config.stripes:
        stripes = [GaussianBumps(*lattice, kind=kind, **common) for kind in ("stripe_x", "stripe_y")]
        # Bumps are repeated so that they are about as frequent as stripes.
        repeats = max(1, math.ceil(sum(map(len, stripes)) / len(labels)))
        images = torch.cat([images.repeat(repeats, 1, 1, 1), *(data.images for data in stripes)])
        labels = torch.cat([labels.repeat(repeats, 1), *(data.labels for data in stripes)])
    return images, labels


def grid(low: float, high: float, count: int) -> Float[Tensor, "n 2"]:
    """The labels on a square grid.

    Args:
        low: The smallest coordinate.
        high: The largest coordinate.
        count: Number of labels along each axis.
    """
    ticks = torch.linspace(low, high, count)
    return torch.cartesian_prod(ticks, ticks)


def asked_for(config: Config) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "m 2"]]:
    """The labels to sample, on a grid over the canvas or its held-out part, and some training labels."""
    labels = grid(1.0, config.size - 2.0, GRID)
    if config.data == "stripe-x":
        labels[:, 1] = GaussianBumps(config.size).off
        return labels[::GRID].repeat(GRID, 1), labels[:0]
    if config.data == "all":
        return labels, labels[:0]
    scale = config.size / 16
    is_trained = (labels < (LOW - 0.5) * scale) | (labels > (HIGH + 0.5) * scale)
    axes = {"square": is_trained.any(1), "band-x": is_trained[:, 0], "band-y": is_trained[:, 1]}
    return grid((LOW + 0.5) * scale, (HIGH - 0.5) * scale, HELD), labels[axes[config.data]]


def score(config: Config, images: Tensor, labels: Tensor) -> BumpScore:
    """The score of images in [-1, 1]; a stripe is scored as the bump where it crosses a central stripe.

    Args:
        config: The settings.
        images: The images, (n, 1, size, size).
        labels: The labels that they should have, (n, 2), in pixels.
    """
    images, labels = images.cpu(), labels.cpu()
    value = (images[:, 0].double() + 1) / 2
    if config.data == "stripe-x":
        middle = torch.full((len(labels),), config.size / 2)
        labels = torch.stack([labels[:, 0], middle], 1)
        value = value * torch.exp(-((torch.arange(config.size) - config.size / 2) ** 2) / 2 / config.sigma**2)[:, None]
    return bump_score(value.numpy(), labels.double().numpy(), sigma=config.sigma)


def in_numpy(values: Tensor) -> Float[np.ndarray, "..."]:
    """Values of a network in double precision, for analyses."""
    return values.double().cpu().numpy()


def average(averaged: Any, current: Any, count: Any, decay: float) -> None:
    """Update an exponential weight average in place, with bias correction.

    Args:
        averaged: The tensors of averages, which are changed.
        current: The current weights.
        count: Number of updates before this one.
        decay: Share of the old average that remains at an update, once there have been many.
    """
    share_of_new = (1 - decay) / (1 - decay ** (int(count) + 1))
    torch._foreach_lerp_(averaged, current, share_of_new)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a network and score its samples during training."""
    images, labels = (part.to(run.device) for part in training_data(config, run.rng))
    diffusion = GaussianDiffusion(config.noise_steps)
    net = CondUNet(config.size, tuple(config.width * factor for factor in (1, 2, 4)), generator=run.generator)
    net.to(run.device)
    ema = AveragedModel(net, multi_avg_fn=lambda old, new, count: average(old, new, count, config.decay))
    optimizer = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=0.0)
    asked_labels, seen = (part.to(run.device) for part in asked_for(config))
    positions = in_numpy(asked_labels)
    check_interval = max(1, config.steps // config.checks)
    shape, noise_seed = (1, config.size, config.size), int(run.rng.integers(2**31))
    watched = config.data == "all" and not config.bumps and config.dx == config.dy
    rows = np.full((config.steps // check_interval, 7), np.nan)  # step, one, accuracy, x, y, order in two probes
    picked = [x * GRID + y for y in PICKED for x in PICKED]
    frames = torch.zeros(len(rows), len(picked), config.size, config.size)
    sheets = np.zeros((len(rows), len(asked_labels), 2))

    def sample(model: nn.Module, asked: Tensor, layer: nn.Module | None = None) -> Any:
        source = torch.Generator().manual_seed(noise_seed)  # the same noise at each check
        return diffusion.sample(model, asked, shape, generator=source, steps=config.samples, hidden=layer)

    for step in run.steps(config.steps, net=net, ema=ema, optimizer=optimizer, rows=rows, frames=frames, sheets=sheets):
        batch = torch.randint(len(images), (config.batch_size,), generator=run.generator)
        loss = diffusion.loss(net, images[batch], labels[batch], run.generator)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        ema.update_parameters(net)
        run.log(step + 1, every=check_interval, loss=loss)
        if (step + 1) % check_interval == 0:
            layer = cast(CondUNet, ema.module).layer(LAYER)
            samples = sample(ema.module, asked_labels, layer if watched else None)
            result = score(config, samples.images, asked_labels)
            row = [step + 1, result.one, result.accuracy, result.acc_x, result.acc_y, np.nan, np.nan]
            if watched:
                noise = torch.randn(shape, generator=torch.Generator().manual_seed(noise_seed)).to(run.device)
                same_noise = noise.expand(len(asked_labels), *shape)
                probes = [
                    in_numpy(hidden)
                    for hidden in (samples.hidden[-1], diffusion.hidden(ema.module, layer, asked_labels, same_noise))
                ]
                row[5:] = [representation_order(hidden, positions).order for hidden in probes]
                sheets[(step + 1) // check_interval - 1] = sheet(probes[0], positions)
                run.log(step + 1, order=row[5])
                frames[(step + 1) // check_interval - 1] = samples.images[picked, 0]
            rows[(step + 1) // check_interval - 1] = row
            run.log(step + 1, accuracy=result.accuracy, acc_x=result.acc_x, acc_y=result.acc_y, one=result.one)
    return summary(config, rows) | {
        "copied": copied(config, images, labels, asked_labels),
        **({"seen": score(config, sample(ema.module, seen).images, seen).accuracy} if len(seen) else {}),
        **(measure_representation(config, sample, ema.module, asked_labels) | shown(frames, sheets) if watched else {}),
    }


def copied(config: Config, images: Tensor, labels: Tensor, asked_labels: Tensor) -> float:
    """The accuracy of copying the training image with the nearest label, stripes excluded.

    Args:
        config: The settings.
        images: The training images.
        labels: Their labels, (n, 2), in pixels.
        asked_labels: The labels for which images are asked, (n, 2).
    """
    is_complete = (labels < config.size).all(1) if config.data != "stripe-x" else labels[:, 0] >= 0
    nearest = torch.cdist(asked_labels, labels[is_complete]).argmin(1)
    return score(config, images[is_complete][nearest], asked_labels).accuracy


def summary(config: Config, rows: Float[np.ndarray, "checks 7"]) -> dict[str, Any]:
    """The steps at which factors were learned, and the accuracy early, in the last fifth of the checks and at the end.

    If the representation is watched, also the steps at which phases begin; a phase that never begins gets twice the
    steps of training.
    """
    steps, single_share, correct_share, x, y, order, common = rows.T
    late = slice(-max(1, len(rows) // 5), None)
    early = max(0, np.searchsorted(steps, config.steps / 7, side="right") - 1)
    together = coupling(steps, x, y)
    reached = np.nan_to_num([together.first_x, together.first_y], nan=2.0 * config.steps)  # twice all steps if never
    first = dict(zip("xy", reached.tolist(), strict=True))
    result = {
        name: float(curve[late].mean()) for name, curve in (("accuracy", correct_share), ("acc_x", x), ("acc_y", y))
    }
    result |= {"accuracy_early": float(correct_share[early]), "accuracy_end": float(correct_share[-1])}
    together_by = min(first.values()) if min(first.values()) <= config.steps else 0.0  # neither learned: not coupled
    result |= {"first_x": first["x"], "first_y": first["y"], "coupling": together_by / max(first.values())}
    result["together"] = float(np.nan_to_num(together.correlation))
    often_single = single_share >= SOME
    if (
        often_single.any()
    ):  # both accuracies count single bumps only, so rise with these; their shares of these need not
        of_single = coupling(
            steps[often_single], *(curve[often_single] / single_share[often_single] for curve in (x, y))
        )
        result["coupling_of_single"] = float(np.nan_to_num(of_single.index))
    if not np.isnan(order).any():
        ordered = order < ORDERED
        result["misplaced"] = float((single_share - correct_share).max())
        result["ordered_before_right"] = float(correct_share[ordered.argmax()]) if ordered.any() else 1.0
        result["order_common_early"] = float(common[correct_share <= EARLY].min(initial=1.0))
        conditions = {"ordered": ordered, "single": single_share > SINGLE, "right": correct_share >= CORRECT}
        result |= {
            f"{phase}_at": float(steps[checks][0]) if checks.any() else 2.0 * config.steps
            for phase, checks in conditions.items()
        }
        result["misplaced_of_single"] = float(
            (1 - correct_share[often_single] / single_share[often_single]).max(initial=0.0)
        )
        result["order_end"] = float(order[-1])
    return result


def sheet(hidden: Float[np.ndarray, "n features"], places: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """The first two principal components of representations, aligned by rotation and reflection with their labels."""
    centred = hidden - hidden.mean(0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    turned = plane @ orthogonal_procrustes(plane, places - places.mean(0))[0]
    return np.asarray(turned / max(math.sqrt((turned**2).sum(1).mean()), 1e-12))


def measure_representation(config: Config, sample: Any, net: Any, labels: Tensor) -> dict[str, Any]:
    """The dimension and factorization of the representation of a trained network.

    Args:
        config: The settings.
        sample: Draws images and records the hidden activities of a layer.
        net: The trained network.
        labels: The labels on a grid at which factorization is measured, (n, 2), in pixels.
    """
    layer = net.layer(LAYER)
    hidden = in_numpy(sample(net, labels, layer).hidden[-1])
    scattered = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * (config.size - 3) + 1
    dimension = intrinsic_dimension(in_numpy(sample(net, scattered.to(labels), layer).hidden[-1]), method="twonn")
    factors = factorization(hidden, in_numpy(labels), 3 * config.sigma)
    return {
        "dimension": dimension.value,
        "additive": factors.additive_r2,
        "between_cos": factors.between_cos,
        "within_cos": factors.within_cos,
    }


def shown(frames: Float[Tensor, "checks images size size"], sheets: Float[np.ndarray, "checks n 2"]) -> dict[str, Any]:
    """The data of the figure: images during training, with a digit per pixel, and representations."""
    digits = ((frames.clamp(-1, 1) + 1) * 4.5).round().to(torch.uint8)
    texts = ["".join(map(str, frame.flatten().tolist())) for frame in digits]
    return {"shown": {"frames": texts, "sheets": sheets.round(2).tolist()}}


@settings
class Lattice:
    """The settings of percolation among randomly kept bumps on a lattice, without learning."""

    size: int = setting(32, "pixels per side", ge=4)
    draws: int = setting(20, "number of random lattices", ge=1)


KEPT = (0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)


def overlaps(config: Lattice, run: Run) -> dict[str, Any]:
    """The share of kept bumps at which half of them are connected, for three widths."""
    result: dict[str, Any] = {"kept": list(KEPT)}
    for sigma in (0.25, 0.5, 1.0):
        ratios = [
            np.mean(
                [
                    percolation_ratio(
                        GaussianBumps(config.size, keep=share, seed=run.rng).labels.double().numpy(), sigma
                    )
                    for _ in range(config.draws)
                ]
            )
            for share in KEPT
        ]
        result[f"ratio_{sigma:g}"] = list(map(float, ratios))
        above = np.argmax(np.array(ratios) >= 0.5)
        result[f"onset_{sigma:g}"] = float(KEPT[above])
    return result


lattices: dict[str, dict[str, Any]] = {"overlaps": {}}


def figure(results: Results) -> go.Figure:
    """Samples and the representation of their labels during training, and the accuracy at held-out positions."""
    titles = "samples, 16 labels", "representation, neighbours joined", "accuracy, held-out positions"
    plot = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.07)
    for arm, color in colors(["square", "band-x", "band-y"]).items():
        add_line(plot, results, arm, "accuracy", place=(1, 3), name=arm, line_color=color)
    plot.update_xaxes(title="step", row=1, col=3).update_yaxes(range=[0, 1.02], row=1, col=3)
    if animation := results.shown("balanced"):
        frames = list(zip(map(picture, animation["frames"]), animation["sheets"], strict=True))
        first_trace = len(plot.data)
        plot.add_traces(snapshot(*frames[-1]), rows=[1] * 3, cols=[1, 2, 2])
        animated = list(range(first_trace, first_trace + 3))
        plot.frames = [go.Frame(name=str(n), data=snapshot(*frame), traces=animated) for n, frame in enumerate(frames)]
        jump = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
        steps = [
            {"label": f"{100 * (n + 1) // len(frames)} %", "method": "animate", "args": [[str(n)], jump]}
            for n in range(len(frames))
        ]
        slider = {"active": len(frames) - 1, "steps": steps, "len": 0.64, "currentvalue": {"prefix": "of training: "}}
        plot.update_layout(sliders=[slider])
    plot.update_yaxes(autorange="reversed", scaleanchor="x", visible=False, row=1, col=1)
    fixed = {"showticklabels": False, "zeroline": False, "row": 1, "col": 2}
    plot.update_xaxes(range=[-2.4, 2.4], **fixed).update_yaxes(range=[2.4, -2.4], **fixed)  # y down, as in images
    plot.update_xaxes(visible=False, row=1, col=1)
    return plot.update_layout(height=480, legend={"x": 0.99, "y": 0.05, "xanchor": "right", "yanchor": "bottom"})


def picture(frame: str) -> Float[np.ndarray, "height width"]:
    """The images of a frame side by side, with x to the right and y down, decoded from digits."""
    side = len(PICKED)
    size = math.isqrt(len(frame)) // side
    images = np.array(list(map(int, frame)), dtype=np.float64).reshape(side, side, size, size)
    return images.swapaxes(1, 2).reshape(side * size, -1)


def snapshot(images: Float[np.ndarray, "height width"], codes: list[list[float]]) -> list[Any]:
    """The traces of a frame: images, and representations with lines between neighbours."""
    points = np.array(codes).reshape(GRID, GRID, 2)
    gap = np.full((GRID, 1, 2), np.nan)
    lines = np.concatenate([np.concatenate([part, gap], 1).reshape(-1, 2) for part in (points, points.swapaxes(0, 1))])
    marker = {"color": np.repeat(np.arange(GRID), GRID), "colorscale": "Viridis", "size": 8}
    common: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
    return [
        go.Heatmap(z=images, zmin=0, zmax=9, showscale=False, colorscale="Greys", reversescale=True, hoverinfo="skip"),
        go.Scatter(x=lines[:, 0], y=lines[:, 1], mode="lines", line={"color": "#999999", "width": 1}, **common),
        go.Scatter(x=points[..., 0].ravel(), y=points[..., 1].ravel(), mode="markers", marker=marker, **common),
    ]


experiment = Experiment(
    name="diffusion-compose",
    about=__doc__,
    paper="Liang, Liu & Fiete, Do Diffusion Models Learn Semantically Meaningful and Efficient Representations? (arXiv "
    "2402.03305); Liang, Liu, Ostrow & Fiete, How Diffusion Models Learn to Factorize and Compose, NeurIPS 2024",
    studies={"drawing": Study(trial, arms, gpu=True), "lattices": Study(overlaps, lattices)},
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="accuracy",
    answer="""Held-out pairs of values are drawn nearly as accurately as training pairs {composes}, far better than by
    copying the nearest training image {composes-beyond-copies}; held-out values of a factor are drawn wrong in half of
    the images {interpolation-is-limited-x} {interpolation-is-limited-y}, the seen values of the other factor in a fifth
    of the same images {fails-in-the-unseen-x} {fails-in-the-unseen-y}. During training the representation is ordered
    before bumps are drawn correctly {order-first}, and even before most images have a single bump, whereas in the paper
    single bumps come first {single-before-order}; but with the same noise for all labels order comes almost at the
    start, so it is no evidence by itself {order-for-nothing}; both factors are learned at the same time, even if one is
    sampled ten times as finely {coupled-fine-x} {coupled-fine-y}, but this one is learned no faster alone, so that the
    factors need not be coupled {fine-alone-is-faster}. The directions of x and y are far from parallel
    {factors-are-orthogonal}, those of different values of one factor less so than in the images
    {values-are-orthogonal}. Adding stripes to fourteen bumps raises the accuracy at all positions to
    {stripes-beyond-copies:.00} above copying {stripes-beyond-copies} and by {stripes-help:.00} over bumps alone, so
    near our criterion of .15 that 40 seeds do not decide it {stripes-help}. So training data need not contain every
    combination of factor values, but they must contain every value that is to be drawn.""",
)
