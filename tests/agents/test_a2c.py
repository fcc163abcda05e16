import copy
import pickle
from functools import partial
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from engram.agents import (
    A2C,
    ActorCritic,
    CuriousActorCritic,
    RecurrentAgent,
    TrainedAgent,
    VectorActor,
    a2c_loss,
    a2c_step,
    discounted_returns,
    meta_actor_critic,
    plastic_actor_critic,
    rollout,
)
from engram.agents.a2c import sample_actions
from engram.agents.reference import play
from engram.nn import Memoryless
from engram.plasticity import ClippedHebb, Hebb, Modulated, PlasticRNN, Retroactive
from engram.tasks.meta import MetaTaskVectorEnv, named
from engram.tasks.meta.wrappers import RL2Observation


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def loss_of(output, actions, rewards, **options):
    options = {"gamma": 0.9, "value_coefficient": 0.1, "entropy_coefficient": 0.03, **options}
    return a2c_loss(output.log_prob(actions), output.values, rewards, output.probabilities, **options)


def agent_of(features, actions, seed=0):
    network = PlasticRNN(features, 6, rule=Hebb(0.2), backend="eager", generator=seeded(seed))
    return ActorCritic(network, actions, generator=seeded(seed + 1))


@settings(deadline=None)
@given(time=st.integers(0, 6), batch=st.integers(1, 3), gamma=st.floats(0, 1), seed=st.integers(0, 99))
def test_returns_are_discounted_sums(time, batch, gamma, seed):
    rewards = draw(time, batch, seed=seed)
    returns = discounted_returns(rewards, gamma)
    assert returns.shape == rewards.shape
    for t in range(time):
        expected = sum(gamma**k * rewards[t + k] for k in range(time - t))
        torch.testing.assert_close(returns[t], expected)


def test_the_loss_is_the_formula_of_the_specification_and_so_is_its_gradient():
    time, batch, actions, gamma, beta_v, beta_e = 5, 3, 4, 0.9, 0.1, 0.03
    logits, values = draw(time, batch, actions).requires_grad_(), draw(time, batch, seed=1).requires_grad_()
    rewards = draw(time, batch, seed=2)
    chosen = torch.randint(actions, (time, batch), generator=seeded())
    probabilities = logits.softmax(-1)
    log_prob = probabilities.log().gather(-1, chosen[..., None])[..., 0]
    loss, parts = a2c_loss(
        log_prob,
        values,
        rewards,
        probabilities,
        gamma=gamma,
        value_coefficient=beta_v,
        entropy_coefficient=beta_e,
    )
    total = 0.0
    for b in range(batch):
        following = 0.0
        for t in reversed(range(time)):
            following = rewards[t, b] + gamma * following
            advantage = (following - values[t, b]).item()
            assert parts.advantage[t, b].item() == pytest.approx(advantage)
            p = probabilities[t, b].tolist()
            total += -log_prob[t, b].item() * advantage + beta_v * advantage**2 + beta_e * sum(q * q for q in p)
    assert loss.item() == pytest.approx(total / (time * batch))
    loss.backward()
    p, one_hot = probabilities.detach(), torch.nn.functional.one_hot(chosen, actions)
    expected = parts.advantage[..., None] * (p - one_hot)
    expected += 2 * beta_e * p * (p - p.square().sum(-1, keepdim=True))
    torch.testing.assert_close(logits.grad, expected / (time * batch))
    torch.testing.assert_close(values.grad, -2 * beta_v * parts.advantage / (time * batch))


def test_the_order_of_the_environments_is_of_no_matter_but_to_the_published_defect():
    logits, values, rewards = draw(6, 4, 3), draw(6, 4, seed=1), draw(6, 4, seed=2)
    log_prob, probabilities = logits.log_softmax(-1)[..., 0], logits.softmax(-1)
    order = torch.tensor([2, 0, 3, 1])
    run = partial(a2c_loss, gamma=0.9, value_coefficient=0.1, entropy_coefficient=0.1)

    def both(**options):
        original = run(log_prob, values, rewards, probabilities, **options)
        other = run(log_prob[:, order], values[:, order], rewards[:, order], probabilities[:, order], **options)
        return original, other

    (loss, parts), (same_loss, permuted) = both()
    torch.testing.assert_close(permuted.advantage, parts.advantage[:, order])
    torch.testing.assert_close(same_loss, loss)
    (loss, parts), (other_loss, permuted) = both(author_value_bug=True)
    assert not torch.isclose(permuted.advantage, parts.advantage[:, order]).all()
    assert not torch.isclose(other_loss, loss)
    torch.testing.assert_close(parts.advantage, discounted_returns(rewards, 0.9) - values[:, :1])


