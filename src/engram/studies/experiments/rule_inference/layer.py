"""A plastic layer whose activity is recorded, or the choices of simulated flies: what is found, against the truth."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from engram.lab import Run, setting, settings
from engram.learned import PlasticityRuleInference, SimulatedChoices, simulate_activity, simulate_choices
from engram.studies.experiments.choosing import Trained

OJA = {"x y": 1.0, "y^2 w": -1.0}
FLY = {"x m": 1.0, "w": -0.1}  # a reward prediction error, and forgetting
GATED = {"x m": 1.0, "x w": -0.1}  # the same, but only the odour that is accepted is forgotten
RATE, FLY_RATE = 0.1, 0.5
LIKELY = np.array([[0.2, 0.8], [0.9, 0.1], [0.2, 0.8]])  # probabilities of reward of two odours, block by block
FITTED = {"activity": ("all", "without weight", "selected"), "choices": ("all", "selected", "gated", "twins")}
FAR = 10.0  # bound of a share of the truth, which is minus infinity where a run diverges


@settings
class Config:
    """The settings of a trial."""

    data: Literal["activity", "choices"] = setting("activity", "what is recorded; set by each arm")
    sessions: int = setting(12, "sessions or flies that are fitted", ge=1)
    held_out: int = setting(8, "held-out sessions, on which predictions are compared", ge=1)
    steps: int = setting(40, "steps of a session", ge=4)
    trials: int = setting(240, "offers to a fly, in three blocks", ge=12)
    units: int = setting(10, "units of the layer, and of its input", ge=2)
    recorded: int = setting(10, "units that are recorded", ge=1)
    input_sd: float = setting(1.0, "standard deviation of the inputs", gt=0)
    noise: float = setting(0.05, "standard deviation of the noise, as a share of that of a unit's activity", ge=0)
    start: Literal["known", "wrong", "fitted"] = setting("known", "what the fit takes for the first weights")
    terms: Literal["all", "without weight", "selected", "gated", "twins"] = setting("all", "the terms that are fitted")
    shuffled: bool = setting(False, "whether the recorded steps, or the rewards, are shuffled within a session")

    def __post_init__(self) -> None:
        if self.recorded > self.units:
            raise ValueError(f"recorded = {self.recorded}: expected at most units = {self.units}")
        if self.terms not in FITTED[self.data]:
            expected = ", ".join(map(repr, FITTED[self.data]))
            raise ValueError(f"terms = {self.terms!r} with data = {self.data!r}: expected one of {expected}")
        if self.data == "choices" and self.start != "known":
            raise ValueError(f"start = {self.start!r} with data = 'choices': expected 'known', as first weights are 0")


def recorded_of(config: Config, activity: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Activity in which all but some units, the same in all sessions, are NaN; its steps shuffled, if they are."""
    hidden = rng.permutation(config.units)[config.recorded :]
    seen = [rng.permutation(y) if config.shuffled else y.copy() for y in activity]
    for y in seen:
        y[:, hidden] = np.nan
    return seen


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Simulate a rule, fit it, and compare what was found with it."""
    found = Trained()
    for _ in run.steps(1, found=found):
        found.results = activity_trial(config, run.rng) if config.data == "activity" else choice_trial(config, run.rng)
        run.log(1, error=found.results["error"])
    return found.results


def activity_trial(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Oja's rule, from the activity of some of its units."""
    x = config.input_sd * rng.normal(size=(config.sessions + config.held_out, config.steps, config.units))
    weights = 0.1 * rng.normal(size=(config.units, config.units))
    true = simulate_activity(OJA, x, weights, rng, eta=RATE)
    deviation = np.concatenate(true.activity).std(axis=0)
    noisy = [y + config.noise * deviation * rng.normal(size=y.shape) for y in true.activity]
    recorded = recorded_of(config, noisy, rng)
    wrong = 0.1 * rng.normal(size=weights.shape)
    inference = PlasticityRuleInference(
        terms=["1", "x", "y", "x y", "x^2", "y^2", "x^2 y", "x y^2", "x^2 y^2"]
        if config.terms == "without weight"
        else None,
        eta=RATE,
        initial_weights={"known": weights, "wrong": wrong, "fitted": "shared"}[config.start],
    )
    fitted = slice(config.sessions)
    inference.fit(x[fitted], recorded[fitted])
    held_out = slice(config.sessions, None)
    activity, simulated = np.stack(true.activity[held_out]), predictions(inference, x[held_out])
    names = set(inference.coefficients_) & set(OJA)
    errors = {
        name: inference.coefficients_.get(name, 0.0) - OJA.get(name, 0.0) for name in inference.coefficients_ | OJA
    }
    covered = [low <= OJA.get(name, 0.0) <= high for name, (low, high) in inference.intervals_.items()]
    far = [name for name in inference.coefficients_ if abs(errors[name]) > 1]
    seen = np.isfinite(recorded[0]).all(axis=0)
    residual = np.mean(
        (np.stack(recorded[fitted]) - predictions(inference, x[fitted]))[:, :, seen] ** 2 / deviation[seen] ** 2
    )
    return {
        "coefficients": inference.coefficients_,
        "intervals": {name: list(interval) for name, interval in inference.intervals_.items()},
        "error": max(abs(errors[name]) for name in OJA),
        "error_of_all": float(np.sqrt(sum(e * e for e in errors.values()) / 2)),
        "covered": float(np.mean(covered)),
        "identified": float(np.mean([*inference.identifiable_.values()])),
        "found_identified": float(all(inference.identifiable_[name] for name in names)),
        "far": len(far),
        "far_flagged": float(np.mean([not inference.identifiable_[name] for name in far])) if far else 1.0,
        "explained": float(
            1 - ((activity - simulated)[:, :, seen] ** 2).mean() / activity[:, :, seen].var(axis=(0, 1)).mean()
        ),
        "explained_in_fit": inference.score(x[fitted], recorded[fitted]),
        "residual": float(residual / config.noise**2) if config.noise else 0.0,
        "status": inference.status_,
    } | (selection(inference, (x[fitted], recorded[fitted]), {}, OJA) if config.terms == "selected" else {})


