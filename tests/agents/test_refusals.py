"""A call that is refused changes nothing."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from engram.agents import (
    D3G,
    MFEC,
    NEC,
    RND,
    TD3,
    EpsilonGreedy,
    FragmentedCuriosity,
    HashCounts,
    IntrinsicReward,
    MaxEntMellowmax,
    RecurrentAgent,
    ReplayBuffer,
    TabularQ,
    TabularQSS,
)
from engram.agents.replay import TransitionBatch, transition_consistency
from engram.memory import DND, KeyValueMemory
from engram.nn import vector_encoder
from engram.tasks import grid_transfer
from engram.testing.promises import alike


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def rnd(seed):
    curiosity = RND((5,), 2, hidden=7, feature_dim=6, generator=generator(seed))
    curiosity.bonus(torch.randn(4, 2, 5, generator=generator(seed)), torch.zeros(4, 2, dtype=torch.bool))
    return curiosity


def hash_counts(seed):
    return HashCounts((5,), 2, bits=4, generator=generator(seed))


def nec(replay_size, steps):
    memory, encoder = DND(20, key_dim=3, tables=2, generator=generator()), vector_encoder(2, 3, generator=generator())
    agent = NEC(memory, encoder, rng=np.random.default_rng(0), k=3, replay_size=replay_size)
    for step in range(steps):
        agent.act(np.ones(2, np.float32))
        agent.observe(1.0, step == steps - 1, False)
        agent.learn()
    return agent


@pytest.mark.parametrize(("size", "other"), [(10, 50), (50, 10)])
def test_nec_refuses_a_replay_of_another_size(size, other):
    agent = nec(size, 0)
    before = copy.deepcopy(agent.state_dict())
    with pytest.raises(ValueError, match="replay_size"):
        agent.load_state_dict(nec(other, 25).state_dict())
    after = agent.state_dict()
    assert after["steps"] == before["steps"]
    assert equal(after["memory"], before["memory"])


@pytest.mark.parametrize("wrong", [np.array([np.nan, 1.0]), np.ones(1), np.ones(3)])
def test_refused_observation_does_not_change_the_running_scale(wrong):
    agent = MFEC(KeyValueMemory(20, key_dim=2, tables=2), rng=np.random.default_rng(0), standardise=2)
    agent.act(np.ones(2))
    agent.observe(1.0, False, False)
    with pytest.raises(ValueError, match="observation"):
        agent.act(wrong)
    assert agent.state_dict()["scale"]["count"] == 1
    assert agent.act(np.ones(2)) in range(2)


def test_refused_identity_is_not_recorded():
    agent = MFEC(KeyValueMemory(20, key_dim=2, tables=2, hash_dim=3), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"identity.shape = \(4,\)"):
        agent.act(np.ones(2), np.ones(4))
    agent.act(np.ones(2), np.ones(3))
    agent.observe(1.0, True, False)
    assert agent.learn() == {}


def test_refused_last_observation_can_be_given_again():
    memory = KeyValueMemory(20, key_dim=2, tables=2)
    agent = MFEC(memory, rng=np.random.default_rng(0), truncation="bootstrap")
    agent.act(np.ones(2))
    with pytest.raises(ValueError, match=r"x\.shape"):
        agent.observe(1.0, False, True, np.ones(3))
    agent.observe(1.0, False, True, np.ones(2))
    agent.learn()
    assert int(memory.n_filled.sum()) == 1


@pytest.mark.parametrize("wrong", [{"seed": [1, 2, 3]}, {"options": {"reset_mask": np.array([True, False])}}])
def test_a_refused_or_partial_reset_leaves_other_environments_as_they_were(wrong):
    curiosity = RND((4,), num_envs=2, hidden=8, feature_dim=4, generator=generator())
    env = IntrinsicReward(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"), curiosity)
    env.reset(seed=0)
    over = np.zeros(2, bool)
    while not over[1]:
        _, _, terminated, truncated, _ = env.step(np.array([0, 0]))
        over = terminated | truncated
    if "seed" in wrong:
        with pytest.raises(ValueError, match="seeds"):
            env.reset(**wrong)
    else:
        env.reset(**wrong)
    assert env.step(np.array([0, 0]))[4]["intrinsic"][1] == 0


def test_curiosity_without_key_module_does_not_load_half_a_state():
    def make():
        return RND((3,), hidden=8, feature_dim=4, running=False, generator=generator())

    encoded, curiosity = FragmentedCuriosity(make, key_encoder=lambda x: x), FragmentedCuriosity(make)
    encoded.store.get(0).module.update(torch.ones(50, 3))
    before = copy.deepcopy(curiosity.store.get(0).module.predictor.state_dict())
    with pytest.raises(TypeError, match="key_module"):
        curiosity.load_state_dict(encoded.state_dict())
    assert equal(curiosity.store.get(0).module.predictor.state_dict(), before)
    with pytest.raises(ValueError, match="current"):
        curiosity.load_state_dict(curiosity.state_dict() | {"current": np.array([4])})


@pytest.mark.parametrize("part", ["rng", "episodes"])
def test_recurrent_agent_refuses_before_it_loads(part):
    box, two = spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2)
    agent, other = (RecurrentAgent(box, two, rng=np.random.default_rng(seed), hidden_size=4) for seed in (0, 1))
    wrong = {"rng": np.random.MT19937(1).state, "episodes": []}
    before = copy.deepcopy(agent.state_dict()["network"])
    with pytest.raises(ValueError, match=part):
        agent.load_state_dict(other.state_dict() | {part: wrong[part]})
    assert equal(agent.state_dict()["network"], before)


def test_refused_process_draws_nothing():
    agent = TabularQ([0], [9], [9], 4, rng=np.random.default_rng(0))
    before = agent.rng.bit_generator.state
    with pytest.raises(ValueError, match="successors"):
        agent.train(grid_transfer(4), 5)
    assert agent.rng.bit_generator.state == before


def test_log_with_an_unknown_neighbour_is_not_learned_in_part():
    agent = TabularQSS([0], [4], [4], 2, rng=np.random.default_rng(0), neighbours=lambda cell: [min(cell + 1, 3)])
    before = agent.transition_values()
    log = np.array([0, 1]), np.array([0, 0]), np.ones(2), np.array([1, 3]), np.zeros(2, bool)
    with pytest.raises(ValueError, match="cell 3 follows cell 1"):
        agent.partial_fit(*log)
    np.testing.assert_array_equal(agent.transition_values(), before)


@pytest.mark.parametrize("states", [torch.rand(10, 1), torch.rand(10, 5), torch.full((3, 2), torch.nan)])
def test_d3g_refuses_states_that_do_not_fit(states):
    box = spaces.Box(-1.0, 1.0, (2,))
    agent = D3G(box, box, generator=generator(), hidden=(4,))
    with pytest.raises(ValueError, match="states"):
        agent.normalise(states)
    assert agent.shift.tolist() == [0.0, 0.0]


def test_rnd_refuses_a_mask_of_another_shape_and_nan():
    rnd = RND((3,), num_envs=2, hidden=8, feature_dim=4, keep_prob=1.0, generator=generator())
    obs, valid = torch.randn(4, 2, 3, generator=generator()), torch.ones(4, 2, dtype=torch.bool)
    before, drawn = copy.deepcopy(rnd.predictor.state_dict()), rnd.generator.get_state()
    with pytest.raises(ValueError, match=r"valid.shape = \(2, 4\)"):
        rnd.update(obs, valid.T)
    with pytest.raises(ValueError, match="dtype"):
        rnd.update(obs.long())
    assert torch.equal(rnd.generator.get_state(), drawn)
    with pytest.raises(FloatingPointError, match="loss = nan"):
        rnd.update(torch.full((5, 3), torch.nan))
    assert equal(rnd.predictor.state_dict(), before)


@pytest.mark.parametrize("change", [lambda obs: obs.to("meta"), torch.Tensor.to_sparse])
def test_rnd_refuses_tensors_that_are_not_dense_by_name(change):
    rnd = RND((3,), num_envs=2, hidden=8, feature_dim=4, generator=generator())
    obs, drawn = change(torch.ones(5, 3)), rnd.generator.get_state()
    for call in (rnd.update, rnd.loss, rnd.error, rnd.features, rnd.observe):
        with pytest.raises((ValueError, RuntimeError)) as refused:
            call(obs)
        assert "obs" in " ".join([str(refused.value), *getattr(refused.value, "__notes__", ())])
    assert torch.equal(rnd.generator.get_state(), drawn)


@pytest.mark.parametrize("wrong", [{"neighbours": lambda s: s}, {"neighbours": lambda s, t: [s]},
                                   {"neighbours": lambda s: [0], "inverse": lambda s: [0]}])  # fmt: skip
def test_functions_of_cells_that_do_not_fit_are_named(wrong):
    with pytest.raises(TypeError) as refused:
        TabularQSS([0], [3], [3], 2, rng=np.random.default_rng(0), **wrong)
    assert list(wrong)[-1] in refused.value.__notes__[0]


def test_a_reward_without_an_action_is_refused():
    agent = TabularQ([0], [9], [9], 4, rng=np.random.default_rng(0))
    before = agent.values(np.array([0.0])).copy()
    with pytest.raises(RuntimeError, match="observe was called without an action"):
        agent.observe(1.0, False, False, np.array([3.0]))
    assert (agent.values(np.array([0.0])) == before).all()
    agent.act(np.array([0.0]))
    agent.observe(0.0, False, False, np.array([1.0]))
    with pytest.raises(RuntimeError, match="observe was called without an action"):
        agent.observe(1.0, False, False, np.array([3.0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"actions": np.array([0.9, 0.2])}, "actions = .*: expected integers"),
        ({"terminated": np.array([2.0, -1.0])}, "terminated"),
        ({"rewards": np.array([0.0, 1e39])}, "rewards .* 32 bits: expected at most 3.4e38"),
        ({"next_states": np.array([[0.0], [-1e39]])}, "next_states .* 32 bits"),
    ],
)
def test_a_log_that_is_refused_is_not_added(wrong, message):
    buffer = ReplayBuffer(4, spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(2))
    never, states = np.zeros(2, bool), np.zeros((2, 1), np.float32)
    log = {"states": states, "actions": np.array([0, 1]), "rewards": np.ones(2), "next_states": states}
    with pytest.raises((TypeError, ValueError), match=message):
        buffer.add(**log | {"terminated": never, "truncated": never} | wrong)
    assert len(buffer) == 0


@pytest.mark.parametrize("kind", [D3G, TD3])
@pytest.mark.parametrize("wrong", [{"rewards": torch.ones(2, 1)}, {"terminated": torch.zeros(1)}])
def test_a_batch_whose_columns_would_be_broadcast_is_refused(kind, wrong):
    box, states = spaces.Box(-1.0, 1.0, (2,)), torch.zeros(2, 2)
    agent = kind(box, box, generator=generator(), hidden=(4,))
    batch, drawn = TransitionBatch(states, states, states[0], states, *states), agent.generator
    before = drawn.get_state()
    with pytest.raises(ValueError, match=r"batch.rewards.shape = .* batch.terminated.shape = "):
        agent.update(batch._replace(**wrong))
    assert torch.equal(drawn.get_state(), before)
    with pytest.raises(ValueError, match=r"batch.actions.shape = \(2,\)"):
        agent.update(batch._replace(actions=torch.ones(2)))
    with pytest.raises(ValueError, match=r"batch.next_states"):
        transition_consistency(batch._replace(next_states=torch.zeros(1, 2)))


def test_rnd_does_not_observe_nan():
    rnd = RND((2,), hidden=8, feature_dim=4, generator=generator())
    for wrong in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="samples = tensor of shape"):
            rnd.observe(torch.tensor([[0.0, wrong], [0.0, 0.0]]))
    assert rnd.moments.mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.0, np.nan])])
def test_exploration_refuses_what_is_not_the_value_of_each_action(values):
    for policy in (EpsilonGreedy(0.0, 0, 0), MaxEntMellowmax()):
        with pytest.raises(ValueError, match=r"expected (no NaN|one for each action|at least one|.actions)"):
            policy(values, 1, np.random.default_rng(0))


def test_curiosity_in_fragments_refuses_to_learn_without_environments():
    curiosity = FragmentedCuriosity(lambda: RND((3,), hidden=8, feature_dim=4, generator=generator()))
    with pytest.raises(ValueError, match=r"envs = \[\]"):
        curiosity.update(torch.zeros(4, 0, 3), envs=np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("make", "wrong", "said"),
    [
        (rnd, {"filtered": torch.zeros(3)}, r"state_dict\['filtered'\].shape = \(3,\): expected \(2\)"),
        (rnd, {"target.1.weight": torch.zeros(7, 4)}, r"state_dict\['target.1.weight'\].shape = \(7, 4\)"),
        (rnd, {"_extra_state": {}}, r"state_dict\['_extra_state'\]\['optimizer'\] is missing"),
        (hash_counts, {"counts": torch.zeros(8, dtype=torch.int64)}, r"state_dict\['counts'\].shape = \(8,\)"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_curiosity_loads_no_part_of_a_state_that_does_not_fit(make, wrong, said, strict):
    curiosity, other = make(0), make(1)
    before = copy.deepcopy(dict(curiosity.state_dict()))
    with pytest.raises(ValueError, match=said):
        curiosity.load_state_dict(other.state_dict() | wrong, strict=strict)
    assert alike(before, dict(curiosity.state_dict()))
    name = next(iter(before))
    missing = {key: value for key, value in other.state_dict().items() if key != name}
    with pytest.raises(ValueError, match=rf"state_dict\['{name}'\] is missing"):
        curiosity.load_state_dict(missing)
    curiosity.load_state_dict(missing, strict=False)
    assert alike(missing | {name: before[name]}, dict(curiosity.state_dict()))
