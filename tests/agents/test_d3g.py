import copy

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from engram.agents import BCO, D3G, TD3, InverseModel, ReplayBuffer, TransitionBatch, vector_episodes
from engram.agents.action_vectors import ActionVectors
from engram.agents.learner import optimizer_step
from engram.agents.twin_critic import TwinCritic
from engram.storage import checkpoint

LINE = spaces.Box(-1.0, 1.0, (1,))
PLANE = spaces.Box(-1.0, 1.0, (2,))
ROD = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def agent_of(cls=D3G, observed=PLANE, actions=ROD, seed=0, **options):
    return cls(observed, actions, generator=generator(seed), **{"hidden": (8, 8), **options})


def batch_of(n=16, features=2, actions=ROD, seed=0, known=True):
    source, vectors = generator(seed), agent_of(actions=actions).actions
    states, following = torch.rand(2, n, features, generator=source) * 2 - 1
    sampled = vectors.random(n, source) if known else None
    ended = (torch.rand(n, generator=source) < 0.3).float()
    return TransitionBatch(states, sampled, torch.randn(n, generator=source), following, ended, 1 - ended)


class Linear(nn.Module):
    """``factor * (x_1 - x_0)`` of two states, or of a state and an action factor times the latter."""

    def __init__(self, factor, difference):
        super().__init__()
        self.factor, self.difference = nn.Parameter(torch.tensor([[factor]])), difference

    def forward(self, *parts):
        x = torch.cat(parts, 1)
        return self.factor * (x[:, 1:] - x[:, :1] if self.difference else x[:, 1:])


class Exact(nn.Module):
    """The inverse of s' = s + a."""

    def forward(self, states, next_states):
        return next_states - states


class Downhill(TwinCritic):
    """Q(s, c) = -c^2, with a parameter whose gradient has to stay untouched."""

    def __init__(self):
        super().__init__(2, ())
        self.factor = nn.Parameter(torch.tensor(1.0))

    def first(self, x):
        return -self.factor * x[:, 1] ** 2

    def forward(self, x):
        return self.first(x).expand(2, -1)


@pytest.mark.parametrize(("alpha", "beta", "loss", "gradient"), [(1.0, 1.0, 0.25, 1.0), (1.0, 0.8, 0.37, 0.92)])
def test_gradients_of_proposals_by_hand(alpha, beta, loss, gradient):
    """tau(s) = w s, I(s, p) = alpha (p - s), f(s, a) = beta a, Q(s, c) = -c^2, at s = 1 and w = -1/2."""
    agent = agent_of(observed=LINE, actions=LINE)
    agent.tau = nn.Linear(1, 1, bias=False)
    nn.init.constant_(agent.tau.weight, -0.5)
    agent.inverse, agent.forward_model, agent.critic = Linear(alpha, True), Linear(beta, False), Downhill()
    agent.tau_optimizer = torch.optim.SGD(agent.tau.parameters(), lr=1.0)
    tau_loss = agent._tau_loss(torch.ones(1, 1))
    assert tau_loss.item() == pytest.approx(loss)
    optimizer_step(agent.tau_optimizer, [tau_loss], agent.tau)
    assert -0.5 - agent.tau.weight.item() == pytest.approx(gradient), "a step of rate 1 is the gradient"
    for part in (agent.critic, agent.inverse, agent.forward_model):
        assert part.factor.grad is None
        assert part.factor.item() == pytest.approx({agent.inverse: alpha, agent.forward_model: beta}.get(part, 1.0))


def perfect(agent):
    """Let the models of an agent on the line be exact: s' = s + a."""
    agent.inverse = Linear(1.0, True)
    if agent.forward_model is not None:
        agent.forward_model = Linear(1.0, False)
    return agent


