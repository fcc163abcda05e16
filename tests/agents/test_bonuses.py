"""Exploration bonuses: counts of hashes by hand, and what is refused for every bonus."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from engram.agents import CheckedBonus, HashCounts, IntrinsicReward
from engram.agents.bonuses.from_shapes import fragmented_rnd, rnd


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def counted(time=4, envs=2):
    return torch.zeros(time, envs, dtype=torch.bool)


class Shown(nn.Module):
    """Pays the first number of what it sees, and keeps what it was given."""

    def __init__(self, obs_shape, num_envs=1, *, generator):
        super().__init__()
        self.given, self.learned, self.loss = [], [], 0.5

    def bonus(self, next_obs, done):
        self.given.append(next_obs.clone())
        return next_obs[..., 0]

    def update(self, obs, valid=None, envs=None):
        self.learned.append((obs, valid, envs))
        return self.loss


def test_hashes_are_counted_by_the_signs_of_their_projections():
    counts = HashCounts((3,), 2, bits=6, generator=seeded())
    seen: dict[tuple[bool, ...], int] = {}
    draws = seeded(1)
    for _ in range(5):
        obs = torch.randn(8, 2, 3, generator=draws)
        done = torch.rand(8, 2, generator=draws) < 0.2
        signs = [tuple((counts.projection @ x > 0).tolist()) for x in obs.flatten(0, 1)]
        for code, over in zip(signs, done.flatten().tolist(), strict=True):
            seen[code] = seen.get(code, 0) + (not over)
        expected = [0.0 if over else seen[code] ** -0.5 for code, over in zip(signs, done.flatten(), strict=True)]
        torch.testing.assert_close(counts.bonus(obs, done).flatten(), torch.tensor(expected))
    assert int(counts.counts.sum()) == sum(seen.values())
    assert (counts.counts > 1).any()


def test_a_long_hash_tells_all_apart_and_a_short_one_hardly_any():
    places = torch.randn(300, 1, 20, generator=seeded(1))
    kinds = [
        (HashCounts((20,), bits=bits, generator=seeded()).bonus(places, counted(300, 1)) == 1).float().mean()
        for bits in (20, 2)
    ]
    assert kinds[0] > 0.95
    assert kinds[1] == 0


def test_images_of_bytes_are_counted():
    frames = torch.randint(256, (4, 2, 1, 5, 5), generator=seeded(), dtype=torch.uint8)
    assert HashCounts((1, 5, 5), 2, generator=seeded()).bonus(frames, counted()).shape == (4, 2)


def test_observations_are_standardised_and_steps_that_do_not_count_pay_nothing():
    mean, std = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    bonus = CheckedBonus(Shown, (2,), 2, mean=mean, std=std)
    obs, done = torch.full((4, 2, 2), 6.0), counted()
    done[1, 0] = True
    paid = bonus.bonus(obs, done)
    assert paid.tolist() == [[2.5, 2.5], [0, 2.5], [2.5, 2.5], [2.5, 2.5]]
    (given,) = bonus.checked.given
    assert given[0, 0].tolist() == [2.5, 1.0]
    assert bonus.update(obs) == 0.5
    assert bonus.update(obs[:, :1], ~done[:, :1], np.array([1])) == 0.5
    (first, valid, envs), (_, other, _) = bonus.checked.learned
    assert first[0, 0].tolist() == [2.5, 1.0]
    assert valid.all()
    assert envs.tolist() == [0, 1]
    assert other.tolist() == [[True], [False], [True], [True]]


def test_where_nothing_counts_nobody_is_asked():
    bonus = CheckedBonus(Shown, (2,), 2)
    obs = torch.ones(3, 2, 2)
    assert bonus.bonus(obs, ~counted(3)).tolist() == [[0, 0]] * 3
    assert bonus.bonus(obs[:0], counted(0)).shape == (0, 2)
    assert bonus.update(obs, counted(3)) == 0
    assert bonus.checked.given == bonus.checked.learned == []


OBS = torch.ones(4, 2, 2)
REFUSED = {
    "shape": (lambda b: b.bonus(OBS[..., :1], counted()), r"next_obs.shape = \(4, 2, 1\): expected \(time, 2, 2\)"),
    "done": (lambda b: b.bonus(OBS, counted(3)), "done"),
    "kind of done": (lambda b: b.bonus(OBS, counted().float()), "done"),
    "not finite": (lambda b: b.bonus(OBS / 0, counted()), r"next_obs at \(time=0, env=0, feature=0\) is inf"),
    "environments": (lambda b: b.update(OBS, None, np.array([0, 2])), r"envs = \[0 2\]: expected different numbers"),
    "twice": (
        lambda b: b.update(OBS, None, np.array([1, 1])),
        r"envs = \[1 1\]: expected different numbers from 0 to 1",
    ),
    "fewer": (lambda b: b.update(OBS, None, np.array([1])), "envs"),
    "valid": (lambda b: b.update(OBS, counted(3)), "valid"),
    "learned": (lambda b: b.update(OBS * torch.nan), "obs.* is NaN"),
    "negative": (lambda b: b.bonus(-OBS, counted()), "bonus of Shown is -1.0: expected at least 0"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_no_bonus_can_take_or_give_is_refused_by_name(call):
    made, said = REFUSED[call]
    with pytest.raises((TypeError, ValueError), match=said):  # the first where types are checked as it runs
        made(CheckedBonus(Shown, (2,), 2))


def test_how_it_is_made_is_refused_by_name():
    for given, said in (
        ({"obs_shape": (0,)}, "obs_shape = 0"),
        ({"num_envs": 0}, "num_envs = 0"),
        ({"mean": torch.zeros(3)}, r"mean.shape = \(3,\): expected \(2\)"),
        ({"std": torch.tensor([1.0, 0.0])}, "std has 0.0: expected numbers above 0"),
        ({"std": torch.tensor([1.0, torch.nan])}, r"std\[1\] is NaN"),
    ):
        with pytest.raises(ValueError, match=said):
            CheckedBonus(**{"make_bonus": Shown, "obs_shape": (2,), **given})
    with pytest.raises(TypeError, match="make_bonus makes a dict: expected an ExplorationBonus"):
        CheckedBonus(lambda *_, **__: {}, (2,))
    with pytest.raises(ValueError, match="bits = 25: expected 1 to 24"):
        HashCounts((2,), bits=25)


def test_a_loss_that_is_none_is_refused():
    bonus = CheckedBonus(Shown, (2,), 2)
    bonus.checked.loss = np.inf
    with pytest.raises(ValueError, match="loss of Shown = inf: expected a finite number"):
        bonus.update(OBS)


def test_a_checked_bonus_makes_environments_pay():
    world = gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")
    env = IntrinsicReward(world, CheckedBonus(HashCounts, (4,), 2), learn_every=3)
    env.reset(seed=0)
    paid = [env.step(np.array([0, 1]))[-1]["intrinsic"] for _ in range(6)]
    assert (np.array(paid) > 0).all()
    assert int(env.curiosity.checked.counts.sum()) == 12


def test_the_bonuses_of_the_comparison_are_those_that_are_documented():
    small = rnd((3,), generator=seeded())
    assert [layer.out_features for layer in small.predictor if isinstance(layer, nn.Linear)] == [128, 128, 64]
    assert (small.learning_rate, small.num_envs) == (1e-3, 1)
    curiosity = fragmented_rnd((3,), generator=seeded())
    assert (curiosity.num_envs, curiosity.current.tolist()) == (1, [0])
    monitor = curiosity.store.get(0).monitor
    fires = [monitor.observe(x) for x in [*np.linspace(0.9, 1.1, 25), 2.9, 3.3, 3.3, 3.4]]
    assert np.flatnonzero(fires).tolist() == [26, 28]  # of three times the mean, once there are 25; no repeat counts
    assert monitor.state_dict()["counts"] == 26  # what has fired is not part of the mean, and nothing is forgotten


@pytest.mark.parametrize("make", [lambda: CheckedBonus(HashCounts, (3,), 2), lambda: fragmented_rnd((3,), 2)])
@pytest.mark.parametrize("ended", [False, True])
def test_a_bonus_is_where_its_rollout_is(make, ended):
    bonus, obs, done = make(), torch.randn(4, 2, 3, generator=seeded()), torch.full((4, 2), ended)
    with torch.device("meta"):  # as another default device than that of the rollout
        paid = bonus.bonus(obs, done)
    assert paid.device.type == "cpu"
    assert bool(paid.any()) != ended
