import copy

import gymnasium
import numpy as np
import pytest
import torch

from engram.agents import RND, IntrinsicReward
from engram.agents.rnd import RunningMoments


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rnd_of(shape=(5,), num_envs=2, seed=0, **options):
    return RND(shape, num_envs, **{"hidden": 7, "feature_dim": 6, "generator": seeded(seed)} | options)


def rollout(*shape, seed=1):
    return torch.randn(shape, generator=seeded(seed))


def test_moments_are_those_of_all_samples_and_of_the_beginning_as_so_many():
    moments = RunningMoments((3,), mean=torch.ones(3), std=torch.full((3,), 2.0), count=10.0)
    batches = [rollout(n, 3, seed=n).double() for n in (1, 4, 9)]
    for batch in (*batches, torch.empty(0, 3)):
        moments.add(batch)
    start = torch.tensor([-1.0, 3.0]).repeat(5).double()  # ten numbers of mean 1 and deviation 2
    everything = torch.cat([start[:, None].expand(-1, 3), *batches])
    torch.testing.assert_close(moments.mean, everything.mean(0))
    torch.testing.assert_close(moments.var, everything.var(0, correction=0))
    assert moments.count == 24


def test_moments_of_numbers_refuse_those_that_are_not_finite():
    moments = RunningMoments(())
    moments.add(torch.ones(2))
    with pytest.raises(ValueError, match="expected finite numbers"):
        moments.add(torch.tensor([1.0, float("nan")]))
    assert moments.count == 2


def test_reward_is_the_error_over_the_deviation_of_its_discounted_sum():
    rnd = rnd_of(gamma=0.9)
    error = rollout(7, 2).square()
    done = torch.zeros(7, 2, dtype=torch.bool)
    done[3:, 1] = True
    rewards = [rnd.reward(error, done) for _ in range(2)]
    sums, every = [0.0, 0.0], []
    for _ in range(2):
        for t in range(7):
            for env in range(2):
                if not done[t, env]:
                    sums[env] = 0.9 * sums[env] + error[t, env].item()
                    every.append(sums[env])
        n, m = 1e-4, len(every)
        mean, var = np.mean(every), np.var(every)
        expected = (n + m * var + mean**2 * n * m / (n + m)) / (n + m)  # after a beginning of mean 0 and deviation 1
        reward, rewards = rewards[0], rewards[1:]
        torch.testing.assert_close(reward, torch.where(done, 0.0, error / expected**0.5))
    constant = rnd_of(num_envs=1, gamma=0.9)
    constant.reward(torch.ones(1000, 1), torch.zeros(1000, 1, dtype=torch.bool))
    assert constant.filtered.item() == pytest.approx(1 / (1 - 0.9))  # the closed form of the filter


def test_nothing_is_noted_of_what_is_done_and_an_empty_rollout_is_none():
    rnd = rnd_of()
    still = rnd_of(running=False)
    assert still.bonus(rollout(4, 2, 5), torch.zeros(4, 2, dtype=torch.bool)).all()
    assert torch.equal(still.moments.count, rnd.moments.count)
    assert still.scale.count > rnd.scale.count
    before = copy.deepcopy(rnd.state_dict())
    done = torch.ones(4, 2, dtype=torch.bool)
    assert not rnd.bonus(rollout(4, 2, 5), done).any()
    assert rnd.bonus(torch.zeros(0, 2, 5), torch.zeros(0, 2, dtype=torch.bool)).shape == (0, 2)
    for name in ("moments.mean", "moments.count", "scale.var", "scale.count", "filtered"):
        assert torch.equal(rnd.state_dict()[name], before[name]), name


def test_error_and_gradient_are_those_of_the_formula_in_numpy():
    rnd = rnd_of(mean=torch.full((5,), 0.5), std=torch.full((5,), 2.0), clip=1.0, keep_prob=1.0).double()
    obs = 3 * rollout(8, 5).double()
    valid = torch.tensor([True, False] * 4)
    x = np.clip((obs.numpy() - 0.5) / (2 + 1e-10), -1, 1)

    def network(layers, values):
        for layer in layers:
            match layer:
                case torch.nn.Linear():
                    values = values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
                case torch.nn.LeakyReLU():
                    values = np.where(values > 0, values, 0.01 * values)
                case torch.nn.ReLU():
                    values = np.maximum(values, 0)
        return values

    difference = network(rnd.predictor, x) - network(rnd.target, x)
    error = (difference**2).sum(1) / 6
    np.testing.assert_allclose(rnd.error(obs).detach().numpy(), error, rtol=1e-12)
    loss = rnd.loss(obs, valid)
    assert loss.item() == pytest.approx(error[::2].mean(), rel=1e-12)
    loss.backward()
    np.testing.assert_allclose(rnd.predictor[-1].bias.grad.numpy(), 2 * difference[::2].sum(0) / 6 / 4, rtol=1e-10)
    assert all(p.grad is None for p in rnd.target.parameters())