def test_a_rollout_judged_again_at_once_gives_the_gradient_of_acting_step_by_step():
    env = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    agent = agent_of(4, 2).double()
    episodes = rollout(env, agent, seeded(), seed=3)
    output, _ = agent(episodes.observations)
    loss, _ = loss_of(output, episodes.actions, episodes.rewards, mask=episodes.mask)
    loss.backward()
    at_once = [p.grad.clone() for p in agent.parameters()]

    agent.zero_grad()
    total, steps = 0.0, int(episodes.mask.sum())
    for b in range(3):  # each environment alone, from its reset to its end, with the graph
        env = gymnasium.make("CartPole-v1")
        seen, _ = env.reset(seed=3 + b)
        state, ended, judged, rewards = None, False, [], []
        while not ended:
            output, state = agent(torch.as_tensor(seen).double()[None, None], state)
            judged.append(output)
            seen, reward, terminated, truncated, _ = env.step(int(episodes.actions[len(rewards), b]))
            rewards.append(reward)
            ended = terminated or truncated
        assert len(rewards) == episodes.mask[:, b].sum()
        whole = type(judged[0])(*map(torch.cat, zip(*judged, strict=True)))
        actions = episodes.actions[: len(rewards), b : b + 1]
        loss, _ = loss_of(whole, actions, torch.tensor(rewards, dtype=torch.float64)[:, None])
        total = total + loss * len(rewards) / steps
    total.backward()
    for gradient, other in zip(at_once, [p.grad for p in agent.parameters()], strict=True):
        torch.testing.assert_close(gradient, other)


def test_a_rollout_repeats_itself_and_ends_with_its_episodes():
    env = gymnasium.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync")
    agent = agent_of(4, 2)
    first, again, other = (rollout(env, agent, seeded(s), seed=3) for s in (0, 0, 1))
    assert all(torch.equal(part, same) for part, same in zip(first[:4], again[:4], strict=True))
    assert not torch.equal(first.actions[:5], other.actions[:5])
    lengths = first.mask.sum(0)
    assert len(first.rewards) == lengths.max() == len(first.infos)
    assert torch.equal(first.mask, torch.arange(lengths.max())[:, None] < lengths)
    assert not first.observations.requires_grad
    assert len(rollout(env, agent, seeded(), seed=3, max_steps=len(first.rewards)).rewards) == len(first.rewards)
    with pytest.raises(RuntimeError, match="episodes were not over after max_steps = 3 steps"):
        rollout(env, agent, seeded(), max_steps=3)


def test_what_follows_an_episode_is_of_no_matter():
    agent, played = agent_of(4, 2), []
    for mode in AutoresetMode:
        env = gymnasium.make_vec("CartPole-v1", 4, "sync", vector_kwargs={"autoreset_mode": mode})
        played.append(rollout(env, agent, seeded(), seed=3))
    for other in played[1:]:
        assert torch.equal(other.mask, played[0].mask)
        assert torch.equal(other.rewards, played[0].rewards)
        assert torch.equal(other.actions[other.mask], played[0].actions[other.mask])
        assert torch.equal(other.observations[other.mask], played[0].observations[other.mask])


def test_actions_have_the_probabilities_of_the_policy():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    actions = sample_actions(logits.expand(40000, 4), seeded())
    share = actions.bincount(minlength=4) / 40000
    torch.testing.assert_close(share, logits.softmax(0), atol=0.01, rtol=0)


