"""Bounds of arguments: what lies on a bound is taken; what lies just beyond it is refused, by the argument's name."""

import re
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from engram import agents, continual, meta, optim
from engram.agents import (
    A2C,
    BCO,
    D3G,
    RND,
    TD3,
    EpsilonGreedy,
    InverseModel,
    MaxEntMellowmax,
    ReplayBuffer,
    TabularQ,
    discounted_returns,
)
from engram.agents.action_vectors import ActionVectors
from engram.agents.reference import BanditAgent, BayesFilterAgent
from engram.agents.rnd import RunningMoments
from engram.continual import (
    EWC,
    MAS,
    DHPSoftmax,
    LwF,
    OnlineEWC,
    Replay,
    Reservoir,
    SynapticIntelligence,
    anml,
    random_batches,
)
from engram.learned import blur, updates
from engram.learned import learning_to_remember as remembering
from engram.learned.blur import BlurNetwork, Genome
from engram.learned.updates import AdamRule, GatedCoordinateRule, LearnedOptimizer, train_teacher
from engram.memory import DND, KeyValueMemory
from engram.meta import adam, sgd
from engram.optim import CMAES, FOP, AntitheticES, RMSpropEpsInside, auto_groups, evaluate
from engram.rules import (
    AdaptiveThreshold,
    AlignProp,
    DifferenceTargetPropagation,
    EquilibriumPropagation,
    HebbianConv2d,
    HebbianLinear,
    KolenPollack,
    NodePerturbation,
    PredictiveCoding,
    Reinforce,
    SoftHebbConv2d,
    WeightMirror,
    WeightPerturbation,
    k_winners,
    soft_winners,
    triangle,
)
from engram.rules.synaptic import BCM, CovarianceHebb, PairSTDP, ThreeFactor, TripletSTDP, homeostatic_scaling
from engram.rules.temporal import EProp

NATURAL, COUNT, NOT_NEGATIVE, POSITIVE = ((0,), (-1,)), ((1,), (0,)), ((0.0,), (-1e-3,)), ((1e-3,), (0.0,))
SHARE, POSITIVE_SHARE = ((0.0, 1.0), (-1e-3, 1.001)), ((1e-3, 1.0), (0.0, 1.001))


def one_of(*choices):
    return choices, ("x",)


def made(kind, *arguments, **options):
    return partial(kind, *arguments, **options)


def weight():
    return [torch.ones(2, requires_grad=True)]


def filled():
    memory = Reservoir(2, torch.Generator())
    memory.add(torch.ones(2), torch.ones(2))
    return memory


