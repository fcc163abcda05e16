"""Whatever has a state takes only one of its own form, whole or not at all, and shares no array with it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from engram.agents import (
    BCO,
    D3G,
    MFEC,
    NEC,
    TD3,
    ReplayBuffer,
    TabularQ,
    TabularQSS,
    TransitionBatch,
)
from engram.agents.episodic_control import RunningScale
from engram.continual import MAS, TaskData
from engram.continual.reservoir import Reservoir
from engram.generative.design import AdaLead, CbAS, HillClimb
from engram.learned.updates import MimicryEpisode, TeacherMimicTrainer
from engram.learned.updates.adam_rule import AdamRule
from engram.memory import (
    DND,
    AssociativeStore,
    DenseHopfield,
    ExpanderMemory,
    HebbHopfield,
    KeyValueMemory,
    Scaffold,
    random_regular,
)
from engram.memory.episodic.policies import LRU
from engram.memory.fragments import FragmentAndRecall, LongTermStore, SurprisalMonitor
from engram.optim import CMAES, AntitheticES
from engram.state import Axes, Maybe, check_state
from engram.tasks.environments.texture_rooms import TextureRoomsVectorEnv
from engram.testing.promises import alike, assert_states_are_refused


def generator():
    return torch.Generator().manual_seed(0)


def learner(kind):
    def make(size):
        spaces_of = spaces.Box(-1, 1, (size,)), spaces.Box(-1, 1, (1,))
        agent = kind(*spaces_of, hidden=(4,), generator=generator())
        agent.update(transitions(size))
        return agent

    return make


def transitions(size):
    draw, end = torch.randn(8, size, generator=generator()), torch.zeros(8)
    return TransitionBatch(draw, draw[:, :1].clamp(-1, 1), end, draw + 1, end, end)


def tabular(kind):
    def make(size):
        agent = kind([0], [size], [size], 2, rng=np.random.default_rng(0))
        ends = np.array([False, True])
        agent.partial_fit(np.array([1, 0]), np.array([0, 1]), np.ones(2), np.array([0, 1]), ends)
        return agent

    return make


def buffer(size):
    made, ends = ReplayBuffer(5, spaces.Box(-1, 1, (size,))), np.zeros(3, bool)
    made.add(np.ones((3, size)), None, np.ones(3), np.ones((3, size)), terminated=ends, truncated=ends)
    return made


def scale(size):
    made = RunningScale(size)
    made.update(np.arange(size, dtype=float))
    return made


def episodic(size):
    memory = KeyValueMemory(6, size, policy=LRU(), tables=2)
    return driven(MFEC(memory, rng=np.random.default_rng(0), k=2, standardise=size), size)


def neural(size):
    options = {"k": 2, "n_steps": 2, "batch_size": 2, "replay_size": 8, "learning_starts": 1, "train_every": 1}
    encoder = nn.utils.skip_init(nn.Linear, size, 3)
    nn.init.ones_(encoder.weight)
    nn.init.zeros_(encoder.bias)
    return driven(NEC(DND(6, 3, tables=2), encoder, rng=np.random.default_rng(0), **options), size)


def driven(agent, size):
    for step in range(8):
        agent.act(np.full(size, step, np.float32))
        agent.observe(1.0, step % 3 == 2, False)
        agent.learn()
    return agent


def reservoir(size):
    made = Reservoir(size, generator())
    made.add(torch.ones(9, 2), torch.zeros(9, dtype=torch.int64))
    return made


def mimic(size):
    body, x, y = nn.Linear(size, 3), torch.eye(size), torch.arange(size) % 2
    start = {name: p.detach() for name, p in body.named_parameters()}
    teacher = (x, x), (torch.ones(size, 3), torch.ones(size, 3))
    trainer = TeacherMimicTrainer(body, AdamRule(2), [MimicryEpisode(start, {}, x, y, *teacher)], generator=generator())
    trainer.step()
    return trainer


MADE = {
    "d3g": learner(D3G),
    "td3": learner(TD3),
    "bco": learner(BCO),
    "tabular-q": tabular(TabularQ),
    "tabular-qss": tabular(TabularQSS),
    "replay": buffer,
    "scale": scale,
    "mfec": episodic,
    "nec": neural,
    "reservoir": reservoir,
    "teacher-mimic": mimic,
}


@pytest.mark.parametrize("name", MADE)
def test_a_state_of_another_form_is_refused_by_name_and_changes_nothing(name):
    assert_states_are_refused(MADE[name](3), MADE[name](4).state_dict())


def evolution(size):
    made = AntitheticES([torch.ones(size)], population_size=4)
    made.tell(loss=made.ask()[0].sum(1))
    return made


def mas(size):
    made = MAS(nn.utils.skip_init(nn.Linear, size, 2))
    nn.init.ones_(made.model.weight)
    made.end_task(TaskData((torch.ones(2, size), torch.arange(2))))
    return made


GOING_ON = {
    **{name: (MADE[name], lambda it: it.update(transitions(3))) for name in ("d3g", "td3", "bco")},
    "teacher-mimic": (mimic, TeacherMimicTrainer.step),
    "evolution": (evolution, lambda it: it.tell(loss=it.ask()[0].square().sum(1))),
    "cma-es": (lambda size: CMAES([torch.ones(size)]), lambda it: it.tell(loss=it.ask()[0].square().sum(1))),
    "penalty": (mas, lambda it: it.end_task(TaskData((torch.eye(3), torch.arange(3))))),
    "reservoir": (MADE["reservoir"], lambda it: it.add(torch.zeros(9, 2), torch.ones(9, dtype=torch.int64))),
}


@pytest.mark.parametrize("name", GOING_ON)
def test_a_state_stays_as_it_was_while_both_go_on(name):
    make, go_on = GOING_ON[name]
    part, loaded = make(3), make(3)
    state = part.state_dict()
    before = copy.deepcopy(state)
    loaded.load_state_dict(state)
    for each in (loaded, part):
        go_on(each)
        assert alike(before, state)
        assert not alike(before, each.state_dict())


def altered(state, where="state"):
    """Copies of a state in each of which one part is missing or something else, with the part's place."""
    parts = list(state.items() if isinstance(state, dict) else enumerate(state))
    for key, part in parts if where == "state" else parts[:2]:
        place, others = f"{where}[{key!r}]", [None, "x"]
        if isinstance(part, dict | list | tuple):
            others += [{}, *(inner for _, inner in altered(part, place))]
        elif isinstance(part, int):
            others += [-1]
        for other in others:
            yield place, {**state, key: other} if isinstance(state, dict) else [*state[:key], other, *state[key + 1 :]]
        if isinstance(state, dict):
            yield place, {name: value for name, value in state.items() if name != key}


