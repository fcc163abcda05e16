import gymnasium
import numpy as np
import pytest

from engram.tasks.environments.point_world import PointWorldVectorEnv


def moved(actions, **options):
    """Return where a point in the middle is pushed."""
    env = PointWorldVectorEnv(1, **options)
    env.reset(seed=0)
    env.position[:] = 0
    env.step(np.array([actions]))
    return env.position[0].tolist()


def test_actuators_push_the_point():
    assert moved([1.0, -0.5]) == pytest.approx([0.1, -0.05])
    assert moved([1.0, 0.0, 0.0, 1.0], copies=2) == pytest.approx([0.05, 0.05])
    assert moved([1.0, 0.0], rotate=90.0) == pytest.approx([0.0, 0.1])
    assert moved([0.0, 1.0], rotate=90.0) == pytest.approx([-0.1, 0.0])
    assert moved([1.0, 0.5], perm=(1, 0), sign=(-1, 1)) == pytest.approx([-0.05, 0.1])
    turned = moved([0.3, -0.7], rotate=90.0)
    assert turned == pytest.approx(moved([0.3, -0.7], perm=np.array([1, 0]), sign=np.array([-1, 1])))


def test_a_walk_to_the_middle():
    env = PointWorldVectorEnv(200)
    seen, _ = env.reset(seed=0)
    first, total, ends = np.abs(seen), np.zeros(200), []
    for _ in range(40):
        seen, rewards, terminated, truncated, _ = env.step(np.clip(-seen / 0.1, -1, 1))
        assert rewards == pytest.approx(-np.hypot(*seen.T), abs=1e-6)
        total += rewards
        ends.append((terminated.any(), truncated.all()))
    assert ends == [(False, False)] * 39 + [(False, True)]
    left = np.maximum(0, first[:, None] - 0.1 * np.arange(1, 41)[None, :, None])
    assert total == pytest.approx(-np.linalg.norm(left, axis=2).sum(1), abs=1e-4)
    assert first.max() > 0.9
    for _ in range(30):
        env.step(np.ones((200, 2)))
    assert (env.position == 1).all(), "the edge stops it"


def test_it_is_shown():
    env = gymnasium.make("engram.tasks:engram/PointWorld-v0", render_mode="ansi")
    env.reset(seed=0)
    env.unwrapped.batch.position[:] = [[-1.0, 1.0]]
    lines = env.render().splitlines()
    assert (len(lines), lines[0][0], lines[10][10]) == (21, "A", "G")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"perm": (0, 0)}, r"perm = \(0, 0\): expected each of 0 to 1 once"),
        ({"sign": (1, 2)}, r"sign = \(1, 2\): expected 2 numbers"),
    ],
)
def test_wrong_use_is_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        PointWorldVectorEnv(**wrong)


def test_wrong_actions_are_told():
    env = PointWorldVectorEnv(2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions\[1\] = \[0. 2.\]: expected numbers within"):
        env.step(np.array([[0.0, 0.0], [0.0, 2.0]]))
    with pytest.raises(ValueError, match=r"actions.shape = \(2,\): expected \(2, 2\)"):
        env.step(np.array([0.0, 0.0]))
