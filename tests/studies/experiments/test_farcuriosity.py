import numpy as np
import pytest
import torch

import engram
from engram.agents import RND, FragmentEvent
from engram.studies.experiments.farcuriosity import experiment, policy, walk
from engram.studies.experiments.farcuriosity.forgetting import Forgetting, errors, fisher, tour
from engram.studies.experiments.farcuriosity.walk import Walk, maps, measures


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_measures_of_a_walk_are_those_of_its_visits():
    config = Walk(steps=320, rollout=64)
    errors_, owners = np.zeros(8 * 320), np.zeros(8 * 320, dtype=int)
    visits, of_visit = errors_.reshape(2, 4, 320), owners.reshape(2, 4, 320)
    visits[:, :, :64] = 9.0  # the rollouts of the entries
    visits[0, 1:, 64:] = 2.0
    visits[1, :, 64:] = 0.5
    of_visit[0] = np.arange(4)[:, None]
    of_visit[1] = np.array([0, 1, 7, 3])[:, None]
    events = [FragmentEvent("fragment", call, step, 0, 0, 1) for call, step in ((5, 0), (10, 63), (14, 0), (15, 3))]
    measured = measures(config, errors_, owners, events)
    assert measured["fragments"] == 4
    assert measured["at_switch"] == pytest.approx(2 / 3)  # the third began in the middle of a visit
    assert measured["recalled"] == 0.75
    assert (measured["first"], measured["again"]) == (2.0, 0.5)
    assert measured["whole"] == pytest.approx((64 * 9 + 192 * 0.5) / 256)
    assert measured["stay"] == 0.5
    assert measures(config, errors_, owners, [])["recalled"] == 0


def test_maps_are_mean_errors_by_cell_and_lap():
    places = np.array([[0, 0, 0], [0, 0, 0], [3, 1, 1], [1, 1, 0]] * 2)
    drawn = maps(places, np.array([1.0, 3, 5, 7, 10, 30, 50, 70]))
    assert drawn.shape == (2, 2, 8)
    np.testing.assert_array_equal(drawn[0], [[2, *[-1] * 7], [-1, -1, 7, -1, -1, -1, -1, 5]])
    np.testing.assert_array_equal(drawn[1], np.where(drawn[0] < 0, -1, 10 * drawn[0]))


def test_stages_are_errors_before_and_after_each_room():
    views = torch.randn(3, 16, 3, 3, generator=seeded())
    config = Forgetting(rooms=3, updates=150, learning_rate=3e-3)
    stages = np.zeros((4, 3))
    given = {"generator": seeded(1), "log": lambda *_, **__: None}

    def make():
        return RND(
            (3, 3), hidden=16, feature_dim=8, keep_prob=1.0, learning_rate=3e-3, running=False, generator=seeded(2)
        )

    alone = [make()]
    before = errors(alone, views)
    tour(config, views, alone, range(450), stages, **given)
    np.testing.assert_array_equal(stages[0], before)
    np.testing.assert_array_equal(stages[3], errors(alone, views))
    assert stages[1, 0] < 0.3 * stages[0, 0]
    assert stages[3, 0] > 1.5 * stages[1, 0]
    tour(config, views, [make() for _ in range(3)], range(450), stages, **given)
    assert stages[3, 0] == stages[1, 0] < 0.3 * stages[0, 0]


def test_fisher_is_the_mean_square_of_the_answers_gradients():
    rnd = RND((3,), hidden=5, feature_dim=4, running=False, generator=seeded()).double()
    views = torch.randn(64, 3, generator=seeded(1), dtype=torch.float64)
    draws = [fisher(rnd, views, seeded(seed))["5.bias"] for seed in range(30)]
    torch.testing.assert_close(torch.stack(draws).mean(0), torch.ones(4).double(), atol=0.15, rtol=0)


def test_coverage_counts_the_cells_of_10000_steps_once():
    config = policy.Policy(num_envs=10, rollout=100)
    seen = np.full((25, 100, 10), -1)
    seen[:5], seen[5:15], seen[15:] = 3, np.arange(100)[:, None] % 20, np.arange(10)
    assert policy.coverage(seen, config) == pytest.approx((20 + 10) / 2)
    assert policy.coverage(seen[:2], config) == 1


def test_controls_differ_from_the_fragments_in_one_thing_and_paper_is_as_published():
    base = vars(Walk())
    for arm, changes in walk.arms.items():
        assert len([name for name in changes if name != "threshold"]) <= 2, arm
        assert set(changes) <= set(base)
    config = experiment.arms("large")["atari-far"].config
    assert (config.num_envs, config.rollout, config.steps, config.memory) == (32, 128, 98_304_000, 512)
    assert (config.threshold, config.predictor_rate) == (10.0, 1e-4)
    assert (config.ppo.learning_rate, config.ppo.clip, config.ppo.epochs, config.ppo.minibatches) == (1e-4, 0.1, 4, 4)
    assert (config.ppo.gamma, config.ppo.gae_lambda, config.ppo.entropy_coefficient) == (0.99, 0.95, 0.001)


def test_steps_have_to_be_whole_rollouts():
    with pytest.raises(ValueError, match="steps = 100"):
        Walk(steps=100)
    with pytest.raises(ValueError, match=r"steps = 1023: expected at least a rollout .* num_envs = 16 times"):
        policy.Policy(steps=1023, num_envs=16)


def test_a_single_module_makes_no_cuts_at_random_either(performed):
    result, _ = performed(walk.trial, Walk(learner="rnd", criterion="random", steps=64, rollout=16, updates=1))
    assert result["fragments"] == 0


def test_a_game_saves_no_cells(new_run, monkeypatch):
    saved = {}

    class Begun(Exception):  # noqa: N818
        pass

    def begun(steps, **state):
        saved.update(state)
        raise Begun

    shape = (7, 7, 3)
    monkeypatch.setattr(policy, "_scale", lambda *_: {"mean": torch.zeros(shape), "std": torch.ones(shape)})
    run = new_run()
    monkeypatch.setattr(run, "steps", begun)
    config = policy.Policy(game="MiniGrid-Empty-5x5-v0", num_envs=4, curiosity="none", hidden=4)
    with pytest.raises(Begun):
        policy.trial(config, run)
    assert saved["seen"].size == 0
    assert len(saved["returns"]) == 300_000 // 256


@pytest.mark.soak
def test_an_agent_in_a_world_of_minigrid_is_also_rewarded_for_goals(tmp_path):
    arms, near = ["doors-none", "doors-far"], {"game": "MiniGrid-Empty-Random-5x5-v0"}
    changes = {"doors": {"steps": 4096}} | dict.fromkeys(arms, near)
    options = {"preset": "large", "arms": arms, "seeds": 1, "jobs": 1, "progress": False}
    results = engram.run(experiment, runs=tmp_path, **options, **changes)
    for trial in results.trials:
        assert trial.state == "finished", trial.message
        assert 0.3 < trial.result["success"] <= 1.0  # even at random the goal is near
        assert trial.result["score"] > 0.0


def test_games_that_all_restart_at_once_have_no_score_in_that_step():
    games = policy.games("MiniGrid-Empty-5x5-v0", 2)
    games.reset(seed=0)
    scores = [games.step(np.zeros(2, dtype=int))[-1].get("score") for _ in range(101)]
    assert scores[100] is None  # after 100 steps of turning, both episodes are over
    assert all(score is not None for score in scores[:100])
