"""Certified regions of all methods, measured by their share of the box or by the data they contain."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from engram.lab import Run, setting, settings
from engram.studies.experiments.property_verification.networks import (
    Array,
    RandomNetworks,
    data_set,
    random_network,
    trained,
)
from engram.verify import AffineReLU, Box, Region, activation_pattern, pattern_halfspaces, relaxed_region

DataSet = Literal["moons", "iris", "digits"]
DATA_SETS: tuple[DataSet, ...] = get_args(DataSet)
TESTED: dict[DataSet, int] = {"moons": 200, "iris": 50, "digits": 599}  # test inputs
# A limit on the solver's nodes per query, not on time, so that answers are the same everywhere.
proved_region = partial(relaxed_region, time_limit=1e6, node_limit=500)
GRID = (0.001, 0.5, 0.95)  # published slacks are absolute; these are shares of the margin at the input
SLACK, TAU = 0.1, 1e-4  # the published slack and smallest input of a unit that is on, for random networks
SIDE = 3.0  # half the side of the box, centred at 0
COLUMNS = ("holds", "direct", "structural", "half", "tight", "best", "crown", "lost", "wrong")


@settings
class Data:
    """The settings of a data set, the network trained on it, and the inputs with regions."""

    data: DataSet = setting("moons", "the data set; set by each arm")
    inputs: int = setting(3, "test inputs for which regions are computed", ge=2)
    points: int = setting(100_000, "samples for finding counterexamples", ge=100)
    epochs: int = setting(60, "epochs of training", ge=1)

    def __post_init__(self) -> None:
        most = TESTED[self.data]
        if self.inputs > most:
            raise ValueError(f"inputs = {self.inputs}: expected at most {most}, the test inputs of {self.data}")


def regions(net: AffineReLU, x0: Array, box: Box, rng: np.random.Generator) -> dict[str, Region]:
    """The regions of all methods for one input.

    Args:
        net: The network.
        x0: The input.
        box: The box within which regions are computed.
        rng: Source of the samples that the methods draw.
    """
    by_method = {
        "direct": proved_region(net, x0, box, "direct", rng=rng),
        "crown": relaxed_region(net, x0, box, "crown", rng=rng),
    }
    for share in GRID:
        by_method[f"structural {share}"] = proved_region(net, x0, box, eps=share, tighten=False, rng=rng)
        by_method[f"tight {share}"] = proved_region(net, x0, box, eps=share, rng=rng)
    return by_method


def random_problem(sizes: str, rng: np.random.Generator) -> tuple[AffineReLU, Box, Array]:
    """A random network, the box of its inputs, and an input in it.

    Args:
        sizes: Units of the network.
        rng: Source of the weights and of the input.
    """
    net = random_network(sizes, rng)
    size = net.sizes[0]
    return net, Box(np.full(size, -SIDE), np.full(size, SIDE)), rng.normal(size=size).clip(-SIDE, SIDE)


def random_regions(config: RandomNetworks, run: Run) -> dict[str, Any]:
    """Measure the regions of random networks as shares of the box."""
    table = np.zeros((config.networks, len(COLUMNS)))
    for number in run.steps(config.networks, table=table):
        net, box, x0 = random_problem(config.sizes, run.rng)
        by_method = regions(net, x0, box, run.rng)
        X = run.rng.uniform(-SIDE, SIDE, (config.points, len(x0)))
        inside = {name: region.contains(X) for name, region in by_method.items()}
        answers = net(X).argmax(1)
        wrong = sum(int((answers[mask] != by_method[name].label).sum()) for name, mask in inside.items())
        share = {name: float(mask.mean()) for name, mask in inside.items()}
        tight = max(share[f"tight {slack}"] for slack in GRID)
        n_lost = 0
        if by_method["direct"].mode == "fallback":
            # Up to its slack, the structural region contains all of its pattern's region.
            smallest = by_method[f"structural {GRID[0]}"]
            G, h = pattern_halfspaces(net, activation_pattern(net, x0), smallest.pattern)
            n_lost = int((inside["direct"] & (h + 1e-9 < X @ G.T).any(1)).sum())
        table[number] = (
            by_method["direct"].mode == "direct",
            share["direct"],
            max(share[f"structural {slack}"] for slack in GRID),
            share["structural 0.5"],
            share["tight 0.95"],
            max(share["direct"], tight),
            share["crown"],
            n_lost,
            wrong,
        )
        run.log(number + 1, volume=share["tight 0.95"], direct=share["direct"])
    column = dict(zip(COLUMNS, table.T, strict=True))
    fails = column["holds"] == 0
    result = {name: float(values.mean()) for name, values in column.items() if name not in ("lost", "wrong")}
    result |= {"lost": float(column["lost"].sum()), "wrong": float(column["wrong"].sum())}
    for name in ("direct", "structural"):
        result[f"{name}_where_direct_fails"] = float(column[name][fails].mean()) if fails.any() else 0.0
        result[f"{name}_where_direct_holds"] = float(column[name][~fails].mean()) if not fails.all() else 0.0
    return result


def regions_as_published(config: RandomNetworks, run: Run) -> dict[str, Any]:
    """Measure the regions of random networks with the published slack, which may leave the input outside."""
    table = np.zeros((config.networks, 4))
    for number in run.steps(config.networks, table=table):
        net, box, x0 = random_problem(config.sizes, run.rng)
        direct = proved_region(net, x0, box, "direct", tau=TAU, rng=run.rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the input is outside: this is counted
            structural = proved_region(net, x0, box, eps_absolute=SLACK, tighten=False, tau=TAU, rng=run.rng)
        X = run.rng.uniform(-SIDE, SIDE, (config.points, len(x0)))
        inside = np.stack([direct.contains(X), structural.contains(X)])
        wrong = int(((net(X).argmax(1) != direct.label) & inside).sum())
        table[number] = *inside.mean(1), structural.contains(x0), wrong
    direct_share, structural_share, around, _ = table.mean(0).tolist()
    return {
        "direct": direct_share,
        "structural": structural_share,
        "input_inside": around,
        "wrong": float(table[:, 3].sum()),
    }


def data_regions(config: Data, run: Run) -> dict[str, Any]:
    """Measure regions around test inputs of a trained network by the training inputs and the boxes inside them."""
    X, y, test, _ = data_set(config.data, run.rng)
    classes = int(y.max()) + 1
    net = trained((X.shape[1], 16, 16, classes), X, y, config.epochs, run.generator)
    box = Box(np.zeros(X.shape[1]), np.ones(X.shape[1]))
    methods = ("direct", "structural", "tight")
    table, polygons = np.zeros((config.inputs, 2 * len(methods) + 2)), np.full((config.inputs, 2, 40, 2), np.nan)
    labels = np.zeros(config.inputs)
    for number in run.steps(config.inputs, table=table, polygons=polygons, labels=labels):
        x0 = test[number]
        by_method = {
            "direct": proved_region(net, x0, box, "direct", rng=run.rng),
            "structural": proved_region(net, x0, box, eps=0.5, tighten=False, rng=run.rng),
            "tight": proved_region(net, x0, box, rng=run.rng),
        }
        samples = run.rng.uniform(0, 1, (config.points, X.shape[1]))
        predictions, n_wrong = net(samples).argmax(1), 0
        for index, name in enumerate(methods):
            inside = by_method[name].contains(samples)
            n_wrong += int((predictions[inside] != by_method[name].label).sum())
            log_volume = by_method[name].volume_box(contain=x0).log_volume if by_method[name].contains(x0) else -np.inf
            table[number, 2 * index : 2 * index + 2] = by_method[name].support(X), log_volume
        table[number, -2:] = by_method["direct"].mode == "direct", n_wrong
        labels[number] = by_method["tight"].label
        if X.shape[1] == 2:
            for index, name in enumerate(("direct", "tight")):
                corners = polygon(by_method[name])[:40]
                polygons[number, index, : len(corners)] = corners
        run.log(number + 1, support=table[number, 4])
    result: dict[str, Any] = {"holds": float(table[:, -2].mean()), "wrong": float(table[:, -1].sum())}
    for index, name in enumerate(methods):
        volumes = table[:, 2 * index + 1]
        result[f"support_{name}"] = float(table[:, 2 * index].mean())
        result[f"log_volume_{name}"] = float(np.median(np.maximum(volumes, -100.0)))
    if X.shape[1] == 2:
        corners_by_region = [
            [int(labels[i]), name, np.round(corners[~np.isnan(corners[:, 0])], 4).tolist()]
            for i in range(config.inputs)
            for name, corners in zip(("direct", "tight"), polygons[i], strict=True)
        ]
        result["shown"] = {"polygons": corners_by_region}
    return result


def polygon(region: Region) -> Float[np.ndarray, "corners 2"]:
    """The corners of a region with two inputs, from successively cutting its box with half-spaces."""
    (left, bottom), (right, top) = region.box.low, region.box.high
    corners = [np.array(corner) for corner in ((left, bottom), (right, bottom), (right, top), (left, top))]
    for g, h in zip(region.G, region.h, strict=True):
        inside: list[np.ndarray] = []
        for this_corner, next_corner in zip(corners, corners[1:] + corners[:1], strict=True):
            excess, next_excess = g @ this_corner - h, g @ next_corner - h
            if excess <= 0:
                inside.append(this_corner)
            if excess * next_excess < 0:
                inside.append(this_corner + (next_corner - this_corner) * excess / (excess - next_excess))
        corners = inside
    return np.array(corners).reshape(-1, 2)
