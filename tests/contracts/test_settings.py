"""The settings that were published, and those that the documentation names, are the defaults."""

import inspect

import pytest

from engram import agents, continual, meta, optim
from engram.agents import from_spaces
from engram.agents.rnd import RunningMoments
from engram.agents.tabular import Tabular
from engram.continual import anml
from engram.learned import blur, updates
from engram.learned import learning_to_remember as remembering

OFF_POLICY = {"hidden": (256, 256), "gamma": 0.99, "learning_rate": 3e-4, "polyak": 0.005, "policy_every": 2}
NEURAL = {"body_size": 8, "channels": 4, "types": 1, "type_size": 4, "body_hidden": 32}
RMSPROP = {"learning_rate": 7.92468721e-6, "train_every": 4}
SGD = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0, "maximize": False}
PENALTY = {"strength": 1.0, "applied": "proximal"}
TRAINER = {"lr": 1e-3, "head_lr": 1e-2, "rule_lr": 1e-3, "students": 4, "unroll": 10, "lengths": (50, 150)}
ANML = {"in_channels": 1, "body_channels": 256, "num_outputs": 1000}
SETTINGS = {
    agents.RND: {"hidden": 512, "feature_dim": 512, "keep_prob": 0.25, "learning_rate": 1e-4, "clip": 5.0},
    agents.FragmentedCuriosity: {"capacity": 800, "recall_threshold": 0.99, "novelty": (0.75, 0.5), "burn_in": 1},
    agents.CuriousActorCritic: {"hidden": 512, "memory": 512},
    agents.IntrinsicReward: {"coefficient": 1.0, "learn_every": 64},
    agents.HashCounts: {"num_envs": 1, "bits": 16},
    RunningMoments: {"count": 1e-4},
    agents.D3G: OFF_POLICY | {"cycle": "model", "cycle_weight": 1.0, "inverse_loss": "mse", "device": "cpu"},
    agents.TD3: OFF_POLICY | {"policy_noise": 0.2, "noise_clip": 0.5, "device": "cpu"},
    agents.BCO: {"hidden": (256, 256), "learning_rate": 3e-4, "device": "cpu"},
    agents.InverseModel: {"hidden": (256, 256), "kind": "mse"},
    agents.TabularQSS: {"initial_value": 0.001, "learning_rate": 0.01, "inverse": "learned"},
    Tabular: {"gamma": 0.99, "learning_rate": 0.1},
    Tabular.train: {"max_steps": 500, "evaluations": 1},
    agents.MFEC: {"k": 11, "gamma": 0.99, "kernel": "idw", "delta": 1e-3, "truncation": "bootstrap"},
    agents.NEC: {"k": 50, "n_steps": 100, "batch_size": 32, "replay_size": 10**5, "learning_starts": 50_000} | RMSPROP,
    agents.RecurrentAgent: {"network": "lstm", "hidden_size": 32, "episodes": 1, "learning_rate": 0.01, "gamma": 0.95}
    | {"truncation": "bootstrap"},
    from_spaces.tabular_q: {"learning_rate": 0.2},
    agents.rollout: {"max_steps": 100_000, "truncation": "bootstrap"},
    continual.QuadraticPenalty: PENALTY,
    continual.EWC: PENALTY | {"fisher": "auto", "n_samples": 1024},
    continual.OnlineEWC: PENALTY | {"gamma": 1.0, "normalise": False, "fisher": "auto", "n_samples": 1024},
    continual.MAS: PENALTY | {"output": "logits", "all_outputs": False, "norm": "l2sq", "n_samples": 1024},
    continual.SynapticIntelligence: PENALTY | {"xi": 0.1},
    continual.LwF: {"strength": 1.0, "temperature": 2.0},
    continual.Replay: {"capacity": 200, "balanced": False},
    continual.DHPSoftmax: {"eta": 0.01, "alpha_scale": 0.01, "init": "fan_in", "learn_eta": True, "bias": False},
    meta.FastWeights: {"order": 2},
    meta.sgd: {"lr": 0.1, "momentum": 0.0},
    meta.adam: {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8},
    continual.ContinualClassifier: {"hidden": (100,), "learning_rate": 0.1, "batch_size": 32, "epochs": 20},
    anml.anml_net: ANML | {"gate_channels": 112},
    anml.sanml_net: ANML,
    anml.oml_net: {"in_channels": 1, "channels": 256, "hidden": 1024, "num_outputs": 1000},
    anml.SequentialMetaLearner: {"fast": ("body", "head"), "inner_lr": 0.1, "order": 2, "zap": True},
    anml.learn_stream: {"lr": 1e-3, "train": ("head",)},
    anml.evaluate_lengths: {"lrs": (1e-3,), "shots": 15, "selections": 10, "runs": 10, "shuffled": False},
    optim.FOP: SGD | {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "rho": 0.03, "eig_range": (1e-2, 1e2)},
    optim.RMSpropEpsInside: {"lr": RMSPROP["learning_rate"], "alpha": 0.95, "eps": 0.01},
    optim.AntitheticES: {"sigma": 0.03, "population_size": 100, "include_mean": False},
    optim.CMAES: {"sigma": 0.03, "diagonal": False},
    blur.BlurClassifier: {"hidden_layer_sizes": (64,), "n_steps": 20, "batch_size": 128, "saturation": "norm"},
    blur.Genome.near_backprop: {"learning_rate": 0.512},
    blur.meta_step: {"clip": 10.0},
    updates.LearnedOptimizer: {"lr": 1e-3},
    updates.LearnedUpdate: {"lr": 1e-3},
    updates.GatedCoordinateRule: {"tensors": 0, "hidden": 32, "residual": True, "remembers": True},
    updates.TeacherMimicTrainer: TRAINER | {"batch_size": 32, "every": 1},
    updates.train_teacher: {"steps": 200, "lr": 1e-3, "batch_size": 32},
    remembering.GatedRule: NEURAL | {"synapse_hidden": 16, "product": True},
    remembering.OuterRule: NEURAL | {"delta": False},
    remembering.StaticRule: NEURAL,
    remembering.Topology.visible: {"bidirectional": True},
    remembering.Topology.recurrent: {"ticks": 1},
    remembering.Topology.sparse: {"fan_in": 4, "ticks": 2},
    remembering.train_window: {"clip": 1.0},
    remembering.hebb_memory: {"decay": 1.0},
}  # fmt: skip


def default(kind, name):
    """The default of an argument of a function or class, or of the base class that its options go to."""
    kinds = kind.__mro__ if inspect.isclass(kind) else (kind,)
    return next(p[name].default for p in (inspect.signature(k).parameters for k in kinds) if name in p)


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__qualname__)
def test_settings_are_the_defaults(kind):
    assert {name: default(kind, name) for name in SETTINGS[kind]} == SETTINGS[kind]
