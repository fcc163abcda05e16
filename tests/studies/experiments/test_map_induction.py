import dataclasses

import numpy as np
import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments.map_induction import experiment, explore, picture, recovery

QUICK = explore.Search(queries=10, depth=3)


@pytest.mark.parametrize("planner", ["oracle", "frontier", "greedy"])
def test_without_a_search_all_rewards_are_collected(new_run, planner):
    result = explore.trial(explore.Explore(planner=planner, worlds=1), new_run())
    assert 80 < result["cells"] <= result["worst"] < 400
    assert ("shown" in result) == (planner == "greedy")


def test_all_planners_meet_the_same_worlds(new_run, monkeypatch):
    seen = []
    reset = explore.RepeatedUnitWorld.reset

    def noted(env, **options):
        result = reset(env, **options)
        seen.append(env.grid.tobytes())
        return result

    monkeypatch.setattr(explore.RepeatedUnitWorld, "reset", noted)
    for planner in ("frontier", "oracle"):
        explore.trial(explore.Explore(planner=planner, worlds=2), new_run(5))
    assert seen[:4] == seen[4:]
    assert len(set(seen)) == 4


def test_arms_differ_in_kind_and_planner():
    arms = experiment.arms("laptop")
    assert arms["landmark-greedy"].config == explore.Explore(kind="landmark", planner="greedy")
    assert arms["independent-no-structure"].config.unstructured == 0.2
    assert experiment.arms("large")["same-map"].config.search.queries == 1000


def test_the_oracle_moves_no_more_than_the_frontier(new_run):
    moved = {name: explore.trial(explore.Explore(planner=name), new_run(1))["cells"] for name in ("oracle", "frontier")}
    assert moved["oracle"] < 0.9 * moved["frontier"]


def test_a_planner_that_fails_is_stopped(new_run):
    config = explore.Explore(planner="uniform", worlds=1, most_steps=5, search=QUICK)
    assert explore.trial(config, new_run())["worst"] <= 25


def test_frames_narrow(new_run):
    frames = explore.trial(explore.Explore(planner="greedy", worlds=1), new_run())["shown"]["frames"]
    unknown = [sum("a" <= cell <= "k" for cell in frame) for frame in frames]
    assert unknown == sorted(unknown, reverse=True)
    assert len(frames) > 4
    assert any("k" in frame for frame in frames)  # a reward that is guessed for certain
    image = picture(frames[0], 16)
    assert image.shape == (35, 16, 3)
    assert (image == np.array((0, 114, 178))).all(2).sum() == 1


def test_ways_are_walked_and_judged(new_run):
    config = recovery.Recovery(trajectories=1, steps=6, units=2, alcoves=3, search=QUICK)
    result = recovery.trial(config, new_run())
    assert result["recovered"] in np.arange(9) / 8  # means of two walkers with induction and one without, with ties
    assert {len(means) for means in result["likelihoods"].values()} == {3}
    assert np.isfinite([mean for means in result["likelihoods"].values() for mean in means]).all()
    again = recovery.trial(dataclasses.replace(config), new_run())
    assert again == result


def test_an_interrupted_trial_keeps_its_animation(new_run, tmp_path, monkeypatch):
    config = explore.Explore(planner="greedy", worlds=1)
    whole = explore.trial(config, new_run())
    folder = TrialFolder(tmp_path / "killed")
    folder.path.mkdir()
    reset = explore.RepeatedUnitWorld.reset

    def killed(env, **options):
        if env.unit_w == 17:  # the second world
            raise KeyboardInterrupt
        return reset(env, **options)

    with monkeypatch.context() as patched:
        patched.setattr(explore.RepeatedUnitWorld, "reset", killed)
        with pytest.raises(KeyboardInterrupt):
            explore.trial(config, TrialRun(folder, 0, checkpoint_seconds=0))
    assert explore.trial(config, TrialRun(folder, 0, checkpoint_seconds=0)) == whole
