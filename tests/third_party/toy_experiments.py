"""An experiment as another package would register it: small, and able to misbehave in every way the tests need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from engram.lab import Arm, Claim, CorruptFileError, Experiment, Preset, Results, Run, arms_of, at_most

# A worker process that dies once, before it has begun a trial.
DIES = os.environ.get("TOY_DIES_ON_IMPORT")
if DIES and multiprocessing.parent_process() is not None and not Path(DIES).exists():
    Path(DIES).touch()
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Noise:
    """Of the targets."""

    scale: Annotated[float, Ge(0)] = 0.1
    """Standard deviation."""
    shared: bool = True
    """Whether all samples of a step have the same."""


@dataclass(frozen=True)
class Config:
    """A linear regression with dropout."""

    size: Annotated[int, Ge(1)] = 3
    """Inputs of the regression."""
    episodes: Annotated[int, Ge(1)] = 20
    """Steps of training."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05
    """Learning rate."""
    momentum: bool = True
    """Whether the optimiser has momentum."""
    step_seconds: Annotated[float, Ge(0)] = 0.0
    """How long each step sleeps."""
    misbehave: str = ""
    """``raise``, ``print``, ``interrupt``, ``corrupt:FILE``, ``die-always``, ``die-at:STEP:FILE`` (once), ``nan``."""
    noise: Noise = Noise()


def arms(config: Config) -> dict[str, Arm]:
    plain = replace(config, momentum=False, misbehave="")
    return arms_of(trial, {"momentum": config, "plain": plain}, seconds)


def trial(config: Config, run: Run) -> dict[str, Any]:
    net = nn.Sequential(nn.Dropout(0.2), nn.Linear(config.size, 1))
    with torch.no_grad():
        net[1].weight.normal_(generator=run.generator)
        net[1].bias.zero_()
    # Gradient descent by hand: the optimisers of PyTorch load its compiler, in each of many processes.
    velocity = torch.zeros(config.size + 1)
    total = torch.zeros(())
    for step in run.steps(config.episodes, net=net, velocity=velocity, total=total):
        _misbehave(config, run, step)
        x = torch.randn(8, config.size, generator=run.generator)
        noise = run.rng.normal(size=1 if config.noise.shared else (8, 1))
        y = x.sum(1, keepdim=True) + config.noise.scale * torch.from_numpy(noise).float()
        loss = (net(x) - y).square().mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        velocity.mul_(0.9 * config.momentum).add_(parameters_to_vector(gradients))
        parameters = parameters_to_vector(net.parameters()).detach() - config.learning_rate * velocity
        vector_to_parameters(parameters, net.parameters())
        total += loss.detach()
        run.log(step, every=2, loss=loss)
        time.sleep(config.step_seconds)
    run.log(config.episodes, between=float(torch.rand((), generator=run.generator)))
    for step in run.steps(3, net=net):
        run.log(config.episodes + 1 + step, test=float(run.rng.normal()))
    return {"loss": float("nan") if config.misbehave == "nan" else float(total) / config.episodes}


def _misbehave(config: Config, run: Run, step: int) -> None:
    kind, _, rest = config.misbehave.partition(":")
    if kind == "raise" and step == 3:
        raise RuntimeError("the toy broke")
    if kind == "print" and step == 3:
        print("hello from a trial")
    if kind == "interrupt" and step == 3:
        signal.raise_signal(signal.SIGINT)
    if kind == "corrupt":
        raise CorruptFileError(Path(rest) if rest else run._folder.metrics_path, "its checksum differs")
    if kind == "die-always" and step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "die-at":
        at, _, marker = rest.partition(":")
        if step == int(at) and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def seconds(config: Config) -> float:
    return config.episodes * (0.001 + config.step_seconds)


def figure(results: Results) -> go.Figure:
    return go.Figure(go.Bar(x=results.arms, y=[len(results.by_seed)] * len(results.arms)))


experiment = Experiment(
    name="toy",
    summary="A linear regression learns",
    paper="Gauss, 1809",
    presets={
        "smoke": Preset(Config(), seeds=2),
        "laptop": Preset(Config(episodes=60), seeds=3),
        "paper": Preset(Config(episodes=100), seeds=3),
    },
    arms=arms,
    claims=[
        Claim(
            id="learns",
            statement="It learns",
            source="Theoria motus",
            published="yes",
            metric=lambda results: results["momentum"]["loss"],
            holds=at_most(100.0),
            arms=("momentum",),
            threshold="laptop",
        ),
        Claim(
            id="impossible",
            statement="It is perfect",
            source="nowhere",
            published="no",
            metric=lambda results: results["plain"]["loss"],
            holds=at_most(0.0),
            arms=("plain",),
            threshold="laptop",
        ),
    ],
    figure=figure,
)
