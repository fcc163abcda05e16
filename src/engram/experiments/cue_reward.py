"""Associating new cues with reward, which takes synapses that change when a signal says so (Miconi et al., 2019).

In each episode one of some random, never seen cues is the rewarding one, and only the rewards tell which. The network
has to find it out and then say, trial after trial, whether it was shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import gymnasium
import plotly.graph_objects as go
import torch
from annotated_types import Ge, Le

from engram.agents import A2C, ActorCritic, a2c_step, plastic_actor_critic, rollout
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, largest, narrow, value
from engram.lab.curves import points_by_arm
from engram.plasticity import ClippedHebb, Modulated, PlasticityRule, Retroactive
from engram.tasks.environments import cue_reward

PAPER = "Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)"
CHANCE = 0.5


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    rule: Literal["modulated", "retroactive", "clipped-hebb", "none"] = "modulated"
    """How the synapses change; none: not at all."""
    cues: Annotated[int, Ge(2)] = 2
    """Cues of an episode; even. A trial shows half of them."""
    cue_bits: Annotated[int, Ge(1)] = 8
    """Bits of a cue."""
    fixed_cues: bool = False
    """Whether the cues are the same in every episode, each with one bit of its own, and only the target is new."""
    episode_len: Annotated[int, Ge(1)] = 60
    """Steps of an episode."""
    hidden_size: Annotated[int, Ge(1)] = 32
    """Units of the network."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Episodes in a batch; each has cues of its own."""
    iterations: Annotated[int, Ge(10)] = 2500
    """Steps of the optimiser, each on a batch of whole episodes."""
    eta: Annotated[float, Ge(0), Le(1)] = 0.1
    """Initial plasticity rate, or that of the eligibility trace."""
    a2c: A2C = A2C(adam_eps=1e-6, clip_norm=2.0, entropy_coefficient=0.05)

    def __post_init__(self) -> None:
        if self.cues % 2:
            raise ValueError(f"cues = {self.cues}: expected an even number")
        if self.cues > 2**self.cue_bits:
            raise ValueError(
                f"cues = {self.cues}: expected at most {2**self.cue_bits}, with cue_bits = {self.cue_bits}"
            )
        if self.fixed_cues and self.cues > self.cue_bits:
            raise ValueError(f"cues = {self.cues}: expected at most cue_bits = {self.cue_bits}, as fixed_cues = True")
        longest = self.cues // 2 + self.cues + 2
        if self.episode_len < longest:
            raise ValueError(f"episode_len = {self.episode_len}: expected at least {longest}, the longest trial")


@dataclass(frozen=True)
class Config(Training):
    """The training of all arms, but for one that takes longer."""

    retroactive_iterations: Annotated[int, Ge(10)] = 4000
    """Steps of the optimiser of the arm with retroactive modulation."""


def arms(config: Config) -> dict[str, Arm]:
    """Both ways of modulation, plasticity without it, and no plasticity."""
    base = narrow(config, Training)
    found = {
        "modulated": replace(base, rule="modulated"),
        "clipped-hebb": replace(base, rule="clipped-hebb"),
        "non-plastic": replace(base, rule="none"),
        "retroactive": replace(base, rule="retroactive", iterations=config.retroactive_iterations),
    }
    return arms_of(trial, found, seconds)


def build(config: Training, features: int, actions: int, generator: torch.Generator) -> ActorCritic:
    """Build the network of a trial."""
    rule: PlasticityRule | None = None
    match config.rule:
        case "modulated":
            rule = Modulated()
        case "retroactive":
            rule = Retroactive(config.eta)
        case "clipped-hebb":
            rule = ClippedHebb(config.eta)
    return plastic_actor_critic(features, config.hidden_size, actions, rule, generator=generator)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train one agent; its result is the share of right answers over the last tenth of training."""
    one_hot = torch.eye(config.cues, config.cue_bits).tolist()
    env = gymnasium.make_vec(
        cue_reward.ENV_ID,
        config.batch_size,
        n_cues=config.cues,
        cue_bits=config.cue_bits,
        episode_len=config.episode_len,
        fixed_cues=one_hot if config.fixed_cues else None,
    )
    agent = build(config, config.cue_bits + 7, 2, run.generator).to(run.device)
    optimizer = config.a2c.optimizer(agent)
    for iteration in run.steps(config.iterations, agent=agent, optimizer=optimizer):
        episodes = rollout(env, agent, run.generator, seed=int(run.rng.integers(2**31)))
        loss, parts = a2c_step(agent, optimizer, episodes, config.a2c)
        answers = sum(int(told["_correct"].sum()) for told in episodes.infos if told)
        right = sum(int(told["correct"].sum()) for told in episodes.infos if told)
        run.log(
            iteration + 1,
            every=max(1, config.iterations // 100),
            accuracy=right / answers,
            loss=loss,
            value_loss=parts.value,
            concentration=parts.concentration,
        )
    first, last = run.ends("accuracy")
    result = {"accuracy": last, "first_accuracy": first}
    if "network.rule.eta" in (parameters := agent.state_dict()):
        result["eta"] = float(parameters["network.rule.eta"])
    return result


published = partial(claimed, source="Backpropamine, section 4.1; criterion ours")
claims = [
    published(
        "modulated-learns",
        "A modulated network learns to associate new cues with reward, with every seed",
        value("modulated", "accuracy") >= 0.85,
        published="learns the task (10 runs, curves only)",
        sameness="numeric",
    ),
    published(
        "non-modulated-fail",
        "In as many episodes neither a plastic network without modulation nor a non-plastic one does",
        largest("accuracy", "clipped-hebb", "non-plastic") <= 0.55,
        published="non-modulated plastic and plain networks fail (curves only)",
    ),
    published(
        "modulation-matters",
        "The modulated network's share of right answers is above that of the better other one by 0.3 or more",
        value("modulated", "accuracy") - largest("accuracy", "clipped-hebb", "non-plastic") >= 0.30,
        published="modulated far above non-modulated (curves only)",
    ),
    published(
        "retroactive-learns",
        "A retroactively modulated network learns it too, given more episodes",
        value("retroactive", "accuracy") >= 0.85,
        published="learns the task (10 runs, curves only)",
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's share of right answers over its last tenth, arm by arm, with chance."""
    title = "Right answers over the last tenth of training, one point a seed"
    return points_by_arm(results, "accuracy", title, "share of right answers", chance=CHANCE).update_yaxes(
        range=[0.4, 1]
    )


def seconds(config: Training) -> float:
    """Time of a trial on one core: a cost for each step of acting and of learning, and one for each synapse."""
    steps, synapses = config.iterations * config.episode_len, config.batch_size * config.hidden_size**2
    fixed, each = (200e-6, 0.5e-9) if config.rule == "none" else (160e-6, 3e-9)
    return steps * (fixed + each * synapses)


experiment = Experiment(
    name="cue-reward",
    summary="A network that modulates its own plasticity learns to associate new cues with reward; others do not",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(cue_bits=3, episode_len=12, hidden_size=4, batch_size=2, iterations=10, retroactive_iterations=10),
            seeds=2,
        ),
        "laptop": Preset(Config(), seeds=3),
        "paper": Preset(
            Config(
                cues=4,
                cue_bits=20,
                episode_len=120,
                hidden_size=200,
                batch_size=30,
                iterations=180_000,
                retroactive_iterations=180_000,
                a2c=A2C(learning_rate=1e-4, adam_eps=1e-6, clip_norm=2.0, entropy_coefficient=0.1),
            ),
            seeds=10,
        ),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