def rooms(size):
    env = TextureRoomsVectorEnv(size)
    env.reset(seed=0)
    return env


def search(kind):
    def make(size):
        draws = np.random.default_rng(0)
        tokens, scores = draws.integers(4, size=(20, size + 3)).astype(np.uint8), draws.normal(size=20)
        made = kind(tokens, scores, vocab=4, rng=draws, population_size=8)
        made.tell(fitness=np.arange(len(made.ask()), dtype=float))
        return made

    return make


def fragments(size):
    made = FragmentAndRecall(dict, LongTermStore("cosine"), SurprisalMonitor("ratio", 1.5, min_samples=2))
    for step in range(6):
        made.step(float(1 + 9 * (step % 3 == 2)), np.full(size, 1.0 + step))
    return made


NESTED = MADE | {
    "rooms": rooms,
    "ada-lead": search(AdaLead),
    "cbas": search(CbAS),
    "hill-climb": search(HillClimb),
    "fragments": fragments,
}


@pytest.mark.parametrize("name", NESTED)
def test_a_state_of_which_one_part_is_wrong_is_taken_whole_or_refused_whole(name):
    part = NESTED[name](3)
    before = copy.deepcopy(dict(part.state_dict()))
    refusals = 0
    for place, wrong in altered(before):
        try:
            part.load_state_dict(copy.deepcopy(wrong))
        except (TypeError, ValueError):
            refusals += 1
            assert alike(before, part.state_dict()), f"a state that was refused for {place} changed something"
        else:
            part.load_state_dict(copy.deepcopy(before))
    assert refusals > len(before)


