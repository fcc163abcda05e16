from dataclasses import replace

import numpy as np
import pytest

from engram.spatial import FARMapExplorer, explore
from engram.spatial.exploration import visible_cells
from engram.studies.experiments.farmap import clock, experiment, layer
from engram.studies.experiments.farmap.walks import (
    FRAMES,
    MEASURES,
    SIZES,
    Config,
    door_of,
    explorer_of,
    measures,
    picture,
    places,
    two_rooms_maze,
    visible,
    walk_of,
)
from engram.tasks import colour_walls, maze_of, random_room_maps

SMALL = Config(small=2, large=1, small_steps=200, large_steps=200)


def test_worlds_are_of_the_sizes_that_they_should_be_and_the_same_in_all_arms():
    worlds = places(SMALL, np.random.default_rng(2000))
    assert [place.large for place in worlds] == [False, False, True]
    for place in worlds:
        low, high = SIZES["large" if place.large else "small"]
        assert low <= visible_cells(place.world).sum() <= high
    other = places(replace(SMALL, explorer="frontier", criterion="random"), np.random.default_rng(2000))
    for ours, theirs in zip(worlds, other, strict=True):
        np.testing.assert_array_equal(ours.world, theirs.world)
        assert ours[1:6] == theirs[1:6]


def test_visible_cells_of_a_maze_are_those_of_its_world():
    for maze in random_room_maps(1):
        assert visible(maze) == visible_cells(colour_walls(maze, rng=0)).sum()


def test_two_rooms_hang_together_by_a_door_alone():
    for seed in range(20):
        maze = two_rooms_maze(np.random.default_rng(seed))
        cells = door_of(maze)
        world = colour_walls(maze, rng=seed)
        assert len(cells) == 9
        assert (world[tuple(cells.T)] == 0).all()
        column = cells[:, 1].min() // 3
        assert (~maze[:, column]).sum() == 1
        assert (~maze[:, column + 1]).sum() == (~maze[:, column - 1]).sum() > 1


def test_controls_cut_about_as_often_as_surprise_does():
    config = replace(SMALL, small=3, large=0, small_steps=800)
    worlds = places(config, np.random.default_rng(2001))
    cuts = {
        criterion: sum(len(walk_of(replace(config, criterion=criterion), place).cuts) for place in worlds)
        for criterion in ("zscore", "uniform", "random")
    }
    assert cuts["zscore"] > 3
    assert cuts["uniform"] == pytest.approx(cuts["zscore"], rel=0.25)
    assert cuts["random"] == pytest.approx(cuts["zscore"], rel=0.7)


def test_measures_are_means_over_all_steps_that_there_might_have_been():
    place = places(SMALL, np.random.default_rng(2002))[0]
    walk = explore(place.world, place.start, FARMapExplorer(rng=0), 150)
    measured = dict(zip(MEASURES, measures(place._replace(steps=150), walk), strict=True))
    assert len(walk.seen) == 150
    assert measured["coverage"] == pytest.approx((walk.seen / walk.visible).mean())
    assert measured["memory"] == pytest.approx((walk.active / place.world.size).mean())
    assert measured["stored"] == pytest.approx((walk.stored / place.world.size).mean())
    assert measured["cuts"] == len(walk.cuts)


def test_a_cut_is_at_the_door_within_five_cells():
    maze = maze_of("#########\n#...#...#\n#.......#\n#...#...#\n#########")
    world = colour_walls(maze, rng=0)
    place = places(replace(SMALL, world="two-rooms"), np.random.default_rng(0))[0]
    place = place._replace(world=world, start=(4, 4), steps=30, door=door_of(maze))
    walk = explore(world, (4, 4), FARMapExplorer(rng=0, heading=3), 30)
    near = [min(np.hypot(*(pose[:2] - cell)) for cell in place.door) <= 5 for pose in walk.poses]
    measured = dict(zip(MEASURES, measures(place, walk), strict=True))
    assert measured["near_door"] == pytest.approx(np.mean(near))
    assert 0 < measured["near_door"] < 1


def test_the_picture_shows_what_was_seen_when():
    place = places(SMALL, np.random.default_rng(2003))[0]
    walk = explore(place.world, place.start, FARMapExplorer(rng=0), 200)
    record = picture(place, walk)
    for frame in (1, FRAMES // 2, FRAMES):
        known = layer(record, frame)
        last = frame * len(walk.seen) // FRAMES - 1
        seen = (walk.first_seen >= 0) & (walk.first_seen <= last)
        np.testing.assert_array_equal(known > 0, seen)
        np.testing.assert_array_equal(known == 1, seen & (place.world > 0))


def test_paper_has_as_many_mazes_and_steps_as_published():
    config = experiment.arms("large")["farmap"].config
    assert (config.small + config.large, config.small_steps, config.rho, config.gamma) == (300, 5000, 2.0, 0.9)


def test_timed_explorers_walk_as_without_the_clock():
    place = places(SMALL, np.random.default_rng(2004))[2]
    for settings in clock.EXPLORERS.values():
        timed = explorer_of(settings, place, kinds=(clock.Timed, clock.TimedFARMap))
        walk = explore(place.world, place.start, timed, place.steps)
        np.testing.assert_array_equal(walk.poses, walk_of(settings, place).poses)
        assert timed.seconds > 0
