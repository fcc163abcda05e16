import copy

import gymnasium
import numpy as np
import pytest

from engram.tasks.environments.cue_reward import CueReward, CueRewardVectorEnv
from engram.testing import check_environment

ONE_HOT = tuple(map(tuple, np.eye(4).tolist()))


def played(envs, actions, seed=0):
    """Return what the environments show and give over one whole episode: (time, num_envs, features), rewards."""
    observations, rewards, infos = [envs.reset(seed=seed)[0]], [], []
    for action in actions:
        seen, reward, terminations, _, info = envs.step(np.broadcast_to(action, envs.num_envs))
        observations.append(seen)
        rewards.append(reward)
        infos.append(info)
    assert terminations.all()
    return np.stack(observations), np.stack(rewards), infos


@pytest.mark.parametrize(("n_cues", "cue_bits", "episode_len"), [(4, 20, 120), (2, 8, 60), (6, 5, 40)])
def test_an_episode_is_what_the_specification_says(n_cues, cue_bits, episode_len):
    envs = CueRewardVectorEnv(400, n_cues=n_cues, cue_bits=cue_bits, episode_len=episode_len)
    seen, rewards, infos = played(envs, [1] * episode_len)
    shown, go = seen[:-1, :, :cue_bits], seen[:-1, :, cue_bits] == 1
    assert np.isin(envs.cues, [-1, 1]).all()
    lengths, answers, order = [], [], []
    for e in range(envs.num_envs):
        assert len({cue.tobytes() for cue in envs.cues[e]}) == n_cues, "the cues of an episode are distinct"
        start = 0
        for at in np.flatnonzero(go[:, e]):
            steps = [t for t in range(start, at + 1) if shown[t, e].any()]
            cues = [int(np.flatnonzero((envs.cues[e] == shown[t, e]).all(1))[0]) for t in steps]
            assert len(set(cues)) == n_cues // 2, "half of the cues are shown, each once"
            assert start not in steps, "a trial begins with an empty step"
            assert at not in steps, "at the Go signal nothing else is shown"
            assert rewards[at, e] == (1 if envs.target[e] in cues else -1)
            lengths.append(at + 2 - start)
            answers.append(rewards[at, e] > 0)
            order.append(cues)
            start = at + 2
    assert ((rewards != 0) == go).all(), "only the answers are rewarded"
    assert [info.get("_correct", np.zeros(400, bool)).tolist() for info in infos] == go.tolist()
    assert (np.stack([info.get("correct", np.zeros(400, bool)) for info in infos]) == (rewards > 0)).all()

    least = n_cues // 2 + 3
    share = np.bincount(lengths)[least:] / len(lengths)
    # A long trial is a little less likely to be answered before the end.
    np.testing.assert_allclose(share, 1 / n_cues, atol=0.02)
    assert np.mean(answers) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.bincount(np.ravel(order)) / np.size(order), 1 / n_cues, atol=0.012)
    assert abs(envs.cues.mean()) < 0.05

    trials = go.sum(0).mean()
    assert trials == pytest.approx(episode_len / (least + (n_cues - 1) / 2), abs=0.6)
    assert (seen[..., cue_bits + 1] == 1).all()
    time = np.broadcast_to(np.arange(episode_len + 1)[:, None] / episode_len, seen.shape[:2])
    np.testing.assert_allclose(seen[..., cue_bits + 2], time, rtol=1e-6)
    assert (seen[1:, :, cue_bits + 3] == rewards).all(), "a reward is seen at the next step"
    assert not seen[0, :, cue_bits + 3 :].any()
    assert (seen[1:, :, cue_bits + 4 :] == [0, 0, 1]).all()


def test_cues_and_gaps_come_in_every_order():
    envs = CueRewardVectorEnv(6000, episode_len=10)
    seen, _, _ = played(envs, [0] * 10)
    first_go = seen[..., 20].argmax(0)
    six = seen[1:4, first_go == 4, :20].any(2)  # a trial of six steps: two cues and a gap in between Go and start
    patterns, counts = np.unique(six, axis=1, return_counts=True)
    assert patterns.T.tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.05)


