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

from engram.agents import A2C, ActorCritic, Rollout, plastic_actor_critic
from engram.experiments.reinforcement import learn, rule_of, seconds
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, largest, narrow, value
from engram.lab.curves import points_by_arm
from engram.tasks.environments import cue_reward

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
    reward_delay: Annotated[int, Ge(0), Le(100)] = 0
    """Empty steps between an answer and its reward."""
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
    eta_trained: bool = True
    """Whether the rate is trained."""
    a2c: A2C = A2C(adam_eps=1e-6, clip_norm=2.0, entropy_coefficient=0.05)

    def __post_init__(self) -> None:
        if self.cues % 2:
            raise ValueError(f"cues = {self.cues}: expected an even number")
        if self.cues > 2**self.cue_bits:
            most = 2**self.cue_bits
            raise ValueError(f"cues = {self.cues}: expected at most {most}, with cue_bits = {self.cue_bits}")
        if self.fixed_cues and self.cues > self.cue_bits:
            raise ValueError(f"cues = {self.cues}: expected at most cue_bits = {self.cue_bits}, as fixed_cues = True")
        longest = self.cues // 2 + self.cues + 2 + self.reward_delay
        if self.episode_len < longest:
            raise ValueError(f"episode_len = {self.episode_len}: expected at least {longest}, the longest trial")


@dataclass(frozen=True)
class Config(Training):
    """The training of all arms, and what is different in some."""

    retroactive_eta: Annotated[float, Ge(0), Le(1)] = 0.5
    """Initial rate of the eligibility trace; 0.1, as published, has to climb to about 1 before anything is learned."""
    fixed_cue_control: bool = False
    """Add plasticity without modulation where the cues are the same in all episodes, which takes as long as published.
    """
    delay: Annotated[int, Ge(1), Le(100)] = 1
    """Empty steps between an answer and its reward in the arms where it is late."""
    late_iterations: Annotated[int, Ge(10)] = 3000
    """Steps of the optimiser where the reward is late, of fixed cues. In the laptop preset both arms learn them between
    1,500 and 2,700; a reward that is later by two steps is not learned in 4,500, by either."""


def arms(config: Config) -> dict[str, Arm]:
    """Both ways of modulation, plasticity without it, and none; the same cues in all episodes; and late rewards.

    Where the reward is late, an eligibility trace of rate 1 has forgotten the answer, which the network may still hold
    in its activity.
    """
    base = narrow(config, Training)
    modulated, clipped = replace(base, rule="modulated"), replace(base, rule="clipped-hebb")
    retroactive = replace(base, rule="retroactive", eta=config.retroactive_eta)
    late = replace(
        retroactive,
        fixed_cues=True,
        iterations=config.late_iterations,
        reward_delay=config.delay,
        episode_len=config.episode_len * (8 + config.delay) // 8,
    )
    found = {
        "modulated": modulated,
        "clipped-hebb": clipped,
        "non-plastic": replace(base, rule="none"),
        "retroactive": retroactive,
        "modulated-fixed-cues": replace(modulated, fixed_cues=True),
        "retroactive-late": late,
        "one-step-late": replace(late, eta=1.0, eta_trained=False),
    }
    if config.fixed_cue_control:
        found["clipped-hebb-fixed-cues"] = replace(clipped, fixed_cues=True)
    return arms_of(trial, found, seconds)


