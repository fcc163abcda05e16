"""What runs in place of the data that nobody can fetch."""

from __future__ import annotations

from engram.lab.trial.config import to_dict
from engram.lab.trial.experiment import Experiment
from engram.tasks.data import SETS


def instead_of_absent_data(experiment: Experiment) -> str:
    """Sentences on the data sets without a public address that an experiment reads, and what can be run instead.

    Empty if everything can be fetched.

    Examples:
        >>> from engram import registry
        >>> instead_of_absent_data(registry.get("experiments", "maze"))
        ''
    """
    presets: dict[tuple[str, str], list[str]] = {}
    for preset in experiment.presets:
        for arm in experiment.arms(preset, {}).values():
            for setting, value in to_dict(arm.config).items():
                if isinstance(value, str) and value in SETS and SETS[value].original:
                    named = presets.setdefault((setting, value), [])
                    named += [preset] * (preset not in named)
    return " ".join(
        f"Without {name}, which has no public address, it cannot be run as recorded (preset {' and '.join(of)}): "
        f"--{setting.replace('_', '-')} {SETS[name].original} fetches the original and runs the same; "
        "what the claims measure is then computed, but not judged."
        for (setting, name), of in presets.items()
    )
