"""Cost of curiosity in fragments compared with plain random network distillation, and speed of PPO.

Wrapper: an exploration bonus and the learning steps after it, for plain ``RND`` and for ``FragmentedCuriosity`` with
environments in ten modules, on images of 84 x 84 with the published networks, and on small observations. PPO: samples
per second of acting and learning in ``engram/TextureRooms-v0`` with 64 environments, compared with stable-baselines3
with the same sizes, epochs, minibatches and environments. Both sides run in turn in one process with two threads.

``python benchmarks/curiosity.py`` measures, writes the record next to this file and prints its section of the page;
``--quick`` takes few repetitions.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from engram.agents import PPO, RND, CuriousActorCritic, FragmentedCuriosity, VectorActor, ppo_update
from engram.tasks import TextureRoomsVectorEnv

RECORD = Path(__file__).with_suffix(".json")
MODULES, ENVS, STEPS, HIDDEN = 10, 64, 64, 64
MOST_OVERHEAD, LEAST_RATIO = 1.15, 3.0
SIZES: dict[str, dict[str, Any]] = {
    "images of 84 x 84, published networks and rollouts": {
        "shape": (1, 84, 84),
        "time": 128,
        "envs": 32,
        "batch": 8,
        "options": {},
    },
    "the same in rollouts of 8 steps of 20 environments": {
        "shape": (1, 84, 84),
        "time": 8,
        "envs": 20,
        "batch": 20,
        "options": {},
    },
    "7 x 7 x 3 numbers, 128 units, 64 steps of 20 environments": {
        "shape": (7, 7, 3),
        "time": 64,
        "envs": 20,
        "batch": 20,
        "options": {"hidden": 128, "feature_dim": 64},
    },
}


def seconds(call: Callable[[], object]) -> float:
    """Return the processor time of a call over all threads, in seconds."""
    start = time.process_time()
    call()
    return time.process_time() - start


def overheads(case: dict[str, Any], repetitions: int) -> list[float]:
    """Return the ratios of the time of a bonus and four epochs of learning in ten fragments to that in one module."""
    generator = torch.Generator().manual_seed(0)
    time_, envs, shape = case["time"], case["envs"], case["shape"]

    def make() -> RND:
        return RND(shape, envs, generator=generator, **case["options"])

    plain, wrapped = make(), FragmentedCuriosity(make, envs)
    while len(wrapped.store) < MODULES:
        wrapped.store.write(wrapped._make())
    wrapped.current = np.arange(envs) % MODULES
    obs, done = torch.randn(time_, envs, *shape, generator=generator), torch.zeros(time_, envs, dtype=torch.bool)

    def iteration(curiosity: Any) -> None:
        curiosity.bonus(obs, done)
        for first in [*range(0, envs, case["batch"])] * 4:
            rows = np.arange(first, first + case["batch"])
            curiosity.update(obs[:, rows], envs=rows)

    for curiosity in (plain, wrapped):
        iteration(curiosity)
    pairs = [(seconds(lambda: iteration(wrapped)), seconds(lambda: iteration(plain))) for _ in range(repetitions)]
    if len(np.unique(wrapped.current)) < MODULES:
        raise RuntimeError("environments left their modules")
    return [ours / theirs for ours, theirs in pairs]


class Ours:
    """PPO of this library; ``run`` makes one iteration."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.settings, self.generator = PPO(learning_rate=3e-4, intrinsic=0.0), generator
        self.agent = CuriousActorCritic((7, 7, 3), 4, hidden=HIDDEN, memory=None, generator=generator)
        self.optimizer = self.settings.optimizer(self.agent)
        self.actor = VectorActor(TextureRoomsVectorEnv(ENVS), self.agent, generator)

    def run(self) -> None:
        rollout = self.actor.rollout(STEPS)
        none = torch.zeros(rollout.rewards.shape)
        ppo_update(self.agent, self.optimizer, rollout, none, self.settings, generator=self.generator)


class Theirs:
    """PPO of stable-baselines3 with as many units, epochs and minibatches."""

    def __init__(self) -> None:
        import stable_baselines3
        from stable_baselines3.common.vec_env import DummyVecEnv

        env = DummyVecEnv([lambda: gymnasium.make("engram/TextureRooms-v0") for _ in range(ENVS)])
        net = {"net_arch": [HIDDEN, HIDDEN], "activation_fn": torch.nn.ReLU}
        sizes = {"n_steps": STEPS, "batch_size": ENVS * STEPS // 4, "n_epochs": 4}
        self.model = stable_baselines3.PPO("MlpPolicy", env, policy_kwargs=net, device="cpu", seed=0, **sizes)

    def run(self) -> None:
        self.model.learn(ENVS * STEPS, reset_num_timesteps=False)


def measured(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(2)
    repetitions = 2 if quick else 7
    # The published rollout alone takes half a minute.
    wrapper = {
        name: overheads(case, min(repetitions, 3) if case["time"] > 100 else repetitions)
        for name, case in SIZES.items()
    }
    ours, theirs = Ours(), Theirs()
    for side in (ours, theirs):
        side.run()
    rates = [[ENVS * STEPS / seconds(side.run) for side in (ours, theirs)] for _ in range(repetitions)]
    return {"load": os.getloadavg()[0], "wrapper": wrapper, "rates": rates, "repetitions": repetitions}


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    overhead = {name: statistics.median(ratios) for name, ratios in record["wrapper"].items()}
    ours, theirs = (statistics.median(column) for column in zip(*record["rates"], strict=True))
    ratio = statistics.median(a / b for a, b in record["rates"])
    published = next(iter(overhead.values()))
    targets = {
        f"ten modules cost at most {MOST_OVERHEAD - 1:.0%} more than one, with the published networks "
        f"({published - 1:+.0%})": published <= MOST_OVERHEAD,
        f"PPO on {ENVS} environments learns from at least {LEAST_RATIO:g} times as many samples per second as "
        f"stable-baselines3 ({ratio:.1f}x)": ratio >= LEAST_RATIO,
    }
    return [
        "## Curiosity",
        "",
        f"Ratios and rates are of processor time; medians of {record['repetitions']} repetitions.",
        "",
        f"Load average after the run {record['load']:.1f}.",
        "",
        "| an exploration bonus and four epochs of learning | ten fragments over one module |",
        "|---|---|",
        *[f"| {name} | {value:.2f} |" for name, value in overhead.items()],
        "",
        f"PPO in texture rooms: engram {ours:,.0f} samples per second, stable-baselines3 {theirs:,.0f}.",
        "",
        *[f"- {name}: {'met' if met else 'NOT MET'}" for name, met in targets.items()],
        "",
    ]


def main() -> None:
    record = measured("--quick" in sys.argv)
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