def build(config: Training, features: int, actions: int, generator: torch.Generator) -> ActorCritic:
    """Build the network of a trial."""
    rule = rule_of(config.rule, config.eta)
    if rule is not None:
        rule.requires_grad_(config.eta_trained)
    return plastic_actor_critic(features, config.hidden_size, actions, rule, generator=generator)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train one agent; its result is the share of right answers over the last tenth of training."""
    task: dict[str, Any] = {"n_cues": config.cues, "cue_bits": config.cue_bits, "episode_len": config.episode_len}
    task["reward_delay"] = config.reward_delay
    one_hot = torch.eye(config.cues, config.cue_bits).tolist() if config.fixed_cues else None
    env = gymnasium.make_vec(cue_reward.ENV_ID, config.batch_size, **task, fixed_cues=one_hot)
    agent = build(config, config.cue_bits + 7, 2, run.generator).to(run.device)
    learn(env, agent, config, run, answered)
    first, last = run.ends("accuracy")
    result = {"accuracy": last, "first_accuracy": first, "accuracy_in_training": run.ends("accuracy", parts=1)[0]}
    if "network.rule.eta" in (parameters := agent.state_dict()):
        result["eta"] = float(parameters["network.rule.eta"])
    return result


def answered(episodes: Rollout) -> dict[str, float]:
    """Return the share of answers that are right."""
    answers, right = (sum(int(told[key].sum()) for told in episodes.infos if told) for key in ("_correct", "correct"))
    return {"accuracy": right / answers}


published = partial(claimed, source="Backpropamine, section 4.1; criterion ours")
learns = partial(published, published="learns the task (10 runs, curves only)")
claims = [
    learns(
        "modulated-learns",
        "A modulated network learns to associate new cues with reward, with every seed",
        value("modulated", "accuracy") >= 0.85,
        sameness="numeric",
    ),
    published(
        "non-modulated-fail",
        "In as many episodes neither a plastic network without modulation nor a non-plastic one learns to associate "
        "new cues with reward",
        largest("accuracy", "clipped-hebb", "non-plastic") <= 0.55,
        published="non-modulated plastic and plain networks fail (curves only)",
    ),
    published(
        "modulation-matters",
        "The modulated network's share of right answers is above that of the better other one by 0.3 or more",
        value("modulated", "accuracy") - largest("accuracy", "clipped-hebb", "non-plastic") >= 0.30,
        published="modulated far above non-modulated (curves only)",
    ),
    learns(
        "retroactive-learns",
        "A retroactively modulated network learns to associate new cues with reward",
        value("retroactive", "accuracy") >= 0.85,
    ),
    published(
        "fixed-cues-are-learned-sooner",
        "The same cues in all episodes are learned sooner by a modulated network than new ones (difference of the "
        "shares of right answers over all of training)",
        value("modulated-fixed-cues", "accuracy_in_training") - value("modulated", "accuracy_in_training") >= 0.0,
        source="Backpropamine, appendix; criterion ours",
        published="the easier control (no figure)",
    ),
    published(
        "fixed-cues-need-no-modulation",
        "With the same cues in all episodes a plastic network learns the task without modulation",
        value("clipped-hebb-fixed-cues", "accuracy") >= 0.85,
        source="Backpropamine, appendix; criterion ours",
        published="non-modulated plasticity also learns, more slowly (no figure)",
        presets=("paper",),
    ),
    published(
        "late-rewards-are-learned",
        "A retroactively modulated network learns the same cues in all episodes where the reward is late",
        value("retroactive-late", "accuracy") >= 0.85,
        source="Backpropamine, section 3.2, what the trace is for; task and criterion ours",
        published="not tested",
    ),
    published(
        "eligibility-bridges-a-delay",
        "Where the reward is late, a retroactively modulated network learns what it does not with an eligibility trace "
        "of one step, by 0.2 or more of the right answers",
        value("retroactive-late", "accuracy") - value("one-step-late", "accuracy") >= 0.2,
        source="Backpropamine, section 3.2, what the trace is for; task and criterion ours",
        published="not tested",
    ),
]


def figure(results: Results) -> go.Figure:
    """Each trial's share of right answers over its last tenth, arm by arm, with chance."""
    title = "Right answers over the last tenth of training, one point a seed"
    plot = points_by_arm(results, "accuracy", title, "share of right answers", chance=CHANCE)
    return plot.update_xaxes(range=[0.4, 1])


SMOKE = Config(cue_bits=3, episode_len=12, hidden_size=4, batch_size=2, iterations=10, late_iterations=10)
PAPER = Config(
    cues=4,
    cue_bits=20,
    episode_len=120,
    hidden_size=200,
    batch_size=30,
    iterations=180_000,
    retroactive_eta=0.1,
    late_iterations=180_000,
    fixed_cue_control=True,
    a2c=A2C(learning_rate=1e-4, adam_eps=1e-6, clip_norm=2.0, entropy_coefficient=0.1),
)
experiment = Experiment(
    name="cue-reward",
    summary="A network that modulates its own plasticity learns to associate new cues with reward; others do not",
    paper="Miconi, Rawal, Clune & Stanley, Backpropamine, ICLR 2019 (arXiv 2002.10585)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=4), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
