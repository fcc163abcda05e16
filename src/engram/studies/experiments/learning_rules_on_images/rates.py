"""The learning rates of the rules, chosen once, by validation, before the recorded trials.

    python -m engram.studies.experiments.learning_rules_on_images.rates

For each rule and network, the rate with the best accuracy on validation images after two passes over 10,000 training
images, as a mean over two seeds that no trial has, is stored in ``rates.json`` with its candidates and their scores.
The grid goes on beyond an end as long as the best is there. What is stored is not run again.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from typing_extensions import TypedDict

from engram.lab.trial.choice import beyond, score_of
from engram.storage.files import write_json
from engram.studies.experiments.learning_rules_on_images.networks import Network
from engram.studies.experiments.learning_rules_on_images.training import Training, score

TABLE = Path(__file__).with_name("rates.json")
EXTENSIONS = 4
USUAL = (0.03, 0.1, 0.3)
GRIDS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(("dfa", "weight-mirror", "local-error"), (0.003, 0.01, 0.03)),
    "last-layer": (0.1, 0.3, 1.0),
}
RULES: dict[Network, tuple[str, ...]] = {
    "residual": (
        *("backprop", "fa", "skips", "usf", "kolen-pollack", "frsf", "brsf", "align-prop", "dfa", "weight-mirror"),
        *("last-layer", "fa-in-branches"),
    ),
    "chain": ("backprop", "fa", "usf", "dfa", "local-error"),
}


class Choice(TypedDict):
    """The candidates of a rule in ascending order, their scores, and the one that scores best."""

    candidates: list[float]
    scores: list[float]
    chosen: float


@cache
def read_choices() -> dict[str, dict[str, Choice]]:
    """The choices, by network and rule."""
    choices: dict[str, dict[str, Choice]] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    return choices


def rate_of(rule: str, network: Network) -> float:
    """The learning rate of a rule on a network."""
    return read_choices()[network][rule]["chosen"]


def choose(rule: str, network: Network) -> Choice:
    """The best rate of a rule; a rate at which training diverges has the score 0."""
    torch.set_num_threads(1)
    scores: dict[float, float] = {}
    pending = list(GRIDS.get(rule, USUAL))
    while pending:
        for rate in pending:
            scores[rate] = max(0.0, score_of(lambda rate: score(Training(rule=rule, network=network, rate=rate)), rate))
        further = float(f"{beyond(np.array([*scores]), np.array([*scores.values()]), (0.0, np.inf)):.1g}")
        pending = [] if np.isnan(further) or len(scores) >= len(USUAL) + EXTENSIONS else [further]
    return {
        "candidates": sorted(scores),
        "scores": [scores[rate] for rate in sorted(scores)],
        "chosen": max(scores, key=scores.__getitem__),
    }


def main() -> None:
    """Choose the rates that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="number of rules at once")
    todo = [(rule, network) for network, rules in RULES.items() for rule in rules]
    todo = [(rule, network) for rule, network in todo if rule not in read_choices().get(network, {})]
    choices: dict[str, dict[str, Choice]] = {network: dict(read_choices().get(network, {})) for network in RULES}
    jobs = parser.parse_args().jobs
    done = Parallel(n_jobs=jobs, return_as="generator")(delayed(choose)(*pair) for pair in todo)
    for (rule, network), choice in zip(todo, done, strict=True):
        choices[network][rule] = choice
        write_json(TABLE, choices)
        print(network, rule, choice, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
