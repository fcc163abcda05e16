"""Clustering of a stream of points whose centres jump."""

from __future__ import annotations

from typing import Any

import torch

from engram import registry
from engram.lab import Run, setting, settings
from engram.memory import KeyValueMemory
from engram.tasks import DriftingGaussians

CENTRES, BATCHES, TESTED = 32, (1, 8), 1000
MEASURED = 80  # points between two measurements


@settings
class Stream:
    """The settings of the memory and the stream."""

    policy: str = setting(
        "lru", "what the memory keeps: a registered replacement policy, or a reference such as file.py:Name"
    )
    points: int = setting(4000, "points of a stream; a multiple of 160", ge=960)
    streams: int = setting(4, "independent streams, whose errors are averaged", ge=1)

    def __post_init__(self) -> None:
        registry.check("replacement_policies", self.policy, "policy")
        if self.points % (2 * MEASURED):
            raise ValueError(f"points = {self.points}: expected a multiple of {2 * MEASURED}")


def trial(config: Stream, run: Run) -> dict[str, Any]:
    """Track points around centres that jump halfway; the results are squared distances to the nearest key."""
    half, streams = config.points // 2, config.streams
    points, tests = torch.zeros(streams, config.points, 2), torch.zeros(2, streams, TESTED, 2)
    for of_stream, (before, after) in zip(points, tests.unbind(1), strict=True):
        source = DriftingGaussians(CENTRES, jumps=(half,), random_state=run.rng)
        for first, test in ((0, before), (half, after)):
            of_stream[first : first + half] = torch.from_numpy(source.sample(half))
            centres = source.centres[run.rng.integers(CENTRES, size=TESTED)]
            test[:] = torch.from_numpy(centres + source.scale * run.rng.normal(size=centres.shape))
    memories = {
        batch: KeyValueMemory(
            CENTRES,
            2,
            policy=registry.get("replacement_policies", config.policy)(),
            tables=streams,
            generator=run.generator,
        )
        for batch in BATCHES
    }
    tested = torch.arange(streams).repeat_interleave(TESTED)
    state = {f"memory_{batch}": memory for batch, memory in memories.items()}
    for step in run.steps(config.points // MEASURED, **state):
        n_seen = (step + 1) * MEASURED
        for batch, memory in memories.items():
            tables = torch.arange(streams).repeat_interleave(batch)
            for batch_of_points in torch.split(points[:, n_seen - MEASURED : n_seen], batch, dim=1):
                memory.write(batch_of_points.flatten(0, 1), torch.zeros(len(tables)), tables=tables)
            nearest = memory.query(tests[int(n_seen > half)].flatten(0, 1), k=1, tables=tested, use=False)
            run.log(n_seen, **{f"error_{batch}": nearest.squared_distances.double().mean()})
    run.keep(**state)
    moments = {"before": half, "after": half + 10 * CENTRES, "end": config.points}
    errors = {(metric, step): value for step, metric, value in run.metrics().select("step", "metric", "value").rows()}
    return {
        f"{moment}_{batch}": errors[f"error_{batch}", n_seen] for moment, n_seen in moments.items() for batch in BATCHES
    }
