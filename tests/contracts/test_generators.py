"""What is drawn comes from the generator that is given, and from no other."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from engram import agents, continual, optim
from engram.agents.a2c import sample_actions
from engram.agents.action_vectors import ActionVectors
from engram.agents.bonuses import from_shapes
from engram.agents.reference import BayesFilterAgent
from engram.agents.twin_critic import TwinCritic
from engram.continual import anml
from engram.learned import blur, updates
from engram.learned import learning_to_remember as remembering
from engram.plasticity import Modulated, PlasticRNN
from engram.testing.promises import no_global_draws, same, tensors

BOX, TWO, LSTM, LINEAR = (
    spaces.Box(-1, 1, (2,)),
    spaces.Discrete(2),
    nn.LSTM(3, 4),
    nn.Linear(2, 3),
)
X, Y, IMAGE = torch.rand(9, 2), torch.arange(9) % 3, (1, 36, 36)
SPARSE, RECURRENT = remembering.Topology.sparse(6, 6), remembering.Topology.recurrent(3, 2)
TASK = continual.TaskData((X, Y))
GATED, HEAD, RULE = anml.GatedNet(nn.Flatten(), nn.Linear(4, 3)), nn.Linear(3, 3), remembering.StaticRule()
POOL = torch.rand(3, 4, 1, 2, 2)
EPISODE = updates.MimicryEpisode(dict(LINEAR.state_dict()), {}, X, Y, (X,), (X.new_ones(9, 3),))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def remembered(method):
    method.end_task(TASK)
    return method.memory.sample(4) if isinstance(method, continual.Replay) else [*method.importance.values()]


def fragments(g):
    curiosity = from_shapes.fragmented_rnd((3,), generator=g)
    return [*curiosity.store.get(0).module.parameters(), *curiosity.key_module.parameters()]


def students(g):
    options = {"students": 2, "lengths": (5, 900), "generator": g}
    trainer = updates.TeacherMimicTrainer(LINEAR, updates.AdamRule(2), [EPISODE], **options)
    lengths = torch.tensor([student.length for student in trainer._students])
    return [lengths, *(student.fast.params["1.weight"] for student in trainer._students), torch.tensor(trainer.step())]


def consolidated(g):
    method = updates.LearnedUpdate(nn.Sequential(LINEAR, HEAD), generator=g)
    method.end_task(TASK)
    return [state["importance"] for state in method.optimizer.state.values()]


def zapped(g, rows=None):
    layer = nn.utils.skip_init(nn.Linear, 2, 3)
    anml.zap_(layer, rows, g)
    return layer.weight.detach()[rows or slice(None)]


def met(g):
    net = copy.deepcopy(GATED)  # which the step trains
    learner = anml.SequentialMetaLearner(net, g, fast=("head",))
    learner.step(POOL[0], torch.full((4,), 1), POOL[1], torch.zeros(4, dtype=torch.int64))
    return net.readout.weight.detach()[1].clone()


def judged(g):
    options = {"lrs": (0.1, 0.2), "shots": 2, "runs": 3, "selections": 2, "generator": g, "shuffled": True}
    net = anml.GatedNet(nn.Flatten(), nn.utils.skip_init(nn.Linear, 4, 3))
    return [length.by_class for length in anml.evaluate_lengths(net, POOL, (2, 3), **options)]


OPTIONS = {"hidden": (4,)}
DRAWN = {
    "actor-critic": lambda g: agents.ActorCritic(PlasticRNN(2, 3, generator=g), 2, generator=g),
    "plastic": lambda g: agents.plastic_actor_critic(3, 4, 2, Modulated(), generator=g),
    "meta": lambda g: agents.meta_actor_critic(copy.deepcopy(LSTM), 2, generator=g),
    "curious": lambda g: agents.CuriousActorCritic((3,), 2, hidden=4, memory=5, generator=g),
    "curious of images": lambda g: agents.CuriousActorCritic(IMAGE, 2, hidden=4, memory=None, generator=g),
    "twins": lambda g: TwinCritic(3, (4,), generator=g),
    "inverse": lambda g: agents.InverseModel(2, BOX, (4,), generator=g),
    "rnd": lambda g: agents.RND((3,), hidden=4, feature_dim=3, generator=g),
    "rnd of images": lambda g: agents.RND(IMAGE, hidden=4, feature_dim=3, generator=g),
    "counts": lambda g: agents.HashCounts((3,), bits=4, generator=g).projection,
    "checked": lambda g: agents.CheckedBonus(agents.HashCounts, (3,), generator=g).checked.projection,
    "fragments": fragments,
    "bco": lambda g: [agents.BCO(BOX, BOX, generator=g, **OPTIONS)],
    "td3": lambda g: [agents.TD3(BOX, BOX, generator=g, **OPTIONS)],
    "d3g": lambda g: [agents.D3G(BOX, BOX, generator=g, **OPTIONS)],
    "policy": lambda g: sample_actions(torch.zeros(16, 4), g),
    "numbers": lambda g: [ActionVectors(BOX).random(9, g), ActionVectors(BOX).explore(torch.zeros(9, 2), 0.1, g)],
    "labels": lambda g: [ActionVectors(TWO).random(16, g), ActionVectors(TWO).explore(torch.eye(2)[Y % 2], 1.0, g)],
    "genome": lambda g: [*blur.Genome.random(2, g)[:4], blur.Genome.near_backprop(0.1, g).to_vector()],
    "blur": lambda g: tensors(blur.BlurNetwork((2, 3, 2), backward="independent").init(g)),
    "gates": lambda g: updates.GatedCoordinateRule(hidden=4, generator=g).network,
    "gated": lambda g: [p for p in remembering.GatedRule(types=2, generator=g).parameters() if p.ndim == 2],
    "outer": lambda g: remembering.OuterRule(types=2, generator=g),
    "connections": lambda g: [*remembering.RuleNetwork(SPARSE, RULE, generator=g).buffers()][1:-1],
    "synapses": lambda g: [s[:, :2] for s in remembering.RuleNetwork(RECURRENT, RULE).init(2, g).synapses],
    "lstm": lambda g: remembering.LSTMMemory(2, 3, generator=g),
    "sgd": lambda g: remembering.sgd_recall(X[None], X[None], 0.1, 3, g),
    "students": students,
    "teacher": lambda g: updates.train_teacher(LINEAR, [nn.Identity()], [(X, Y)], steps=2, batch_size=4, generator=g),
    "learned update": consolidated,
    "cma-es": lambda g: optim.CMAES([torch.ones(3)], generator=g).ask(),
    "antithetic": lambda g: optim.AntitheticES([torch.ones(3), torch.ones(2)], population_size=6, generator=g).ask(),
    "head": lambda g: continual.DHPSoftmax(2, 3, bias=True, generator=g),
    "replay": lambda g: remembered(continual.Replay(LINEAR, 4, generator=g)),
    "ewc": lambda g: remembered(continual.EWC(LINEAR, fisher="sample", generator=g)),
    "online ewc": lambda g: remembered(continual.OnlineEWC(LINEAR, fisher="sample", generator=g)),
    "batches": lambda g: continual.random_batches(4, g)(TASK, 0),
    "anml": lambda g: anml.anml_net(body_channels=2, gate_channels=2, num_outputs=3, generator=g),
    "sanml": lambda g: anml.sanml_net(body_channels=2, num_outputs=3, generator=g),
    "oml": lambda g: anml.oml_net(channels=2, hidden=3, num_outputs=4, generator=g),
    "rows": lambda g: [zapped(g), zapped(g, [1])],
    "trajectory": met,
    "stream": lambda g: anml.learn_stream(GATED, POOL[0], Y[:4], generator=g).readout.weight,
    "lengths": judged,
}  # fmt: skip
SEED_0 = ("checked", "cma-es", "antithetic", "replay", "ewc", "online ewc", "learned update")


def numbers(part):
    if isinstance(part, nn.Module):
        return [*part.parameters(), *part.buffers()]
    if isinstance(part, list) and hasattr(part[0], "parts"):  # a learner, of several networks
        networks = [getattr(part[0], name) for name in part[0].parts if isinstance(getattr(part[0], name), nn.Module)]
        return [p for network in networks for p in network.parameters()]
    return tensors(part)


@pytest.mark.parametrize("name", DRAWN)
def test_all_that_is_drawn_is_drawn_from_the_generator(name):
    with no_global_draws():
        first, again, other = (numbers(DRAWN[name](seeded(seed))) for seed in (0, 0, 1))
    assert same(first, again)
    for place, (one, two) in enumerate(zip(first, other, strict=True)):
        assert len(one.unique()) <= 1 or not torch.equal(one, two), place  # what is drawn is not constant


@pytest.mark.parametrize("name", SEED_0)
def test_without_a_generator_the_seed_is_0(name):
    assert same(numbers(DRAWN[name](None)), numbers(DRAWN[name](seeded())))


def test_the_filter_without_a_generator_has_the_seed_0():
    rng = BayesFilterAgent(SimpleNamespace(n_stim_vars=0)).rng
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
