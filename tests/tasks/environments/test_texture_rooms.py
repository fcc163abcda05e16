import itertools

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from engram.tasks import TextureRooms, TextureRoomsVectorEnv, room_textures, tour
from engram.testing import check_environment


def test_the_contract():
    check_environment("engram/TextureRooms-v0", steps=50)


def test_a_view_is_the_patch_around_the_agent_and_doors_lead_around_the_ring():
    env = TextureRoomsVectorEnv(3, rooms=3, size=4, view=3)
    observations, _ = env.reset(seed=0)
    rng, crossings = np.random.default_rng(0), 0
    for _ in range(400):
        for seen, (room, row, column) in zip(observations, env.places, strict=True):
            np.testing.assert_array_equal(seen, env.textures[room, row : row + 3, column : column + 3].astype("f4"))
        before = env.places.copy()
        observations, rewards, _, _, infos = env.step(rng.integers(0, 4, 3))
        assert not rewards.any()
        assert (infos["room"] == env.places[:, 0]).all()
        for (room, row, column), now in zip(before.tolist(), env.places.tolist(), strict=True):
            if now[0] != room:
                forward = now[0] == (room + 1) % 3
                assert (row, column, now[1], now[2]) == ((2, 3, 2, 0) if forward else (2, 0, 2, 3))
                crossings += 1
            else:
                assert abs(now[1] - row) + abs(now[2] - column) <= 1
    assert crossings > 10
    np.testing.assert_array_equal(infos["cell"], env.places @ [16, 4, 1])


def test_all_environments_have_the_same_textures_and_others_with_another_seed():
    one, two = TextureRoomsVectorEnv(texture_seed=1), TextureRoomsVectorEnv(2, texture_seed=1)
    np.testing.assert_array_equal(one.textures, two.textures)
    assert (TextureRoomsVectorEnv(texture_seed=2).textures != one.textures).mean() > 0.99


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
def test_overlap_is_the_share_of_common_pixels(overlap):
    textures = room_textures(3, 60, overlap, rng=0)
    assert (textures[0] == textures[1]).all(-1).mean() == pytest.approx(overlap, abs=0.03)
    assert 0.45 < textures.mean() < 0.55


def test_the_goal_pays_once_and_ends_the_episode():
    env = TextureRoomsVectorEnv(1, rooms=2, size=2, goal=True, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == ("..|.G|\nA. .. ",)
    rewards, ends = zip(*[env.step(np.array([action]))[1:3] for action in (3, 3, 3, 0)], strict=True)
    assert [float(reward[0]) for reward in rewards] == [0, 0, 0, 1]
    assert [bool(end[0]) for end in ends] == [False, False, False, True]


@pytest.mark.parametrize("steps", [8, 9, 40])
def test_a_tour_walks_step_by_step_and_stays_as_long_in_each_room(steps):
    env = TextureRoomsVectorEnv(rooms=3, size=8)
    places = tour(env, steps, laps=2, rng=3)
    np.testing.assert_array_equal(places[:, 0], np.repeat([0, 1, 2] * 2, steps))
    np.testing.assert_array_equal(places[::steps, 1:], [[4, 0]] * 6)
    for before, after in itertools.pairwise(places):
        possible = [env.after(before[None], np.array([action]))[0].tolist() for action in range(4)]
        assert after.tolist() in [before.tolist(), *possible]
    if steps == 40:
        assert len(np.unique(places[:40], axis=0)) > 12


def test_a_saved_state_goes_on_alike():
    env, other = TextureRoomsVectorEnv(4), TextureRoomsVectorEnv(4)
    env.reset(seed=0)
    other.reset(seed=5)
    for action in range(3):
        env.step(np.full(4, action))
    other.load_state_dict(env.state_dict())
    assert other.np_random_seed == (-1,) * 4  # unknown, in Gymnasium's words
    for actual, expected in zip(
        env.step(np.array([0, 1, 2, 3]))[:4], other.step(np.array([0, 1, 2, 3]))[:4], strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(ValueError, match="places"):
        TextureRoomsVectorEnv(3).load_state_dict(env.state_dict())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"view": 4}, "view = 4"),
        ({"rooms": 1}, "rooms = 1"),
        ({"overlap": 1.5}, "overlap = 1.5"),
        ({"size": 1}, "size"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        TextureRoomsVectorEnv(**arguments)
    with pytest.raises(ValueError, match="steps = 3"):
        tour(TextureRoomsVectorEnv(), 3, rng=0)


def test_the_first_observation_of_a_new_episode_comes_without_the_place_where_the_last_one_ended():
    env = TextureRoomsVectorEnv(2, episode_len=2)
    env.reset(seed=0)
    shown = [env.step(np.array([3, 3]))[-1]["_cell"].tolist() for _ in range(4)]
    assert shown == [[True, True], [True, True], [False, False], [True, True]]


def test_a_first_reset_that_fails_is_none():
    env = TextureRooms()
    with pytest.raises(ValueError, match="expected 1 booleans"):
        env.reset(options={"reset_mask": np.ones(2, bool)})
    with pytest.raises(ResetNeeded):
        env.step(0)