def memory():
    return ExpanderMemory(random_regular(48, 5, 6, seed=0))


def scaffold():
    made = Scaffold(memory(), 4, generator=generator())
    made.store(torch.eye(4))
    return made


def store(features=None):
    made = AssociativeStore(memory(), features)
    made.write(["a", "b"], torch.eye(2, features) if features else ["red", "green"])
    return made


MEMORIES = {
    "expander": (memory, lambda m: m.recall(m.encode(torch.ones(1, m.message_size)), generator=generator()).x),
    "scaffold": (scaffold, lambda m: m.recall(torch.eye(4), generator()).content),
    "store": (store, lambda m: m.recall(m.address(["a", "b"]), generator()).payloads),
    "weights": (lambda: store(3), lambda m: m.readout(m.address(["a", "b"]))),
    "key-value": (lambda: KeyValueMemory(6, 2), lambda m: m.query(torch.zeros(1, 2), k=1).values),
    "dnd": (lambda: DND(6, 2), lambda m: m.query(torch.zeros(1, 2), k=1).values),
    "dense": (lambda: DenseHopfield(4), lambda m: m.state_dict()),
    "hebb": (lambda: HebbHopfield(4), lambda m: m.state_dict()),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_is_pickled_and_copied(name):
    make, answer = MEMORIES[name]
    original = make()
    for copied in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert alike(answer(original), answer(copied))


def test_a_loaded_memory_that_was_pickled_computes_its_distances_anew():
    taught = ExpanderMemory(random_regular(48, 5, 6, seed=0), "learn")
    again = pickle.loads(pickle.dumps(ExpanderMemory(random_regular(48, 5, 6, seed=0), "learn")))
    states = 1 - 2 * torch.randint(2, (3, 48), generator=generator())
    taught.learn(states)
    again.load_state_dict(taught.state_dict())
    assert torch.equal(again.violated(states), taught.violated(states))
    assert not again.violated(states).all()


@pytest.mark.parametrize(
    ("state", "form", "error", "message"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ValueError, r"state\['b'\] is missing: expected the keys 'a', 'b'"),
        ({"a": 1, "b": 2}, {"a": 1}, ValueError, r"state\['b'\] is unexpected"),
        ([1], {"a": 1}, TypeError, "state is a list: expected Mapping"),
        ({"a": {"b": 1.5}}, {"a": {"b": int}}, TypeError, r"state\['a'\]\['b'\] is a float: expected int"),
        ({"a": True}, {"a": 3}, TypeError, "bool: expected int"),
        ({"a": np.zeros(2)}, {"a": torch.zeros(2)}, TypeError, "a ndarray: expected Tensor"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, ValueError, r"\.shape = \(2,\): expected \(3\)"),
        ({"a": torch.zeros(2).double()}, {"a": torch.zeros(2)}, ValueError, "float64: expected torch.float32"),
        ({"a": np.zeros((2, 3))}, {"a": Axes(("rows", 4), np.zeros(0))}, ValueError, r"\(2, 3\): expected \(rows, 4\)"),
        ([1, 2], [1], ValueError, "state has 2 parts: expected 1"),
        ([1, "2"], (1, 2), TypeError, r"state\[1\] is a str: expected int"),
        (3, Maybe(str), TypeError, "state is a int: expected str"),
        (None, int | float, TypeError, r"NoneType: expected int \| float"),
    ],
)
def test_what_is_of_another_form_is_named(state, form, error, message):
    with pytest.raises(error, match=message):
        check_state(state, form)


def test_what_is_of_the_form_passes():
    form = {"a": Axes(("rows", 2), np.ndarray), "b": Maybe([float]), "c": {"d": 0}, "e": object}
    check_state({"a": np.zeros((5, 2), np.int8), "b": None, "c": {"d": np.int64(3)}, "e": ...}, form)
    check_state({"e": 1, "c": {"d": 3}, "b": (1.0,), "a": np.zeros((0, 2))}, form)
