"""An experiment as another package would register it: small, and able to misbehave in every way the tests need."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from engram.lab import Claim, CorruptFileError, Experiment, Preset, Results, Run, Study, metric, setting, settings

# A worker process that dies once, before it has begun a trial.
DIES = os.environ.get("TOY_DIES_ON_IMPORT")
if DIES and multiprocessing.parent_process() is not None and not Path(DIES).exists():
    Path(DIES).touch()
    os.kill(os.getpid(), signal.SIGKILL)

if GPUS := os.environ.get("TOY_PRETENDS_GPUS"):
    import pretended_gpus  # which lies beside, where a test that asks for it has put this folder on the path

    pretended_gpus.pretend(int(GPUS))


@settings
class Noise:
    """Of the targets."""

    scale: float = setting(0.1, "standard deviation", ge=0)
    shared: bool = setting(True, "whether all samples of a step have the same")


@settings
class Config:
    """A linear regression with dropout."""

    size: int = setting(3, "inputs of the regression", ge=1)
    episodes: int = setting(20, "steps of training", ge=1)
    learning_rate: float = setting(0.05, "learning rate", gt=0, le=1)
    momentum: bool = setting(True, "whether the optimiser has momentum")
    step_seconds: float = setting(0.0, "how long each step sleeps", ge=0)
    misbehave: str = setting(
        "",
        "raise, print, interrupt, corrupt:FILE, die-always, die-at:STEP:FILE (once), stuck-at:STEP:FILE (once), tell "
        "(where it runs) or nan",
    )
    noise: Noise = Noise()


arms = {"momentum": {}, "plain": {"momentum": False, "misbehave": ""}}


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
        if not run._folder.path.with_name("hurry").exists():  # a test that has seen enough of it
            time.sleep(config.step_seconds)
    run.log(config.episodes, between=float(torch.rand((), generator=run.generator)))
    for step in run.steps(3, net=net):
        run.log(config.episodes + 1 + step, test=float(run.rng.normal()))
    run.keep(net=net)
    result: dict[str, Any] = {"loss": float("nan") if config.misbehave == "nan" else float(total) / config.episodes}
    if config.misbehave == "tell":
        result |= {"device": str(run.device), "visible": os.environ.get("CUDA_VISIBLE_DEVICES", "all")}
        result |= {"process": os.getpid(), "node": os.environ.get("TOY_NODE", "")}
    return result


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
    if kind in ("die-at", "stuck-at"):
        at, _, marker = rest.partition(":")
        if step == int(at) and not Path(marker).exists():
            Path(marker).touch()
            if kind == "die-at":
                os.kill(os.getpid(), signal.SIGKILL)
            hashlib.pbkdf2_hmac("sha256", b"a call that", b"does not return", 2**31 - 1)


def figure(results: Results) -> go.Figure:
    return go.Figure(go.Bar(x=results.arms, y=[len(results.by_seed)] * len(results.arms)))


loss = metric("loss")
experiment = Experiment(
    name="toy",
    about="A linear regression learns (Gauss, 1809).",
    paper="Gauss, 1809",
    studies=Study(trial, arms, gpu=True),
    presets={"smoke": Preset(2), "laptop": Preset(3, {"episodes": 60}), "large": Preset(3, {"episodes": 100})},
    claims=[
        Claim("learns", "It learns", loss("momentum") <= 100.0, "Theoria motus", "yes"),
        Claim("impossible", "It is perfect", loss("plain") <= 0.0, "nowhere", "no"),
    ],
    figure=figure,
)
