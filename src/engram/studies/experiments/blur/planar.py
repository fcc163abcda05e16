"""Genomes evolved on functions of the plane, and compared with gradient descent on other functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from engram.lab import Run, setting, settings
from engram.learned.blur import BlurNetwork, BlurState, Genome, cross_entropy, lifetime
from engram.studies.experiments.blur.baselines import RATES, Descent, answer
from engram.studies.experiments.blur.search import (
    TIMES,
    Batches,
    Lives,
    Test,
    balanced,
    curve,
    descend,
    evolve,
    losses,
    mean_losses,
)
from engram.tasks.functions_2d import TRAINING, Function2D, function_2d

UNSEEN = ("cross", "triangle", "or")
ASKED = 1000  # test points of each function
LONG = 200  # steps after which synapses are measured
HIDDEN_SCALES = (1.0, 4.0, 16.0)  # of gradient descent


@settings
class PlanarSearch:
    """The settings of a search on functions of the plane and of its tests."""

    search: Literal["evolution", "gradient"] = setting("evolution", "how the genome is found")
    n_states: int = setting(2, "states of a neuron", ge=2)
    norm: Literal["both", "forward", "backward", "none"] = setting("both", "passes in which inputs are normalised")
    hidden: int = setting(20, "hidden units", ge=1)
    steps: int = setting(10, "steps of a lifetime in the search", ge=1)
    batch: int = setting(64, "points of a batch in the search", ge=2)
    generations: int = setting(250, "generations of CMA-ES", ge=1)
    size: int = setting(48, "individuals in a generation", ge=4)
    restarts: int = setting(1, "restarts, of which the best on the training functions is tested; published: 8", ge=1)
    meta_steps: int = setting(1500, "steps of gradient descent on the genome", ge=1)
    learning_rate: float = setting(0.01, "of Adam on the genome", gt=0, le=1)
    baselines: bool = setting(True, "whether to run gradient descent for comparison")
    rates: int = setting(8, "maximum number of learning rates, and of scales of weights, tried in descent", ge=1, le=8)
    lives: int = setting(10, "lifetimes in a test on each function", ge=1)
    test_batch: int = setting(128, "points of a batch in a test", ge=2)


plain = {"baselines": False}
arms: dict[str, dict[str, Any]] = {
    "evolved": {},
    "descended": plain | {"search": "gradient"},
    "normed-forward": plain | {"norm": "forward"},
    "normed-backward": plain | {"norm": "backward"},
    "not-normed": plain | {"norm": "none"},
    "four-states": plain | {"n_states": 4},
}


def network_of(config: PlanarSearch) -> BlurNetwork:
    """The network of a trial."""
    return BlurNetwork(
        (2, config.hidden, 2),
        n_states=config.n_states,
        norm=None if config.norm == "none" else "batch",
        norm_forward=config.norm != "backward",
        norm_backward=config.norm != "forward",
    )


def start_of(config: PlanarSearch, run: Run) -> Tensor:
    """The initial genome of a search: near backpropagation, with noise in all numbers if there are additional states.

    Gradient descent starts from a noisy genome; one in four diverges within ten steps and is redrawn.
    """
    while True:
        genome = Genome.near_backprop(0.0 if config.search == "evolution" else 0.1, run.generator)
        n_extra = config.n_states - genome.n_states
        matrices = ("nu", "mu", "P", "Q")
        wide = {name: functional.pad(getattr(genome, name), (0, n_extra, 0, n_extra)) for name in matrices}
        vector = genome._replace(**wide).to_vector()
        vector += 0.1 * torch.randn(vector.shape, generator=run.generator) if n_extra else 0.0
        if config.search == "evolution" or descends(config, vector, run):
            return vector


def descends(config: PlanarSearch, vector: Tensor, run: Run) -> bool:
    """Whether the gradient through a lifetime of a genome is finite.

    Args:
        config: The settings of the search.
        vector: The genome, as a vector.
        run: The run.
    """
    vector = vector.clone().requires_grad_()
    loss = losses(Genome.from_vector(vector), [lives_of(config, run)], run.generator).sum()
    (gradient,) = torch.autograd.grad(loss, vector)
    return bool(gradient.isfinite().all())


def draw(functions: list[Function2D], shape: tuple[int, ...], run: Run) -> Batches:
    """Batches (*shape, functions, points), where the last entry of ``shape`` is the number of points.

    Args:
        functions: The functions to be learned.
        shape: Shape of the batches, without the functions and the coordinates.
        run: The run, whose generator draws the points.
    """
    x, y = zip(*(function.sample(shape, run.generator) for function in functions), strict=True)
    return torch.stack(x, -3), torch.stack(y, -3)


def lives_of(config: PlanarSearch, run: Run) -> tuple[BlurNetwork, Batches]:
    """A network and batches for a lifetime on each training function, the last for evaluation."""
    functions = [function_2d(name) for name in TRAINING]
    return network_of(config), draw(functions, (config.steps + 1, config.batch), run)


def search(config: PlanarSearch, start: Tensor, run: Run) -> tuple[Tensor, list[float]]:
    """The genome found by a search on the training functions, and the losses of all restarts.

    Args:
        config: The settings of the search.
        start: The genome from which the search starts, as a vector.
        run: The run.
    """

    def draw() -> Lives:
        return [lives_of(config, run)]

    if config.search == "evolution":
        return evolve(start, draw, run, generations=config.generations, size=config.size, restarts=config.restarts)
    return descend(start, draw, run, meta_steps=config.meta_steps, rate=config.learning_rate), []


def trial(config: PlanarSearch, run: Run) -> dict[str, Any]:
    """Search for a genome; the results are its accuracies after numbers of steps."""
    network, start = network_of(config), start_of(config, run)
    vector, restarts = search(config, start, run)
    run.keep(genome=vector)
    train, unseen = ([function_2d(name) for name in names] for names in (TRAINING, UNSEEN))
    result: dict[str, Any] = {"times": list(TIMES), "restarts": restarts}
    genome = Genome.from_vector(vector)
    result["genome"] = genome.to_dict()
    shape = max(TIMES), config.lives, config.test_batch
    fresh, familiar = (
        Test(draw(tasks, shape, run), *(draw(tasks, (1, ASKED), run) for _ in range(2))) for tasks in (unseen, train)
    )
    result["unseen"], result["trained"] = (curve(network, genome, test, run) for test in (fresh, familiar))
    (result["start"],) = curve(network, Genome.from_vector(start), fresh, run, (10,))
    result |= {f"unseen_{time}": share for time, share in zip(TIMES, result["unseen"], strict=True)}
    newborn, (x, y) = network.init(run.generator, (config.lives, len(unseen))), fresh.batches
    state, answers = lifetime(network, genome, newborn, (x[:10], y[:10])), fresh.asked[1]
    prediction = network.forward(genome, state, fresh.asked[0])
    result["balanced_10"] = balanced(prediction, answers.expand(config.lives, -1, -1, -1))
    before, after = mean_losses([start, vector], lambda: [(network, draw(unseen, (11, config.test_batch), run))], run)
    result["gain"] = before - after
    if config.baselines:
        result |= descent_results(config, run, fresh)
        result |= genome_properties(network, genome, run, fresh.batches)
    return result


def descent_results(config: PlanarSearch, run: Run, fresh: Test) -> dict[str, Any]:
    """The accuracies of gradient descent in the same lifetimes, in the best setting for each number of steps.

    Args:
        config: The settings of the search.
        run: The run.
        fresh: The lifetimes on unseen functions.
    """
    descent = Descent((2, config.hidden, 2), fresh, run, hidden_scales=HIDDEN_SCALES, maximum=config.rates)
    result: dict[str, Any] = {f"best_{kind}": descent.best(kind) for kind in RATES}
    result |= {f"best_{kind}_2": descent.after(2, kind) for kind in RATES}
    return result | {"best_sgd_10": descent.after(10, "sgd"), "best_momentum_50": descent.after(50, "momentum")}


def genome_properties(network: BlurNetwork, genome: Genome, run: Run, batches: Batches) -> dict[str, float]:
    """The size of synapses with and without Oja's decay, and the rule's distance from a gradient field.

    Args:
        network: The network.
        genome: The genome that determines the update.
        run: The run.
        batches: The batches of the lifetimes, which are used in turn.
    """
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
    result["distance_from_sgd"] = distance_from_sgd(run)
    return result


def antisymmetry(network: BlurNetwork, genome: Genome, run: Run) -> float:
    """|J - J^T| / |J| of the Jacobian of the synaptic update: 0 if the update is a gradient field.

    Args:
        network: The network.
        genome: The genome that determines the update.
        run: The run, whose generator draws the weights and 64 points of the xor function.
    """
    genome = Genome(*(part.double() for part in genome))
    state = network.init(run.generator, dtype=torch.float64)
    x, y = (part.double() for part in function_2d("xor").sample((64,), run.generator))
    shapes = [weight.shape for weight in state.W]

    def change(flat: Tensor) -> Tensor:
        flat_weights = torch.split(flat, [shape.numel() for shape in shapes])
        synapses = BlurState(tuple(part.reshape(shape) for part, shape in zip(flat_weights, shapes, strict=True)), ())
        return torch.cat([weight.flatten() for weight in network.step(genome, synapses, x, y).W]) - flat

    flat = torch.cat([weight.flatten() for weight in state.W])
    jacobian = torch.func.jacrev(change)(flat)
    return float((jacobian - jacobian.T).norm() / jacobian.norm())


def distance_from_sgd(run: Run) -> float:
    """The largest difference over 20 steps between weights trained by the backpropagation genome and by ``SGD``."""
    network = BlurNetwork.backprop((2, 20, 2), synapse_std=0.5)
    genome, state = Genome.backprop(0.3, dtype=torch.float64), network.init(run.generator, dtype=torch.float64)
    weights = [weight[0].clone().requires_grad_() for weight in state.W]
    sgd, largest_difference = torch.optim.SGD(weights, lr=0.3), 0.0
    for _ in range(20):
        x, y = (part.double() for part in function_2d("xor").sample((64,), run.generator))
        state = network.step(genome, state, x, y)
        sgd.zero_grad()
        cross_entropy(answer(weights, x), y).backward()  # type: ignore[no-untyped-call]
        sgd.step()
        differences = [(ours[0] - weight).abs().max() for ours, weight in zip(state.W, weights, strict=True)]
        largest_difference = max(largest_difference, *(float(difference.detach()) for difference in differences))
    return largest_difference
