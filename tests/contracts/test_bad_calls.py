"""Wrong arguments: no public function crashes or hangs on them, and its error names the argument.

Every function, constructor and method that the packages offer is called with arguments made from its signature, one of
them wrong: of another type, shape, dtype or size, NaN, or beyond all bounds. Calls are made in a process that may die.
"""

from __future__ import annotations

import collections.abc
import contextlib
import enum
import functools
import importlib
import inspect
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import types
import typing
from collections import Counter
from fractions import Fraction
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from sklearn.exceptions import NotFittedError

from engram.agents import PPO, RND, ActorCritic, CuriousActorCritic, HashCounts
from engram.analysis import DSA, HankelDMD, fit_driven
from engram.continual import TaskData
from engram.continual.anml import GatedNet
from engram.generative.design import LookupTable, measurements
from engram.generative.diffusion import CondUNet
from engram.learned.blur import BlurNetwork
from engram.learned.learning_to_remember import GatedRule, LSTMMemory, RuleNetwork, Topology
from engram.learned.updates import AdamRule, MimicryEpisode
from engram.memory import DND, HebbHopfield, KeyValueMemory
from engram.memory.fragments import LongTermStore
from engram.nn import BatchOnlyNorm, LeakyRNN, ReadoutNetwork
from engram.nn.ntk import NTKLinear
from engram.numeric.finite_mdp import FiniteMDP
from engram.plasticity import Hebb, Oja, PlasticRNN, rule_to_json
from engram.rules import Backprop
from engram.spatial import FrontierExplorer
from engram.tasks import function_2d
from engram.tasks.meta import (
    MetaTask,
    MetaTaskEnv,
    MetaTaskVectorEnv,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
    to_json,
)
from engram.testing.promises import no_global_draws
from engram.verify import AffineReLU, Argmax, Box
from engram.verify.query import Query, QueryCase, Row

PACKAGES = (
    "agents",
    "analysis",
    "analysis.composition",
    "verify",
    "continual",
    "continual.anml",
    "meta",
    "generative.design",
    "generative.diffusion",
    "learned.blur",
    "learned.learning_to_remember",
    "learned.updates",
    "memory",
    "memory.fragments",
    "nn",
    "nn.ntk",
    "optim",
    "plasticity",
    "plasticity.sequence",
    "rules",
    "rules.synaptic",
    "rules.temporal",
    "spatial",
    "spatial.induction",
    "spatial.pomcp",
    "tasks",
    "tasks.meta",
)
# Of one call, after which it counts as one that hangs, computing or waiting, or fills memory.
SECONDS, WAITING, MEGABYTES = 20, 600, 6000
SAMPLE = 150
SAMPLES = np.random.default_rng(0).random((12, 3))
QUERY = Query(
    3,
    3,
    (QueryCase((-Fraction(1),) * 3, (Fraction(1),) * 3, (), ((Row(((0, Fraction(1)),), Fraction(-9), False, 1),),)),),
)
NET = AffineReLU((np.ones((4, 3)), np.ones((3, 4))), (np.zeros(4), np.zeros(3)))
TABLE, VARIABLES = np.full((3, 3, 3), 1 / 3), {"state_vars": (StateVar((1, 2)),) * 4, "prob_vars": (ProbVar(),)}
TASK = MetaTask(TABLE, (RewardRule(old=StateRef(0), p=ProbRef(0)),), **VARIABLES, stim=Stim(3), horizon=9)
TOPOLOGY = Topology((1, 1, 1), ((0, 1), (1, 2)))
DENOISER = CondUNet(4, label_dim=3)
MODEL = types.SimpleNamespace(n_actions=3, step=lambda state, action, rng: (state, 0, 1.0, True))


def environments():
    return MetaTaskVectorEnv(TASK, 3)


def curiosity():
    return RND((3,), num_envs=3, hidden=8, feature_dim=4, generator=torch.Generator())


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], 0.1)


def episode():
    inputs, labels = task_data().train
    start = {name: p.detach() for name, p in torch.nn.Linear(3, 3).named_parameters()}
    return MimicryEpisode(start, {}, inputs, labels, (inputs,), (inputs,))


def rule_state():
    return RuleNetwork(TOPOLOGY, GatedRule()).init(3)


def task_data():
    return TaskData((torch.ones(3, 3), torch.arange(3)), (0, 1, 2))


def first_state(rule):
    """Return the state with which a rule of learning or of plasticity begins."""
    return rule.init(**arguments(rule.init, {}))


def stored(memory):
    """Return the number of a fragment that a long-term store holds, after another."""
    memory.write(3, np.ones(3))
    return memory.write(5, np.ones(3))


def filled(buffer):
    """Add a transition to a buffer, and return a source of samples."""
    buffer.add(**arguments(buffer.add, {}))
    return torch.Generator()


def no_action(env):
    return np.zeros(env.action_space.shape, env.action_space.dtype)


def sums(population, *rest):
    return population.sum(1)


def attached(method):
    """Attach an optimiser to a continual method, take a step, and return the task that ends then."""
    steps = torch.optim.SGD(method.model.parameters(), 0.1)
    method.attach(steps)
    method.model(torch.ones(3, 3)).sum().backward()
    steps.step()
    return task_data()


def measured():
    return measurements([f"{a * 4}{b * 4}" for a in "ARNDC" for b in "QEGHI"], range(25))


def driven():
    return fit_driven(SAMPLES.copy(), SAMPLES[:, :2].copy())


def mdp():
    places = np.zeros((8, 3, 1), int)
    return FiniteMDP(places, np.ones((8, 3, 1)), np.ones((8, 3, 1)), np.zeros(8, bool), 0)


class Scheduler:
    """What a diffusion takes of a scheduler of diffusers."""

    config, betas, timesteps = types.SimpleNamespace(prediction_type="epsilon"), torch.full((30,), 0.1), (1,)

    def step(self, model_output, timestep, sample, generator):
        return types.SimpleNamespace(prev_sample=sample)

    def set_timesteps(self, count):
        pass


def readout():
    return ReadoutNetwork(LeakyRNN(3, 3), 3)


def signs(*sizes):
    return lambda: torch.ones(sizes or (3, 3))


