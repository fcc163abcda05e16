"""Inference of the planner from its path."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.lab import Run, setting, settings
from engram.spatial.induction import trajectory_log_likelihood
from engram.studies.experiments.map_induction.explore import SEARCHES, Search, make_planner
from engram.tasks import RepeatedUnitWorld


@settings
class Recovery:
    """The settings for trajectories of all planners, each evaluated under all planners."""

    trajectories: int = setting(1, "worlds, with one trajectory of every planner in each", ge=1)
    steps: int = setting(400, "most steps of a trajectory, which is uninformative before the first reward", ge=2)
    units: int = setting(5, "units of a world", ge=2)
    alcoves: int = setting(4, "alcoves of a unit", ge=1)
    temperature: float = setting(
        0.1, "temperature of the softmax over visits at the root, relative to the largest number of visits", gt=0
    )
    search: Search = setting(Search(), "the search")


def trial(config: Recovery, run: Run) -> dict[str, Any]:
    """Generate and evaluate trajectories; the main result is how often the true family of planners is likelier.

    Trajectories with and without induction have the same weight, although two planners of three use induction, and a
    tie counts half.
    """
    seeds = run.rng.integers(2**31, size=(config.trajectories, 2))
    total = config.trajectories * len(SEARCHES)
    means = np.zeros((total, len(SEARCHES)))
    for number in run.steps(total, means=means):
        world, walker = divmod(number, len(SEARCHES))
        env = RepeatedUnitWorld(config.units, unit_w=3 * config.alcoves + 2, max_steps=config.steps)
        path = walk(env, SEARCHES[walker], config, seeds[world])
        for judge, name in enumerate(SEARCHES):
            planner = make_planner(name, config.search, int(seeds[world, 1]), config.units)
            likelihood = trajectory_log_likelihood(
                planner, [step["known"] for step in path], np.array([step["position"] for step in path]), env.rooms,
                rewards=[step["rewards"] for step in path], views=env.views,
            )  # fmt: skip
            means[number, judge] = likelihood.floored_mean
    uniform = SEARCHES.index("uniform")
    lead = np.delete(means, uniform, 1).max(1) - means[:, uniform]
    is_inductive = np.arange(total) % len(SEARCHES) != uniform
    rights = (1 + np.sign(np.where(is_inductive, lead, -lead))) / 2
    likelihoods = {name: means[row :: len(SEARCHES)].mean(0).tolist() for row, name in enumerate(SEARCHES)}
    recovered = (rights[is_inductive].mean() + rights[~is_inductive].mean()) / 2
    return {"recovered": float(recovered), "likelihoods": likelihoods}


def walk(env: RepeatedUnitWorld, name: str, config: Recovery, seeds: Any) -> list[dict[str, Any]]:
    """The observations of a planner along its path, with moves drawn from the softmax of visits.

    Args:
        env: The environment.
        name: Name of the planner.
        config: The settings.
        seeds: A seed of the world and one of the planner.
    """
    planner = make_planner(name, config.search, int(seeds[1]) + 1, config.units)
    rng = np.random.default_rng(int(seeds[1]))
    observation, _ = env.reset(seed=int(seeds[0]))
    planner.reset(env.views)
    path, ended = [observation], False
    while not ended:
        planner.act(observation)
        visits = planner.tree_.root_visits / planner.tree_.root_visits.max()
        chance = np.exp((visits - 1) / config.temperature)
        action = int(rng.choice(len(chance), p=chance / chance.sum()))
        observation, _, terminated, truncated, _ = env.step(action)
        path.append(observation)
        ended = terminated or truncated
    return path
