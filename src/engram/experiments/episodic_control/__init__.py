"""What a small episodic memory should keep (Agostinelli et al., 2019).

An agent remembers what each action led to and acts on what similar states remember. Compared are rules for what stays
in a memory that is too small; the paper's is dynamic online k-means. Of the paper only the abstract and the published
code for Atari were known, so that all sizes and criteria on small environments are ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.episodic_control import control, look_up, stream
from engram.experiments.episodic_control.claims import claims
from engram.experiments.episodic_control.control import FORMS, GAMES, OTHERS, PAIR, POLICIES
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import add_line, colors
from engram.tasks.environments.atari import make_atari

QUICK = (
    "cartpole-100-lru",
    "cartpole-100-dkm",
    "four-room-dkm-author",
    "stream-dkm",
    "cartpole-nec-dkm",
)
SIZES = (100, 1000)  # rows for each action on CartPole


@dataclass(frozen=True)
class Config:
    """An agent for each environment, the other studies, and which arms there are."""

    cartpole: control.Config
    """The agent on CartPole; its memory differs by arm."""
    rooms: control.Config
    """In four rooms, where an agent either finds the goal or not."""
    nec: control.Config
    """Neural episodic control, on CartPole."""
    atari: control.Config
    """On Atari, whichever game."""
    stream: stream.Stream
    """Clusters on a stream of points."""
    look_up: look_up.LookUp
    """The time of a look-up."""
    games: bool = False
    """Atari, and no other arms."""
    everything: bool = True
    """All arms, not only the few of a first look."""


def arms(config: Config) -> dict[str, Arm]:
    """CartPole by policy and size, its baselines, the rooms, learned keys, the stream; or Atari alone."""
    if config.games:
        return arms_of(control.trial, atari(config.atari), control.seconds)
    streams = {f"stream-{name}": replace(config.stream, policy=name) for name in (*FORMS, "dkm-short", "k-means")}
    found = {
        **arms_of(control.trial, agents(config), control.seconds),
        **arms_of(stream.trial, streams, lambda config: 0.3e-3 * config.points * config.streams),
        "look-up": Arm(look_up.trial, config.look_up, 1.0),
    }
    return found if config.everything else {arm: found[arm] for arm in QUICK}


def agents(config: Config) -> dict[str, control.Config]:
    """Return the arms in small environments."""
    cartpole, rooms, nec = config.cartpole, config.rooms, config.nec
    found: dict[str, control.Config] = {}
    for policy in (*FORMS, *OTHERS):
        found[f"cartpole-100-{policy}"] = replace(cartpole, policy=policy)
    for policy in PAIR:
        found[f"cartpole-1000-{policy}"] = replace(cartpole, policy=policy, capacity=1000)
    found["cartpole-unlimited"] = replace(cartpole, capacity=cartpole.steps + 500)
    found["cartpole-tabular-q"] = replace(cartpole, learner="tabular-q")
    for policy in FORMS:
        found[f"four-room-{policy}"] = replace(rooms, policy=policy)
    for policy in PAIR:
        found[f"cartpole-nec-{policy}"] = replace(nec, policy=policy)
    return found


def ready(config: Any) -> None:
    """Make the Atari game, so that a run without the emulator does not begin."""
    if isinstance(config, control.Config) and config.environment in GAMES:
        make_atari(config.environment).close()


def atari(mfec: control.Config) -> dict[str, control.Config]:
    """Return the arms on Atari: both agents with the two published policies on the five published games."""
    nec = replace(
        mfec,
        learner="nec",
        value_update="ema",
        neighbours=50,
        epsilon=0.001,
        learning_rate=7.92468721e-6,
        learning_starts=50_000,
    )
    return {
        f"{game}-{learner}-{policy}": replace(config, environment=game, policy=policy)
        for game, policy in itertools.product(GAMES, FORMS[:2])
        for learner, config in (("mfec", mfec), ("nec", nec))
    }


def figure(results: Results) -> go.Figure:
    """Late return by size and policy, with its range; the error on the stream over time; all other late returns."""
    titles = (
        "CartPole: late return",
        "Stream: error over time (dotted: batches of 8)",
        "Late return elsewhere",
    )
    plot = make_subplots(rows=3, cols=1, subplot_titles=titles, vertical_spacing=0.1)

    def late(arm: str) -> list[float]:
        return [of_seed[arm]["late_return"] for of_seed in results.by_seed.values() if arm in of_seed]

    for policy, color in colors(POLICIES).items():
        sizes = [size for size in SIZES if late(f"cartpole-{size}-{policy}")]
        if sizes:
            values = [late(f"cartpole-{size}-{policy}") for size in sizes]
            means = [float(np.mean(of_size)) for of_size in values]
            spread = {
                "symmetric": False,
                "array": [max(of_size) - mean for of_size, mean in zip(values, means, strict=True)],
                "arrayminus": [mean - min(of_size) for of_size, mean in zip(values, means, strict=True)],
            }
            style = {"mode": "lines+markers", "line_color": color, "name": policy, "legendgroup": policy}
            plot.add_scatter(x=sizes, y=means, error_y=spread, **style, row=1, col=1)
        for metric, dash in (("error_1", "solid"), ("error_8", "dot")):
            own: dict[str, Any] = {"name": policy, "legendgroup": policy, "line": {"color": color, "dash": dash}}
            shown = not sizes and metric == "error_1"
            add_line(plot, results, f"stream-{policy}", metric, place=(2, 1), showlegend=shown, **own)
    for arm in results.arms:
        elsewhere = not any(arm == f"cartpole-{size}-{policy}" for size in SIZES for policy in POLICIES)
        if elsewhere and not arm.startswith(("stream", "look-up")):
            plot.add_trace(go.Box(x=late(arm), name=arm, boxpoints="all", showlegend=False), row=3, col=1)
    plot.update_xaxes(title="rows for each action", type="log", row=1, col=1)
    plot.update_xaxes(title="points seen", row=2, col=1)
    plot.update_yaxes(title="mean squared distance", type="log", row=2, col=1)
    plot.update_layout(height=1300)
    return plot


LAPTOP = Config(
    cartpole=control.Config(),
    rooms=control.Config("engram/FourRoom-v0", capacity=60, neighbours=5, epsilon=0.1, steps=15_000, agents=3),
    nec=control.Config(learner="nec", value_update="ema", capacity=250, neighbours=50, epsilon=0.001, steps=20_000),
    atari=control.Config(
        "Pong", capacity=10_000, key_dim=128, explore_from=5000, explore_until=25_000, steps=10_000_000
    ),
    stream=stream.Stream(),
    look_up=look_up.LookUp(),
)
EXPLORED: dict[str, Any] = {"explore_from": 50, "explore_until": 200, "learning_starts": 50}
SMOKE = replace(
    LAPTOP,
    cartpole=replace(LAPTOP.cartpole, steps=400, **EXPLORED),
    rooms=replace(LAPTOP.rooms, steps=400, agents=1, **EXPLORED),
    nec=replace(LAPTOP.nec, steps=200, **EXPLORED),
    stream=stream.Stream(points=960, streams=1),
    everything=False,
)
experiment = Experiment(
    name="episodic-control",
    summary="What a small episodic memory should keep: dynamic online k-means against other policies",
    paper="Agostinelli, Arulkumaran, Sarrico, Richemond & Bharath, Memory-efficient episodic control reinforcement "
    "learning with dynamic online k-means, NeurIPS 2019 workshop on biological and artificial RL (arXiv 1911.09560)",
    presets={
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(LAPTOP, seeds=10),
        "paper": Preset(replace(LAPTOP, games=True), seeds=3),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="return",
    ready=ready,
)