def test_with_perfect_models_the_cycle_changes_nothing():
    with_cycle, without = (perfect(agent_of(observed=LINE, actions=LINE, cycle=c)) for c in ("model", "none"))
    for name in ("critic", "tau", "target_critic", "target_tau"):
        getattr(without, name).load_state_dict(getattr(with_cycle, name).state_dict())
    batch = batch_of(features=1, actions=LINE)
    torch.testing.assert_close(with_cycle.targets(batch), without.targets(batch))
    gradients = []
    for agent in (with_cycle, without):
        loss = agent._tau_loss(batch.states)
        gradients.append(torch.autograd.grad(loss, list(agent.tau.parameters())))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("cycle", ["model", "value", "none"])
@pytest.mark.parametrize("actions", [ROD, spaces.Discrete(3)])
def test_the_equations_as_written(cycle, actions):
    """Targets and losses, from the networks' plain calls."""
    agent, batch = agent_of(actions=actions, cycle=cycle, gamma=0.9), batch_of(actions=actions)
    with torch.no_grad():
        agent.target_tau[0].weight.mul_(2)
        agent.target_critic.weights[0].mul_(2)
        s, a, r, following, ended, _ = batch

        def q(critic, x, y):
            x = torch.cat([x, y], 1).expand(2, -1, -1)
            for layer, (weight, bias) in enumerate(zip(critic.weights, critic.biases, strict=True)):
                x = (x.relu() if layer else x) @ weight + bias
            return x[..., 0]

        def reachable(x, tau, critic):
            p = x + tau(x)
            if cycle == "none":
                return p
            cause = agent.inverse(x, p) if cycle == "model" else q(critic, x, p)[0][:, None]
            return x + agent.forward_model(torch.cat([x, cause], 1))

        there = reachable(following, agent.target_tau, agent.target_critic)
        y = r + 0.9 * (1 - ended) * q(agent.target_critic, following, there).min(0).values
        p, there = s + agent.tau(s), reachable(s, agent.tau, agent.critic)
        expected = {
            "critic_loss": ((q(agent.critic, s, following) - y) ** 2).mean(1).sum(),
            "inverse_loss": ((agent.inverse(s, following) - a) ** 2).mean(),
        }
        if cycle != "none":
            cause = a if cycle == "model" else q(agent.target_critic, s, following)[0][:, None]
            change = agent.forward_model(torch.cat([s, cause], 1))
            expected["forward_loss"] = ((change - (following - s)) ** 2).mean()
        tau_loss = -q(agent.critic, s, there)[0].mean()
        tau_loss += 0 if cycle == "none" else ((there - p) ** 2).mean()
    torch.testing.assert_close(torch.as_tensor(agent.propose(s)), there)
    torch.testing.assert_close(torch.as_tensor(agent.propose(s, cycled=False)), p)
    torch.testing.assert_close(agent.targets(batch), y)
    assert torch.equal(agent.targets(batch)[ended == 1], r[ended == 1]), "after a termination there is nothing"
    torch.testing.assert_close(agent._tau_loss(s).detach(), tau_loss)
    agent.updates = 1
    before = copy.deepcopy(agent.state_dict())
    losses = agent.update(batch)
    assert set(losses) == {*expected, "tau_loss"}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    for name in ("critic", "tau", "inverse", "target_critic", "target_tau"):
        changed = [not torch.equal(v, getattr(agent, name).state_dict()[k]) for k, v in before[name].items()]
        assert all(changed), name


def test_one_step_is_that_of_separate_optimisers():
    """The critic, I and f have disjoint parameters, so that one descent is three; tau's descent moves tau alone."""
    agent, batch = agent_of(), batch_of()
    alone = copy.deepcopy(agent)
    losses = {"critic_loss": (alone.critic(torch.cat([batch.states, batch.next_states], 1)) - alone.targets(batch))}
    losses["critic_loss"] = losses["critic_loss"].square().mean(1).sum()
    losses |= alone._dynamics_losses(batch)
    parts = {"critic_loss": alone.critic, "inverse_loss": alone.inverse, "forward_loss": alone.forward_model}
    for name, part in parts.items():
        optimizer = torch.optim.Adam(part.parameters(), lr=3e-4)
        losses[name].backward()
        optimizer.step()
        part.zero_grad()
    agent.policy_every = 1
    tau = copy.deepcopy(alone.tau)
    optimizer = torch.optim.Adam(alone.tau.parameters(), lr=3e-4)
    alone._tau_loss(batch.states).backward()
    optimizer.step()
    agent.update(batch)
    for name in ("critic", "inverse", "forward_model", "tau"):
        for weight, expected in zip(getattr(agent, name).parameters(), getattr(alone, name).parameters(), strict=True):
            torch.testing.assert_close(weight, expected)
            assert weight.grad is None
    for slow, old, new in zip(agent.target_tau.parameters(), tau.parameters(), agent.tau.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.995 * old + 0.005 * new)


