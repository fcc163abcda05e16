"""Genomes searched on functions of the plane, and tested on other functions, beside gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional

from engram.experiments.blur.baselines import RATES, answer, best, grids
from engram.experiments.blur.search import TIMES, Batches, Lives, Test, balanced, curve, descend, evolve, judged, losses
from engram.lab import Run
from engram.learned.blur import BlurNetwork, BlurState, Genome, cross_entropy, lifetime
from engram.tasks.functions_2d import TRAINING, Function2D, function_2d

UNSEEN = ("cross", "triangle", "or")
ASKED = 1000  # points of each function that a test asks
LONG = 200  # steps after which synapses are looked at


@dataclass(frozen=True)
class Config:
    """A search on functions of the plane, and its tests."""

    search: Literal["evolution", "gradient"] = "evolution"
    """How the genome is found."""
    n_states: Annotated[int, Ge(2)] = 2
    """States of a neuron."""
    norm: Literal["both", "forward", "backward", "none"] = "both"
    """On which ways inputs of units are normalised."""
    hidden: Annotated[int, Ge(1)] = 20
    """Hidden units."""
    steps: Annotated[int, Ge(1)] = 10
    """Steps of a life in the search."""
    batch: Annotated[int, Ge(2)] = 64
    """Points of a batch in the search."""
    generations: Annotated[int, Ge(1)] = 250
    """Generations of CMA-ES."""
    size: Annotated[int, Ge(4)] = 48
    """Individuals of a generation."""
    restarts: Annotated[int, Ge(1)] = 1
    """Searches, the best of which, on the training functions, is tested; published: 8."""
    meta_steps: Annotated[int, Ge(1)] = 1500
    """Steps down the gradient."""
    rate: Annotated[float, Gt(0), Le(1)] = 0.01
    """Learning rate of Adam on the genome."""
    baselines: bool = True
    """Whether gradient descent is run beside it."""
    rates: Annotated[int, Ge(1), Le(6)] = 6
    """Learning rates of gradient descent, of each kind."""
    lives: Annotated[int, Ge(1)] = 10
    """Lives of a test on each function."""
    test_batch: Annotated[int, Ge(2)] = 128
    """Points of a batch in a test."""


def network_of(config: Config) -> BlurNetwork:
    """Return the network of a trial."""
    return BlurNetwork(
        (2, config.hidden, 2),
        n_states=config.n_states,
        norm=None if config.norm == "none" else "batch",
        norm_forward=config.norm != "backward",
        norm_backward=config.norm != "forward",
    )


def start_of(config: Config, run: Run) -> Tensor:
    """Return the genome that a search starts from: near backpropagation, of further states nothing but noise.

    Descent starts from a genome with noise, of which one in four explodes within ten steps: that is drawn again.
    """
    while True:
        genome = Genome.near_backprop(0.0 if config.search == "evolution" else 0.1, run.generator)
        more = config.n_states - genome.n_states
        matrices = ("nu", "mu", "P", "Q")
        wide = {name: functional.pad(getattr(genome, name), (0, more, 0, more)) for name in matrices}
        vector = genome._replace(**wide).to_vector()
        vector += 0.1 * torch.randn(vector.shape, generator=run.generator) if more else 0.0
        if config.search == "evolution" or descends(config, vector, run):
            return vector


def descends(config: Config, vector: Tensor, run: Run) -> bool:
    """Return whether the gradient through a life of a genome is finite."""
    vector = vector.clone().requires_grad_()
    loss = losses(Genome.from_vector(vector), [lives_of(config, run)], run.generator).sum()
    (gradient,) = torch.autograd.grad(loss, vector)
    return bool(gradient.isfinite().all())


def drawn(functions: list[Function2D], shape: tuple[int, ...], run: Run) -> Batches:
    """Return batches (*shape, functions, points); the last of ``shape`` are the points."""
    x, y = zip(*(function.sample(shape, run.generator) for function in functions), strict=True)
    return torch.stack(x, -3), torch.stack(y, -3)


def lives_of(config: Config, run: Run) -> tuple[BlurNetwork, Batches]:
    """Return a network and batches of a life on each training function, the last of what is asked at its end."""
    functions = [function_2d(name) for name in TRAINING]
    return network_of(config), drawn(functions, (config.steps + 1, config.batch), run)


def searched(config: Config, start: Tensor, run: Run) -> tuple[Tensor, list[float]]:
    """Return the genome that a search on the training functions finds, and the losses of all that it chose from."""

    def draw() -> Lives:
        return [lives_of(config, run)]

    if config.search == "evolution":
        return evolve(start, draw, run, generations=config.generations, size=config.size, restarts=config.restarts)
    return descend(start, draw, run, meta_steps=config.meta_steps, rate=config.rate), []


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Search a genome; its result is the share of right answers that it reaches in a number of steps."""
    network, start = network_of(config), start_of(config, run)
    vector, found = searched(config, start, run)
    train, unseen = ([function_2d(name) for name in names] for names in (TRAINING, UNSEEN))
    result: dict[str, Any] = {"times": list(TIMES), "restarts": found}
    genome = Genome.from_vector(vector)
    result["genome"] = genome.to_dict()
    shape = max(TIMES), config.lives, config.test_batch
    fresh, known = (Test(drawn(tasks, shape, run), drawn(tasks, (1, ASKED), run)) for tasks in (unseen, train))
    result["unseen"], result["trained"] = (curve(network, genome, test, run) for test in (fresh, known))
    (result["start"],) = curve(network, Genome.from_vector(start), fresh, run, (10,))
    result |= {f"unseen_{time}": share for time, share in zip(TIMES, result["unseen"], strict=True)}
    newborn, (x, y) = network.init(run.generator, (config.lives, len(unseen))), fresh.batches
    state, answers = lifetime(network, genome, newborn, (x[:10], y[:10])), fresh.asked[1]
    prediction = network.forward(genome, state, fresh.asked[0])
    result["balanced_10"] = balanced(prediction, answers.expand(config.lives, -1, -1, -1))
    before, after = judged([start, vector], lambda: [(network, drawn(unseen, (11, config.test_batch), run))], run)
    result["gain"] = before - after
    if config.baselines:
        result |= beside(config, run, fresh)
        result |= looked_into(network, genome, run, fresh.batches)
    return result