# Good arguments that their types do not tell, by name, and what has to be called before another method.
MADE = {
    "C": lambda: np.array([[0, 1], [1, 2]]), "H": lambda: np.array([[1, 1, 0], [0, 1, 1]]), "net": lambda: NET,
    "network": lambda: NET, "box": lambda: Box(-np.ones(3), np.ones(3)), "inputs": lambda: torch.full((3, 3), 0.5),
    "prop": lambda: Argmax(0), "module": lambda: torch.nn.Linear(3, 3), "X": SAMPLES.copy,
    "x0": lambda: np.ones(3), "capacity": lambda: 8, "low": lambda: -np.ones(3), "high": lambda: np.ones(3),
    "transition": lambda: np.full((3, 2, 3), 1 / 3), "y": lambda: np.arange(12) % 2,
    "labels": lambda: np.arange(12) % 3, "bins": lambda: np.full(3, 2),
    "observation_space": lambda: spaces.Box(-1.0, 1.0, (3,)), "action_space": lambda: spaces.Box(-1.0, 1.0, (3,)),
    "make_network": lambda: HebbHopfield, "make_bonus": lambda: HashCounts,
    # Those of one class, function or method go before the others, and are given where there is a default, too.
    "load_state_dict.state": lambda it: it.state_dict(), "load_state_dict.state_dict": lambda it: it.state_dict(),
    "set_extra_state.state": lambda it: it.get_extra_state(),
    "attach.optimizer": lambda it: torch.optim.SGD(it.model.parameters(), 0.1),
    "ActorCritic.network": lambda: PlasticRNN(3, 3), "rollout.env": environments, "a2c_step.optimizer": optimizer,
    "play_episode.env": lambda: MetaTaskEnv(TASK),
    "FragmentedCuriosity.make_module": lambda: curiosity, "FragmentedCuriosity.num_envs": lambda: 3,
    "FragmentedCuriosity.bonus.next_obs": lambda: torch.ones(3, 3, 3),
    "FragmentedCuriosity.update.obs": lambda: torch.ones(3, 3, 3),
    "IntrinsicReward.env": environments, "IntrinsicReward.curiosity": curiosity,
    "IntrinsicReward.step.actions": lambda: np.zeros(3, int),
    "MFEC.memory": lambda: KeyValueMemory(8, 3, tables=3), "NEC.memory": lambda: DND(8, 3, tables=3),
    "NEC.encoder": lambda: torch.nn.Linear(3, 3), "EpisodicControl.act.observation": lambda: np.ones(3),
    "EpisodicControl.values.observation": lambda: np.ones(3), "RecurrentAgent.act.observation": lambda: np.ones(3),
    "VectorActor.env": environments, "RecurrentAgent.action_space": lambda: spaces.Discrete(3),
    "VectorActor.agent": lambda: CuriousActorCritic((3,), 3, hidden=8, memory=None),
    "TrainedAgent.network": lambda: ActorCritic(PlasticRNN(3, 3), 3),
    "AccuracyMatrix.accuracies": lambda: np.full((3, 3), 0.5),
    "query": lambda: QUERY, "Query.inputs": lambda: 3, "Query.outputs": lambda: 3, "Query.cases": lambda: QUERY.cases,
    "QueryCase.low": lambda: QUERY.cases[0].low, "QueryCase.high": lambda: QUERY.cases[0].high,
    "QueryCase.rows": lambda: (), "QueryCase.violations": lambda: QUERY.cases[0].violations,
    "QueryCase.contains.x": lambda: [Fraction(0)] * 3, "QueryCase.violated.y": lambda: [Fraction(0)] * 3,
    "Query.contains.x": lambda: [Fraction(0)] * 3, "Query.contains.y": lambda: [Fraction(0)] * 3,
    "QueryCase.safe.outputs": lambda: 3, "certificates": lambda: [None],
    "AffineReLU.weights": lambda: NET.weights, "AffineReLU.biases": lambda: NET.biases,
    "Region.pattern": lambda: (np.ones(4, np.int8),),
    "GatedNet.body": lambda: torch.nn.Linear(3, 3), "GatedNet.head": lambda: torch.nn.Linear(3, 3),
    "SequentialMetaLearner.net": lambda: GatedNet(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)),
    "SequentialMetaLearner.inner.x": lambda: torch.ones(3, 3),
    "SequentialMetaLearner.inner.y": lambda: torch.ones(3, dtype=int),
    "SequentialMetaLearner.step.x": lambda: torch.ones(3, 3),
    "SequentialMetaLearner.step.y": lambda: torch.ones(3, dtype=int),
    "SequentialMetaLearner.step.remember_x": lambda: torch.ones(3, 3),
    "end_task.task": task_data, "task_batches.task": task_data, "train_on_tasks.tasks": lambda: [task_data()],
    "train_on_tasks.optimizer": optimizer, "train_on_tasks.draw": lambda: lambda task, step: task.train,
    "SeqCNN.length": lambda: 3, "SeqCNN.kernel": lambda: 3, "SeqCNN.vocab": lambda: 3,
    "SeqCNN.forward.x": lambda: torch.ones(3, 3, 3),
    "CondUNet.size": lambda: 4, "CondUNet.label_dim": lambda: 3,
    "CondUNet.forward.x": lambda: torch.ones(3, 1, 4, 4),
    "forward.labels": lambda: torch.ones(3, 3), "hidden.labels": lambda: torch.ones(3, 3),
    "loss.labels": lambda: torch.ones(3, 3), "hidden.model": lambda: DENOISER,
    "hidden.layer": lambda: DENOISER.stem, "hidden.x": lambda: torch.ones(3, 1, 4, 4),
    "loss.x0": lambda: torch.ones(3), "noised.x0": lambda: torch.ones(3), "target.x0": lambda: torch.ones(3),
    "Topology.groups": lambda: (1, 1, 1), "Topology.blocks": lambda: ((0, 1), (1, 2)),
    "Topology.of_group.group": lambda: 1, "RuleNetwork.topology": lambda: TOPOLOGY, "RuleNetwork.rule": GatedRule,
    "RuleNetwork.forward.input": lambda: torch.ones(3, 3, 1), "RuleNetwork.forward.state": rule_state,
    "RuleNetwork.tick.state": rule_state, "TeacherMimicTrainer.rule": lambda: AdamRule(3),
    "TeacherMimicTrainer.body": lambda: torch.nn.Linear(3, 3), "TeacherMimicTrainer.episodes": lambda: [episode()],
    "LearnedUpdate.model": lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)),
    "DND.delete.rows": lambda: torch.zeros(0, dtype=torch.int64),
    "DND.capacity": lambda: 8, "DND.key_dim": lambda: 3, "DND.generator": lambda: torch.Generator().manual_seed(0),
    "KeyValueMemory.write.values": lambda: torch.ones(3),
    "FragmentAndRecall.factory": lambda: list, "FragmentAndRecall.store": lambda: LongTermStore("exact"),
    "SlowWeights.rule": Oja, "POMCP.model": lambda: MODEL,
    "ClassStreams.images": lambda: torch.ones(3, 3, 3, 3), "ClassStreams.steps": lambda: 3,
    "ClassStreams.remember": lambda: 3, "grid": lambda: np.array([[0, 2], [5, 0]]),
    "RoomGrid.step.action": lambda: 1,
    "step.actions": no_action, "step.action": no_action, "MetaTaskVectorEnv.num_envs": lambda: 3,
    "MetaTaskVectorEnv.instance.row": lambda: 1,
    "MetaTask.transition": lambda: TASK.transition, "MetaTask.reward_rules": lambda: TASK.reward_rules,
    "MetaTask.state_vars": lambda: TASK.state_vars, "MetaTask.prob_vars": lambda: TASK.prob_vars,
    "MetaTask.stim": lambda: TASK.stim, "MetaTask.parts_of.state": lambda: 1,
    "MetaTask.column.ref": lambda: StateRef(0),
    "obs_shape": lambda: (3,), "update.state": first_state, "check_state.state": first_state,
    "check_step.state": first_state, "warn_if_saturated.state": first_state,
    "tell.fitness": lambda it: np.ones(getattr(it, "population_size", 0) or len(it.ask())),
    "checked_loss.fitness": lambda: torch.ones(3), "checked_loss.loss": lambda: None,
    "TabularQ.act.observation": lambda: np.zeros(3), "TabularQSS.act.observation": lambda: np.zeros(3),
    "cell.observation": lambda: np.zeros(3), "value.observation": lambda: np.zeros(3),
    "values.observation": lambda: np.zeros(3), "actions_for.observation": lambda: np.zeros(3),
    "actions_for.next_observation": lambda it: it.partial_fit(**arguments(it.partial_fit, {})) or np.zeros(3),
    "TabularQ.observe.observation": lambda it: it.act(np.zeros(3)) * np.zeros(3),
    "TabularQSS.observe.observation": lambda it: it.act(np.zeros(3)) * np.zeros(3),
    "partial_fit.observations": lambda: np.zeros((3, 3)), "partial_fit.next_observations": lambda: np.zeros((3, 3)),
    "act.observations": lambda: np.zeros((3, 3), np.float32), "propose.observations": lambda: np.zeros((3, 3)),
    "meta_actor_critic.network": lambda: PlasticRNN(3, 3), "vector_episodes.act": lambda: lambda observed: [0] * 3,
    "ppo_update.settings": lambda: PPO(minibatches=1),
    "add.actions": lambda: np.zeros((3, 3), np.float32), "add_log.states": lambda: np.zeros((3, 3), np.float32),
    "ReplayBuffer.action_space": lambda: spaces.Box(-1.0, 1.0, (3,)),
    "add_log.actions": lambda: np.zeros((3, 3), np.float32), "add_log.rewards": lambda: np.zeros(3),
    "add_log.next_states": lambda: np.zeros((3, 3), np.float32), "add_log.terminated": lambda: np.zeros(3, bool),
    "add_log.truncated": lambda: np.zeros(3, bool), "ReplayBuffer.sample.generator": filled,
    "RND.loss.obs": lambda: torch.ones(3, 3), "RND.update.obs": lambda: torch.ones(3, 3),
    "CheckedBonus.num_envs": lambda: 3, "HashCounts.num_envs": lambda: 3, "RND.num_envs": lambda: 3,
    "CheckedBonus.obs_shape": lambda: (3,),
    "coupling.steps": lambda: np.arange(1, 4), "factorization.H": lambda: np.eye(4),
    "factorization.separation": lambda: 0.5,
    "factorization.labels": lambda: np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]),
    "representation_order.k": lambda: 2, "representation_order.H": lambda: np.eye(3),
    "cross_temporal_decoding.labels": lambda: np.arange(12) % 2,
    "cross_temporal_decoding.activity": lambda: np.random.default_rng(0).random((12, 3, 3)),
    "maximum_likelihood_dimension.distances": lambda: np.tile(np.arange(1.0, 4), (3, 1)),
    "gaussian_process_test_error.y": lambda: np.ones((12, 1)),
    "gaussian_process_test_error.X_test": lambda: SAMPLES[:3] + 1.0,
    "gaussian_process_test_error.y_test": lambda: np.ones((3, 1)),
    "sampled_bias.test_errors": lambda: np.random.default_rng(0).random(30),
    "extreme_quantile.k": lambda: 2, "extreme_quantile.values": lambda: np.arange(1.0, 9) ** 2,
    "nearest_distances.k": lambda: 2,
    "few_shot_task.m_within": lambda: 2.0, "few_shot_task.m_across": lambda: 3.0, "few_shot_task.n_tasks": lambda: 2.0,
    "extra_memory.update": lambda: lambda: torch.ones(3) + 1, "extra_memory.forward": lambda: lambda: torch.ones(3) + 1,
    "forward_equivalents.update": lambda: lambda: torch.ones(3) @ torch.ones(3, 3),
    "forward_equivalents.forward": lambda: lambda: torch.ones(3) @ torch.ones(3, 3),
    "peak_memory.call": lambda: lambda: torch.ones(3) + 1, "recomputed.function": lambda: lambda: torch.ones(3),
    "stay_probabilities.choices": lambda: np.array([[0, 1, 0, 1] * 3]),
    "stay_probabilities.rewarded": lambda: np.array([[True, False] * 6]),
    "stay_probabilities.common": lambda: np.array([[True, True, False] * 4]),
    "within_lifetime_gain.rewards": lambda: np.ones((3, 8)),
    "choose_delays.X": lambda: np.random.default_rng(0).random((6, 30, 2)), "choose_delays.n_delays": lambda: (1, 2),
    "choose_delays.ranks": lambda: (1, 2), "fit_driven.inputs": SAMPLES[:, :2].copy,
    "driven_distance.first": driven, "driven_distance.second": driven,
    "linear_cka.Y": SAMPLES.copy, "procrustes_angle.Y": SAMPLES.copy, "rsa.Y": SAMPLES.copy,
    "permutation_test.labels": lambda: np.array([0, 0, 1, 1]), "permutation_test.distances": lambda: 1.0 - np.eye(4),
    "silhouette.labels": lambda: np.array([0, 0, 1, 1]), "silhouette.distances": lambda: 1.0 - np.eye(4),
    "trial_permutation_test.first": lambda: np.random.default_rng(0).random((4, 12, 3)),
    "trial_permutation_test.second": lambda: np.random.default_rng(1).random((4, 12, 3)),
    "trial_permutation_test.n_permutations": lambda: 3,
    "mutated.wild_type": lambda: "MKVLA", "mutated.mutations": lambda: ["K2R"],
    "split_half_floor.systems": lambda: [np.random.default_rng(n).random((4, 12, 3)) for n in range(2)],
    "layer_rules.layer": lambda: 1, "layer_rules.label": lambda: 0, "prove_rule.label": lambda: 0,
    "layer_rules.X": SAMPLES.copy, "prove_rule.box": lambda: Box(-np.ones(3), np.ones(3)),
    "Normalisation.mean": lambda: np.zeros(4), "Normalisation.scale": lambda: np.ones(4),
    "Normalisation.low": lambda: -np.ones(3), "Normalisation.high": lambda: np.ones(3),
    "local_affine.pattern": lambda: (np.ones(4, np.int8),),
    "pattern_halfspaces.pattern": lambda: (np.ones(4, np.int8),),
    "pattern_halfspaces.at": lambda: (np.ones(4, np.int8),), "class_regions.label": lambda: 0,
    "LinearProperty.d": lambda: np.ones(2), "LinearProperty.C": lambda: np.ones((2, 3)),
    "Polytope.A": lambda: np.ones((2, 3)), "Polytope.b": lambda: np.ones(2),
    "predicted_change.initial": lambda: dict(torch.nn.Sequential(torch.nn.Linear(3, 3)).named_parameters()),
    "learn_stream.x": lambda: torch.ones(3, 3), "learn_stream.y": lambda: torch.ones(3, dtype=int),
    "FastWeights.adapt.loss": lambda: lambda fast, batch: sum((p**2).sum() for p in fast.params.values()),
    "FastWeights.step.loss": lambda it: sum((p**2).sum() for p in it.params.values()),
    "fisher_diagonal.data": lambda: [(torch.ones(3, 3), torch.arange(3))],
    "gradient_magnitude.data": lambda: [(torch.ones(3, 3), torch.arange(3))],
    "Reservoir.sample.batch_size": lambda it: it.add(torch.ones(3, 3), torch.arange(3)) or 3,
    "GGS.fit.sequences": lambda: ["ARNDC", "ARNDE", "ARNDQ"], "GGS.fit.y": lambda: np.arange(3.0),
    "GGS.n_nodes": lambda: 6, "GGS.predict.sequences": lambda: ["ARNDC"],
    "encode.sequences": lambda: ["ARND", "ARNC"], "measurements.sequences": lambda: ["ARND", "ARNC"],
    "measurements.scores": lambda: [0.5, 1.0], "LookupTable.table": lambda: {"ARND": 0.5, "ARNC": 1.0},
    "Ehrlich.feasible.tokens": lambda: np.ones((3, 32), np.uint8), "fitness.known": lambda: np.arange(3.0),
    "differentiated.energy": lambda: lambda x: x.sum((1, 2)),
    "BumpUNet32.forward.labels": lambda: torch.ones(3, 2), "BumpUNet32.forward.x": lambda: torch.ones(3, 1, 32, 32),
    "position_encoding.features": lambda: 4,
    "meta_step.loss": lambda: torch.ones((), requires_grad=True) * 1,
    "train_window.net": lambda: LSTMMemory(3, 3), "train_window.state": lambda: LSTMMemory(3, 3).init(3),
    "apply_recall.cues": signs(), "apply_store.patterns": signs(), "HopfieldMemory.recall.cues": signs(),
    "recall.cues": signs(), "store.patterns": signs(), "AssociativeMemory.store.X": signs(),
    "AttentionMemory.store.X": signs(), "DenseHopfield.store.X": signs(), "HebbHopfield.store.X": signs(),
    "HebbHopfield.recall.x": signs(), "DenseHopfield.recall.x": signs(), "AttentionMemory.recall.x": signs(),
    "AssociativeStore.recall.x": signs(), "belief_propagation.x": signs(), "bit_flip_decode.x": signs(),
    "gallager_b_decode.x": signs(), "ExpanderMemory.energy.x": signs(), "ExpanderMemory.forward.x": signs(),
    "ExpanderMemory.hidden.x": signs(), "ExpanderMemory.index.x": signs(), "ExpanderMemory.message.x": signs(),
    "ExpanderMemory.recall.x": signs(), "ExpanderMemory.step.x": signs(), "ExpanderMemory.violated.x": signs(),
    "corrupt.x": signs(), "recovery_rate.x": signs(),
    "ExpanderMemory.encode.bits": lambda: torch.ones(3, 1), "belief_propagation.flip_probability": lambda: 0.1,
    "add_key.target": stored, "add_key.key": lambda: np.ones(3), "connect.i": stored, "connect.j": lambda: 0,
    "LongTermStore.get.id": stored, "LongTermStore.match.query": lambda: np.ones(3), "neighbors.id": stored,
    "LongTermStore.replace.id": stored, "LongTermStore.touch.id": stored,
    "CosineMatcher.add.key": lambda: np.ones(3), "CosineMatcher.match.query": lambda: np.ones(3),
    "GeometricMatcher.add.key": lambda: (1, 2, 3, 4, 5, 6), "GeometricMatcher.match.query": lambda: (1, 2, 3, 4),
    "ConvBody.forward.input": lambda: torch.ones(3, 1, 36, 36),
    "BatchOnlyNorm.forward.input": lambda: torch.ones(3, 3) * torch.arange(3.0)[:, None],
    "freeze_norms.model": lambda: torch.nn.Sequential(BatchOnlyNorm(3)), "freeze_norms.x": lambda: torch.eye(3),
    "standard_rates.model": lambda: torch.nn.Sequential(NTKLinear(3, 3)),
    "to_standard.model": lambda: torch.nn.Sequential(NTKLinear(3, 3)), "block_view.structure": lambda: "left",
    "add_param_group.param_group": lambda: {"params": [torch.nn.Parameter(torch.ones(3))]},
    "preconditioner.p": lambda it: it.param_groups[0]["params"][0], "population.evaluate.function": lambda: sums,
    "Modulated.update.modulator": lambda: torch.ones(3, 3), "check_step.modulator": lambda: torch.ones(3, 3),
    "Modulated.coefficients.modulator": lambda: torch.ones(3, 3), "ThreeFactor.update.modulator": signs(),
    "NodePerturbationRNN.step.state": lambda it: it.init(3),
    "NodePerturbationRNN.modulated.state": lambda it: it.init(3), "Perturbations.dense.start": lambda: 0,
    "Perturbations.dense.stop": lambda: 1, "k_winners.dim": lambda: 0, "triangle.dim": lambda: 0,
    "output_error.target": lambda: torch.ones(3, 3), "sample_losses.target": lambda: torch.ones(3, 3),
    "output_loss.target": lambda: torch.ones(3, 3, 3),
    "EProp.init.model": readout, "EProp.predict.model": readout, "EProp.update.model": readout,
    "RTRL.init.model": readout, "RTRL.predict.model": readout, "RTRL.update.model": readout,
    "detached.state": lambda: (torch.ones(3),), "unroll.state": lambda: (torch.ones(3),),
    "unroll.step": lambda: lambda state, one: (state, one),
    "checked.view": lambda: np.zeros((15, 15), int), "confidence.view": lambda: np.zeros((15, 15), int),
    "LocalMap.update.view": lambda: np.zeros((15, 15), int), "DenseMap.update.view": lambda: np.zeros((15, 15), int),
    "act.view": lambda: np.zeros((15, 15), int), "explore.start": lambda: (1, 1),
    "explore.world": lambda: np.zeros((3, 3), int), "defined.pose": lambda: (1, 1, 0),
    "observe.pose": lambda: (1, 1, 0),
    "posterior.known": lambda: np.zeros((6, 6), np.int8), "propose.known": lambda: np.zeros((6, 6), np.int8),
    "greedy_action.known": lambda: np.zeros((3, 3), np.int8), "greedy_action.position": lambda: (1, 1),
    "MapInductionPlanner.act.observation": lambda: {"known": np.zeros((3, 3), np.int8), "position": (1, 1)},
    "MapPosterior.weights": lambda: np.full(3, 1 / 3), "goal_nearness.grid": lambda: np.zeros((3, 3), np.int8),
    "unknown_nearness.grid": lambda: np.zeros((3, 3), np.int8), "goal_nearness.goal": lambda: (1, 1),
    "learning_rule_traces.rule": lambda: "sgd", "latent_dynamics.kind": lambda: "lorenz",
    "observed.view": lambda: "tanh", "ring_rates.weights": lambda: np.zeros((3, 4, 4)),
    "label_rooms.labels": lambda: np.zeros((3, 3), int), "tour.steps": lambda: 40,
    "RepeatedUnitWorld.n_units": lambda: 3, "Function2D.sample.shape": lambda: (3,), "function_2d.name": lambda: "xor",
    "draw.task": lambda: TASK, "split_of.digest": lambda: "f" * 64, "from_json.text": lambda: to_json(TASK),
    "photograph_patches.split": lambda: "test", "maze_of.text": lambda: "###\n#.#\n###",
    "colour_walls.maze": lambda: np.eye(3, dtype=bool),
    "mixture.data_sets": lambda: [((torch.ones(3, 1, 3, 3), torch.arange(3)),) * 2] * 2,
    "permuted.train": lambda: task_data().train,
    "permuted.test": lambda: task_data().train, "task_sequence.split.train": lambda: task_data().train,
    "task_sequence.split.test": lambda: task_data().train, "task_sequence.split.groups": lambda: ((0, 1), (2,)),
    "train.mdp": mdp, "BlurNetwork.n_states": lambda: 3, "body.embedding": lambda: torch.ones(3, 3, 0),
    "GatedRule.channels": lambda: 3, "GatedRule.body_size": lambda: 3, "OuterRule.channels": lambda: 3,
    "OuterRule.body_size": lambda: 3, "StaticRule.channels": lambda: 3, "StaticRule.body_size": lambda: 3,
    "synapse.post": lambda: torch.ones(3, 3, 6), "synapse.pre": lambda: torch.ones(3, 3, 6),
    "EProp.update.target": lambda: torch.ones(3, 3), "RTRL.update.target": lambda: torch.ones(3, 3),
    "EProp.predict.x": lambda: torch.ones(3, 3, 3), "RTRL.predict.x": lambda: torch.ones(3, 3, 3),
    "apply_rule.rule": Backprop, "apply_rule.state": lambda: None, "train_step.rule": Backprop,
    "soft_hebb_update.x": lambda: torch.ones(3, 3), "soft_hebb_update.y": lambda: torch.ones(3, 3),
    "soft_hebb_update.u": lambda: torch.ones(3, 3), "soft_hebb_update.weight": lambda: torch.ones(3, 3),
    "soft_winners.u": lambda: torch.ones(3, 3),
    "train_step.state": lambda: None, "hebbian_update.weight": lambda: torch.ones(3, 3),
    "hebbian_update.x": lambda: torch.ones(3, 3), "hebbian_update.y": lambda: torch.ones(3, 3),
    "plastic_lstm_scan.weight": lambda: torch.ones(12, 3), "plastic_lstm_scan.drive": lambda: torch.ones(3, 3, 12),
    "PlasticRNN.check_state.shape": lambda: (1, 3), "PlasticLSTM.check_state.shape": lambda: (1, 3),
    "Retroactive.update.modulator": signs(), "Function2D.draw": lambda: function_2d("xor").draw,
    "defined.world": lambda: np.zeros((3, 3), int), "observe.world": lambda: np.zeros((3, 3), int),
    "MapPosterior.candidates": lambda: (), "MapPosterior.slots": lambda: (), "MapPosterior.submaps": lambda: (),
    "trajectory_log_likelihood.known_maps": lambda: [np.zeros((6, 6), np.int8)] * 3,
    "trajectory_log_likelihood.positions": lambda: np.array([[0, 0], [0, 1], [0, 2]]),
    "trajectory_log_likelihood.rooms": lambda: np.zeros((6, 6), int), "AssociativeStore.features": lambda: 3,
    "gallager_b_decode.H": lambda: np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]),
    "FOP.structure": lambda: "left", "GeneralizationTask.n": lambda: 2.0, "GeneralizationTask.m": lambda: 2.0,
    "mutants_of.landscape": lambda: LookupTable({"ARND": 0.5, "ARNC": 1.0}, missing=0.0),
    "measures.split.known": measured,
    "variation.y": lambda: np.arange(12.0), "noised.noise": lambda: torch.ones(3),
    "target.noise": lambda: torch.ones(3),
    "environment_difficulty.env": lambda: gymnasium.make("CartPole-v1"), "environment_difficulty.steps": lambda: 100,
    "ppo_update.agent": lambda: CuriousActorCritic((3,), 3, hidden=8, memory=None),
    "RepresentationReport.representation": lambda: {None: np.full((4, 3), 0.5)},
    "RepresentationReport.output": lambda: np.full((4, 3), 0.5),
    "representational_forgetting.bodies": lambda: [torch.nn.Linear(3, 3)] * 4,
    "representational_forgetting.tasks": lambda: [(task_data().train, task_data().train)] * 3,
    "representational_forgetting.shots": lambda: (None,),
    "evaluate_lengths.shots": lambda: 1, "evaluate_lengths.runs": lambda: 1, "evaluate_lengths.selections": lambda: 1,
    "evaluate_lengths.lengths": lambda: (1, 2), "evaluate_lengths.pool": lambda: torch.ones(3, 3, 1, 1, 3),
    "SynapticIntelligence.end_task.task": attached, "LayerRule.pattern": lambda: np.ones(4, np.int8),
    "LayerRule.layer": lambda: 1, "LayerRule.halfspaces": lambda: (np.zeros((1, 4)), np.zeros(1)),
    "SchedulerDiffusion.scheduler": Scheduler, "split_half_floor.n_splits": lambda: 1,
    "split_half_floor.dsa": lambda: DSA(HankelDMD(2)), "explore.explorer": lambda: FrontierExplorer(3),
    "episode.evaluate.agent": lambda: types.SimpleNamespace(values=lambda seen: np.zeros(3)),
    "Consensus.tell.fitness": lambda: np.ones(1), "AssociativeStore.write.payloads": lambda: torch.ones(3, 3),
    "Trials.inputs": lambda: torch.ones(4, 9, 2), "Trials.response": lambda: (2, 4), "Trials.decision": lambda: 4,
    "Trials.feedback": lambda: (5, 7),
    "GatedCoordinateRule.forward.grads": lambda: {"w": torch.ones(3, 3)},
    "gates.grads": lambda: {"w": torch.ones(3, 3)},
    "GatedCoordinateRule.forward.params": lambda: {"w": torch.ones(3, 3)},
    "gates.params": lambda: {"w": torch.ones(3, 3)},
    "GatedCoordinateRule.forward.state": lambda it: it.init({"w": torch.ones(3, 3)}),
    "gates.state": lambda it: it.init({"w": torch.ones(3, 3)}), "BlurNetwork.forward.state": first_state,
    "BlurNetwork.moments.state": first_state, "BlurNetwork.step.state": first_state,
    "BlurNetwork.sizes": lambda: (3, 3),
    "OneShotCharacters.split.inputs": lambda it: torch.ones(3, 3, it.images.shape[2] ** 2 + it.ways),
    "meta.lifetime.state": lambda: BlurNetwork((3, 3), n_states=3).init(torch.Generator()),
    "meta.lifetime.network": lambda: BlurNetwork((3, 3), n_states=3),
    "Trials.kind": lambda: torch.ones(3, 40, dtype=int), "Trials.answer": lambda: torch.ones(3, 40, dtype=int),
    "RepresentationReport.drift": lambda: np.full(2, 0.5),
    "RND.hidden": lambda: 8, "RND.feature_dim": lambda: 4, "permutation_test.n_permutations": lambda: 9,
    "split_trials.axes": lambda: "time units", "split_trials.recording": lambda: np.full((3, 3), 0.5),
    "rule_from_json.stored": lambda: rule_to_json(Hebb()),
    "DeltaWrite.recall.state": lambda it: it.init(torch.full((3, 3, 3, 3), 0.5)),
    "GGS.sample.n": lambda: 3, "same_geometry.steps": lambda: 1000,
}  # fmt: skip
# By the type of an argument, where that is another library's.
CALLED = {
    bool: lambda: False, int: lambda: 3, float: lambda: 0.5, str: lambda: "x", Path: lambda: Path("x"),
    np.ndarray: lambda: np.full((3, 3), 0.5), torch.Tensor: lambda: torch.full((3, 3), 0.5),
    np.random.Generator: lambda: np.random.default_rng(0), torch.Generator: torch.Generator,
    torch.device: lambda: torch.device("cpu"), torch.dtype: lambda: torch.float32,
    torch.nn.Module: lambda: torch.nn.Sequential(torch.nn.Linear(3, 3)),
    torch.nn.Sequential: lambda: torch.nn.Sequential(torch.nn.Linear(3, 3)),
    torch.nn.Linear: lambda: torch.nn.Linear(3, 3), torch.nn.LSTM: lambda: torch.nn.LSTM(3, 3),
    torch.optim.Optimizer: optimizer, gymnasium.Env: lambda: MetaTaskEnv(TASK),
    gymnasium.vector.VectorEnv: environments,
}  # fmt: skip
BEFORE = ("reset", "fit", "ask", "store", "act")
# What no good call is made of here.
UNREADY = frozenset({
    # They take whatever is given by name, and their signatures name nothing.
    "engram.analysis.difficulty.closed_form.inductive_bias_complexity", "engram.memory.episodic.dnd.DND.forward",
    "engram.memory.episodic.key_value_memory.KeyValueMemory.forward",
    # What they need at each step depends on the rule, and has no names in the signature.
    "engram.plasticity.sequence.write_rule.step_scan", *(
        f"engram.plasticity.sequence.{place}.{method}" for method in ("scan", "write") for place in (
            "linear_writes.HebbianWrite", "linear_writes.DecayedWrite", "delta_write.DeltaWrite",
            "gated_delta_write.GatedDeltaWrite", "gradient_write.GradientWrite",
            "least_squares_write.LeastSquaresWrite", "momentum_delta_write.MomentumDeltaWrite",
        )
    ),
    # They read files.
    "engram.verify.answer.read_question", "engram.verify.nnet.read_nnet",
    "engram.verify.onnx.read_onnx", "engram.verify.vnnlib.read_vnnlib",
    "engram.generative.design.files.read_fasta", "engram.analysis.recordings.read_nwb",
    "engram.generative.design.files.read_variants", "engram.tasks.environments.room_grid.load_grid_text",
    "engram.tasks.penn_treebank.read_penn_treebank",
    # They need packages that are not installed everywhere: faiss and diffusers.
    "engram.generative.diffusion.diffusers_adapter.DiffusersUNet",
    "engram.generative.diffusion.diffusers_adapter.DiffusersUNet.forward",
    "engram.memory.episodic.faiss_search.FaissSearch", "engram.memory.episodic.faiss_search.FaissSearch.neighbours",
    "engram.memory.episodic.faiss_search.FaissSearch.written",
    # A base that leaves the proposals to its subclasses, a memory that learns only if made to, and an environment of
    # many that has to have a state of its own.
    "engram.agents.ppo.VectorActor.load_state_dict", "engram.generative.design.baselines.SequenceSearch.tell",
    "engram.memory.expander.expander_memory.ExpanderMemory.learn",
})  # fmt: skip
# What may be said without the name of an argument: that there is no such file or no such optional package.
EXCUSED = (FileNotFoundError, ImportError, NotImplementedError, NotFittedError, ResetNeeded)
# Callables that draw from PyTorch's generator, since their signatures have no generator.
DRAWS = {"engram.memory.expander.expander_memory.ExpanderMemory.forward", "engram.plasticity.converted.from_lstm"}
# In whose place an object is refused without the argument's name: a factor that rules compute at each of their steps.
UNNAMED = {"engram.plasticity.clipped_hebb.ClippedHebb.rate.factor"}
OBJECT = object()
UNTYPED = (None, "x", b"x", OBJECT, {}, [], [[1], [2, 3]], (), lambda: 0, 1j, True)
NUMBERS = (-1, 0, 1, 7, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.5, 1e-320, 1e308, float("nan"), float("inf"))


