"""Recurrent networks of which not all units are recorded, and choices that a hidden layer makes, in the published task.

The task of choices is that of the authors' code: a network of 2, 10 and 1 units, of which the first layer is plastic;
three blocks of 80 trials, each a run of offers until one is accepted; rewards that arrive at an odour wait there until
it is accepted; odours are 0.75 in their own channel with a standard deviation of 0.05.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from engram.lab import Run, setting, settings
from engram.learned import PlasticityRuleInference, SimulatedChoices, simulate_activity, simulate_choices
from engram.studies.experiments.choosing import Trained
from engram.studies.experiments.rule_inference.layer import FAR, FLY, FLY_RATE, LIKELY, OJA, predictions, selection

RATE = 0.05
ODOUR, SPREAD, FIRST, GAIN = 0.75, 0.05, 0.01, 5.0  # of the authors' code
FITTED = {"recurrent": ("all", "selected"), "choices": ("all", "no hidden layer", "history")}
LAGS = 5  # trials that a regression on the past looks back


@settings
class Config:
    """The settings of a trial."""

    data: Literal["recurrent", "choices"] = setting("recurrent", "what is recorded; set by each arm")
    sessions: int = setting(12, "sessions or flies that are fitted", ge=1)
    held_out: int = setting(8, "held-out sessions, on which predictions are compared", ge=1)
    steps: int = setting(40, "steps of a session of activity", ge=4)
    trials: int = setting(240, "trials of a fly, in three blocks", ge=12)
    units: int = setting(12, "units of the recurrent network", ge=2)
    recorded: int = setting(12, "units of it that are recorded", ge=1)
    hidden: int = setting(10, "units of the hidden layer of a fly", ge=1)
    noise: float = setting(0.05, "standard deviation of the noise, as a share of that of a unit's activity", gt=0)
    fitted: Literal["all", "selected", "no hidden layer", "history"] = setting("all", "what is fitted")
    known: bool = setting(True, "whether first weights, and inputs but for their noise, are known to the fit")

    def __post_init__(self) -> None:
        if self.recorded > self.units:
            raise ValueError(f"recorded = {self.recorded}: expected at most units = {self.units}")
        if self.fitted not in FITTED[self.data]:
            expected = ", ".join(map(repr, FITTED[self.data]))
            raise ValueError(f"fitted = {self.fitted!r} with data = {self.data!r}: expected one of {expected}")


arms: dict[str, dict[str, Any]] = {
    "recurrent": {"fitted": "selected"},
    "recurrent half": {"recorded": lambda arm: arm.units // 2},
    "recurrent quarter": {"recorded": lambda arm: max(1, arm.units // 4)},
    "hidden layer": {"data": "choices", "sessions": 18},
    "hidden layer unknown": {"data": "choices", "sessions": 18, "known": False},
    "no hidden layer": {"data": "choices", "sessions": 18, "fitted": "no hidden layer"},
    "regression on the past": {"data": "choices", "sessions": 18, "fitted": "history"},
}


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Simulate a rule in a network, fit it, and compare what was found with it."""
    found = Trained()
    for _ in run.steps(1, found=found):
        found.results = (
            recurrent_trial(config, run.rng) if config.data == "recurrent" else choice_trial(config, run.rng)
        )
        run.log(1, error=found.results["error"])
    return found.results