def test_a_quarter_of_the_samples_is_learned_from():
    rnd, obs = rnd_of(keep_prob=0.25), rollout(4000, 5)
    twin = copy.deepcopy(rnd)
    twin.generator = seeded(3)
    rnd.generator = seeded(3)
    mask = torch.rand(4000, generator=seeded(3)) < 0.25
    assert 900 < mask.sum() < 1100
    torch.testing.assert_close(rnd.loss(obs), twin.error(obs[mask]).mean())
    assert rnd.loss(obs, torch.zeros(4000, dtype=torch.bool)) == 0
    rnd.generator, valid = seeded(3), torch.arange(4000) % 3 > 0
    expected = twin.error(obs[mask & valid]).mean().item()
    assert rnd.update(obs.view(40, 100, 5), valid.view(40, 100)) == pytest.approx(expected, rel=1e-5)


def test_weights_are_orthogonal_and_images_have_the_published_layers():
    rnd = RND((1, 84, 84), generator=seeded())
    sizes = [tuple(p.shape) for p in rnd.predictor.parameters() if p.dim() > 1]
    assert sizes == [(32, 1, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (512, 512), (512, 512)]
    assert [tuple(p.shape) for p in rnd.target.parameters() if p.dim() > 1] == [*sizes[:3], (512, 3136)]
    for p in rnd.parameters():
        rows = p.flatten(1) if p.dim() > 1 else None
        if rows is None:
            assert not p.any()
        elif len(rows) <= rows.shape[1]:
            torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-4, rtol=0)
    assert rnd.error(torch.zeros(2, 1, 84, 84, dtype=torch.uint8)).shape == (2,)
    assert [layer.out_features for layer in rnd_of().predictor if hasattr(layer, "out_features")] == [7, 7, 6]
    for side, kind in ((36, torch.nn.Conv2d), (35, torch.nn.Flatten)):
        image = torch.zeros(1, 1, 48, side)
        small = rnd_of((1, 48, side))
        assert isinstance(small.target[0], kind)
        assert small.error(image).shape == (1,)


def test_learning_lowers_the_error_and_a_saved_module_goes_on_alike():
    rnd, obs = rnd_of(keep_prob=1.0, learning_rate=1e-2), rollout(32, 5)
    first = rnd.error(obs).mean()
    for _ in range(300):
        rnd.update(obs)
    assert rnd.error(obs).mean() < 0.1 * first
    other = rnd_of(keep_prob=1.0, learning_rate=1e-2, seed=9)
    other.load_state_dict(rnd.state_dict())
    other.generator = rnd.generator = None
    for module in (rnd, other):
        module.update(obs)
    torch.testing.assert_close(rnd.error(obs), other.error(obs), rtol=0, atol=0)
    rnd.bonus(obs.view(16, 2, 5), torch.zeros(16, 2, dtype=torch.bool))
    rnd.reset_parameters()
    assert rnd.error(obs).mean() > 0.1 * first
    for (name, value), start in zip(rnd.named_buffers(), rnd_of().buffers(), strict=True):
        assert torch.equal(value, start), name
    assert not rnd.optimizer.state_dict()["state"]


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [
        (lambda r: r.bonus(rollout(3, 3, 5), torch.zeros(3, 3, dtype=torch.bool)), ValueError, r"next_obs.shape"),
        (lambda r: r.bonus(rollout(3, 2, 5), torch.zeros(2, 2, dtype=torch.bool)), (TypeError, ValueError), "done"),
        (lambda r: r.bonus(rollout(3, 2, 5) / 0, torch.zeros(3, 2, dtype=torch.bool)), ValueError, "next_obs"),
        (lambda r: r.error(torch.zeros(2, 5, dtype=torch.int64)), ValueError, "obs.dtype"),
        (lambda r: r.error(torch.zeros(2, 4)), ValueError, "obs.shape"),
        (lambda r: r.reward(torch.ones(1, 1), torch.zeros(1, 1).bool(), np.array([2])), ValueError, "envs = "),
        (lambda r: r.reward(torch.ones(1, 2), torch.zeros(1, 2).bool(), np.array([1, 1])), ValueError, "different"),
        (lambda r: RND((5,), keep_prob=0.0), ValueError, "keep_prob = 0.0"),
        (lambda r: RND((5,), mean=torch.zeros(4)), ValueError, "mean.shape"),
    ],
)
def test_wrong_arguments_are_named(bad, error, said):
    with pytest.raises(error, match=said):
        bad(rnd_of())


