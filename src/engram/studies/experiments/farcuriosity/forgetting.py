"""Rooms learned one after another, and how well a predictor remembers the first after the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.agents import RND
from engram.continual import QuadraticPenalty
from engram.lab import Run, setting, settings
from engram.studies.experiments.choosing import evaluate_chosen
from engram.tasks import TextureRoomsVectorEnv

STRENGTHS = (1.0, 10.0, 100.0)  # candidate strengths of EWC's penalty
FISHER_SAMPLES, REPLAYED = 64, 0.1


@settings
class Forgetting:
    """The settings of a predictor and of the method against forgetting."""

    learner: Literal["rnd", "replay", "ewc", "rooms"] = setting(
        "rnd",
        "a single predictor; with replay of earlier rooms in a tenth of each batch; with EWC; or a predictor "
        "for each room",
    )
    learning_rate: float = setting(1e-4, "learning rate of Adam", gt=0)
    updates: int = setting(1000, "training steps in each room", ge=10)
    hidden: int = setting(128, "units per layer of the predictors and of their targets", ge=1)
    rooms: int = setting(4, "rooms", ge=2)


def rnd_of(views: Float[Tensor, "rooms cells *patch"], learning_rate: float, hidden: int, run: Run) -> RND:
    """An RND curiosity that learns from all its input, standardised by the fixed scale of all rooms.

    Args:
        views: The view from each cell of each room.
        learning_rate: Learning rate of the predictor.
        hidden: Number of hidden units.
        run: The run.
    """
    cells = views.flatten(0, 1)
    scale: dict[str, Any] = {"mean": cells.mean(0), "std": cells.std(0), "running": False}
    sizes: dict[str, Any] = {"hidden": hidden, "feature_dim": 64, "keep_prob": 1.0}
    return RND(tuple(cells.shape[1:]), learning_rate=learning_rate, generator=run.generator, **sizes, **scale)


def views_of(run: Run, rooms: int, overlap: float = 0.0) -> tuple[TextureRoomsVectorEnv, Float[Tensor, "..."]]:
    """New rooms and the view from each of their cells.

    Args:
        run: The run.
        rooms: Number of rooms.
        overlap: Share of the pixels that are the same in all rooms, from 0 to 1.
    """
    env = TextureRoomsVectorEnv(rooms=rooms, overlap=overlap, texture_seed=int(run.rng.integers(2**31)))
    return env, torch.from_numpy(env.views).flatten(1, 2)


def trial(config: Forgetting, run: Run) -> dict[str, Any]:
    """Learn rooms in sequence; ``orders`` is the increase of the first room's error in orders of magnitude."""
    _, views = views_of(run, config.rooms)
    stages = np.zeros((config.rooms + 1, config.rooms))
    learners = [
        rnd_of(views, config.learning_rate, config.hidden, run)
        for _ in range(config.rooms if config.learner == "rooms" else 1)
    ]
    total = config.rooms * config.updates
    if config.learner == "ewc":

        def train(strength: float) -> tuple[float, Any]:
            learner = rnd_of(views, config.learning_rate, config.hidden, run)
            penalty = QuadraticPenalty(learner.predictor, strength)
            penalty.attach(learner.optimizer)
            tour(config, views, [learner], range(total), stages, generator=run.generator, penalty=penalty)
            return -float(stages[-1].mean()), stages.ravel().copy()  # the test measure chooses, which favours EWC

        strength, stages_by_strength = evaluate_chosen(run, "strength", STRENGTHS, train)
        stages[:] = stages_by_strength[strength].reshape(stages.shape)
    else:
        state = {f"learner_{number}": learner for number, learner in enumerate(learners)}
        tour(
            config,
            views,
            learners,
            run.steps(total, stages=stages, **state),
            stages,
            generator=run.generator,
            log=run.log,
        )
        run.keep(**state)
    untrained, trained = stages[0], np.array([stages[room + 1, room] for room in range(config.rooms)])
    return {
        "orders": float(np.log10(stages[-1, 0] / trained[0])),
        "learned": float((trained / untrained).mean()),
        "novelty": float(np.mean([stages[room, room] / untrained[room] for room in range(1, config.rooms)])),
        "stages": stages.tolist(),
    }


def tour(
    config: Forgetting,
    views: Float[Tensor, "rooms cells *patch"],
    learners: list[RND],
    steps: Iterable[int],
    stages: Float[np.ndarray, "stages rooms"],
    *,
    generator: torch.Generator,
    log: Callable[..., Any] | None = None,
    penalty: QuadraticPenalty | None = None,
) -> None:
    """Train on random cells of one room after another.

    Args:
        config: The settings.
        views: The view from each cell of each room.
        learners: One predictor, or one for each room.
        steps: Indices of the training steps.
        stages: Array that receives the mean error in each room, before training and after each room.
        generator: Draws the batches.
        log: Called after each room with the errors in the first and in this room.
        penalty: The penalty of EWC, which is consolidated after each room.
    """
    importance = {name: torch.zeros_like(p) for name, p in learners[0].predictor.named_parameters()}
    for step in steps:
        room = step // config.updates
        learner = learners[room % len(learners)]
        if step == 0:
            stages[0] = errors(learners, views)
        cells = torch.randint(views.shape[1], (32,), generator=generator)
        batch = views[room, cells]
        if config.learner == "replay" and room:
            old = torch.rand(32, generator=generator) < REPLAYED
            batch[old] = views[torch.randint(room, (32,), generator=generator), cells][old]
        learner.update(batch)
        if (step + 1) % config.updates == 0:
            stages[room + 1] = errors(learners, views)
            if log is not None:
                log(room + 1, first=stages[room + 1, 0], here=stages[room + 1, room])
            if penalty is not None:
                room_fisher = fisher(learner, views[room], generator)
                importance = {name: importance[name] + value for name, value in room_fisher.items()}
                penalty.consolidate(importance)


@torch.no_grad()
def errors(learners: list[RND], views: Float[Tensor, "rooms cells *patch"]) -> list[float]:
    """The mean error in each room, by its own predictor if there are several."""
    return [float(learners[room % len(learners)].error(cells).mean()) for room, cells in enumerate(views)]


def fisher(
    rnd: RND, views: Float[Tensor, "cells *patch"], generator: torch.Generator
) -> dict[str, Float[Tensor, "..."]]:
    """The diagonal Fisher information of a predictor with output noise of variance 1, from sampled gradients.

    Args:
        rnd: The curiosity whose predictor is measured.
        views: The views from the cells of a room.
        generator: Draws the views and the noise.
    """
    parameters = dict(rnd.predictor.named_parameters())
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    rows = torch.randperm(len(views), generator=generator)[:FISHER_SAMPLES]
    for view in views[rows]:
        output = rnd.predictor(rnd._normalised(view[None]))
        noise = torch.randn(output.shape, generator=generator)
        for name, grad in zip(
            sums, torch.autograd.grad((noise * output).sum(), list(parameters.values())), strict=True
        ):
            sums[name] += grad.square() / len(rows)
    return sums


paces: dict[str, dict[str, Any]] = {"slow": {}, "fast": {"learning_rate": 1e-3, "updates": 400}}
learners: dict[str, dict[str, Any]] = {
    "rnd": {},
    "wide": {"hidden": 512},
    "replay": {"learner": "replay"},
    "ewc": {"learner": "ewc"},
    "rooms": {"learner": "rooms"},
}
arms = {f"{pace}-{learner}": paces[pace] | own for pace in paces for learner, own in learners.items()}
