"""A dictionary of a photograph's patches: how well it reconstructs patches that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from engram.experiments.noodl.learner import Learner, build_learner, learn
from engram.lab import Run
from engram.memory import NOODL, explained_share
from engram.numeric.unit_rows import unit_rows
from engram.tasks import photograph_patches

PATCH = 8
NONZEROS = (4, 8)  # coefficients with which patches are reconstructed


@dataclass(frozen=True)
class Patches(Learner):
    """A learner of patches."""

    learning: bool = True
    """Whether it learns; if not, its atoms are random patches."""
    held_out: Annotated[int, Ge(1)] = 2000
    """Patches on which atoms are judged."""


def trial(config: Patches, run: Run) -> dict[str, Any]:
    """Learn from patches; the result is how well new ones are reconstructed from a few atoms."""
    rng = run.rng
    samples = photograph_patches(50 * config.batch_size, PATCH, "train", rng)
    held_out = photograph_patches(config.held_out, PATCH, "test", rng)
    start = unit_rows(samples[rng.choice(len(samples), config.n_components, replace=False)])
    model = build_learner(config, start)
    for step in run.steps(config.updates, learner=model):
        batch = samples[rng.choice(len(samples), config.batch_size, replace=False)]
        if config.learning:
            learn(model, batch)
        if (step + 1) % max(1, config.updates // 10) == 0:
            atoms = getattr(model, "components_", start)
            run.log(step + 1, unexplained=1 - explained_share(atoms, held_out, NONZEROS[0]))
    components = unit_rows(getattr(model, "components_", start))
    result = {f"explained_{nonzero}": explained_share(components, held_out, nonzero) for nonzero in NONZEROS}
    if isinstance(model, NOODL) and config.learning:
        result["mean_support"] = model.mean_support_
    return result