def recurrent_trial(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Oja's rule in a recurrent network, from the activity of some of its units."""
    units = config.units
    x = rng.normal(size=(config.sessions + config.held_out, config.steps, units))
    weights = rng.normal(size=(units, units)) / np.sqrt(units)
    network: dict[str, Any] = {"nonlinearity": "tanh", "input_weights": np.eye(units)}
    true = np.stack(simulate_activity(OJA, x, weights, rng, eta=RATE, **network).activity)
    deviation = true.std(axis=(0, 1))
    recorded = true + config.noise * deviation * rng.normal(size=true.shape)
    recorded[:, :, config.recorded :] = np.nan
    fitted, held_out = slice(config.sessions), slice(config.sessions, None)
    inference = PlasticityRuleInference(eta=RATE, initial_weights=weights, network="recurrent", **network)
    inference.fit(x[fitted], recorded[fitted])
    errors = {name: theta - OJA.get(name, 0.0) for name, theta in inference.coefficients_.items()}
    covered = [low <= OJA.get(name, 0.0) <= high for name, (low, high) in inference.intervals_.items()]
    unseen = true[held_out] - predictions(inference, x[held_out])
    return {
        "coefficients": inference.coefficients_,
        "intervals": {name: list(interval) for name, interval in inference.intervals_.items()},
        "error": max(abs(errors.get(name, -theta)) for name, theta in OJA.items()),
        "error_of_all": float(np.sqrt(sum(e * e for e in errors.values()) / 2)),
        "covered": float(np.mean(covered)),
        "identified": float(np.mean([*inference.identifiable_.values()])),
        "explained": float(1 - (unseen**2).mean() / true[held_out].var(axis=(0, 1)).mean()),
        "status": inference.status_,
    } | (selection(inference, (x[fitted], recorded[fitted]), {}, OJA) if config.fitted == "selected" else {})


class Flies(NamedTuple):
    """Flies in the published task, each until its last trial."""

    odours: list[np.ndarray]
    inputs: list[np.ndarray]
    data: SimulatedChoices
    first: np.ndarray
    readout: np.ndarray

    @property
    def resampled(self) -> list[np.ndarray]:
        """What an experimenter knows of the inputs: the odour that was offered, at its mean concentration."""
        return [ODOUR * np.eye(2)[odour] for odour in self.odours]

    def log_likelihood(self, flies: slice) -> float:
        """The log-likelihood of choices under the weights that made them."""
        total = 0.0
        for x, weights, choices in zip(
            self.inputs[flies], self.data.weights[flies], self.data.choices[flies], strict=True
        ):
            logit = np.tanh(np.einsum("tui,ti->tu", weights[:-1], x)) @ self.readout
            total -= float((np.logaddexp(0, logit) - choices * logit).sum())
        return total


def flies(config: Config, rng: np.random.Generator) -> Flies:
    """Offers of one odour at a time, and what flies with a hidden layer do with them.

    Args:
        config: The settings.
        rng: Source of all numbers.
    """
    count, offers = config.sessions + config.held_out, 4 * config.trials
    odours = [rng.integers(2, size=offers) for _ in range(count)]
    inputs = [ODOUR * np.eye(2)[odour] + SPREAD * rng.normal(size=(offers, 2)) for odour in odours]
    likely = np.repeat(LIKELY, -(-config.trials // 3), axis=0)[: config.trials]
    likely = np.concatenate([likely, np.zeros((offers - config.trials, 2))])
    arrives = [rng.random((offers, 2)) < likely for _ in range(count)]
    first, readout = FIRST * rng.normal(size=(config.hidden, 2)), np.full(config.hidden, GAIN / config.hidden)
    data = simulate_choices(
        FLY, inputs, arrives, rng, eta=FLY_RATE, initial_weights=first, readout=readout, options=odours,
        modulator="rpe", update_at="chosen",
    )  # fmt: skip
    ends = [int(np.searchsorted(np.cumsum(choices), config.trials)) + 1 for choices in data.choices]
    lengths = [min(end, offers) for end in ends]

    def cut(parts: list[np.ndarray], more: int = 0) -> list[np.ndarray]:
        return [part[: n + more] for part, n in zip(parts, lengths, strict=True)]

    data = SimulatedChoices(cut(data.choices), cut(data.rewards), cut(data.weights, 1))
    return Flies(cut(odours), cut(inputs), data, first, readout)


def choice_trial(config: Config, rng: np.random.Generator) -> dict[str, Any]:
    """A rule with reward and forgetting, from the choices that a hidden layer makes."""
    simulated = flies(config, rng)
    x = simulated.inputs if config.known else simulated.resampled
    fitted, held_out = slice(config.sessions), slice(config.sessions, None)
    parts = [
        {"choices": simulated.data.choices[some], "rewards": simulated.data.rewards[some]}
        for some in (fitted, held_out)
    ]
    half = -np.log(2) * sum(map(len, simulated.data.choices[held_out]))
    best = simulated.log_likelihood(held_out)

    def share(found: float) -> float:
        return float(np.clip((found - half) / (best - half), -FAR, FAR))

    if config.fitted == "history":
        return {"error": 0.0, "share_of_truth": share(regression(simulated, fitted, held_out))}
    network: dict[str, Any] = {}
    if config.fitted != "no hidden layer":
        network["readout"] = simulated.readout
        network["initial_weights"] = simulated.first if config.known else "zeros"
    inference = PlasticityRuleInference(
        order=1, eta=FLY_RATE, modulator="rpe", update_at="chosen", max_iter=50, tol=1e-7, **network
    )
    inference.fit(x[fitted], **parts[0])
    errors = dict(zip(inference.coefficients_, np.sqrt(np.diag(inference.covariance_)).tolist(), strict=True))
    theta = inference.coefficients_
    return {
        "coefficients": theta,
        "intervals": {name: list(interval) for name, interval in inference.intervals_.items()},
        "status": inference.status_,
        "error": abs(theta.get("x m", 0.0) - FLY["x m"]),
        "forgetting_ratio": -theta.get("w", 0.0) / max(errors.get("w", np.inf), 1e-6),
        "share_of_truth": share(inference.log_likelihood(x[held_out], **parts[1])),
    }


def regression(simulated: Flies, fitted: slice, held_out: slice) -> float:
    """The log-likelihood of new choices by a logistic regression on odour, and on the last choices and rewards.

    Args:
        simulated: The flies.
        fitted: Those that are fitted.
        held_out: Those that are predicted.
    """
    past = [
        history(odour, choices, rewards)
        for odour, choices, rewards in zip(
            simulated.odours, simulated.data.choices, simulated.data.rewards, strict=True
        )
    ]
    choices = simulated.data.choices
    model = LogisticRegression(C=np.inf, max_iter=1000)
    model.fit(np.concatenate(past[fitted]), np.concatenate(choices[fitted]))
    logit = model.decision_function(np.concatenate(past[held_out]))
    return -float((np.logaddexp(0, logit) - np.concatenate(choices[held_out]) * logit).sum())


def history(odour: np.ndarray, choices: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """For each offer: which odour; and of each of the last five trials whether it had this odour, and its reward then.

    Args:
        odour: What is offered at each step.
        choices: Whether it was accepted.
        rewards: The reward, NaN where it was not.
    """
    features = np.zeros((len(odour), 1 + 3 * LAGS))
    accepted: list[tuple[int, float]] = []
    for t, offered in enumerate(odour.tolist()):
        features[t, 0] = offered
        for lag, (earlier, reward) in enumerate(accepted[: -LAGS - 1 : -1]):
            same = earlier == offered
            features[t, 1 + 3 * lag : 4 + 3 * lag] = same, same * reward, (not same) * reward
        if choices[t] == 1:
            accepted.append((offered, float(rewards[t])))
    return features
