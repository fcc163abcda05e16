"""Six rules of two terms, in four kinds of data: what selection finds of each, and which rules it says fit as well.

In the best case the selected rule is the true one. It may not be: chance can make another rule fit better. So what is
compared is whether the search found a rule no worse by its own criterion than the true one, whether the true one is
among the rules that it names as rivals, and how often intervals contain the coefficients, given the selected terms and
averaged over rivals.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from engram.lab import Run, setting, settings
from engram.learned import PlasticityRuleInference, simulate_activity, simulate_choices
from engram.studies.experiments.choosing import Trained
from engram.studies.experiments.rule_inference.layer import FLY_RATE, LIKELY, OJA

RATE, NOISE = 0.08, 0.05
OF_ACTIVITY = (
    OJA,
    {"x y": 0.8, "w": -0.5},
    {"x y": 1.0, "y w": -1.0},
    {"x y": -0.6, "x": 0.3},
    {"x y^2": 1.2, "x y": -0.7},
    {"x^2 y": 0.5, "x^2 w": -0.4},
)
OF_CHOICES = (
    {"x m": 1.0, "w": -0.1},
    {"x m": 1.0, "x w": -0.15},
    {"x m": 0.8, "x": 0.1},
    {"x m": 1.0, "m": -0.4},
    {"x m": 0.8, "x w m": 0.5},
    {"x m": 1.0, "w m": -0.3},
)
arms: dict[str, dict[str, Any]] = {
    "rules in a layer": {},
    "rules with unknown first weights": {"data": "unknown first weights"},
    "rules in a recurrent network": {"data": "recurrent", "sessions": 10, "steps": 40, "inputs": 5, "units": 5},
    "rules behind choices": {"data": "choices", "sessions": 20},
}


@settings
class Config:
    """The settings of a trial."""

    data: Literal["layer", "unknown first weights", "recurrent", "choices"] = setting("layer", "what is recorded")
    rules: int = setting(6, "number of rules that are simulated", ge=1, le=6)
    sessions: int = setting(12, "sessions or flies", ge=1)
    steps: int = setting(60, "steps of a session of activity", ge=4)
    trials: int = setting(240, "offers to a fly, in three blocks", ge=12)
    inputs: int = setting(4, "inputs of a layer", ge=1)
    units: int = setting(3, "units", ge=1)

    def __post_init__(self) -> None:
        if self.data == "recurrent" and self.inputs != self.units:
            raise ValueError(f"inputs = {self.inputs}: expected as many as units = {self.units}, one for each")


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Simulate the rules, select terms for each, and compare."""
    found = Trained()
    for _ in run.steps(1, found=found):
        rules = OF_CHOICES if config.data == "choices" else OF_ACTIVITY
        of_rules = [select(simulate(config, rule, run.rng), rule) for rule in rules[: config.rules]]
        found.results = {
            "worse": max(each["worse"] for each in of_rules),
            **{name: float(np.mean([each[name] for each in of_rules])) for name in of_rules[0] if name != "worse"},
        }
        run.log(1, error=found.results["wrong_terms"])
    return found.results


class Recorded(NamedTuple):
    """What is fitted: the inputs, what was recorded by name, and the options of the estimator."""

    inputs: Any
    named: dict[str, Any]
    options: dict[str, Any]


def simulate(config: Config, rule: dict[str, float], rng: np.random.Generator) -> Recorded:
    """What a rule made of random inputs.

    Args:
        config: The settings.
        rule: The rule.
        rng: Source of all numbers.
    """
    if config.data == "choices":
        odours = [np.eye(2)[rng.integers(2, size=config.trials)] for _ in range(config.sessions)]
        likely = np.repeat(LIKELY, -(-config.trials // 3), axis=0)[: config.trials]
        rewards = [(rng.random(config.trials) < (likely * x).sum(axis=1)).astype(float) for x in odours]
        options: dict[str, Any] = {"eta": FLY_RATE, "modulator": "rpe", "update_at": "chosen"}
        data = simulate_choices(rule, odours, rewards, rng, **options)
        return Recorded(odours, {"choices": data.choices, "rewards": data.rewards}, options | {"order": 1})
    x = rng.normal(size=(config.sessions, config.steps, config.inputs))
    first = (0.6 if config.data == "recurrent" else 0.3) * rng.normal(size=(config.units, config.inputs))
    options = {"eta": RATE}
    if config.data == "recurrent":
        network: dict[str, Any] = {"nonlinearity": "tanh", "input_weights": np.eye(config.units)}
        activity = simulate_activity(rule, x, first, rng, noise=NOISE, **options, **network).activity
        options |= {"network": "recurrent", "initial_weights": first, **network}
    else:
        activity = simulate_activity(rule, x, first, rng, noise=NOISE, **options).activity
        options["initial_weights"] = "session" if config.data == "unknown first weights" else first
    return Recorded(x, {"activity": activity}, options | {"order": 2})


def select(data: Recorded, rule: dict[str, float]) -> dict[str, float]:
    """What selection finds, against the rule.

    Args:
        data: What was recorded.
        rule: The rule that made it.
    """
    found = PlasticityRuleInference(select="bic", **data.options).fit(data.inputs, **data.named)
    options = {name: value for name, value in data.options.items() if name != "order"}
    true = PlasticityRuleInference(terms=[*rule], **options).fit(data.inputs, **data.named)
    price = float(np.log(found.n_observed_))
    criteria = [len(each.coefficients_) * price - 2 * each.log_likelihood_ for each in (found, true)]
    averages = {name: (each.low, each.high) for name, each in found.averaged_.items()}
    asked = {*rule, *found.coefficients_}  # a wrong term is one whose coefficient is zero
    return {
        "worse": criteria[0] - criteria[1],
        "wrong_terms": float(len({*found.coefficients_} ^ {*rule})),
        "among": float(any({*rival.coefficients} == {*rule} for rival in found.rivals_)),
        "averaged": _covered(averages, asked, rule),
        "given_terms": _covered(found.intervals_, {*found.coefficients_}, rule),
        "true_terms": _covered(true.intervals_, {*rule}, rule),
        "ambiguous": float(found.status_ == "ambiguous"),
        "ok_and_wrong": float(found.status_ == "ok" and {*found.coefficients_} != {*rule}),
    }


def _covered(ends: dict[str, tuple[float, float]], names: set[str], rule: dict[str, float]) -> float:
    inside = [low <= rule.get(name, 0.0) <= high for name in names for low, high in [ends.get(name, (0.0, 0.0))]]
    return float(np.mean(inside)) if inside else 0.0