def test_rewards_are_flipped_as_often_as_said_and_the_answer_stays_known():
    envs = CueRewardVectorEnv(2000, n_cues=2, cue_bits=3, flip_prob=0.2)
    _, rewards, infos = played(envs, [1] * 120)
    right = np.stack([info.get("correct", np.zeros(2000, bool)) for info in infos])
    asked = rewards != 0
    assert ((rewards > 0) != right)[asked].mean() == pytest.approx(0.2, abs=0.01)
    assert right[asked].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_late_reward_is_that_of_the_answer_so_many_steps_before(delay):
    envs = CueRewardVectorEnv(300, n_cues=2, cue_bits=3, episode_len=60, reward_delay=delay)
    seen, rewards, infos = played(envs, [1] * 60)
    none = np.zeros(300, bool)
    right, asked = (np.stack([info.get(key, none) for info in infos]) for key in ("correct", "_correct"))
    assert (asked == (seen[:-1, :, 3] == 1)).all(), "answers are asked for at Go"
    assert (rewards[delay:] == np.where(asked, 2.0 * right - 1, 0)[:-delay]).all()
    assert not rewards[:delay].any()
    rows, times = np.nonzero(asked.T)
    apart = np.diff(times)[np.diff(rows) == 0]
    assert (apart.min(), apart.max()) == (4 + delay, 5 + delay), "each trial is longer by the delay"
    for wait in range(1, delay + 1):
        assert not seen[:-1, :, :4][wait:][asked[:-wait]].any(), "nothing is shown before the reward"


def test_fixed_cues_are_the_same_in_every_episode_and_the_target_is_not():
    envs = CueRewardVectorEnv(500, n_cues=4, cue_bits=4, fixed_cues=ONE_HOT)
    seen, _, _ = played(envs, [0] * 120)
    assert set(seen[..., :4].sum(2).ravel()) == {0.0, 1.0}
    np.testing.assert_allclose(np.bincount(envs.target) / 500, 0.25, atol=0.06)


def test_a_copy_goes_on_as_the_original_does():
    envs = CueRewardVectorEnv(4, episode_len=9)
    envs.reset(seed=0)
    twin = copy.deepcopy(envs)
    for _ in range(15):
        step, same = envs.step([0, 1, 0, 1]), twin.step([0, 1, 0, 1])
        assert all((one == other).all() for one, other in zip(step[:4], same[:4], strict=True))


def test_as_many_cues_as_there_are_can_be_drawn():
    envs = CueRewardVectorEnv(50, n_cues=16, cue_bits=4, episode_len=30)
    envs.reset(seed=0)
    assert all(len({cue.tobytes() for cue in cues}) == 16 for cues in envs.cues)
    assert len({cues.tobytes() for cues in envs.cues}) == 50, "in an order of their own"


def test_the_single_environment_tells_of_an_answer_once():
    env = CueReward(n_cues=2, cue_bits=8, episode_len=20)
    seen, _ = env.reset(seed=3)
    while seen[8] == 0:
        seen, reward, _, _, info = env.step(0)
        assert (reward, info) == (0.0, {})
    seen, reward, _, _, info = env.step(0)
    assert info == {"correct": reward > 0}
    assert reward != 0


def test_a_batch_tells_of_answers_as_gymnasium_lays_single_infos_side_by_side():
    modes = ("vector_entry_point", "sync")
    batch, singles = (gymnasium.make_vec("engram/CueReward-v0", 3, mode, episode_len=20) for mode in modes)
    batch.reset(seed=0)
    singles.reset(seed=0)
    num_infos = 0
    for _ in range(60):  # through two ends of episodes
        info, expected = batch.step(np.array([0, 1, 1]))[4], singles.step(np.array([0, 1, 1]))[4]
        assert info.keys() == expected.keys()
        assert all((info[key] == expected[key]).all() and info[key].dtype == bool for key in info)
        num_infos += len(info)
    assert num_infos > 10


@pytest.mark.parametrize("options", [{"fixed_cues": ONE_HOT}, {"flip_prob": 0.5, "n_cues": 2, "reward_delay": 2}])
def test_the_contract_holds_through_the_ends_of_many_episodes(options):
    gymnasium.register(
        "EngramTest/Cue-v0",
        "engram.tasks.environments.cue_reward:CueReward",
        vector_entry_point="engram.tasks.environments.cue_reward:CueRewardVectorEnv",
        kwargs={"cue_bits": 4, "episode_len": 17, **options},
    )
    try:
        check_environment("EngramTest/Cue-v0")
    finally:
        del gymnasium.registry["EngramTest/Cue-v0"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_cues": 3}, ValueError, "n_cues = 3: expected an even number"),
        ({"n_cues": 6, "cue_bits": 2}, ValueError, "n_cues = 6: expected at most 4, the distinct cues of 2 bits"),
        ({"episode_len": 7}, ValueError, "episode_len = 7: expected at least 8, the longest trial"),
        (
            {"episode_len": 10, "reward_delay": 3},
            ValueError,
            "episode_len = 10: expected at least 11, the longest trial",
        ),
        ({"fixed_cues": ONE_HOT}, ValueError, r"fixed_cues.shape = \(4, 4\): expected \(4, 20\)"),
        ({"fixed_cues": ((2, 0), (0, 1)), "n_cues": 2, "cue_bits": 2}, ValueError, "expected numbers from -1 to 1"),
        ({"fixed_cues": ((0, 1), (0, 1)), "n_cues": 2, "cue_bits": 2}, ValueError, "differ from each other"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        CueRewardVectorEnv(**options)
