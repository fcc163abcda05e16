"""Soft competition lets three layers learn better features without labels, errors or feedback (SoftHebb, 2023).

Three convolutional layers learn together from images of CIFAR-10 that pass once, each by itself: at each position all
filters compete softly, the winner moves towards the patch and the losers away from it. Then a ridge classifier reads
out each layer. In the same architecture, with the same images and readouts, and one factor of all rates chosen alike:
hard competition, Miconi's network, random filters, and backpropagation. At full width the paper reports 80.3 % with a
longer readout; here the network has a quarter of the filters and sees a tenth of the images, or half of the filters and
all images (preset large), where it is compared with random filters and the pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from engram.lab import Experiment, Preset, Results, Run, Study, claims_from, metric, minimum
from engram.lab.output.figures import colors
from engram.lab.trial.unrecorded import CandidateRun
from engram.rules import ZCAWhitening
from engram.studies.experiments.choosing import Trained
from engram.studies.experiments.small_images import Split, check_files, read_images
from engram.studies.experiments.soft_hebbian_cnn.networks import (
    FILTERS,
    LAYERS,
    Config,
    in_layout,
    new_layers,
    state_of,
    train_layers,
)
from engram.studies.experiments.soft_hebbian_cnn.readouts import features, ridge, train_with_dropout

WATCHED = 200  # images on which the competition of filters is watched

arms: dict[str, dict[str, Any]] = {
    "softhebb": {},
    "hardhebb": {"method": "hardhebb"},
    "instar": {"method": "instar", "whitened": True, "batch_size": 100},
    "random": {"method": "random", "rates": (1.0,)},
    "backprop": {"method": "backprop"},
    "pixels": {"method": "pixels", "rates": (1.0,)},
    "no-losers": {"anti_hebbian": False},
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={"images": "digits", "train_images": 60, "tuning_images": 20, "test_images": 40, "width": 0.03}
        | {"instar": {"batch_size": 20}},
    ),
    "laptop": Preset(seeds=3, looks=(3, 5, 10)),
    "large": Preset(
        seeds=3,
        looks=(3, 5, 10),
        changes={"train_images": 50_000, "tuning_images": 50_000, "test_images": 10_000, "width": 0.5}
        | {"dropout_epochs": 10, "pixels": {"dropout_epochs": 0}},
        arms=("softhebb", "random", "pixels"),
    ),
    "published": Preset(
        seeds=4,
        published="the authors' code, NeuromorphicComputing/SoftHebb",
        changes={"images": "cifar10", "train_images": 50_000, "test_images": 10_000, "width": 1.0}
        | {"rates": (1.0,), "moments": "last", "dropout_epochs": 50},
        arms=("softhebb",),
    ),
}


def read(config: Config, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Images with values from 0 to 1, and their labels."""
    return read_images(config.images, split, config.train_images if split == "train" else config.test_images)