def test_control_on_a_line():
    """s' = s + a, r = -s'^2: the best next state is 0, for I = s' - s and f = a."""
    agent = agent_of(observed=LINE, actions=LINE, hidden=(32, 32), learning_rate=3e-3, gamma=0.5)
    source, grid = generator(1), torch.linspace(-0.9, 0.9, 19)[:, None]
    for _ in range(1000):
        s, a = torch.rand(2, 64, 1, generator=source) * 2 - 1
        there = (s + a).clamp(-1, 1)
        zeros = torch.zeros(64)
        agent.update(TransitionBatch(s, there - s, -(there[:, 0] ** 2), there, zeros, zeros))
    assert np.abs(agent.propose(grid)).max() < 0.1
    reached = grid + torch.as_tensor(agent.act(grid))
    assert reached.abs().mean() < 0.15


def test_fresh_actuators_keep_the_values():
    agent, batch = agent_of(learning_rate=1e-2), batch_of()
    for _ in range(4):
        agent.update(batch)
    states = copy.deepcopy({name: getattr(agent, name).state_dict() for name in ("critic", "tau", "target_tau")})
    moments = copy.deepcopy([agent.optimizer.state[p]["exp_avg"] for p in agent.critic.parameters()])
    inverse, forward = agent.inverse, agent.forward_model
    agent.reset_inverse()
    assert agent.inverse is not inverse
    assert agent.forward_model is not forward
    first = agent.update_inverse(batch)["inverse_loss"]
    for _ in range(200):
        last = agent.update_inverse(batch)["inverse_loss"]
    assert last < 0.8 * first
    for name, before in states.items():
        for key, value in getattr(agent, name).state_dict().items():
            assert torch.equal(value, before[key]), name
    after = [agent.optimizer.state[p]["exp_avg"] for p in agent.critic.parameters()]
    assert all(map(torch.equal, moments, after)), "the descent of values goes on where it was"
    other = InverseModel(2, ROD, (5,), generator=generator())
    agent.reset_inverse(other)
    assert agent.inverse is other
    assert "inverse_loss" in agent.update(batch)
    agent.reset_inverse(Exact())
    assert set(agent.update_inverse(batch)) == {"forward_loss"}, "there is nothing to learn of an exact one"


def test_states_alone_are_enough_with_values():
    agent, batch = agent_of(cycle="value"), batch_of(known=False)
    forward = agent.forward_model
    assert set(agent.update(batch)) == {"critic_loss", "forward_loss"}
    own = batch_of()
    assert set(agent.update_inverse(own)) == {"inverse_loss"}
    agent.reset_inverse()
    assert agent.forward_model is forward, "which takes no actions, and stays"