BOX, GENERATOR, RNG, LINEAR = spaces.Box(-1, 1, (2,)), torch.Generator(), np.random.default_rng(0), nn.Linear(2, 2)
TASK = torch.ones(2, 2), torch.tensor([0, 1])
TABLE = {"low": [0, 0], "high": [1, 1], "bins": [2, 2], "actions": 2, "rng": RNG}
LEARNER = {"gamma": SHARE, "polyak": POSITIVE_SHARE, "policy_every": COUNT, "learning_rate": NOT_NEGATIVE}
PENALTY = {"strength": NOT_NEGATIVE, "applied": one_of("proximal")}
TWO, ONES, NEVER = spaces.Discrete(2), torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.bool)
CART_POLES = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
CURIOUS, LSTM = agents.CuriousActorCritic((4,), 2, hidden=2, memory=None), remembering.LSTMMemory(2, 3)
PPO_LOSS = {
    "logits": torch.zeros(3, 2, 2), "values": torch.zeros(3, 2, 2), "actions": NEVER.long(), "old_log_prob": ONES,
    "advantages": ONES, "returns": torch.ones(3, 2, 2), "mask": ~NEVER,
    "clip": 0.1, "value_coefficient": 0.1, "entropy_coefficient": 0.1,
}  # fmt: skip
A2C_LOSS = {"gamma": 0.1, "value_coefficient": 0.1, "entropy_coefficient": 0.1}
COEFFICIENTS = dict.fromkeys(("value_coefficient", "entropy_coefficient"), NOT_NEGATIVE)
PAIRS = {"x": torch.ones(1, 2, 3), "y": torch.ones(1, 2, 2)}
TASKS = [continual.TaskData(TASK)]
LENGTHS = {"lengths": (1,), "shots": 1, "runs": 1, "selections": 1}
VISIBLE = remembering.Topology.visible(2)
POOL, GATED, SGD = torch.ones(2, 3, 1, 2, 2), anml.GatedNet(nn.Flatten(), nn.Linear(4, 3)), torch.optim.SGD
EPISODE = updates.MimicryEpisode(
    dict(LINEAR.state_dict()), {}, torch.ones(2, 2), TASK[1], (torch.ones(2, 2),), (torch.ones(2, 2),)
)
BOUNDS = [
    (A2C, {"learning_rate": SHARE, "adam_eps": POSITIVE_SHARE, "clip_norm": POSITIVE, "gamma": SHARE}),
    (A2C, {"value_coefficient": NOT_NEGATIVE}),
    (made(BCO, BOX, BOX, generator=GENERATOR), {"learning_rate": NOT_NEGATIVE}),
    (made(D3G, BOX, BOX, generator=GENERATOR), LEARNER),
    (made(D3G, BOX, BOX, generator=GENERATOR), {"cycle_weight": NOT_NEGATIVE}),
    (made(TD3, BOX, BOX, generator=GENERATOR), LEARNER | {"policy_noise": NOT_NEGATIVE, "noise_clip": NOT_NEGATIVE}),
    (made(EpsilonGreedy), {"final": SHARE}),
    (made(MaxEntMellowmax), {"omega": POSITIVE}),
    (made(InverseModel, 2, BOX), {"kind": one_of("mse")}),
    (made(ReplayBuffer, observation_space=BOX), {"capacity": COUNT}),
    (made(TabularQ, **TABLE), {"actions": COUNT, "gamma": SHARE, "learning_rate": SHARE}),
    (made(BanditAgent, rng=RNG), {"rule": one_of("thompson", "ucb1", "greedy")}),
    (made(RND, (2,), generator=GENERATOR), {"learning_rate": SHARE, "clip": POSITIVE, "hidden": COUNT}),
    (made(RND, (2,), generator=GENERATOR), {"gamma": ((0.0, 0.999), (-1e-3, 1.0)), "feature_dim": COUNT}),
    (made(discounted_returns, torch.ones(3, 1)), {"gamma": SHARE}),
    (made(EWC, LINEAR), PENALTY | {"n_samples": COUNT, "fisher": one_of("auto")}),
    (made(OnlineEWC, LINEAR), {"gamma": SHARE, "n_samples": COUNT}),
    (made(MAS, LINEAR), PENALTY | {"n_samples": COUNT, "output": one_of("logits"), "norm": one_of("l2sq")}),
    (made(SynapticIntelligence, LINEAR), PENALTY | {"xi": POSITIVE}),
    (made(LwF, LINEAR), {"strength": NOT_NEGATIVE, "temperature": POSITIVE}),
    (made(Replay, LINEAR), {"capacity": COUNT}),
    (made(Reservoir, generator=GENERATOR), {"capacity": COUNT}),
    (filled().sample, {"batch_size": COUNT}),
    (made(random_batches, generator=GENERATOR), {"batch_size": COUNT}),
    (made(DHPSoftmax, in_features=2, out_features=2), {"eta": SHARE, "alpha_scale": NOT_NEGATIVE}),
    (made(DHPSoftmax, in_features=2, out_features=2), {"in_features": COUNT, "out_features": COUNT}),
    (made(DHPSoftmax, in_features=2, out_features=2), {"init": one_of("fan_in", "author")}),
    (adam, {"lr": NOT_NEGATIVE, "eps": POSITIVE}),
    (adam, {"betas": (((0.0, 0.9), (0.9, 0.0)), ((-1e-3, 0.9), (0.9, 1.0)))}),
    (sgd, {"lr": NOT_NEGATIVE, "momentum": NOT_NEGATIVE}),
    (made(BlurNetwork, (2, 2)), {"limit": POSITIVE, "synapse_std": NOT_NEGATIVE, "n_states": ((2,), (1,))}),
    (Genome.backprop, {"learning_rate": POSITIVE}),
    (made(train_teacher, LINEAR, [LINEAR], [TASK], generator=GENERATOR), {"steps": NATURAL}),
    (made(train_teacher, LINEAR, [LINEAR], [TASK], generator=GENERATOR), {"lr": NOT_NEGATIVE, "batch_size": COUNT}),
    (made(LearnedOptimizer, weight()), {"lr": NOT_NEGATIVE}),
    (AdamRule, {"tensors": NATURAL}),
    (made(GatedCoordinateRule, generator=GENERATOR), {"tensors": NATURAL, "hidden": COUNT}),
    (made(AntitheticES, weight()), {"sigma": POSITIVE, "shaping": one_of(None, "rank", "zscore")}),
    (made(auto_groups, nn.Conv1d(1, 1, 3)), {"linear": one_of("none", "left", "scalar")}),
    (made(CMAES, weight()), {"sigma": POSITIVE, "population_size": ((4,), (3,))}),
    (made(RMSpropEpsInside, weight()), {"lr": NOT_NEGATIVE, "alpha": SHARE, "eps": POSITIVE}),
    (made(FOP, weight(), base="adam"), {"lr": NOT_NEGATIVE, "eps": NOT_NEGATIVE}),
    (made(FOP, weight()), {"base": one_of("sgd", "adam", "adamw"), "placement": one_of("velocity", "gradient")}),
    (made(evaluate, [torch.ones(3)], torch.square), {"n_jobs": COUNT, "parts": COUNT}),
    (A2C, {"entropy_coefficient": NOT_NEGATIVE}),
    (agents.PPO, dict.fromkeys(("learning_rate", "gamma", "gamma_intrinsic", "gae_lambda"), SHARE)),
    (agents.PPO, dict.fromkeys(("entropy_coefficient", "value_coefficient", "extrinsic", "intrinsic"), NOT_NEGATIVE)),
    (agents.PPO, dict.fromkeys(("clip", "clip_norm"), POSITIVE) | dict.fromkeys(("epochs", "minibatches"), COUNT)),
    (made(agents.a2c_loss, *[ONES] * 3, torch.ones(3, 2, 2), **A2C_LOSS), {"gamma": SHARE} | COEFFICIENTS),
    (
        made(agents.generalised_advantages, ONES, ONES, ONES, NEVER, NEVER, gamma=0.9, gae_lambda=0.9),
        {"gamma": SHARE, "gae_lambda": SHARE},
    ),
    (made(agents.ppo_loss, **PPO_LOSS), {"clip": POSITIVE} | COEFFICIENTS),
    (made(agents.monte_carlo_returns, [1.0, 2.0]), {"gamma": SHARE}),
    (made(agents.n_step_returns, [1.0, 2.0], [1.0, 2.0], gamma=0.9), {"n": COUNT}),
    (made(ActionVectors(BOX).explore, torch.zeros(1, 2), generator=GENERATOR), {"noise": NOT_NEGATIVE}),
    (made(agents.ActorCritic, nn.RNN(2, 3), generator=GENERATOR), {"actions": COUNT}),
    (
        made(agents.CuriousActorCritic, (2,), generator=GENERATOR, actions=2, hidden=2, memory=2),
        dict.fromkeys(("actions", "hidden", "memory"), COUNT),
    ),
    (made(agents.RecurrentAgent, BOX, TWO, rng=RNG), {"hidden_size": COUNT, "episodes": COUNT, "gamma": SHARE}),
    (made(agents.RecurrentAgent, BOX, TWO, rng=RNG), {"network": one_of("lstm", "plastic", "modulated")}),
    (made(agents.RecurrentAgent, BOX, TWO, rng=RNG), {"truncation": one_of("bootstrap", "terminal")}),
    (agents.VectorActor(CART_POLES, CURIOUS, GENERATOR).rollout, {"steps": COUNT}),
    (
        made(agents.IntrinsicReward, CART_POLES, agents.HashCounts((4,), 2, bits=4, generator=GENERATOR)),
        {"learn_every": NATURAL, "coefficient": ((-1.0,), (float("nan"),))},
    ),
    (
        made(RND, obs_shape=(2,), generator=GENERATOR),
        {"keep_prob": POSITIVE_SHARE, "num_envs": COUNT, "obs_shape": (((1,),), ((0,),))},
    ),
    (made(agents.HashCounts, (2,), generator=GENERATOR), {"num_envs": COUNT, "bits": ((1,), (0, 25))}),
    (
        made(agents.CheckedBonus, agents.HashCounts, obs_shape=(2,)),
        {"num_envs": COUNT, "obs_shape": (((1,),), ((0,),))},
    ),
    (
        made(agents.FragmentedCuriosity, partial(RND, (2,), hidden=2, feature_dim=2, generator=GENERATOR)),
        {
            "num_envs": COUNT,
            "capacity": ((2,), (0,)),
            "burn_in": NATURAL,
            "recall_threshold": ((-1.0, 1.0, None), (-1.001, 1.001)),
            "novelty": (((-1.0, -1.0), (2.0, 2.0)), ((-1.001, 0.0), (2.001, 0.0))),
        },
    ),
    (made(RunningMoments, (2,)), {"count": POSITIVE}),
    (
        made(agents.MFEC, KeyValueMemory(4, 2, tables=2, generator=GENERATOR), rng=RNG, k=4),
        {"gamma": SHARE, "truncation": one_of("terminal", "bootstrap")},
    ),
    (
        made(agents.NEC, DND(4, 2, tables=2, generator=GENERATOR), LINEAR, rng=RNG, k=4),
        dict.fromkeys(("n_steps", "batch_size", "replay_size", "train_every"), COUNT) | {"learning_rate": NOT_NEGATIVE},
    ),
    (EpsilonGreedy, {"start": ((0, 25_000), (-1, 25_001)), "end": ((5000,), (4999,))}),
    (made(EpsilonGreedy().epsilon), {"step": NATURAL}),
    (
        made(agents.TabularQSS, **TABLE),
        {"inverse": one_of("learned", "recent"), "initial_value": ((-1.0,), (float("inf"),)), "learning_rate": SHARE},
    ),
    (
        made(TabularQ, **TABLE),
        {"initial_value": ((-1.0,), (float("inf"),)), "bins": (([1, 1],), ([0, 1],)), "low": (([0, 0],), ([0, 1],))},
    ),
    (made(BayesFilterAgent, SimpleNamespace(n_stim_vars=0)), {"mode": one_of("qmdp", "thompson")}),
    (made(D3G, BOX, BOX, generator=GENERATOR), {"cycle": one_of("model", "value", "none")}),
    (made(continual.QuadraticPenalty, LINEAR), PENALTY),
    (made(continual.L2Anchor, LINEAR), PENALTY),
    (continual.QuadraticPenalty(LINEAR).prox_, {"lr": NOT_NEGATIVE}),
    (made(continual.fisher_diagonal, LINEAR, [torch.eye(2)], generator=GENERATOR), {"n_samples": COUNT}),
    (
        made(continual.fisher_diagonal, LINEAR, [TASK], generator=GENERATOR),
        {"fisher": one_of("auto", "all", "sample", "true", "predicted")},
    ),
    (
        made(continual.gradient_magnitude, LINEAR, [torch.eye(2)]),
        {"n_samples": COUNT, "output": one_of("logits", "softmax"), "norm": one_of("l2sq", "l1", "vector")},
    ),
    (made(meta.FastWeights, LINEAR), {"order": ((1, 2), (0, 3))}),
    (
        made(continual.train_on_tasks, LINEAR, TASKS, continual.EWC(LINEAR), SGD(LINEAR.parameters()), draw=len),
        {"steps": COUNT},
    ),
    (
        made(anml.anml_net, generator=GENERATOR, body_channels=1, gate_channels=1, num_outputs=1),
        dict.fromkeys(("body_channels", "gate_channels", "num_outputs"), COUNT),
    ),
    (made(anml.sanml_net, generator=GENERATOR, body_channels=1), {"body_channels": COUNT, "num_outputs": COUNT}),
    (
        made(anml.oml_net, generator=GENERATOR, channels=1, hidden=1, num_outputs=1),
        dict.fromkeys(("in_channels", "channels", "hidden", "num_outputs"), COUNT),
    ),
    (made(anml.learn_stream, GATED, POOL[:, 0], torch.arange(2), generator=GENERATOR), {"lr": NOT_NEGATIVE}),
    (
        made(anml.evaluate_lengths, GATED, POOL, lrs=(0.1, 0.2), generator=GENERATOR, **LENGTHS),
        {"lengths": (((1, 2),), ((0,), (3,))), "shots": ((1, 2), (0, 3)), "runs": COUNT, "selections": COUNT},
    ),
    (
        made(anml.SequentialMetaLearner, GATED, GENERATOR, fast=("head",)),
        {"inner_lr": NOT_NEGATIVE, "order": ((1, 2), (0, 3))},
    ),
    (made(anml.zap_, nn.Linear(2, 2), generator=GENERATOR), {"rows": (([0, 1],), ([-1], [2]))}),
    (made(Genome.random, generator=GENERATOR), {"n_states": COUNT}),
    (made(Genome.near_backprop, 0.1, GENERATOR), {"learning_rate": POSITIVE}),
    (made(Genome.near_backprop, generator=GENERATOR), {"std": NOT_NEGATIVE}),
    (made(blur.meta_step, SGD(weight()), weight()[0].sum(), 0), {"clip": POSITIVE}),
    (
        made(remembering.train_window, LSTM, SGD(LSTM.parameters()), *[ONES[:, None]] * 2, LSTM.init(1)),
        {"clip": POSITIVE},
    ),
    (
        made(remembering.LSTMMemory, features=2, hidden_size=3, outputs=2),
        dict.fromkeys(("features", "hidden_size", "outputs"), COUNT),
    ),
    (LSTM.init, {"batch_size": COUNT}),
    (made(remembering.GatedRule, generator=GENERATOR), {"synapse_hidden": COUNT, "types": COUNT}),
    *(
        (made(rule, types=2), dict.fromkeys(("body_size", "channels", "type_size", "body_hidden"), COUNT))
        for rule in (remembering.GatedRule, remembering.OuterRule, remembering.StaticRule)
    ),
    (made(remembering.Topology, (2,), ((0, 0),)), {"ticks": COUNT, "fan_in": ((1, 2, None), (0, 3))}),
    (VISIBLE.of_group, {"group": ((0,), (-1, 1))}),
    (
        made(remembering.RuleNetwork, VISIBLE, remembering.StaticRule()),
        {"sigma": NOT_NEGATIVE, "aggregate": one_of("sqrt", "mean"), "backend": one_of("auto", "eager")},
    ),
    (remembering.RuleNetwork(VISIBLE, remembering.StaticRule()).init, {"batch_size": COUNT}),
    (made(remembering.hebb_memory, **PAIRS), {"decay": SHARE}),
    (made(remembering.delta_memory, **PAIRS), {"rate": NOT_NEGATIVE}),
    (
        made(remembering.sgd_recall, **PAIRS, generator=GENERATOR, rate=0.1, hidden=2),
        {"rate": NOT_NEGATIVE, "hidden": COUNT},
    ),
    (remembering.body_only_accuracy, {"snippets": ((1,), (0, 1001))}),
    (AdamRule().as_update, {"lr": NOT_NEGATIVE}),
    (made(AdamRule().estimated, generator=GENERATOR), {"every": COUNT}),
    (made(updates.LearnedUpdate, nn.Sequential(LINEAR, nn.Linear(2, 2))), {"lr": NOT_NEGATIVE}),
    (
        made(updates.TeacherMimicTrainer, LINEAR, AdamRule(2), [EPISODE], generator=GENERATOR),
        dict.fromkeys(("lr", "head_lr", "rule_lr"), POSITIVE)
        | dict.fromkeys(("students", "unroll", "batch_size", "every"), COUNT)
        | {"lengths": (((1, 1),), ((0, 1), (2, 1)))},
    ),
    (made(FOP, weight()), dict.fromkeys(("momentum", "dampening", "weight_decay", "rho"), NOT_NEGATIVE)),
    (made(FOP, weight(), base="adam"), {"betas": (((0.0, 0.0),), ((1.0, 0.0), (0.0, 1.0), (0.9,)))}),
    (made(FOP, weight()), {"eig_range": (((1.0, 1.0), None), ((0.0, 1.0), (1.001, 2.0), (0.5, 0.999), (1.0,)))}),
    (made(FOP, weight()), {"hypergrad_norm": one_of("cosine", "none"), "structure": one_of("auto", "none", "left")}),
    (made(FOP, weight()), {"foreach": one_of(None, True, False)}),
    (made(optim.block_view, torch.ones(2, 2)), {"structure": one_of("left", "scalar")}),
    (made(AntitheticES, weight()), {"population_size": ((4, 6), (2, 5))}),
    (AlignProp, {"rho": SHARE}),
    (WeightMirror, {"rate": POSITIVE, "decay": SHARE}),
    (NodePerturbation, {"sigma": POSITIVE, "draws": COUNT}),
    (WeightPerturbation, {"sigma": POSITIVE, "pairs": COUNT}),
    (DifferenceTargetPropagation, {"gamma": POSITIVE, "noise": NOT_NEGATIVE, "rate": POSITIVE}),
    (DifferenceTargetPropagation, {"inverse_steps": NATURAL}),
    (Reinforce, {"rate": SHARE, "sigma": POSITIVE}),
    (EquilibriumPropagation, {"beta": POSITIVE, "free_steps": COUNT, "nudge_steps": COUNT, "epsilon": POSITIVE_SHARE}),
    (EquilibriumPropagation, {"tolerance": NOT_NEGATIVE}),
    (KolenPollack, {"decay": SHARE}),
    (PredictiveCoding, {"steps": COUNT, "rate": POSITIVE}),
    (EProp, {"decay": SHARE, "feedback": one_of("symmetric", "random")}),
    (made(AdaptiveThreshold, units=2, target=0.1), {"target": POSITIVE_SHARE, "rate": NOT_NEGATIVE, "units": COUNT}),
    (made(HebbianConv2d, 2, 2, 3), {"lr": NOT_NEGATIVE, "burn_in": NATURAL, "threshold_rate": NOT_NEGATIVE}),
    (made(HebbianConv2d, 2, kernel_size=3), {"out_channels": ((2,), (0,))}),
    (made(HebbianLinear, 2), {"out_features": ((2,), (0,))}),
    (made(k_winners, torch.ones(2, 3), k=1), {"dim": ((-2, 1), (-3, 2))}),
    (made(k_winners, torch.ones(2, 3), dim=1), {"k": ((1, 3), (0, 4))}),
    (made(triangle, torch.ones(2, 3)), {"dim": ((-2, 1), (-3, 2)), "power": POSITIVE}),
    (made(soft_winners, torch.ones(2, 3)), {"dim": ((-2, 1), (-3, 2)), "temperature": NOT_NEGATIVE}),
    (made(SoftHebbConv2d, 2, 2, 3), dict.fromkeys(("lr", "temperature", "rate_power"), NOT_NEGATIVE)),
    (made(SoftHebbConv2d, 2, 2, 3), {"initial_norm": POSITIVE, "activation_power": POSITIVE, "padding": NATURAL}),
    (made(SoftHebbConv2d, 2, kernel_size=3), {"out_channels": ((2,), (0,))}),
    (BCM, {"rate": SHARE}),
    (CovarianceHebb, {"rate": SHARE}),
    (PairSTDP, dict.fromkeys(("a_plus", "a_minus"), NOT_NEGATIVE)),
    (PairSTDP, dict.fromkeys(("tau_plus", "tau_minus", "w_max"), POSITIVE)),
    (PairSTDP, {"bounds": one_of("hard", "soft")}),
    (TripletSTDP, dict.fromkeys(("a2_plus", "a2_minus", "a3_plus", "a3_minus"), NOT_NEGATIVE)),
    (TripletSTDP, dict.fromkeys(("tau_plus", "tau_minus", "tau_x", "tau_y", "w_max"), POSITIVE)),
    (TripletSTDP, {"bounds": one_of("hard", "soft")}),
    (
        made(homeostatic_scaling, torch.ones(2, 3), rate=torch.ones(2), target=1.0),
        {
            "target": POSITIVE,
            "exponent": ((0.0,), (float("nan"),)),
            "rate": ((torch.ones(2),), (torch.ones(2).double(),)),
        },
    ),
    (ThreeFactor, {"tau": ((1.0,), (0.999,)), "baseline_rate": SHARE}),
]
CASES = [(make, name, *bounds) for make, arguments in BOUNDS for name, bounds in arguments.items()]


@pytest.mark.parametrize(("make", "argument", "taken", "refused"), CASES)
def test_what_is_on_a_bound_is_taken_and_what_is_beyond_refused(make, argument, taken, refused):
    for value in taken:
        make(**{argument: value})
    for value in refused:
        with pytest.raises((TypeError, ValueError)) as refusal:
            make(**{argument: value})
        assert re.search(rf"\b{argument}\b.*=", str(refusal.value))  # not in a note alone