def predictions(inference: PlasticityRuleInference, x: np.ndarray) -> np.ndarray:
    """Predicted activity, zero where a run diverges."""
    predicted: np.ndarray = np.nan_to_num(np.stack(inference.predict(x)))
    return predicted


def selection(
    inference: PlasticityRuleInference, data: tuple[Any, ...], named: dict[str, Any], truth: dict[str, float]
) -> dict[str, Any]:
    """The terms that selection keeps; the estimator is fitted again, with it.

    Args:
        inference: The estimator.
        data: The arguments of its fit.
        named: The arguments given by name.
        truth: The terms of the true rule.
    """
    inference.set_params(select="bic").fit(*data, **named)
    return {"wrong_terms": len({*inference.coefficients_} ^ {*truth}), "selected": [*inference.coefficients_]}


def flies(
    config: Config, rng: np.random.Generator, rule: dict[str, float]
) -> tuple[list[np.ndarray], SimulatedChoices]:
    """Offers of one odour at a time, and what flies do with them.

    Args:
        config: The settings.
        rng: Source of all numbers.
        rule: The rule of the flies.
    """
    count = config.sessions + config.held_out
    offers = [np.eye(2)[rng.integers(2, size=config.trials)] for _ in range(count)]
    likely = np.repeat(LIKELY, -(-config.trials // 3), axis=0)[: config.trials]
    rewards = [(rng.random(config.trials) < (likely * x).sum(axis=1)).astype(float) for x in offers]
    return offers, simulate_choices(rule, offers, rewards, rng, eta=FLY_RATE, modulator="rpe", update_at="chosen")


def choice_trial(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """A rule with reward and forgetting, from choices; predictions as a share of what the true rule predicts."""
    offers, data = flies(config, rng, FLY)
    fitted, held_out = slice(config.sessions), slice(config.sessions, None)
    rewards = [received.copy() for received in data.rewards]
    for received in rewards if config.shuffled else ():
        accepted = np.isfinite(received)
        received[accepted] = rng.permutation(received[accepted])
    options: dict[str, Any] = {"eta": FLY_RATE, "modulator": "rpe", "update_at": "chosen"}
    inference = PlasticityRuleInference(
        order=1, terms=list(GATED) if config.terms in {"gated", "twins"} else None, max_iter=50, **options
    )
    named = {"choices": data.choices[fitted], "rewards": rewards[fitted]}
    inference.fit(offers[fitted], **named)
    errors = np.sqrt(np.maximum(np.diag(inference.covariance_), 1e-12))
    ratios = {
        name: float(theta / error) for (name, theta), error in zip(inference.coefficients_.items(), errors, strict=True)
    }
    result = {
        "coefficients": inference.coefficients_,
        "intervals": {name: list(interval) for name, interval in inference.intervals_.items()},
        "status": inference.status_,
        "error": abs(inference.coefficients_.get("x m", 0.0) - FLY["x m"]),
        "reward_ratio": abs(ratios.get("x m", 0.0)),
        "forgetting_ratio": -ratios.get("w", 0.0),
    }
    if config.terms == "selected":
        result |= selection(inference, (offers[fitted],), named, FLY)
    new = {"choices": data.choices[held_out], "rewards": data.rewards[held_out]}
    half = -np.log(2) * sum(map(len, data.choices[held_out]))
    best = true_log_likelihood(data, offers, held_out)
    found = inference.log_likelihood(offers[held_out], **new)
    result["share_of_truth"] = float(np.clip((found - half) / (best - half), -FAR, FAR))
    if config.terms == "twins":
        result |= twins(offers[fitted], named, options)
    return result


def twins(offers: list[np.ndarray], named: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Two rules that agree wherever one odour is offered at a time: x (m - y), an error of prediction, and x m - x w.

    Args:
        offers: What is offered.
        named: Choices and rewards.
        options: Of the estimator.
    """
    pair = [PlasticityRuleInference(terms=["x m", twin], **options).fit(offers, **named) for twin in ("x y", "x w")]
    first, second = (np.concatenate(each.predict(offers, **named)) for each in pair)
    both = PlasticityRuleInference(terms=["x m", "x y", "x w"], **options).fit(offers, **named)
    return {"difference": float(np.abs(first - second).max()), "flagged": float(("x y", "x w") in both.equivalent_)}


def true_log_likelihood(data: SimulatedChoices, offers: list[np.ndarray], sessions: slice) -> float:
    """The log-likelihood of choices under the weights that made them."""
    total = 0.0
    for x, weights, choices in zip(offers[sessions], data.weights[sessions], data.choices[sessions], strict=True):
        logit = np.einsum("ti,ti->t", weights[:-1], x)
        total -= float((np.logaddexp(0, logit) - choices * logit).sum())
    return total