def test_units_and_scales():
    """States with other units are the same states once they are standardised."""
    scale, shift = torch.tensor([10.0, 0.1]), torch.tensor([3.0, -1.0])
    batch, plain, scaled = batch_of(64), agent_of(), agent_of()
    plain.normalise(batch.states)
    scaled.normalise(batch.states * scale + shift)
    other = batch._replace(states=batch.states * scale + shift, next_states=batch.next_states * scale + shift)
    for _ in range(3):
        losses, expected = scaled.update(other), plain.update(batch)
        for name in expected:
            torch.testing.assert_close(losses[name], expected[name], rtol=1e-3, atol=1e-4)
    proposed = torch.as_tensor(plain.propose(batch.states)) * scale + shift
    torch.testing.assert_close(torch.as_tensor(scaled.propose(other.states)), proposed, rtol=1e-3, atol=1e-3)
    with pytest.raises(RuntimeError, match="normalise after 3 updates"):
        plain.normalise(batch.states)
    auto, unweighted = agent_of(cycle_weight="auto"), agent_of(cycle_weight=0.0)
    unweighted.tau, s = auto.tau, batch.states
    nn.init.constant_(auto.tau[-1].bias, 3.0)  # away from what can be reached
    p = s + auto.tau(s)
    there = auto._reachable(s, p, auto.critic)
    values = auto.critic.first(torch.cat([s, there], 1))
    more = values.abs().mean().detach() * nn.functional.mse_loss(there, p)
    added = auto._tau_loss(s) - unweighted._tau_loss(s)
    torch.testing.assert_close(added, more)
    torch.testing.assert_close(*(torch.autograd.grad(loss, list(auto.tau.parameters())) for loss in (added, more)))
    unweighted.normalise(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    torch.testing.assert_close(unweighted.scale, torch.tensor([2**0.5, 1.0]))  # the second does not vary


def test_actions_stay_within_their_bounds():
    agent = agent_of()
    states = np.random.default_rng(0).normal(size=(500, 2)) * 10
    for noise in (0.0, 3.0):
        chosen = agent.act(states, noise)
        assert (chosen >= ROD.low).all()
        assert (chosen <= ROD.high).all()
    drawn = agent.actions.decode(agent.actions.random(2000, generator()))
    assert drawn.mean(0) == pytest.approx([0.0, 0.5], abs=0.1)
    middle = agent.actions.middle.expand(2000, 2)
    noise = agent.actions.explore(middle, 0.1, generator()) - middle
    torch.testing.assert_close(noise.std(0), torch.tensor([0.2, 0.05]), rtol=0.1, atol=0)
    discrete = agent_of(actions=spaces.Discrete(3, start=5))
    assert discrete.actions.encode([5, 7]).tolist() == [[1, 0, 0], [0, 0, 1]]
    greedy, noisy = discrete.act(states), discrete.act(states, 0.3)
    assert set(noisy.tolist()) == {5, 6, 7}
    assert (greedy != noisy).mean() == pytest.approx(0.2, abs=0.06), "of 30 % random ones a third is the same"


@pytest.mark.parametrize("cls", [D3G, TD3, BCO])
def test_goes_on_exactly(cls, tmp_path):
    agent, resumed = agent_of(cls, seed=1), agent_of(cls, seed=2)
    batches = [batch_of(seed=seed) for seed in range(6)]
    if cls is D3G:
        agent.normalise(batches[0].states)
    for batch in batches[:3]:
        agent.update(batch)
    checkpoint.save(tmp_path / "agent", agent.state_dict())
    resumed.load_state_dict(checkpoint.load(tmp_path / "agent"))
    other = agent_of(cls)
    other.load_state_dict(agent.state_dict())
    other.update(batches[0])  # which changes nothing of what it was loaded from
    for batch in batches[3:]:
        losses, expected = agent.update(batch), resumed.update(batch)
        assert losses == expected


def test_td3_is_that_of_stable_baselines(monkeypatch):
    """On one batch with the same weights: losses, targets, and all weights after two updates, one of the policy."""
    import stable_baselines3
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    env = gymnasium.make("engram.tasks:engram/PointWorld-v0")
    options = {"batch_size": 16, "target_policy_noise": 1e-12, "target_noise_clip": 0.0, "device": "cpu"}
    theirs = stable_baselines3.TD3("MlpPolicy", env, policy_kwargs={"net_arch": [8, 8]}, learning_rate=1e-3, **options)
    ours = agent_of(TD3, PLANE, PLANE, learning_rate=1e-3, policy_noise=0.0)
    copy_weights(ours, theirs)
    batch = batch_of(16, actions=PLANE)
    column = (batch.terminated[:, None], batch.rewards[:, None])
    samples = ReplayBufferSamples(batch.states, batch.actions, batch.next_states, *column)
    logged = {}
    monkeypatch.setattr(Logger, "record", lambda self, name, value, *a, **k: logged.setdefault(name, []).append(value))
    theirs.set_logger(Logger(None, []))
    monkeypatch.setattr(theirs.replay_buffer, "sample", lambda *a, **k: samples)
    updates = [ours.update(batch) for _ in range(2)]
    theirs.train(2, 16)
    losses = [one["critic_loss"].item() for one in updates]
    assert logged["train/critic_loss"] == [pytest.approx(np.mean(losses), abs=1e-5)]
    assert logged["train/actor_loss"] == [pytest.approx(updates[1]["policy_loss"].item(), abs=1e-5)]
    with torch.no_grad():
        following = theirs.actor_target(batch.next_states)
        worth = torch.cat(theirs.critic_target(batch.next_states, following), 1).min(1).values
    y = batch.rewards + 0.99 * (1 - batch.terminated) * worth
    torch.testing.assert_close(ours.targets(batch), y, rtol=0, atol=1e-5)
    after = agent_of(TD3, PLANE, PLANE)
    copy_weights(after, theirs)
    for name in ("critic", "policy", "target_critic", "target_policy"):
        for one, other in zip(getattr(ours, name).parameters(), getattr(after, name).parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def copy_weights(ours, theirs):
    with torch.no_grad():
        for actor, policy in ((theirs.actor, ours.policy), (theirs.actor_target, ours.target_policy)):
            for parameter, other in zip(policy.parameters(), actor.mu.parameters(), strict=True):
                parameter.copy_(other)
        for twins, critic in ((theirs.critic, ours.critic), (theirs.critic_target, ours.target_critic)):
            for i, net in enumerate(twins.q_networks):
                layers = [layer for layer in net if isinstance(layer, nn.Linear)]
                for layer, weight, bias in zip(layers, critic.weights, critic.biases, strict=True):
                    weight[i].copy_(layer.weight.T)
                    bias[i, 0].copy_(layer.bias)


def test_the_noise_of_td3_targets_is_normal_and_clipped():
    agent = agent_of(TD3, policy_noise=100.0, noise_clip=0.5, gamma=1.0)
    agent.target_critic = lambda x: x[:, 2:].sum(1).expand(2, -1)
    batch = batch_of(2000)
    batch = batch._replace(rewards=torch.zeros(2000), terminated=torch.zeros(2000))
    chosen = agent.actions.squash(agent.target_policy(batch.next_states)).detach()
    moved = agent.targets(batch) - chosen.sum(1)
    assert moved.abs().max() <= 1.5 + 1e-5, "half of 2 and half of 1/2 at most"
    assert moved.abs().max() > 1.2
    agent.policy_noise, agent.noise_clip = 0.05, 9.0
    moved = agent.targets(batch) - chosen.sum(1)
    assert moved.std().item() == pytest.approx(0.05 * (2**2 + 0.5**2) ** 0.5, rel=0.1)


def test_cloning_imitates_what_the_inverse_infers():
    agent = agent_of(BCO, learning_rate=1e-2)
    own = batch_of(256)
    squared = (agent.inverse(own.states, own.next_states) - own.actions).square().mean().detach()
    torch.testing.assert_close(agent.update_inverse(own)["inverse_loss"], squared)
    for _ in range(50):
        agent.update_inverse(own)
    before = copy.deepcopy(agent.inverse.state_dict())
    log = batch_of(256, known=False, seed=1)
    chosen = torch.as_tensor(agent.act(log.states)), agent.inverse(log.states, log.next_states).detach()
    losses = [agent.update(log)["policy_loss"].item() for _ in range(100)]
    assert agent.updates == 100
    assert losses[0] == pytest.approx((chosen[0] - chosen[1]).square().mean().item(), rel=1e-5)
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in agent.inverse.state_dict().items())


def test_proposals_that_diverge_are_told():
    agent, batch = agent_of(cycle="none"), batch_of()
    agent.updates = 999
    with torch.no_grad():
        agent.tau[-1].bias.fill_(1000.0)
    with pytest.warns(RuntimeWarning, match="D3G: proposed steps are 1.* diverge without a cycle"):
        agent.update(batch)


def test_discrete_actions_may_be_learned_by_cross_entropy():
    agent = agent_of(actions=spaces.Discrete(3), inverse_loss="cross-entropy")
    batch = batch_of(actions=spaces.Discrete(3))
    logits = agent.inverse.network(torch.cat([batch.states, batch.next_states], 1))
    expected = nn.functional.cross_entropy(logits, batch.actions.argmax(1))
    torch.testing.assert_close(agent.update(batch)["inverse_loss"], expected.detach())


def test_an_agent_lives_in_vector_environments():
    env = gymnasium.make_vec("engram.tasks:engram/PointWorld-v0", num_envs=4)
    agent, buffer = agent_of(actions=PLANE), ReplayBuffer(1000, PLANE, PLANE)
    returns = vector_episodes(env, agent.act, 0, buffer.add)
    assert returns.sum() == pytest.approx(buffer.all().rewards.sum().item(), rel=1e-5)
    assert len(buffer) == 160
    agent.update(buffer.sample(32, generator()))


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="expected finite bounds"):
        agent_of(actions=spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(TypeError, match="MultiBinary"):
        agent_of(actions=spaces.MultiBinary(3))
    with pytest.raises(TypeError, match="FlattenObservation"):
        agent_of(observed=spaces.Dict({"x": LINE}))
    with pytest.raises(TypeError, match="FlattenObservation"):
        agent_of(observed=spaces.Box(0, 255, (84, 84), np.uint8))
    with pytest.raises(TypeError, match="expected a Box"):
        agent_of(TD3, actions=spaces.Discrete(3))
    with pytest.raises(ValueError, match=r"batch.actions are None: expected vectors of 2"):
        agent_of().update(batch_of(known=False))
    for call in (agent_of(TD3).update, agent_of(cycle="value").update_inverse, agent_of(BCO).update_inverse):
        with pytest.raises(ValueError, match=r"batch.actions are None"):
            call(batch_of(known=False))
        with pytest.raises(ValueError, match=r"batch.actions are of shape \(16, 3\): expected vectors of 2"):
            call(batch_of(actions=spaces.Discrete(3)))
    with pytest.raises(ValueError, match=r"observations.shape = \(1, 3\): expected \(batch, 2\)"):
        agent_of().act(np.zeros((1, 3)))
    for kind in (BCO, TD3):
        with pytest.raises(ValueError, match=r"observations.shape = \(1, 3\): expected \(batch, 2\)"):
            agent_of(kind, PLANE, PLANE).act(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="kind = 'cross-entropy'"):
        agent_of(inverse_loss="cross-entropy")


def test_saturated_actions_stay_within_their_box():
    space = spaces.Box(-1.0, 0.35, (1,))
    vectors = ActionVectors(space)
    for raw in (-50.0, 50.0):
        assert space.contains(vectors.decode(vectors.squash(torch.full((1, 1), raw)))[0])


def test_a_frozen_layer_of_a_policy_stays():
    agent, batch = agent_of(TD3, policy_every=1), batch_of(16)
    first = next(agent.policy.parameters()).requires_grad_(False)
    before = first.clone()
    agent.update(batch)
    assert torch.equal(first, before)


def test_actions_of_several_axes_are_vectors_and_back():
    low = np.array([[-1.0, 0.0, 2.0], [-3.0, 1.0, -1.0]], np.float32)
    vectors = ActionVectors(spaces.Box(low, low + 2))
    actions = low + np.random.default_rng(0).uniform(0, 2, (4, 2, 3))
    encoded = vectors.encode(actions)
    assert (encoded.dtype, encoded.shape, vectors.size) == (torch.float32, (4, 6), 6)
    np.testing.assert_allclose(vectors.decode(encoded), actions, rtol=1e-6)
    beyond = vectors.decode(encoded + torch.tensor([5.0, -5.0]).repeat(3))
    np.testing.assert_array_equal(beyond, np.broadcast_to(low + np.array([[2, 0, 2], [0, 2, 0]]), (4, 2, 3)))
    torch.testing.assert_close(vectors.squash(torch.tensor([[0.0] * 6])), torch.from_numpy(low + 1).view(1, 6))
    labels = ActionVectors(spaces.Discrete(3, start=5))
    assert labels.encode(np.array([5.0, 7.0])).tolist() == [[1, 0, 0], [0, 0, 1]]  # whole numbers of any dtype
    assert labels.decode(torch.tensor([[0.0, 2.0, 1.0]])).tolist() == [6]
    for wrong in ([4], [8], [5.5]):
        with pytest.raises(ValueError, match=r"actions = .*: expected (integers|5 to 7)"):
            labels.encode(wrong)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_actions_are_within_bounds_of_either_precision(dtype):
    space = spaces.Box(-0.1, 0.1, (2, 1), dtype)  # in single precision 0.1 is above 0.1
    actions = ActionVectors(space).decode(torch.tensor([[9.0, -9.0], [0.05, 0.0]]))
    assert actions.dtype == dtype
    assert all(action in space for action in actions)


def test_an_inverse_model_may_be_moved():
    inverse = InverseModel(3, spaces.Box(-1.0, 1.0, (2,)), (8,)).to("meta", torch.float64)
    states = torch.zeros(4, 3, device="meta", dtype=torch.float64)
    actions = inverse(states, states)
    assert actions.shape == (4, 2)
    assert actions.dtype == torch.float64


def test_states_in_double_precision_standardise_as_those_in_single_precision():
    batch, single, double = batch_of(), agent_of(), agent_of()
    single.normalise(batch.states)
    double.normalise(batch.states.double())
    np.testing.assert_allclose(double.act(batch.states), single.act(batch.states), rtol=1e-5, atol=1e-6)
    assert double.update(batch).keys() == single.update(batch).keys()


def test_states_are_standardised_before_the_inverse_model_has_learned_from_any():
    batch, agent = batch_of(), agent_of()
    agent.update_inverse(batch)
    with pytest.raises(RuntimeError, match="normalise after update_inverse: expected before the first"):
        agent.normalise(batch.states)
    agent.reset_inverse()  # a new one has learned nothing yet
    agent.normalise(batch.states)
    with pytest.raises(ValueError, match=r"states.shape = \(0, 2\): expected at least one state"):
        agent.normalise(batch.states[:0])


@pytest.mark.parametrize("kind", [TD3, D3G])
def test_target_copies_have_no_graph_and_an_agent_goes_on_in_a_copy(kind):
    box = spaces.Box(-1.0, 1.0, (2,))
    agent, numbers = kind(box, box, generator=torch.Generator().manual_seed(0), hidden=(8,)), np.random.default_rng(0)
    columns = [torch.from_numpy(numbers.uniform(-1, 1, (16, 2)).astype(np.float32)) for _ in range(3)]
    batch = TransitionBatch(columns[0], columns[1], columns[2][:, 0], columns[2], *torch.zeros(2, 16))
    for _ in range(2):
        agent.update(batch)
    assert not any(parameter.requires_grad for parameter in agent._target_parameters)
    twin = copy.deepcopy(agent)
    for _ in range(4):
        losses, twins = agent.update(batch), twin.update(batch)
    for name, loss in losses.items():
        assert torch.equal(loss, twins[name])


@pytest.mark.parametrize("kind", [TD3, D3G, BCO])
def test_an_observation_that_is_not_finite_is_refused(kind):
    box = spaces.Box(-1.0, 1.0, (2,))
    agent = kind(box, box, generator=torch.Generator().manual_seed(0), hidden=(8,))
    with pytest.raises(ValueError, match=r"observations\[1, 0\] is NaN: expected finite numbers"):
        agent.act([[0.0, 0.0], [np.nan, 0.0]])
