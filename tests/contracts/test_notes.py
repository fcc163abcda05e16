"""An error of another library, or of a function that is given, says with which arguments it came about."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from engram import agents, checks, continual, optim
from engram.continual import anml
from engram.learned import blur, updates
from engram.learned import learning_to_remember as remembering
from engram.memory import KeyValueMemory

BOX, LINEAR, GENERATOR = spaces.Box(-1.0, 1.0, (2,)), nn.Linear(2, 2), torch.Generator()
ONES, NEVER, LABELS = torch.ones(3, 2), torch.zeros(3, 1, dtype=torch.bool), torch.tensor([0, 1, 1])
GATED = anml.GatedNet(*(nn.Linear(2, 2) for _ in range(3)))
LSTM, NET = (
    remembering.LSTMMemory(2, 3),
    remembering.RuleNetwork(remembering.Topology.visible(2), remembering.OuterRule()),
)
RULE, STATE = NET.rule, NET.init(1)
WORLD = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
BLUR, GENOME = blur.BlurNetwork((2, 2)), blur.Genome.backprop(0.1)
SYNAPSES, MOMENTS = BLUR.init(GENERATOR), ((torch.zeros(7), torch.zeros(7)),)
BODY = {"body": torch.ones(1, 2, 8), "forward": torch.ones(1, 2, 4), "backward": torch.ones(1, 2, 4),
        "shown": torch.ones(1, 2, 2), "embedding": torch.ones(1, 2, 5)}  # fmt: skip
SGD = torch.optim.SGD(LSTM.parameters())
GATES, WIDE = updates.GatedCoordinateRule(generator=GENERATOR), torch.ones(3, 5)


def fails(*arguments, **options):
    raise OSError("it fails")


def rnd(**options):
    return agents.RND((2,), hidden=4, feature_dim=3, **options)


def agent(kind, observed=BOX):
    return kind(observed, BOX, generator=GENERATOR, hidden=(4,))


def acting():
    actor = agents.VectorActor(WORLD, agents.CuriousActorCritic((4,), 2, hidden=4, memory=None), GENERATOR)
    return actor, actor.agent, actor.rollout(2), agents.PPO(minibatches=1)


def taught(curiosity):
    _, network, rollout, settings = acting()
    adam = settings.optimizer(network)
    agents.ppo_update(network, adam, rollout, torch.ones(2, 2), settings, generator=GENERATOR, curiosity=curiosity)


def closed(kind):
    return lambda closure: kind([torch.ones(2, requires_grad=True)], lr=0.1).step(closure)


def told(loss):
    evolution = optim.AntitheticES([torch.ones(2)])
    evolution.ask()
    evolution.tell(loss=loss)


def log(**columns):
    agents.ReplayBuffer(4, BOX).add_log(actions=None, rewards=np.ones(3), **columns)


def step(**columns):
    anml.SequentialMetaLearner(GATED, GENERATOR).step(**columns)


QSS = agents.TabularQSS([0], [2], [2], 2, rng=np.random.default_rng(0))
MFEC = agents.MFEC(KeyValueMemory(20, 2, tables=2), rng=np.random.default_rng(0))
FRAGMENTS = agents.FragmentedCuriosity(rnd, key_encoder=fails)
IMAGES = {"x": WIDE, "y": LABELS, "gate": None}
CALLS = [
    (lambda device: agents.ReplayBuffer(4, BOX, device=device), {"device": "nowhere"}),
    (log, {"states": None, "next_states": ONES.numpy(), "terminated": NEVER[:, 0].numpy(), "truncated": NEVER.numpy()}),
    (lambda next_observation: QSS.actions_for(0, next_observation), {"next_observation": "x"}),
    (QSS.cell, {"observation": "x"}),
    *((agent(kind).act, {"observations": "x"}) for kind in (agents.D3G, agents.TD3, agents.BCO)),
    (agents.FragmentedCuriosity, {"make_module": fails}),
    (lambda next_obs: FRAGMENTS.bonus(next_obs, NEVER), {"next_obs": ONES[:, None]}),
    (lambda next_obs: rnd().bonus(next_obs, NEVER), {"next_obs": ONES[:, None].long()}),
    (lambda env: acting()[0].state_dict(), {"env": WORLD}),
    (taught, {"curiosity": fails}),
    (MFEC.values, {"observation": "x"}),
    (MFEC.act, {"observation": "x", "identity": None}),
    (lambda loss: blur.meta_step(torch.optim.SGD(LINEAR.parameters()), loss, 0), {"loss": torch.zeros(())}),
    (lambda **given: BLUR.forward(GENOME, **given), {"state": SYNAPSES, "x": ONES, "moments": MOMENTS}),
    *((kind, {"params": []}) for kind in (updates.LearnedOptimizer, optim.FOP, optim.RMSpropEpsInside)),
    *((closed(kind), {"closure": fails}) for kind in (updates.LearnedOptimizer, optim.FOP, optim.RMSpropEpsInside)),
    (lambda **given: GATES({"w": ONES}, state=GATES.init({"w": ONES}), **given), {"params": {}, "memory": {}}),
    (
        lambda **given: RULE.synapse(STATE.synapses[0], forward=BODY["forward"], **given),
        {"post": WIDE[None, :2], "pre": WIDE[None, :2]},
    ),
    (lambda state: LSTM(ONES[:, None], state), {"state": LSTM.init(2)}),
    (lambda state: remembering.train_window(LSTM, SGD, ONES[:, None], ONES[:, None], state), {"state": 3}),
    (
        lambda **given: remembering.train_window(LSTM, SGD, targets=ONES[:, None], **given),
        {"inputs": ONES[:, None], "state": LSTM.init(2)},
    ),
    (RULE.body, BODY),
    (NET.tick, {"state": STATE, "shown": torch.ones(1, 3, 2)}),
    (lambda function: optim.evaluate([ONES], function), {"function": fails}),
    (told, {"loss": "x"}),
    (lambda classes: continual.fisher_diagonal(LINEAR, [ONES], classes=classes), {"classes": [10**30]}),
    (
        lambda optimizer: anml.learn_stream(GATED, ONES, LABELS, generator=GENERATOR, optimizer=optimizer),
        {"optimizer": fails},
    ),
    (lambda fast: anml.SequentialMetaLearner(GATED, GENERATOR, fast=fast), {"fast": ("trunk",)}),
    (anml.SequentialMetaLearner(GATED, GENERATOR).inner, IMAGES),
    (step, {"x": WIDE, "y": LABELS, "remember_x": WIDE, "remember_y": LABELS}),
    (GATED.gates, {"x": WIDE}),
    (GATED.features, {"x": WIDE, "gate": None}),
    (GATED, {"x": WIDE, "gate": None}),
]


@pytest.mark.parametrize(("call", "given"), CALLS)
def test_an_error_has_a_note_of_the_arguments(call, given):
    with pytest.raises(Exception) as refusal:
        call(**given)
    assert ", ".join(f"{name} = {checks.shown(value)}" for name, value in given.items()) in refusal.value.__notes__
