"""What the commands that look print with ``--json``: experiments and parts as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram.lab.trial.experiment import Experiment


def of_listed(name: str, counts: Mapping[str, Mapping[str, int]], last: str, summary: str) -> dict[str, Any]:
    """An experiment as ``engram list --json`` prints it.

    Args:
        name: Its name.
        counts: How many of its claims have each verdict, by preset.
        last: How its last run here has ended; empty if there was none.
        summary: What it tests.
    """
    verdicts = {preset: dict(of_preset) for preset, of_preset in counts.items()}
    return {"kind": "experiments", "name": name, "summary": summary, "claims": verdicts, "last_run": last}


def of_shown(experiment: Experiment) -> dict[str, Any]:
    """An experiment as ``engram show NAME --json`` prints it, each claim with its row in the index for each preset.

    Args:
        experiment: The experiment.
    """
    from engram.lab.output.record_files import answer_in_words, indexed_claims, indexed_quantities
    from engram.lab.output.results import in_words
    from engram.lab.trial.config import plain

    judged, measured = indexed_claims(experiment), indexed_quantities(experiment)
    numbers = ("ours", "low", "high", "seeds", "verdict", "corrected", "lacks")
    return {
        "name": experiment.name,
        "summary": experiment.summary,
        "paper": experiment.paper,
        "answer": answer_in_words(experiment),
        "presets": {
            name: {"seeds": preset.seeds, "arms": list(experiment.arms(name)), "published": preset.published}
            for name, preset in experiment.presets.items()
        },
        "settings": in_words(_settings(experiment)),
        "arms": {
            arm: {name: "from the others" if callable(value) else plain(value) for name, value in changes.items()}
            for study in experiment.by_name.values()
            for arm, changes in study.table.items()
        },
        "claims": [
            {name: getattr(claim, name) for name in ("id", "statement", "published", "source", "threshold", "seeds")}
            | {"criterion": str(claim.criterion)}
            | {"presets": [name for name in experiment.presets if claim.is_judged_at(name)]}
            | {
                "recorded": {
                    row.preset: {name: getattr(row, name) for name in numbers}
                    for row in judged
                    if row.claim == claim.id and row.verdict != "not testable here"
                }
            }
            for claim in experiment.claims
        ],
        "quantities": [
            {"id": quantity.id, "statement": quantity.statement}
            | {
                "recorded": {
                    row.preset: {name: getattr(row, name) for name in ("ours", "low", "high", "seeds")}
                    for row in measured
                    if row.quantity == quantity.id
                }
            }
            for quantity in experiment.quantities
        ],
    }


def _settings(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The settings by name: what is allowed, the value in each preset, what each is."""
    from engram.lab.trial.config import dotted, fields, plain, value_of

    settings = {}
    for study in experiment.by_name:
        bases = {preset: experiment.base(preset, study) for preset in experiment.presets}
        for name, field in fields(experiment.settings(study)).items():
            in_presets = {preset: plain(value_of(base, name)) for preset, base in bases.items()}
            settings[dotted(study, name)] = {
                "allowed": field.allowed,
                "presets": in_presets,
                "meaning": field.meaning,
            }
    return settings