def memory(config: Config) -> float:
    """The bytes that a trial needs: images, features of all layers, and those of the readout with dropout."""
    width, count = config.width * FILTERS[-1], config.train_images + config.test_images
    per_image = 12_288 * (4 if config.whitened else 3) + 4 * 8 * width + 2 * 16 * width * bool(config.dropout_epochs)
    return float(0.5e9 + count * per_image)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Let the layers learn; the results are the test accuracy of a readout from each, and what became of filters."""
    (images, labels), (unseen, unseen_labels) = read(config, "train"), read(config, "test")
    if config.whitened:
        whitening = ZCAWhitening(mirror=True).fit(images)
        images, unseen = whitening.transform(images), whitening.transform(unseen)
    train = in_layout(images, run), torch.from_numpy(labels.astype("int64")).to(run.device)
    test = in_layout(unseen, run), torch.from_numpy(unseen_labels.astype("int64")).to(run.device)
    if config.method == "pixels":
        readout = ridge(train[0].flatten(1), train[1], test[0].flatten(1), test[1])
        return {"accuracy_3": readout.accuracy, "penalty_3": readout.penalty}
    net, rate = at_best_rate(config, train, run)
    result: dict[str, Any] = state_of(net, test[0][:WATCHED]) | {"rate": rate}
    pairs = zip(features(net, train[0]), features(net, test[0]), strict=True)
    for number, (fitted, asked) in enumerate(pairs, 1):
        readout = ridge(fitted, train[1], asked, test[1])
        result |= {f"accuracy_{number}": readout.accuracy, f"penalty_{number}": readout.penalty}
    run.log(config.train_images // config.batch_size + 1, accuracy=result[f"accuracy_{LAYERS}"])
    if config.dropout_epochs:
        result["accuracy_dropout"] = train_with_dropout(net, train, test, config.dropout_epochs, run)
    run.keep(net=net)
    return result


def at_best_rate(config: Config, train: tuple[Tensor, Tensor], run: Run) -> tuple[nn.Sequential, float]:
    """Layers that learned at the rate that has the best validated readout from layer 3, and this rate.

    If the candidates have seen all images, the very layers that were validated are returned.
    """
    if len(config.rates) == 1:
        return train_layers(config, *train, config.rates[0], run), config.rates[0]
    images, labels = (part[: config.tuning_images] for part in train)
    shorter, trained = replace(config, train_images=len(images)), Trained()

    def score(rate: float) -> float:
        net = train_layers(shorter, images, labels, rate, CandidateRun(run))
        if len(images) == config.train_images:
            trained.results[str(rate)] = net.state_dict()
        top = features(net, images)[-1]
        return ridge(top, labels).validated if bool(top.isfinite().all()) else float("nan")

    rate = run.choose("rate", config.rates, score, trained=trained)
    if not trained.results:
        return train_layers(config, *train, rate, run), rate
    net = new_layers(config, images, rate, run)
    net.load_state_dict(trained.results[str(rate)])
    return net.eval(), rate


bottom, middle, top = (metric(f"accuracy_{layer}") for layer in range(1, LAYERS + 1))
published_readout = metric("accuracy_dropout")
# About three standard errors of a difference of accuracies on the test images; and half of the published gap.
MARGIN, HALF_OF_THE_GAP = 0.03, 0.08
PLAUSIBLE = "more accurate than other plausible learning (its figures were not read)"
sizes = ("laptop", "large")
reduced = claims_from("Journé et al. (2023), abstract; criterion ours", presets=sizes)
ours = claims_from("ours", presets=("laptop",))
claims = [
    reduced("learning-helps-the-top",
        "A readout from layer 3 of SoftHebb is more accurate than one from random filters",
        top("softhebb") - top("random") >= MARGIN, published="80.3 % at full width (random filters: no figure read)"),
    reduced("learning-helps-the-bottom",
        "A readout from layer 1 of SoftHebb is more accurate than one from random filters",
        bottom("softhebb") - bottom("random") >= MARGIN, published="80.3 % at full width (layer 1: no figure read)"),
    reduced("soft-beats-hard", "A readout from layer 3 is more accurate with soft competition, in which losers "
        "unlearn, than with hard competition",
        top("softhebb") - top("hardhebb") >= MARGIN, presets=("laptop",),
        published=PLAUSIBLE, revised="at least .08, half of the gap in a table of others, now a claim of its own"),
    reduced("half-of-the-published-gap", "A readout from layer 3 is far more accurate with soft competition, in which "
        "losers unlearn, than with hard competition",
        top("softhebb") - top("hardhebb") >= HALF_OF_THE_GAP, presets=("laptop",),
        source="Chen et al. (2025), table 5; criterion: half of the gap", published="80.3 % against 64.8 %"),
    reduced("accuracy-rises-over-layers",
        "A readout from each layer of SoftHebb is more accurate than one from the layer below",
        minimum(middle("softhebb") - bottom("softhebb"), top("softhebb") - middle("softhebb")) >= 0.02,
        published="up to five layers are trained (accuracy by layer: no figure read)"),
    reduced("before-instar", "In one architecture and after as many images, a readout from layer 3 of SoftHebb is more "
        "accurate than one from layers that learn as Miconi's, which learn in batches ten times as large",
        top("softhebb") - top("instar") >= MARGIN, presets=("laptop",), published=PLAUSIBLE),
    ours("losers-help",
        "A readout from layer 3 of SoftHebb is more accurate than if losers move towards the patch, too",
        top("softhebb") - top("no-losers") >= 0.01),
    ours("backprop-is-better", "Backpropagation through the same layers, which sees as many images and their classes, "
        "gives a more accurate readout from layer 3 than SoftHebb",
        top("backprop") - top("softhebb") >= MARGIN),
    ours("hard-before-random",
        "A readout from layer 3 is more accurate with filters that learned by hard competition than with random ones",
        top("hardhebb") - top("random") >= MARGIN),
    reduced("learning-helps-the-published-readout", "The published readout of layer 3, linear with dropout, is more "
        "accurate with filters of SoftHebb than with random ones",
        published_readout("softhebb") - published_readout("random") >= MARGIN, presets=("large",),
        published="80.3 % at full width (random filters: no figure read)"),
    reduced("headline", "SoftHebb reaches its published accuracy on the test images of CIFAR-10",
        published_readout("softhebb") >= 0.797,
        source="Journé et al. (2023), abstract; criterion: 80.3 % less four of its standard deviations of .14 %, which "
        "are from memory",
        published="80.3 %", threshold="paper", presets=("published",)),
]  # fmt: skip


def figure(results: Results) -> go.Figure:
    """The accuracy of readouts by layer, for each arm."""
    plot = go.Figure()
    layers = [f"layer {number}" for number in range(1, LAYERS + 1)]
    for arm, color in colors([arm for arm in results.arms if arm != "pixels"]).items():
        by_seed = np.array([results.values(arm, f"accuracy_{number}") for number in range(1, LAYERS + 1)]).T
        line = {"legendgroup": arm, "line_color": color}
        for accuracy in by_seed:
            plot.add_scatter(x=layers, y=accuracy, opacity=0.35, line_width=0.7, showlegend=False, **line)
        plot.add_scatter(x=layers, y=by_seed.mean(0), name=arm, **line)
    if "pixels" in results.arms:
        pixels = float(np.mean(results.values("pixels", "accuracy_3")))
        plot.add_hline(pixels, line_dash="dot", annotation_text="pixels")
    title = "Accuracy of a ridge classifier on each layer (thin: seeds)"
    return plot.update_layout(title=title, yaxis_title="accuracy")


experiment = Experiment(
    name="soft-hebbian-cnn",
    about=__doc__,
    paper="Journé et al., Hebbian deep learning without feedback, ICLR 2023 (arXiv 2209.11883)",
    studies=Study(trial, arms, memory=memory, gpu=True),
    presets=presets,
    claims=claims,
    figure=figure,
    headline="accuracy",
    check_requirements=lambda config: check_files(config.images),
    answer="""A quarter as wide and after 5,000 images, three layers that learn by soft competition give a readout of
    62.3 %, 5 % more than random filters {learning-helps-the-top}, and layer by layer 6 and 4 % more
    {accuracy-rises-over-layers}; without losers that unlearn it is no better than random {losers-help}. Backpropagation
    is not 3 % better after as many images {backprop-is-better}, of which it had one pass. Hard competition is
    {soft-beats-hard:0.0 %} behind {soft-beats-hard}, less than half of the gap in a table of others
    {half-of-the-published-gap}, and is no better than random filters {hard-before-random}. Miconi's layers are 7 %
    behind {before-instar}, but have a tenth of the updates here, and are below random filters. With half of the width
    and all images SoftHebb has 72.3 %, random filters 67.3 %, and by the published readout 74.2 % against 68.6 %; three
    seeds are too few to decide whether the lead is 3 %, and the published 80.3 % are claimed at full width alone.""",
)