def test_it_learns_which_action_pays():
    class Bandit(gymnasium.vector.VectorEnv):
        """Action 1 pays, but only if the first observation said so; otherwise action 0 does."""

        num_envs = 64
        metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

        def reset(self, *, seed=None, options=None):
            self.rewarded = np.random.default_rng(seed).integers(2, size=64)
            self.time = 0
            return self.rewarded[:, None].astype(np.float32), {}

        def step(self, actions):
            self.time += 1
            reward = (actions == self.rewarded).astype(float)
            return np.full((64, 1), 0.5, np.float32), reward, np.full(64, self.time == 4), np.zeros(64, bool), {}

    agent = ActorCritic(torch.nn.RNN(1, 8), 2, generator=seeded())
    torch.nn.init.orthogonal_(agent.network.weight_hh_l0, generator=seeded())
    torch.nn.init.uniform_(agent.network.weight_ih_l0, -1, 1, generator=seeded())
    a2c = A2C(learning_rate=0.02, clip_norm=10.0)
    optimizer = a2c.optimizer(agent)
    for i in range(120):
        episodes = rollout(Bandit(), agent, seeded(i), seed=i)
        a2c_step(agent, optimizer, episodes, a2c)
    assert episodes.rewards.mean() > 0.9


@pytest.mark.parametrize("bug", [False, True])
def test_a_step_goes_along_the_gradient_shortened_to_its_largest_norm(bug):
    agent = agent_of(4, 2)
    env = gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    episodes = rollout(env, agent, seeded(), seed=0)
    output, _ = agent(episodes.observations)
    expected, _ = loss_of(output, episodes.actions, episodes.rewards, mask=episodes.mask, author_value_bug=bug)
    gradients = torch.autograd.grad(expected, list(agent.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm()
    before = [p.detach().clone() for p in agent.parameters()]
    optimizer = torch.optim.SGD(agent.parameters(), lr=1.0)
    loss, _ = a2c_step(agent, optimizer, episodes, A2C(clip_norm=norm.item() / 2, author_value_bug=bug))
    torch.testing.assert_close(loss, expected.detach())
    for parameter, was, gradient in zip(agent.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), was - gradient / 2, atol=1e-5, rtol=1e-4)


def test_the_optimiser_is_adam_as_set():
    adam = A2C(learning_rate=0.1, adam_eps=0.2).optimizer(agent_of(4, 2))
    assert (adam.defaults["lr"], adam.defaults["eps"]) == (0.1, 0.2)


def test_an_agent_sees_its_last_action_and_reward_and_learns_from_several_episodes_once():
    box, rng = spaces.Box(-1, 1, (2,)), np.random.default_rng(0)
    agent = RecurrentAgent(box, spaces.Discrete(3), rng=rng, episodes=2, hidden_size=4, learning_rate=0.1)
    judge, losses, learned = copy.deepcopy(agent.network), [], {}
    for length in (3, 2):
        inputs, actions, rewards, last = [], [], [], np.zeros(4)
        for t in range(length):
            assert learned == {}
            inputs.append([0.1 * t, 0.2, *last])
            actions.append(agent.act([0.1 * t, 0.2]))
            rewards.append(0.5 + t)
            agent.observe(rewards[-1], t == length - 1, False)
            last = [*np.eye(3)[actions[-1]], rewards[-1]]
            learned = agent.learn()
        output, _ = judge(torch.tensor(inputs, dtype=torch.float32)[:, None])
        loss, _ = loss_of(output, torch.tensor(actions)[:, None], torch.tensor(rewards)[:, None], gamma=0.95)
        losses.append(length * loss.item() / 5)
    assert learned == {"loss": pytest.approx(sum(losses), rel=1e-4)}
    assert agent.learn() == {}
    before = copy.deepcopy(agent.optimizer.state_dict()["state"])
    other = RecurrentAgent(box, spaces.Discrete(3), rng=np.random.default_rng(1), hidden_size=4)
    other.load_state_dict(agent.state_dict())
    other.act([0.0, 0.2])
    other.observe(1.0, True, False)
    assert "loss" in other.learn()  # which changes nothing of the agent that it was loaded from
    for index, state in agent.optimizer.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], before[index]["exp_avg"])


def test_a_stored_state_stays_as_it_was_while_the_agent_goes_on():
    agent = RecurrentAgent(spaces.Box(-1, 1, (1,)), spaces.Discrete(2), rng=np.random.default_rng(0), episodes=2)
    agent.act([0.0])
    agent.observe(1.0, False, False)
    state = agent.state_dict()
    agent.act([0.5])
    agent.observe(2.0, True, False)
    assert [(len(steps["inputs"]), steps["rewards"]) for steps in state["episodes"]] == [(1, [1.0])]


