"""The search for a genome, by evolution or by the gradient through lifetimes, and its evaluation in new lifetimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram.lab import Run
from engram.learned.blur import BlurNetwork, Genome, cross_entropy, lifetime, meta_step
from engram.optim import CMAES

Batches = tuple[Float[Tensor, "time ... batch features"], Float[Tensor, "time ... batch outputs"]]
Lives = Sequence[tuple[BlurNetwork, Batches]]  # networks of different sizes, each with batches of some tasks
Draw = Callable[[], Lives]

TIMES = (1, 2, 5, 10, 20, 50)  # numbers of steps after which accuracy is tested
WORST = 1e6  # the loss of a lifetime that diverges
EXPLODED = 3  # diverging lifetimes in a row after which descent returns to the best genome
JUDGED = 20  # lifetimes on each task by which a candidate is evaluated


class Test(NamedTuple):
    """Parallel lifetimes with their test data, and validation data for choosing learning rates of gradient descent."""

    batches: Batches
    asked: Batches
    validation: Batches


def losses(genome: Genome, lives: Lives, generator: torch.Generator) -> Float[Tensor, "..."]:
    """The loss on the last batch after a lifetime on the others, for each genome, averaged over tasks.

    Args:
        genome: The genomes.
        lives: Networks, each with the batches of its lifetimes; the last batch is the test.
        generator: Source of the initial weights.
    """
    of_networks = []
    for network, (x, y) in lives:
        state = network.init(generator, tuple(x.shape[1:-2]))
        end = lifetime(network, genome, state, (x[:-1], y[:-1]))
        of_networks.append(cross_entropy(network.forward(genome, end, x[-1]), y[-1]))
    return torch.cat(of_networks, -1).mean(-1)


@torch.no_grad()
def mean_losses(vectors: Sequence[Tensor], draw: Draw, run: Run) -> list[float]:
    """The mean losses of genomes on the same new lifetimes.

    Args:
        vectors: The genomes, as vectors.
        draw: Draws new lifetimes.
        run: The run.
    """
    genomes = Genome.from_vector(torch.stack(list(vectors))[:, None])
    of_lives = torch.stack([losses(genomes, draw(), run.generator) for _ in range(JUDGED)])
    return of_lives.mean(0).nan_to_num(WORST).tolist()


@torch.no_grad()
def evolve(
    start: Tensor, draw: Draw, run: Run, *, generations: int, size: int, restarts: int = 1, sigma: float = 0.3
) -> tuple[Tensor, list[float]]:
    """The best genome of several CMA-ES searches from the same start, and the losses of all of them.

    Args:
        start: The genome from which each search starts, as a vector.
        draw: Draws new lifetimes for a generation.
        run: The run.
        generations: Number of generations.
        size: Population size of a search.
        restarts: Number of searches, which run side by side.
        sigma: Initial step size of CMA-ES.
    """
    starts = [start.clone() for _ in range(restarts)]
    searches = [CMAES([vector], sigma, population_size=size, generator=run.generator) for vector in starts]
    for generation in run.steps(generations, **{f"search_{number}": search for number, search in enumerate(searches)}):
        population = torch.cat([search.ask()[0] for search in searches])
        loss = losses(Genome.from_vector(population[:, None]), draw(), run.generator)
        loss = torch.where(loss.isfinite(), loss, WORST)
        losses_by_search = loss.reshape(restarts, size)
        for search, search_losses in zip(searches, losses_by_search, strict=True):
            search.tell(loss=search_losses)
        run.log(generation + 1, loss=losses_by_search.median(1).values.min())
    final = mean_losses(starts, draw, run)
    return starts[final.index(min(final))], final


def descend(start: Tensor, draw: Draw, run: Run, *, meta_steps: int, rate: float) -> Tensor:
    """The best genome found by descending the gradient through lifetimes.

    If lifetimes keep diverging, there is no gradient, and the search returns to the best genome so far.

    Args:
        start: The genome from which the search starts, as a vector.
        draw: Draws new lifetimes for a step.
        run: The run.
        meta_steps: Number of steps of Adam.
        rate: Learning rate of Adam.
    """
    vector = start.clone().requires_grad_()
    adam = torch.optim.Adam([vector], lr=rate)
    best, lowest, skipped = start.clone(), torch.tensor(WORST), torch.zeros((), dtype=torch.int64)
    judging_interval = max(meta_steps // 20, 1)
    for step in run.steps(meta_steps, adam=adam, vector=vector, best=best, lowest=lowest, skipped=skipped):
        loss = losses(Genome.from_vector(vector), draw(), run.generator)
        skipped.fill_(meta_step(adam, loss, int(skipped)))
        if skipped == EXPLODED:
            vector.data.copy_(best)
        run.log(step + 1, loss=loss.detach())
        if (step + 1) % judging_interval == 0:
            (loss_now,) = mean_losses([vector.detach()], draw, run)
            if loss_now < lowest:
                lowest.fill_(loss_now)
                best.copy_(vector.detach())
    return best


@torch.no_grad()
def curve(network: BlurNetwork, genome: Genome, test: Test, run: Run, times: Sequence[int] = TIMES) -> list[float]:
    """The accuracy after some numbers of steps, averaged over lifetimes and tasks.

    Args:
        network: The network.
        genome: The genome that determines its learning rule.
        test: The batches of the lifetimes, and the queries on which accuracy is measured.
        run: The run.
        times: The numbers of steps.
    """
    (x, y), (queries, answers), _ = test
    state, accuracies = network.init(run.generator, tuple(x.shape[1:-2])), []
    for step in range(max(times)):
        state = network.step(genome, state, x[step], y[step])
        if step + 1 in times:
            accuracies.append(float(right(network.forward(genome, state, queries), answers).mean()))
    return accuracies


def right(prediction: Float[Tensor, "... batch outputs"], y: Float[Tensor, "... batch outputs"]) -> Tensor:
    """Whether the largest output is that of the class, as 0 or 1."""
    return (prediction.argmax(-1) == y.argmax(-1)).float()


def balanced(prediction: Float[Tensor, "... batch outputs"], y: Float[Tensor, "... batch outputs"]) -> float:
    """The balanced accuracy, averaged over tasks."""
    hit, of_class = right(prediction, y).unsqueeze(-1), (y > 0).float()
    return float(((hit * of_class).sum(-2) / of_class.sum(-2).clamp(min=1)).mean())
