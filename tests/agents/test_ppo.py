import gymnasium
import numpy as np
import pytest
import torch

from engram.agents import (
    PPO,
    RND,
    CuriousActorCritic,
    FragmentedCuriosity,
    VectorActor,
    generalised_advantages,
    ppo_loss,
    ppo_update,
)
from engram.tasks import TextureRoomsVectorEnv


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def agent_of(shape=(4,), actions=2, memory=None, seed=0, **options):
    return CuriousActorCritic(shape, actions, **{"hidden": 8, "memory": memory, "generator": seeded(seed)} | options)


def cart_pole(num_envs=3, **options):
    return gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync", **options)


def test_advantages_are_discounted_sums_of_differences_up_to_the_end_of_the_episode():
    rewards, values, next_values = draw(6, 2), draw(6, 2, seed=1), draw(6, 2, seed=2)
    terminated, done = torch.zeros(2, 6, 2, dtype=torch.bool)
    terminated[2, 0] = done[2, 0] = done[3, 1] = True
    advantages = generalised_advantages(rewards, values, next_values, terminated, done, gamma=0.9, gae_lambda=0.8)
    for env, end in ((0, 2), (1, 3)):
        for t in range(6):
            last, expected = end if t <= end else 5, 0.0
            for k in range(t, last + 1):
                bootstrap = 0.0 if terminated[k, env] else 0.9 * next_values[k, env]
                expected += (0.9 * 0.8) ** (k - t) * (rewards[k, env] + bootstrap - values[k, env])
            assert advantages[t, env].item() == pytest.approx(float(expected), rel=1e-12)
    none = rewards[:0], values[:0], next_values[:0], terminated[:0], done[:0]
    assert generalised_advantages(*none, gamma=0.9, gae_lambda=0.8).shape == (0, 2)