def test_errors_that_are_not_finite_name_the_environment():
    rnd = rnd_of()
    rnd.predictor[-1].bias.data[0] = torch.inf
    with pytest.raises(FloatingPointError, match="environment 0"):
        rnd.bonus(rollout(3, 2, 5), torch.zeros(3, 2, dtype=torch.bool))


def test_the_wrapper_pays_what_the_curiosity_says_and_teaches_it():
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    wrapped = IntrinsicReward(env, rnd_of((4,)), coefficient=0.5, learn_every=16)
    twin, rng = rnd_of((4,)), np.random.default_rng(0)
    wrapped.reset(seed=0)
    over, steps, restarts = np.zeros(2, dtype=bool), 0, 0
    seen = []
    for steps in range(1, 101):
        observations, rewards, terminated, truncated, infos = wrapped.step(rng.integers(0, 2, 2))
        ignored = torch.from_numpy(over)[None]
        bonus = twin.bonus(torch.from_numpy(observations.copy())[None], ignored)
        np.testing.assert_allclose(infos["intrinsic"], bonus[0].numpy(), rtol=1e-6)
        np.testing.assert_allclose(rewards, infos["extrinsic"] + 0.5 * infos["intrinsic"])
        assert infos["_extrinsic"].all()  # Gymnasium's flags of which environments have the key
        assert infos["_intrinsic"].all()
        assert not infos["intrinsic"][over].any()
        restarts += over.sum()
        seen.append((torch.from_numpy(observations.copy())[None], ~ignored))
        if steps % 16 == 0:
            twin.update(*(torch.cat(column) for column in zip(*seen, strict=True)))
            seen = []
        over = terminated | truncated
    assert restarts > 2


def test_the_wrapper_begins_anew_after_a_reset_and_may_leave_learning_to_others():
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", max_episode_steps=3)
    wrapped = IntrinsicReward(env, rnd_of((4,)), learn_every=0)
    before = copy.deepcopy(wrapped.curiosity.predictor.state_dict())
    wrapped.reset(seed=0)
    for _ in range(2):
        for _ in range(3):
            *_, truncated, infos = wrapped.step(np.array([0, 1]))
            assert infos["intrinsic"].all()
        assert truncated.all()
        wrapped.reset()
    for name, value in wrapped.curiosity.predictor.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_wrapper_hands_seed_and_options_to_the_environment():
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    wrapped = IntrinsicReward(env, rnd_of((4,)))
    first, again = (wrapped.reset(seed=3)[0].copy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(wrapped.reset(seed=3, options={"low": 0.2, "high": 0.3})[0]).min() >= 0.2


def test_the_wrapper_refuses_what_it_cannot_pay():
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"curiosity.num_envs = 3"):
        IntrinsicReward(env, rnd_of((4,), 3))
    same = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    env = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync", vector_kwargs=same)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        IntrinsicReward(env, rnd_of((4,)))


def test_a_module_learns_after_its_parameters_were_assigned():
    module, plain, obs = (*(rnd_of((4,), keep_prob=1.0) for _ in range(2)), torch.randn(5, 4))
    module.update(obs)
    state = copy.deepcopy(module.state_dict())
    for loaded, assign in ((module, True), (plain, False)):
        loaded.load_state_dict(copy.deepcopy(state), assign=assign)
        loaded.update(obs)
        loaded.update(obs)
    for name, value in module.predictor.state_dict().items():
        assert torch.equal(value, plain.predictor.state_dict()[name])
        assert not torch.equal(value, state[f"predictor.{name}"])