def beside(config: Config, run: Run, fresh: Test) -> dict[str, Any]:
    """Return what gradient descent reaches in the same lives: the whole grid, and the best of it after each time."""
    grid = grids((2, config.hidden, 2), fresh, config.rates, run)
    result: dict[str, Any] = {"grid": grid, "rates": RATES}
    for name, of_rates in grid.items():
        result[f"best_{name}"] = best(of_rates)
        result |= {f"best_{name}_{time}": share for time, share in zip(TIMES, result[f"best_{name}"], strict=True)}
    return result


def looked_into(network: BlurNetwork, genome: Genome, run: Run, batches: Batches) -> dict[str, float]:
    """Return how large synapses get with Oja's decay and without, and how far the rule is from any gradient."""
    result: dict[str, float] = {}
    for name, limited in (("oja", network), ("unlimited", replace(network, saturation=None))):
        state = limited.init(run.generator, tuple(batches[0].shape[1:-2]))
        for step in range(LONG):
            state = limited.step(genome, state, *(part[step % max(TIMES)] for part in batches))
        spread = torch.cat([weight.flatten() for weight in state.W]).std()
        result[f"std_{name}"] = float(spread.nan_to_num(1e30, posinf=1e30).clamp(max=1e30))
    small = replace(network, sizes=(2, 5, 2))
    result["antisymmetry"] = antisymmetry(small, genome, run)
    descent = BlurNetwork.backprop((2, 5, 2), synapse_std=0.5)
    result["antisymmetry_of_backprop"] = antisymmetry(descent, Genome.backprop(1.0, dtype=torch.float64), run)
    result["distance_from_sgd"] = from_sgd(run)
    return result


def antisymmetry(network: BlurNetwork, genome: Genome, run: Run) -> float:
    """Return |J - J^T| / |J| of the Jacobian of the synapses' change by the synapses: 0 if it is a gradient."""
    genome = Genome(*(part.double() for part in genome))
    state = network.init(run.generator, dtype=torch.float64)
    x, y = (part.double() for part in function_2d("xor").sample((64,), run.generator))
    shapes = [weight.shape for weight in state.W]

    def change(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        synapses = BlurState(tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)), ())
        return torch.cat([weight.flatten() for weight in network.step(genome, synapses, x, y).W]) - flat

    flat = torch.cat([weight.flatten() for weight in state.W])
    jacobian = torch.func.jacrev(change)(flat)
    return float((jacobian - jacobian.T).norm() / jacobian.norm())


def from_sgd(run: Run) -> float:
    """Return the largest difference, over 20 steps, of weights trained by the genome of descent and by ``SGD``."""
    network = BlurNetwork.backprop((2, 20, 2), synapse_std=0.5)
    genome, state = Genome.backprop(0.3, dtype=torch.float64), network.init(run.generator, dtype=torch.float64)
    weights = [weight[0].clone().requires_grad_() for weight in state.W]
    sgd, most = torch.optim.SGD(weights, lr=0.3), 0.0
    for _ in range(20):
        x, y = (part.double() for part in function_2d("xor").sample((64,), run.generator))
        state = network.step(genome, state, x, y)
        sgd.zero_grad()
        cross_entropy(answer(weights, x), y).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        differences = [(ours[0] - weight).abs().max() for ours, weight in zip(state.W, weights, strict=True)]
        most = max(most, *(float(difference.detach()) for difference in differences))
    return most


def seconds(config: Config) -> float:
    """Time of a trial on one core."""
    each = 0.1 * (1 + config.n_states) / 3 * (config.steps / 10) * (config.batch / 64)
    if config.search == "evolution":
        found = config.generations * each * config.restarts * config.size / 48
    else:
        found = 0.025 * config.meta_steps * config.steps / 10
    return 0.3 * config.lives + found + 0.5 * config.rates * config.lives * config.baselines
