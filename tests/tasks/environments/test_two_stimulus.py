import gymnasium
import numpy as np
import pytest

from engram.tasks.environments.two_stimulus import TwoStimulusEnv, TwoStimulusVectorEnv
from engram.testing import check_environment


def lived(envs, policy, seed=0, options=None):
    """Rewards and observations of one life, (steps, envs)."""
    seen, infos = envs.reset(seed=seed, options=options)
    observations, rewards, all_infos = [seen], [], []
    truncated = np.zeros(envs.num_envs, bool)
    while not truncated.all():
        seen, reward, _, truncated, info = envs.step(policy(envs))
        observations.append(seen)
        rewards.append(reward)
        all_infos.append(info)
    return np.stack(observations), np.stack(rewards), all_infos, infos


def of_the_oracle(envs):
    trial, step = np.divmod(envs.steps, 50)
    kind = envs._kind[np.arange(envs.num_envs), trial]
    right = envs._rows[envs.table, kind]
    return np.where((step >= 25) & (step < 35), right, 2)


def test_an_oracle_is_rewarded_in_every_trial_and_once():
    envs = TwoStimulusVectorEnv(30, trials=5)
    observations, rewards, infos, _ = lived(envs, of_the_oracle)
    assert (rewards.sum(0) == 5).all()
    assert (rewards.nonzero()[0].reshape(5, 30) % 50 == 36).all()
    assert sum("correct" in info for info in infos) == 5
    step = np.arange(251) % 50
    shown = (observations[:250, :, 2] != 0).all(1)
    assert (shown == ((step[:250] > 36) & (step[:250] <= 46))).all(), "feedback follows the decision by one step"
    assert set(observations[..., 2].ravel()) == {0.0, 3.0}
    assert (observations[..., 2] == observations[..., 3]).all()
    assert (observations[..., 4] == 1).all()


def test_silence_and_ties_answer_zero():
    envs = TwoStimulusVectorEnv(300, trials=4, tasks=("and",))
    _, rewards, _, _ = lived(envs, lambda envs: np.full(300, 2))
    assert ((rewards > 0).sum() / 1200) == pytest.approx(0.75, abs=0.05), "the share of 0 answers of this task"
    _, tied, _, _ = lived(envs, lambda envs: envs.steps % 2)
    assert (tied == rewards).all()


def test_votes_count_in_the_response_window_only():
    envs = TwoStimulusVectorEnv(20, trials=2, tasks=("dms",))
    inside = lambda envs: np.where((envs.steps % 50 >= 25) & (envs.steps % 50 < 35), 0, 1)  # noqa: E731
    _, rewards, _, _ = lived(envs, inside)
    _, silent, _, _ = lived(envs, lambda envs: np.full(20, 2))
    assert (rewards == silent).all()


def test_instances_are_new_kept_or_named():
    envs = TwoStimulusVectorEnv(40)
    first = envs.reset(seed=0)[1]["instance"]
    assert len(set(first)) > 5
    assert (envs.reset(options={"instance": "keep"})[1]["instance"] == first).all()
    assert (envs.reset()[1]["instance"] != first).any(), "new by default"
    assert set(envs.reset(options={"instance": "dms"})[1]["instance"]) == {"dms"}
    named = ["dms", "or"] * 20
    assert envs.reset(options={"instance": named})[1]["instance"].tolist() == named


def test_the_instance_changes_no_stimulus():
    envs = TwoStimulusVectorEnv(10)
    kinds = []
    for options in (None, {"instance": "dms"}, {"instance": "keep"}):
        envs.reset(seed=7, options=options)
        kinds.append(envs._kind.copy())
    assert (kinds[0] == kinds[1]).all()
    assert (kinds[0] == kinds[2]).all()


def test_the_single_environment_tells_its_instance_and_its_answers():
    env = TwoStimulusEnv(tasks=("dms", "dnms"), trials=1)
    _, info = env.reset(seed=1, options={"instance": "dnms"})
    assert info == {"instance": "dnms"}
    ended, answers = False, []
    while not ended:
        _, reward, terminated, ended, info = env.step(1)
        answers += [(reward, info)] if info else []
        assert not terminated, "the end of a life is a truncation"
    assert answers in ([(1.0, {"correct": True})], [(-1.0, {"correct": False})])


def test_the_contract_holds_through_the_ends_of_many_lives():
    gymnasium.register(
        "EngramTest/TwoStimulus-v0",
        "engram.tasks.environments.two_stimulus:TwoStimulusEnv",
        vector_entry_point="engram.tasks.environments.two_stimulus:TwoStimulusVectorEnv",
        kwargs={"trials": 1, "tasks": ("dms", "dnms", "or")},
    )
    try:
        check_environment("EngramTest/TwoStimulus-v0")
    finally:
        del gymnasium.registry["EngramTest/TwoStimulus-v0"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TwoStimulusVectorEnv(2, tasks=("xor",)), "tasks = 'xor': expected one of"),
        (lambda: TwoStimulusVectorEnv(2).reset(options={"instance": "xor"}), "options"),
        (lambda: TwoStimulusVectorEnv(2).reset(options={"instance": ["dms"]}), "for 2 environments"),
        (lambda: TwoStimulusVectorEnv(2).reset(options={"instances": "dms"}), "and reset_mask, not 'instances'"),
        (lambda: TwoStimulusVectorEnv(2).reset(options={"instance": "keep"}), "after a first life"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("limit", "steps"), [(None, 50), (20, 20), (51, 50), (200, 50)])
def test_a_life_is_truncated_and_never_terminated(limit, steps):
    env = TwoStimulusEnv(trials=1, max_episode_steps=limit)
    env.reset(seed=0)
    ends = [env.step(2)[2:4] for _ in range(steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