@functools.cache
def callables():
    """Return every public function, and every class with its public methods, by name."""
    members = {}
    for package in PACKAGES:
        module = importlib.import_module(f"engram.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            kinds = BaseException | enum.Enum
            if inspect.isclass(thing) and (issubclass(thing, kinds) or inspect.isabstract(thing) or is_protocol(thing)):
                continue
            if callable(thing) and getattr(thing, "__module__", "").startswith("engram."):
                members[f"{thing.__module__}.{name}"] = (thing, None)
                for method in public_methods(thing) if inspect.isclass(thing) else ():
                    members[f"{thing.__module__}.{name}.{method}"] = (thing, method)
    return dict(sorted(members.items()))


def is_protocol(thing):
    return getattr(thing, "_is_protocol", False)


def public_methods(cls):
    """Return what the class itself defines and is called, without what it inherits from other libraries."""
    own = {
        name: value
        for base in cls.__mro__
        if base.__module__.startswith("engram.")
        for name, value in vars(base).items()
    }
    own = {name: value for name, value in own.items() if inspect.isfunction(value)}
    names = [name for name in own if not name.startswith("_") and getattr(cls, name).__name__ == name]
    return [name for name in names if len(inspect.signature(own[name]).parameters) > 1]


def hints(function):
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def parameters(function):
    """Return the parameters that can be given by name, with their type hints."""
    return parameters_of(getattr(function, "__func__", function))


@functools.cache
def parameters_of(function):
    """Return the parameters of a class or function, which is asked for them thousands of times."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}
    known = hints(function.__init__ if inspect.isclass(function) else function)
    known = known or (hints(function) if inspect.isclass(function) else {})
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: (known.get(p.name), p.default)
        for p in signature.parameters.values()
        if p.kind in kinds and p.name != "self"
    }


def arguments(function, dims, depth=0):
    """Return good arguments, as far as their types tell."""
    required = {
        name: hint for name, (hint, default) in parameters(function).items() if default is inspect.Parameter.empty
    }
    makers = {name: make for owner in owners(function) for name, make in made_for(owner).items()}
    instance = getattr(function, "__self__", None)
    given = {}
    for name, make in makers.items():
        # A class may hand arguments on that it does not name itself.
        if inspect.isclass(function) or name in parameters(function):
            if all(p.default is not p.empty for p in inspect.signature(make).parameters.values()):
                given[name] = make()
            elif instance is not None:  # one that is made from the instance whose method is called
                given[name] = make(instance)
    for name, hint in required.items():
        if name not in makers:
            value = MADE[name]() if name in MADE else None
            given[name] = value if value is not None and fits(value, hint, dims) else good(hint, dims, depth)
    return given


def fits(value, hint, dims):
    """Return whether what is made by a bare name fits a hint; if so, its sizes hold for the other arrays, too."""
    if hasattr(hint, "array_type"):
        if not isinstance(value, hint):
            return False
        names = hint.dim_str.split()
        if len(names) == len(value.shape):
            sizes = {name: size for name, size in zip(names, value.shape, strict=True) if name.isidentifier()}
            if any(dims.get(name, size) != size for name, size in sizes.items()):
                return False
            dims |= sizes
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return fits(value, typing.get_args(hint)[0], dims)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part, dims) for part in typing.get_args(hint))
    kind = origin if inspect.isclass(origin) else hint
    return not inspect.isclass(kind) or kind is typing.Any or is_protocol(kind) or isinstance(value, kind)


def owners(function):
    """Return the names under which there may be arguments of a call, the most particular last."""
    if inspect.isclass(function):
        return [base.__name__ for base in reversed(function.__mro__)]
    name, instance = function.__name__, getattr(function, "__self__", None)
    bases = reversed(type(instance).__mro__ if instance is not None else ())
    module = function.__module__.rpartition(".")[2]
    return [name, f"{module}.{name}", function.__qualname__, *(f"{base.__name__}.{name}" for base in bases)]


@functools.cache
def made_for(owner):
    """Return what makes the arguments of one class, function or method."""
    return {key.rpartition(".")[2]: make for key, make in MADE.items() if key.rpartition(".")[0] == owner}


def good(hint, dims, depth):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "array_type"):
        return array(hint, dims)
    if origin is typing.Annotated:
        kind, about = args[:2]
        if kind is torch.Tensor and isinstance(about, str):
            return torch.full(sizes_of(about, dims), 0.5)
        return good(kind, dims, depth)
    if origin in (typing.Union, types.UnionType):
        return good(next((a for a in args if a is not type(None)), None), dims, depth)
    if origin is typing.Literal:
        return args[0]
    if origin in (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection, list):
        return [good(args[0], dims, depth) for _ in range(3)]
    if origin is tuple:
        kinds = args[:1] * 3 if args[1:] == (...,) else args
        return tuple(good(kind, dims, depth) for kind in kinds)
    if origin in (dict, collections.abc.Mapping):
        return {}
    if origin is collections.abc.Callable:
        return lambda *values: values[0]
    if origin is np.ndarray:
        return np.full((3, 3), 0.5)
    if hint in CALLED:
        return CALLED[hint]()
    if inspect.isclass(origin):
        return good(origin, dims, depth)
    if inspect.isclass(hint) and hint.__module__.startswith("engram.") and depth < 4:
        kind = kind_of(hint)
        return kind(**arguments(kind, dims, depth + 1))
    return 3


@functools.cache
def kind_of(hint):
    """Return a class that can be made, which is what a hint names or derives from it."""
    kinds = [hint, *(cls for cls, _ in callables().values() if inspect.isclass(cls) and derives(cls, hint))]
    return next((k for k in kinds if not inspect.isabstract(k) and not is_protocol(k)), hint)


def derives(cls, hint):
    try:
        return issubclass(cls, hint)
    except TypeError:  # a protocol that cannot say
        return False


def array(hint, dims):
    """Return an array or tensor of the dtype and shape of a hint; one name is one size."""
    sizes = sizes_of(hint.dim_str, dims)
    kind = str(hint.dtypes[0]) if isinstance(hint.dtypes, list | tuple) else "float"
    values = np.full(sizes, 0.5) if "float" in kind or "complex" in kind else np.ones(sizes, int)
    values = values.astype(bool) if "bool" in kind else values.astype(np.uint8) if "uint8" in kind else values
    if isinstance(hint.array_type, type) and issubclass(hint.array_type, torch.Tensor):
        tensor = torch.from_numpy(values)
        return tensor.float() if tensor.is_floating_point() else tensor
    return values


def sizes_of(axes, dims):
    """Return the sizes of named axes, of which ``"*batch_features"`` are two, and ``"..."`` is one."""
    names = [name for axis in axes.split() for name in (axis[1:].split("_") if axis.startswith("*") else [axis])]
    return [int(name) if name.isdigit() else dims.setdefault(name, 3) for name in names]


def wrong(value):
    """Return what may be given in place of a good value."""
    values = [*UNTYPED, *NUMBERS, np.zeros(0), np.full((3, 3), np.nan), np.array(["a", "b"]), torch.full((2, 5), 1e30)]
    if isinstance(value, np.ndarray | torch.Tensor) and value.dtype != object:
        value = value.detach() if isinstance(value, torch.Tensor) else value
        plain = np.asarray(value)
        shapes = [plain[None], plain[..., None]]
        shapes += [plain[:0], np.repeat(plain, 2, 0), np.repeat(plain, 2, -1)] if plain.ndim else []
        numbers = plain.astype(float)
        numeric = [numbers + np.nan, numbers + np.inf, numbers + 1e300, numbers.astype(complex), plain.astype(object)]
        numeric += [np.full(plain.shape, -7), np.full(plain.shape, 10**9), plain.astype(np.float16)]
        values += shapes + numeric
        if isinstance(value, torch.Tensor):
            values += [torch.as_tensor(a) for a in (*shapes, *numeric) if a.dtype != object]
            values += [value.double(), value.to("meta"), value.to_sparse() if value.ndim else value]
        else:
            values += [torch.as_tensor(value), value.tolist(), np.asfortranarray(value).T, value.astype(np.float32)]
    if type(value) in (list, tuple):
        values += [type(value)([item]) for item in UNTYPED] + [type(value)([item] * len(value)) for item in NUMBERS]
    return values


def campaign():
    """Return all calls: the name of what is called, the wrong argument, and the number of what is given for it."""
    calls = []
    for name, (thing, method) in callables().items():
        function = getattr(thing, method) if method else thing
        dims = {}
        try:
            base = arguments(function, dims)
        except Exception:
            base = {}
        for argument in parameters(function):
            calls += [(name, argument, number) for number in range(len(wrong(base.get(argument, 0))))]
    return calls


def call(name, *wrongs):
    """Make one call; return what came of it: ``"taken"``, the error's kind, and whether it names an argument.

    After the name come wrong arguments, each with the number of what is given for it.
    """
    thing, method = callables()[name]
    dims = {}
    try:
        function = thing if method is None else getattr(prepared(thing, method, dims), method)
        given = arguments(function, dims)
    except Exception as error:
        return "no good call", repr(error)[:200]
    changed = dict(zip(wrongs[::2], wrongs[1::2], strict=True))
    given |= {argument: wrong(given.get(argument, 0))[number] for argument, number in changed.items()}
    given |= {} if changed else generators(function)
    try:
        with contextlib.nullcontext() if changed or name in DRAWS else no_global_draws():
            function(**given)
    except EXCUSED as error:
        return "excused", repr(error)[:200]
    except Exception as error:
        said = " ".join([str(error), *getattr(error, "__notes__", ())])
        if re.search(r"\bcall \w+ (first|before)", said):
            return "excused", said
        names = {*parameters(function), *parameters(thing)}
        named = any(re.search(rf"\b{re.escape(parameter)}\b", said, re.IGNORECASE) for parameter in names)
        kind = type(error).__name__
        return (
            "named" if named else "unnamed"
        ), f"{kind}: {said[:2000]} [{', '.join(shown(given[parameter]) for parameter in changed)}]"
    return "taken", ""


def generators(function):
    """Return a source of random numbers for each optional argument that takes one."""
    kinds = {torch.Generator: torch.Generator, np.random.Generator: lambda: np.random.default_rng(0)}
    given = {
        name: make()
        for name, (hint, default) in parameters(function).items()
        for kind, make in kinds.items()
        if default is None and kind in typing.get_args(hint)
    }
    return given | ({"random_state": 0} if "random_state" in parameters(function) else {})


def prepared(cls, method, dims):
    """Return an instance on which what comes before a method was called."""
    instance = cls(**arguments(cls, dims) | generators(cls))
    for name in BEFORE:
        before = getattr(instance, name, None)
        if before is not None and name != method:
            with contextlib.suppress(Exception):
                before(**arguments(before, dims))
    return instance


def shown(value):
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}"
    return repr(value)[:40]


def serve(calls, folder):
    """Make calls one after another, and say before and after each what it is."""
    os.chdir(folder)
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEGABYTES * 2**20, MEGABYTES * 2**20))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for number, parts in calls:
        out.write(f"{number}\n")
        out.flush()
        # Unhandled, either ends the process, wherever it is. On busy cores the time of the processor is what counts.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        said = call(*parts)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        out.write(json.dumps([number, *said]) + "\n")
        out.flush()


def answers(calls, folder):
    """Return what came of each call; a process that dies is followed by another, after the call that it died of."""
    outcomes, left = {}, dict(enumerate(calls))
    while left:
        todo = Path(folder) / "todo.json"
        todo.write_text(json.dumps(sorted(left.items())))
        command = [sys.executable, "-W", "ignore", __file__, str(todo), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = None
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            last = answer if isinstance(answer, int) else None
            if last is None:
                outcomes[answer[0]] = tuple(answer[1:])
                left.pop(answer[0], None)
        if last is not None:
            how = "hangs" if done.returncode in (-signal.SIGALRM, -signal.SIGPROF) else "crashes"
            outcomes[last] = how, f"exit {done.returncode} {done.stderr[-300:]}"
            left.pop(last)
        elif done.returncode:
            raise RuntimeError(done.stderr)
    return [(calls[number], *outcomes[number]) for number in sorted(outcomes)]


@functools.cache
def distinct():
    """Return the names of all callables; of a method that several classes inherit, that of the first class only."""
    seen, names = set(), []
    for name in callables():
        if name not in UNREADY and function_of(name) not in seen:
            seen.add(function_of(name))
            names.append(name)
    return names


def function_of(name):
    thing, method = callables()[name]
    return getattr(thing, method) if method else thing


def defined_in(module):
    """Return the names of the callables that a module defines."""
    return [name for name in distinct() if function_of(name).__module__ == module]


def check_calls(names, folder, drawn=()):
    """Check good calls, and calls with an object in the place of each argument; return what came of these, and of more.

    One process makes all calls, since it imports all of the library.
    """
    plain = [(name,) for name in names]
    objects = [(name, argument, UNTYPED.index(OBJECT)) for name in names for argument in parameters(function_of(name))]
    outcomes = answers([*plain, *objects, *drawn], folder)
    refused = [outcome for outcome in outcomes[: len(plain)] if outcome[1] != "taken"]
    assert not refused, f"these calls, without a wrong argument, are refused: {refused}"

    of_objects = outcomes[len(plain) : len(plain) + len(objects)]
    silent = [
        (call[:2], how, said)
        for call, how, said in of_objects
        if how not in ("taken", "excused") and not re.search(rf"\b{re.escape(call[1])}\b", said.rpartition(" [")[0])
    ]
    unnamed = {name for name in UNNAMED if name.rpartition(".")[0] in names}
    assert {f"{name}.{argument}" for (name, argument), _, _ in silent} == unnamed, silent
    return of_objects, outcomes[len(plain) + len(objects) :]


def test_a_wrong_argument_is_named(tmp_path, effort):
    every_wrong = campaign()
    assert len(every_wrong) > 10_000
    drawn = random.Random(0).sample(every_wrong, SAMPLE) if effort == 1 else every_wrong
    of_objects, of_drawn = check_calls(distinct(), tmp_path, drawn)
    assert Counter(how for _, how, _ in of_objects)["named"] > 2500
    worst = [outcome for outcome in of_drawn if outcome[1] in ("crashes", "hangs")]
    assert not worst, worst
    count = Counter(how for _, how, _ in of_drawn)
    unnamed = [outcome for outcome in of_drawn if outcome[1] == "unnamed"]
    assert count["named"] + count["unnamed"] > len(drawn) / 4
    assert count["named"] >= (0.99 if effort > 1 else 0.96) * (count["named"] + count["unnamed"]), (count, unnamed)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
