"""Actions that are not allowed, and steps that do not count, reach no other number, whatever they hold."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from engram.agents import (
    A2C,
    RND,
    ActorCritic,
    CheckedBonus,
    CuriousActorCritic,
    FragmentedCuriosity,
    HashCounts,
    IntrinsicReward,
    VectorActor,
)
from engram.agents.a2c import Rollout, a2c_loss, a2c_step
from engram.agents.ppo import PPO, generalised_advantages, ppo_loss, ppo_update
from engram.nn.log_probabilities import entropy, mean_divergence

BAD = (torch.nan, torch.inf, -torch.inf)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


class LastStateUnknown(gymnasium.Env):
    """Its last observation of each episode is NaN."""

    observation_space, action_space = gymnasium.spaces.Box(-9, 9, (3,)), gymnasium.spaces.Discrete(2)

    def __init__(self, last):
        self.last = last

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t == 4
        return np.full(3, self.last if over else self.t / 4, np.float32), 1.0, over, False, {}


def test_the_entropy_and_its_gradient_are_those_of_the_allowed_actions():
    logits = torch.tensor([[1.0, -torch.inf, 0.0, 2.0], [-torch.inf, 3.0, -torch.inf, -torch.inf]], dtype=torch.float64)
    logits.requires_grad_()
    found = entropy(logits.log_softmax(-1))
    assert found[0].item() == pytest.approx(
        torch.distributions.Categorical(logits=logits[0, [0, 2, 3]]).entropy().item()
    )
    assert found[1] == 0
    found.sum().backward()
    allowed = logits[0, [0, 2, 3]].detach().requires_grad_()
    torch.distributions.Categorical(logits=allowed).entropy().backward()
    torch.testing.assert_close(logits.grad[0, [0, 2, 3]], allowed.grad)
    assert not logits.grad[[0, 1, 1, 1, 1], [1, 0, 1, 2, 3]].any()


def test_a_divergence_leaves_out_what_the_first_rules_out_and_is_infinite_the_other_way():
    p, q = torch.tensor([[0.0, 1.0, -torch.inf]]), torch.tensor([[2.0, 0.0, 1.0]])
    log_p, log_q = p.log_softmax(1), q.log_softmax(1)
    expected = (log_p[:, :2].exp() * (log_p - log_q)[:, :2]).sum()
    torch.testing.assert_close(mean_divergence(log_p, log_q), expected)
    assert mean_divergence(log_q, log_p) == torch.inf


@pytest.mark.parametrize("bad", BAD)
def test_ppo_with_closed_actions_takes_nothing_from_steps_that_do_not_count(bad):
    torch.manual_seed(0)
    mask = torch.rand(5, 3) < 0.7
    closed = torch.rand(5, 3, 4) < 0.3
    closed[..., 0] = False

    def gradients(fill):
        torch.manual_seed(1)
        raw, values = torch.randn(5, 3, 4, requires_grad=True), torch.randn(5, 3, 2, requires_grad=True)
        others = [torch.randn(5, 3), torch.randn(5, 3), torch.randn(5, 3, 2)]
        dropped = ~mask[..., None]
        old, advantages, returns = (x.masked_fill(dropped if x.ndim == 3 else ~mask, fill) for x in others)
        logits = raw.masked_fill(closed, -torch.inf).masked_fill(dropped, fill)
        loss, parts = ppo_loss(
            logits, values.masked_fill(dropped, fill), actions=torch.zeros(5, 3, dtype=torch.int64), old_log_prob=old,
            advantages=advantages, returns=returns, mask=mask, clip=0.2, value_coefficient=0.5, entropy_coefficient=0.1,
        )  # fmt: skip
        loss.backward()
        return torch.stack([loss.detach(), *parts]), raw.grad, values.grad

    for found, expected in zip(gradients(bad), gradients(0.0), strict=True):
        assert torch.equal(found, expected)
        assert found.isfinite().all()


@pytest.mark.parametrize("bad", BAD)
def test_advantages_do_not_pass_the_end_of_an_episode(bad):
    torch.manual_seed(0)
    rewards, values, after = torch.randn(3, 6, 2)
    done = torch.tensor([0, 0, 1, 0, 0, 0]).bool()[:, None].expand(6, 2)
    expected = generalised_advantages(rewards[:3], values[:3], after[:3], done[:3], done[:3], gamma=0.9, gae_lambda=0.8)
    rewards, after = rewards.clone(), after.clone()
    rewards[3], after[2] = bad, bad
    found = generalised_advantages(rewards, values, after, done, done, gamma=0.9, gae_lambda=0.8)
    assert torch.equal(found[:3], expected)
    assert found[4:].isfinite().all()


@pytest.mark.parametrize("memory", [None, 5])
def test_an_agent_learns_the_same_whatever_the_last_observations_of_episodes_are(memory):
    def weights(last):
        agent = CuriousActorCritic((3,), 2, hidden=6, memory=memory, generator=draws())
        curiosity = CheckedBonus(RND, (3,), 4)
        actor = VectorActor(gymnasium.vector.SyncVectorEnv([lambda: LastStateUnknown(last)] * 4), agent, draws())
        settings = PPO()
        optimizer = settings.optimizer(agent)
        for _ in range(2):
            rollout = actor.rollout(7)
            ignored = ~rollout.mask
            # The observation after the last step is the one that is unknown, so nothing is learned from it.
            seen = rollout.next_observations.nan_to_num(0)
            bonus = curiosity.bonus(seen, ignored)
            ppo_update(agent, optimizer, rollout, bonus, settings, generator=draws())
        return torch.cat([w.detach().flatten() for w in agent.parameters()])

    expected = weights(0.0)
    assert expected.isfinite().all()
    assert torch.equal(weights(torch.nan), expected)


@pytest.mark.parametrize("bad", BAD)
def test_a2c_takes_nothing_from_steps_after_the_end(bad):
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 0]]).bool()

    def weights(fill):
        torch.manual_seed(0)
        agent = ActorCritic(nn.RNN(3, 4), actions=2, generator=draws())
        observations, rewards = torch.randn(4, 2, 3), torch.randn(4, 2)
        episodes = Rollout(
            observations.masked_fill(~mask[..., None], fill), torch.zeros(4, 2, dtype=torch.int64),
            rewards.masked_fill(~mask, fill), mask, [], torch.zeros(4, 2).masked_fill(~mask, fill),
        )  # fmt: skip
        a2c_step(agent, torch.optim.SGD(agent.parameters(), 0.1), episodes, A2C())
        return torch.cat([w.detach().flatten() for w in agent.parameters()])

    assert torch.equal(weights(bad), weights(0.0))
    assert weights(bad).isfinite().all()


def test_a2c_still_says_that_a_step_which_counts_is_not_finite():
    ones = torch.ones(2, 1)
    options = {"gamma": 0.5, "value_coefficient": 0.1, "entropy_coefficient": 0.1, "mask": ones.bool()}
    assert a2c_loss(-ones, torch.nan * ones, ones, torch.full((2, 1, 2), 0.5), **options)[0].isnan()


CURIOSITIES = {
    "rnd": lambda: RND((2,), num_envs=2, hidden=4, feature_dim=3, generator=draws()),
    "counts": lambda: HashCounts((2,), 2, generator=draws()),
    "checked": lambda: CheckedBonus(HashCounts, (2,), 2),
    "fragmented": lambda: FragmentedCuriosity(lambda: RND((2,), num_envs=2, hidden=4, feature_dim=3), num_envs=2),
}


@pytest.mark.parametrize("kind", CURIOSITIES)
@pytest.mark.parametrize("bad", BAD)
def test_curiosities_pay_and_learn_nothing_where_an_episode_restarts(kind, bad):
    obs, done = torch.randn(6, 2, 2, generator=draws(1)), torch.rand(6, 2, generator=draws(2)) < 0.3

    def life(fill):
        torch.manual_seed(0)
        curiosity = CURIOSITIES[kind]()
        filled = obs.masked_fill(done[..., None], fill)
        first = curiosity.bonus(filled, done)
        curiosity.update(filled, ~done)
        return torch.cat((first, curiosity.bonus(filled, done)))

    found = life(bad)
    assert torch.equal(found, life(0.0))
    assert not found[done.repeat(2, 1)].any()
    with pytest.raises(ValueError, match="next_obs"):
        CURIOSITIES[kind]().bonus(obs.masked_fill(done[..., None], bad), torch.zeros_like(done))


@pytest.mark.parametrize("bad", [*BAD, 5.0])
def test_a_restart_is_paid_nothing_by_any_curiosity(bad):
    class Careless:
        num_envs = 3

        def bonus(self, next_obs, done):
            return torch.where(done, bad, 0.25)

    env = IntrinsicReward(
        gymnasium.vector.SyncVectorEnv([lambda: LastStateUnknown(0.0)] * 3), Careless(), coefficient=2.0, learn_every=0
    )
    env.reset(seed=0)
    rewards = np.array([env.step(np.zeros(3, int))[1] for _ in range(6)])
    assert rewards[:, 0].tolist() == [1.5, 1.5, 1.5, 1.5, 0.0, 1.5]