def test_an_agent_draws_from_its_policy():
    agent = RecurrentAgent(spaces.Box(-1, 1, (1,)), spaces.Discrete(20), rng=np.random.default_rng(0), hidden_size=2)
    shares = torch.tensor([0.5, *[0.5 / 19] * 19])
    with torch.no_grad():
        agent.network.policy.weight.zero_()
        agent.network.policy.bias.copy_(shares.log())
    actions = []
    for _ in range(500):
        actions.append(agent.act([0.0]))
        agent.observe(0.0, False, False)
    assert np.bincount(actions, minlength=20) / 500 == pytest.approx(shares.numpy(), abs=0.06)


def test_initial_values_for_meta_learning_are_large_only_where_inputs_enter():
    network = meta_actor_critic(torch.nn.LSTM(9, 48), 2, generator=seeded()).network
    for name, parameter in network.named_parameters():
        bound = 1.0 if name == "weight_ih_l0" else 48**-0.5
        assert 0.95 * bound < parameter.abs().max() <= bound, name


def test_a_single_plasticity_coefficient_is_one_hundredth():
    alpha = plastic_actor_critic(3, 4, 2, Hebb(), alpha="homogeneous", generator=seeded()).network.alpha
    assert alpha.item() == pytest.approx(0.01)


def test_an_agent_without_memory_has_none():
    network = Memoryless(2, 4, generator=seeded())
    seen = torch.randn(5, 3, 2, generator=seeded())
    torch.testing.assert_close(network(seen)[0][4:], network(seen[4:])[0])
    assert torch.equal(Memoryless(2, 4, generator=seeded())(seen)[0], network(seen)[0])


def test_a_trained_agent_acts_in_lifetimes_as_its_network_says():
    env = RL2Observation(MetaTaskVectorEnv(named.two_step(horizon=6), 4))
    agent = ActorCritic(torch.nn.LSTM(9, 4), 2, generator=seeded())
    with torch.no_grad():
        agent.policy.weight.zero_()
        agent.policy.bias.copy_(torch.tensor([0.0, 100.0]))
    lived = play(env, TrainedAgent(agent, seeded()), seed=0)
    assert (lived.actions == 1).all()
    assert np.isin(lived.states[:, 1::2], (1, 2)).all()


def test_a_loss_without_a_step_is_refused():
    zeros, options = torch.zeros(2, 3), {"gamma": 0.9, "value_coefficient": 0.1, "entropy_coefficient": 0.1}
    with pytest.raises(ValueError, match="no step counts"):
        a2c_loss(zeros, zeros, zeros, torch.zeros(2, 3, 4), mask=torch.zeros(2, 3, dtype=torch.bool), **options)


@pytest.mark.parametrize(
    ("network", "actions", "error", "message"),
    [
        (torch.nn.Linear(2, 3), 2, TypeError, "network.hidden_size = None: expected an int"),
        (torch.nn.RNN(2, 3, batch_first=True), 2, ValueError, "network.batch_first = True: expected"),
    ],
)
def test_bad_agents_are_named(network, actions, error, message):
    with pytest.raises(error, match=message):
        ActorCritic(network, actions)


class Echo(torch.nn.Module):
    """A recurrent module without parameters: the running sum of its inputs."""

    hidden_size = 3

    def __init__(self, scale=None):
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, input, state=None):
        sums = input.cumsum(0) + (0 if state is None else state)
        return sums, sums[-1]


def test_a_body_may_have_no_parameters():
    agent, sequence = ActorCritic(Echo(), 2, generator=seeded()), torch.randn(4, 2, 3, generator=seeded())
    output, state = agent(sequence)
    torch.testing.assert_close(output.logits, agent.policy(sequence.cumsum(0)))
    torch.testing.assert_close(state, sequence.sum(0))
    act = agent.acting(2)
    torch.testing.assert_close(torch.stack([act(step) for step in sequence]), output.logits)
    assert ActorCritic(Echo(torch.ones(1).double()), 2).policy.weight.dtype == torch.float64


def test_an_agent_is_the_networks_output_through_two_heads():
    for network in (torch.nn.LSTM(3, 5), torch.nn.RNN(3, 5), PlasticRNN(3, 5)):
        agent = ActorCritic(network, 4, generator=seeded())
        sequence = torch.randn(6, 2, 3, generator=seeded())
        whole, _ = agent(sequence)
        output, _ = network(sequence)
        torch.testing.assert_close(whole.logits, agent.policy(output))
        torch.testing.assert_close(whole.values, agent.value(output)[..., 0])
        head, state = agent(sequence[:2])
        tail, _ = agent(sequence[2:], state)
        torch.testing.assert_close(torch.cat((head.values, tail.values)), whole.values)


