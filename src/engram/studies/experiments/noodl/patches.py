"""A dictionary of a photograph's patches, and its reconstruction of unseen patches."""

from __future__ import annotations

from typing import Any

from engram.lab import Run, setting, settings
from engram.memory import NOODL, explained_share
from engram.numeric.unit_rows import unit_rows
from engram.studies.experiments.noodl.learner import Learner, build_learner, learn
from engram.tasks import photograph_patches

PATCH = 8
NONZEROS = (4, 8)  # coefficients with which patches are reconstructed


@settings
class Patches(Learner):
    """The settings of a learner of patches."""

    learning: bool = setting(True, "whether to learn; otherwise the atoms are random patches")
    held_out: int = setting(2000, "patches on which atoms are evaluated", ge=1)


arms: dict[str, dict[str, Any]] = {
    "patches-noodl": {},
    "patches-random": {"learning": False},
    "patches-lasso-0.05": {"method": "lasso", "lasso_alpha": 0.05},
    "patches-lasso-0.2": {"method": "lasso", "lasso_alpha": 0.2},
}


def trial(config: Patches, run: Run) -> dict[str, Any]:
    """Learn from patches; the results are the explained shares of new ones with a few atoms."""
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
    run.keep(learner=model)
    components = unit_rows(getattr(model, "components_", start))
    result = {f"explained_{nonzero}": explained_share(components, held_out, nonzero) for nonzero in NONZEROS}
    if isinstance(model, NOODL) and config.learning:
        result["mean_support"] = model.mean_support_
    return result
