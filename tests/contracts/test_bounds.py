"""Bounds of arguments: what lies on a bound is taken; what lies just beyond it is refused, by the argument's name."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

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
from engram.agents.reference import BanditAgent
from engram.continual import (
    EWC,
    MAS,
    DHPSoftmax,
    LwF,
    OnlineEWC,
    Replay,
    Reservoir,
    SynapticIntelligence,
    adam,
    random_batches,
    sgd,
)
from engram.learned.blur import BlurNetwork, Genome
from engram.learned.updates import AdamRule, GatedCoordinateRule, LearnedOptimizer, train_teacher
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
    WeightMirror,
    WeightPerturbation,
    k_winners,
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
    (made(auto_groups, nn.Conv1d(1, 1, 3)), {"linear": one_of("none", "left", "right", "kron", "lowrank")}),
    (made(CMAES, weight()), {"sigma": POSITIVE, "population_size": ((4,), (3,))}),
    (made(RMSpropEpsInside, weight()), {"lr": NOT_NEGATIVE, "alpha": SHARE, "eps": POSITIVE}),
    (made(FOP, weight()), {"lr": NOT_NEGATIVE, "rank": COUNT, "update_every": COUNT, "eps": NOT_NEGATIVE}),
    (made(FOP, weight()), {"base": one_of("sgd", "adam", "adamw"), "placement": one_of("velocity", "gradient")}),
    (made(evaluate, [torch.ones(3)], torch.square), {"n_jobs": COUNT, "parts": COUNT}),
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
    (made(triangle, torch.ones(2, 3)), {"dim": ((-2, 1), (-3, 2))}),
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