def test_observations_that_are_no_vectors_are_named():
    env = gymnasium.make_vec("FrozenLake-v1", num_envs=2, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"observations have shape \(2,\): expected \(num_envs, features\)"):
        rollout(env, agent_of(1, 4), seeded())


@pytest.mark.parametrize(
    ("rule", "units", "published"),
    [(Modulated, 100, 22_406), (Retroactive, 100, 22_407), (ClippedHebb, 101, 22_731), (None, 139, 22_523)],
)
def test_the_published_networks_have_the_published_number_of_parameters(rule, units, published):
    agent = plastic_actor_critic(17, units, 4, rule and rule(), generator=seeded())
    assert sum(p.numel() for p in agent.parameters()) == published
    drawn = [p for p in (agent.network.weight_hh, agent.network.alpha) if p is not None]
    for parameter in drawn:
        assert 0 <= parameter.min() < 1e-4
        assert 0.0099 < parameter.max() <= 0.01


def test_a_trained_agent_acts_on_what_it_observed_last_and_on_its_memory():
    network = agent_of(3, 2)
    agent, observations = TrainedAgent(network, seeded(4)), np.random.default_rng(0).normal(size=(40, 5, 3))
    act, draws = network.acting(5), seeded(4)
    agent.reset(None, observations[0])
    for seen, following in pairwise(observations):
        expected = sample_actions(act(torch.from_numpy(seen).float()), draws)
        np.testing.assert_array_equal(agent.act(), expected)
        agent.learn(None, None, following)


def test_a_copy_of_a_trained_agent_shares_no_memory_of_its_lifetime():
    agent, observations = TrainedAgent(agent_of(3, 2), seeded(4)), np.zeros((5, 3), np.float32)
    with pytest.raises(RuntimeError, match="act was called before reset"):
        agent.act()
    agent.reset(None, observations)
    agent.act()
    for copied in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        with pytest.raises(RuntimeError, match="act was called before reset"):
            copied.act()
        copied.reset(None, observations)
        assert copied.act().shape == (5,)


class Tripled(PlasticRNN):
    def forward(self, *arguments, **options):
        output, state = super().forward(*arguments, **options)
        return 3 * output, state


def sharper(agent):
    agent.policy.register_forward_hook(lambda module, inputs, output: 5 * output)


def deeper(agent):
    agent.policy = torch.nn.Sequential(agent.policy, torch.nn.Tanh())


def pruned(agent):
    prune.l1_unstructured(agent.policy, "weight", 0.5)
    agent.policy.weight_orig.data.mul_(-3)  # the weight itself follows when the layer is called


def silenced(agent):
    agent.network.register_forward_hook(lambda module, inputs, output: (0 * output[0], output[1]))


def tripled(agent):
    agent.network = Tripled(3, 6, rule=Hebb(), generator=seeded(2))


@pytest.mark.parametrize("change", [sharper, deeper, pruned, silenced, tripled])
def test_acting_calls_the_layers_that_were_replaced_or_have_hooks(change):
    agent = ActorCritic(PlasticRNN(3, 6, rule=Hebb(), generator=seeded()), 2, generator=seeded(1))
    change(agent)
    observations = torch.randn(3, 4, 3, generator=seeded(3))
    act = agent.acting(4)
    torch.testing.assert_close(torch.stack([act(seen) for seen in observations]), agent(observations)[0].logits)


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        (spaces.Discrete(2, start=1), TypeError, "expected a Discrete that is counted from 0"),
        (spaces.Discrete(3), ValueError, "env has 3 actions: expected 2, as the agent has"),
        (spaces.Box(-1.0, 1.0, (1,)), TypeError, "expected a Discrete that is counted from 0"),
    ],
)
def test_actions_that_are_not_those_of_the_agent_are_refused(space, error, message):
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    env.single_action_space = space
    with pytest.raises(error, match=message):
        rollout(env, ActorCritic(torch.nn.RNN(4, 8), 2), torch.Generator())
    with pytest.raises(error, match=message):
        VectorActor(env, CuriousActorCritic((4,), 2, hidden=4, memory=None), torch.Generator())