def test_the_loss_and_its_gradient_are_those_of_the_formula_in_numpy():
    logits, values = draw(5, 3, 4).requires_grad_(), draw(5, 3, 2, seed=1).requires_grad_()
    actions = torch.randint(4, (5, 3), generator=seeded(2))
    old, advantages, returns = -draw(5, 3, seed=3).abs(), draw(5, 3, seed=4), draw(5, 3, 2, seed=5)
    mask = torch.rand(5, 3, generator=seeded(6)) < 0.7
    weights = {"clip": 0.2, "value_coefficient": 0.7, "entropy_coefficient": 0.3}
    data = {"actions": actions, "old_log_prob": old, "advantages": advantages, "returns": returns, "mask": mask}

    def reference(z, v):
        total = 0.0
        for t, b in zip(*mask.nonzero(as_tuple=True), strict=True):
            p = np.exp(z[t, b]) / np.exp(z[t, b]).sum()
            u, a = p[actions[t, b]] / np.exp(old[t, b].item()), advantages[t, b].item()
            total += -min(u * a, np.clip(u, 0.8, 1.2) * a) + 0.3 * (p * np.log(p)).sum()
            total += 0.7 * ((v[t, b] - returns[t, b].numpy()) ** 2).sum() / 2
        return total / mask.sum().item()

    loss, parts = ppo_loss(logits, values, **data, **weights)
    z, v = logits.detach().numpy(), values.detach().numpy()
    assert loss.item() == pytest.approx(reference(z, v), rel=1e-12)
    ratios = np.exp([
        (logits.log_softmax(-1)[t, b, actions[t, b]] - old[t, b]).item() for t, b in mask.nonzero().tolist()
    ])  # fmt: skip
    assert parts.clipped.item() == pytest.approx((np.abs(ratios - 1) > 0.2).mean())
    assert 0.5 < parts.clipped < 1
    assert ppo_loss(logits, values, **(data | {"mask": torch.zeros_like(mask)}), **weights)[0] == 0
    loss.backward()
    for numbers, gradient, place in (
        (z, logits.grad, (1, 2, 3)),
        (v, values.grad, (3, 0, 1)),
        (z, logits.grad, (0, 0, 0)),
    ):
        change = np.zeros_like(numbers)
        change[place] = 1e-6
        ends = [
            reference(z + sign * change, v) if numbers is z else reference(z, v + sign * change) for sign in (1, -1)
        ]
        assert gradient[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("memory", [None, 6])
def test_learning_sees_what_the_agent_saw_when_it_acted(memory):
    agent = agent_of(memory=memory)
    actor = VectorActor(cart_pole(), agent, seeded(1), seed=0)
    for _ in range(2):
        rollout = actor.rollout(60)
        output, _ = agent(rollout.observations, rollout.previous_actions, rollout.starts, rollout.state)
        torch.testing.assert_close(output.values.detach(), rollout.values)
        log_prob = output.logits.log_softmax(-1).gather(-1, rollout.actions[..., None])[..., 0]
        torch.testing.assert_close(log_prob.detach(), rollout.log_prob)
        assert rollout.done.sum() > 3
        assert torch.equal(rollout.starts[1:], ~rollout.mask[:-1])
        assert torch.equal(~rollout.mask[1:], rollout.done[:-1])
        assert torch.equal(rollout.observations[1:], rollout.next_observations[:-1])
        assert not rollout.rewards[~rollout.mask].any()


def step_by_step(agent, rollout, env):
    """Logits and values of an environment from the equations of an LSTM, whose state is 0 where an episode starts."""
    lstm, outputs = agent.lstm, []
    hidden, cell = (part[0, env] for part in rollout.state)
    for t, start in enumerate(rollout.starts[:, env].tolist()):
        last = torch.zeros(agent.actions, dtype=hidden.dtype)
        if start:
            hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        else:
            last[rollout.previous_actions[t, env]] = 1.0
        x = torch.cat((agent.body(rollout.observations[t, env][None].to(hidden))[0], last))
        gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
        enters, forgets, new, leaves = gates.chunk(4)
        cell = forgets.sigmoid() * cell + enters.sigmoid() * new.tanh()
        hidden = leaves.sigmoid() * cell.tanh()
        outputs.append((agent.policy(hidden).log_softmax(-1), agent.value(hidden)))
    return (torch.stack(column) for column in zip(*outputs, strict=True))


def test_what_was_collected_and_what_is_replayed_are_an_lstm_step_by_step():
    """The second rollout begins within episodes, and each has ends within it."""
    agent = agent_of(memory=6).double()
    actor = VectorActor(cart_pole(), agent, seeded(1), seed=0)
    for _ in range(2):
        rollout = actor.rollout(40)
        assert (rollout.starts[1:].sum(0) > 0).all()
        part = torch.tensor([2, 0])
        output, _ = agent(
            rollout.observations[:, part], rollout.previous_actions[:, part], rollout.starts[:, part],
            tuple(own[:, part] for own in rollout.state),
        )  # fmt: skip
        for column, env in enumerate(part.tolist()):
            log_pi, values = step_by_step(agent, rollout, env)
            log_prob = log_pi[torch.arange(40), rollout.actions[:, env]]
            torch.testing.assert_close(rollout.log_prob[:, env], log_prob)
            torch.testing.assert_close(rollout.values[:, env], values)
            torch.testing.assert_close(output.logits[:, column].log_softmax(-1), log_pi)
            torch.testing.assert_close(output.values[:, column], values)
    assert not rollout.starts[0].all()


def test_with_memory_an_update_is_steps_of_adam_down_the_loss_step_by_step():
    settings = PPO(epochs=2, minibatches=2, learning_rate=1e-2, extrinsic=2.0, intrinsic=0.5, gamma_intrinsic=0.9,
                   value_coefficient=0.7)  # fmt: skip
    agent, twin = (agent_of(memory=6).double() for _ in range(2))
    rollout = VectorActor(cart_pole(4), agent, seeded(1), seed=0).rollout(30)
    intrinsic = draw(30, 4)
    ppo_update(agent, settings.optimizer(agent), rollout, intrinsic, settings, generator=seeded(3))
    both = torch.stack(
        [
            generalised_advantages(
                rewards, rollout.values[..., k], rollout.next_values[..., k], rollout.terminated,
                rollout.done | ~rollout.mask, gamma=(0.99, 0.9)[k], gae_lambda=0.95,
            )
            for k, rewards in enumerate((rollout.rewards, intrinsic))
        ],
        -1,
    )  # fmt: skip
    advantages, returns = 2 * both[..., 0] + 0.5 * both[..., 1], both + rollout.values
    counted = advantages[rollout.mask]
    advantages = (advantages - counted.mean()) / (counted.std(correction=0) + 1e-8)
    optimizer, generator = torch.optim.Adam(twin.parameters(), lr=1e-2), seeded(3)
    for _ in range(2):
        for part in torch.randperm(4, generator=generator).tensor_split(2):
            terms = []
            for env in part.tolist():
                log_pi, values = step_by_step(twin, rollout, env)
                for t in rollout.mask[:, env].nonzero().flatten().tolist():
                    ratio = (log_pi[t, rollout.actions[t, env]] - rollout.log_prob[t, env]).exp()
                    gain = advantages[t, env]
                    surrogate = torch.minimum(ratio * gain, ratio.clamp(0.9, 1.1) * gain)
                    error = 0.7 * (values[t] - returns[t, env]).square().sum() / 2
                    terms.append(error - surrogate + 0.001 * (log_pi[t].exp() * log_pi[t]).sum())
            optimizer.zero_grad()
            torch.stack(terms).mean().backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
            optimizer.step()
    for ours, theirs in zip(agent.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


class Recall(gymnasium.Env):
    """Four steps of which the first shows a cue, and the last pays if the action is the cue."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.steps = int(self.np_random.integers(2)), 0
        return np.eye(2, dtype=np.float32)[self.cue], {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 4
        return np.zeros(2, np.float32), float(over and action == self.cue), over, False, {}


@pytest.mark.parametrize("memory", [8, None])
def test_what_has_to_be_remembered_is_learned_with_memory_alone(memory):
    env, generator = gymnasium.vector.SyncVectorEnv([Recall] * 16), seeded()
    agent = CuriousActorCritic((2,), 2, hidden=8, memory=memory, generator=generator)
    settings = PPO(learning_rate=1e-2, gamma=0.9, clip=0.2, entropy_coefficient=0.01, intrinsic=0.0, minibatches=2)
    optimizer, actor, paid = settings.optimizer(agent), VectorActor(env, agent, generator), []
    for _ in range(30):
        rollout = actor.rollout(20)
        ppo_update(agent, optimizer, rollout, torch.zeros(20, 16), settings, generator=generator)
        paid.append((rollout.rewards.sum() / rollout.done.sum()).item())
    if memory:
        assert np.mean(paid[-10:]) > 0.9
    else:
        assert 0.4 < np.mean(paid[-10:]) < 0.6  # chance


def test_memory_of_an_episode_does_not_reach_the_next():
    agent = agent_of(memory=6)
    observations, actions = draw(5, 1, 4).float(), torch.ones(5, 1, dtype=torch.int64)
    starts = torch.tensor([True, False, False, True, False])[:, None]
    both, _ = agent(observations, actions, starts)
    second, _ = agent(observations[3:], actions[3:], starts[3:])
    torch.testing.assert_close(both.logits[3:], second.logits)
    changed, _ = agent(torch.cat((observations[:1] + 1, observations[1:])), actions, starts)
    assert (changed.logits[:3] != both.logits[:3]).all()
    torch.testing.assert_close(changed.logits[3:], both.logits[3:])


def test_without_memory_a_minibatch_of_all_is_one_plain_step_of_adam():
    settings, generator = PPO(epochs=1, minibatches=1, learning_rate=1e-2, intrinsic=0.5), seeded(3)
    agent, twin = agent_of(), agent_of()
    rollout = VectorActor(cart_pole(), agent, seeded(1), seed=0).rollout(30)
    intrinsic = draw(30, 3).float()
    ppo_update(agent, settings.optimizer(agent), rollout, intrinsic, settings, generator=generator)
    ends = rollout.done | ~rollout.mask
    sums = [
        generalised_advantages(
            rewards, rollout.values[..., k], rollout.next_values[..., k], rollout.terminated, ends,
            gamma=0.99, gae_lambda=0.95,
        )
        for k, rewards in enumerate((rollout.rewards, intrinsic))
    ]  # fmt: skip
    mask, advantages = rollout.mask, sums[0] + 0.5 * sums[1]
    advantages = (advantages - advantages[mask].mean()) / advantages[mask].std(correction=0)
    output, _ = twin(rollout.observations, rollout.previous_actions, rollout.starts)
    log_pi = output.logits.log_softmax(-1)
    loss = -advantages[mask] * (log_pi.gather(-1, rollout.actions[..., None])[..., 0] - rollout.log_prob).exp()[mask]
    loss = loss + (output.values - rollout.values - torch.stack(sums, -1)).square().sum(-1)[mask] / 2
    (loss + 0.001 * (log_pi.exp() * log_pi).sum(-1)[mask]).mean().backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    torch.optim.Adam(twin.parameters(), lr=1e-2).step()
    for ours, theirs in zip(agent.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_curiosity_learns_from_what_follows_the_steps_of_each_minibatch():
    given = []

    class Told:
        def update(self, *learned):
            given.append(learned)

    agent, settings = agent_of(), PPO(epochs=1, minibatches=2)
    rollout = VectorActor(cart_pole(4), agent, seeded(1), seed=0).rollout(30)
    options = {"generator": seeded(), "curiosity": Told()}
    ppo_update(agent, settings.optimizer(agent), rollout, torch.zeros(30, 4), settings, **options)
    assert sorted(np.concatenate([envs for _, _, envs in given])) == [0, 1, 2, 3]
    for obs, valid, envs in given:
        assert torch.equal(obs, rollout.next_observations[:, envs])
        assert torch.equal(valid, rollout.mask[:, envs])


def test_observations_are_standardised():
    mean, std, starts = draw(4).float(), 1 + draw(4, seed=1).float().abs(), torch.ones(1, 5, dtype=torch.bool)
    plain, scaled = agent_of(), agent_of(mean=mean, std=std)
    seen, actions = draw(1, 5, 4, seed=2).float(), torch.zeros(1, 5, dtype=torch.int64)
    values = scaled(seen * std + mean, actions, starts)[0].values
    torch.testing.assert_close(values, plain(seen, actions, starts)[0].values)


def test_the_published_network_has_the_published_layers():
    agent = CuriousActorCritic((4, 84, 84), 6, generator=seeded())
    shapes = [tuple(p.shape) for p in agent.body.parameters() if p.dim() > 1]
    assert shapes == [(16, 4, 8, 8), (32, 16, 4, 4), (512, 32 * 10 * 10)]
    assert tuple(agent.lstm.weight_ih_l0.shape) == (4 * 512, 518)
    seen = torch.zeros(2, 1, 4, 84, 84, dtype=torch.uint8)
    output, _ = agent(seen, torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.bool))
    assert (output.logits.shape, output.values.shape) == ((2, 1, 6), (2, 1, 2))
    for side, kind in ((36, torch.nn.Conv2d), (35, torch.nn.Flatten)):
        small = agent_of((1, 48, side))
        assert isinstance(small.body[0], kind)
        assert small.body(torch.zeros(2, 1, 48, side)).shape == (2, 8)


def rooms_learner(seed=0, memory=None):
    env = TextureRoomsVectorEnv(4, rooms=2, size=3, view=3, goal=True, episode_len=40)
    agent = agent_of((3, 3, 3), 4, memory, seed=seed, hidden=32, mean=torch.full((3, 3, 3), 0.5))
    generator = seeded(seed + 1)

    def make():
        return RND((3, 3, 3), 4, hidden=16, feature_dim=8, generator=generator)

    return agent, VectorActor(env, agent, generator), FragmentedCuriosity(make, 4), generator


def learn(parts, optimizer, iterations, settings):
    agent, actor, curiosity, generator = parts
    returns = []
    for _ in range(iterations):
        rollout = actor.rollout(32)
        bonus = curiosity.bonus(rollout.next_observations, ~rollout.mask)
        ppo_update(agent, optimizer, rollout, bonus, settings, generator=generator, curiosity=curiosity)
        returns.append(rollout.rewards.mean().item())
    return returns


def test_a_goal_that_pays_is_learned():
    parts = rooms_learner()
    settings = PPO(learning_rate=3e-3, intrinsic=0.0, entropy_coefficient=0.01)
    returns = learn(parts, settings.optimizer(parts[0]), 25, settings)
    assert np.mean(returns[-10:]) > 2 * max(np.mean(returns[:3]), 0.01)


def test_learning_goes_on_alike_from_a_saved_state():
    settings = PPO(minibatches=2, epochs=1)
    learner = rooms_learner(memory=5)
    optimizer = settings.optimizer(learner[0])
    learn(learner, optimizer, 2, settings)
    parts = (*learner, optimizer)
    saved = [part.get_state() if isinstance(part, torch.Generator) else part.state_dict() for part in parts]
    saved = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, saved)
    expected = learn(learner, optimizer, 2, settings)
    resumed = rooms_learner(seed=5, memory=5)
    other = settings.optimizer(resumed[0])
    for part, state in zip((*resumed, other), saved, strict=True):
        part.set_state(state) if isinstance(part, torch.Generator) else part.load_state_dict(state)
    assert learn(resumed, other, 2, settings) == expected
    for ours, theirs in zip(learner[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: PPO(clip=0.0), "clip = 0.0"),
        (lambda: PPO(gae_lambda=1.5), "gae_lambda = 1.5"),
        (lambda: PPO(minibatches=0), "minibatches = 0"),
        (lambda: VectorActor(cart_pole(), agent_of((3,)), seeded()), "observation.shape"),
        (lambda: VectorActor(cart_pole(), agent_of(), seeded()).rollout(0), "steps = 0"),
        (lambda: agent_of(mean=torch.zeros(3)), "mean.shape"),
        (
            lambda: VectorActor(
                cart_pole(vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}),
                agent_of(),
                seeded(),
            ),
            "NEXT_STEP",
        ),
    ],
)
def test_wrong_arguments_are_named(bad, said):
    with pytest.raises(ValueError, match=said):
        bad()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ((), r"state has 0 tensors: expected 2, as initial\(3\) returns them"),
        ((torch.zeros(1, 3, 5), torch.zeros(1, 3, 4)), r"state\[0\]\.shape = \(1, 3, 5\): expected \(1, 3, 4\)"),
        ((torch.zeros(1, 3, 4), torch.zeros(1, 2, 4)), r"state\[1\]\.shape = \(1, 2, 4\): expected \(1, 3, 4\)"),
    ],
)
def test_a_wrong_state_of_an_agent_is_named(state, said):
    agent, actions = agent_of(memory=4), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=said):
        agent(torch.zeros(2, 3, 4), actions, actions.bool(), state)


def test_environments_without_a_state_are_named():
    actor = VectorActor(cart_pole(), agent_of(), seeded())
    for call in (actor.state_dict, lambda: actor.load_state_dict({})):
        with pytest.raises(TypeError, match="expected environments with state_dict and load_state_dict"):
            call()


def test_more_parts_than_environments_are_refused():
    agent, settings = agent_of(), PPO()
    rollout = VectorActor(cart_pole(), agent, seeded()).rollout(4)
    with pytest.raises(ValueError, match="minibatches = 4"):
        ppo_update(agent, settings.optimizer(agent), rollout, torch.zeros(4, 3), settings, generator=seeded())


def test_a_rollout_of_restarts_alone_is_refused():
    agent, settings = agent_of(), PPO(minibatches=1)
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", max_episode_steps=1)
    actor = VectorActor(env, agent, seeded(1), seed=0)
    actor.rollout(1)
    rollout = actor.rollout(1)
    assert not rollout.mask.any()
    with pytest.raises(ValueError, match="rollout: expected a step that counts"):
        ppo_update(agent, settings.optimizer(agent), rollout, torch.zeros(1, 2), settings, generator=seeded())
