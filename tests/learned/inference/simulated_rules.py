"""Rules of two terms, simulated in NumPy alone: in a layer, in a recurrent network, and behind choices."""

from typing import NamedTuple

import numpy as np

from engram.learned import PlasticityRuleInference

ACTIVITY = {
    "oja": {"x y": 1.0, "y^2 w": -1.0},
    "hebb with decay": {"x y": 0.8, "w": -0.5},
    "instar": {"x y": 1.0, "y w": -1.0},
    "anti-hebb": {"x y": -0.6, "x": 0.3},
    "two powers of y": {"x y^2": 1.2, "x y": -0.7},
    "two powers of x": {"x^2 y": 0.5, "x^2 w": -0.4},
}
CHOICES = {
    "reward and forgetting": {"x m": 1.0, "w": -0.1},
    "reward and gated forgetting": {"x m": 1.0, "x w": -0.15},
    "reward and habit": {"x m": 0.8, "x": 0.1},
    "reward and reward of all": {"x m": 1.0, "m": -0.4},
    "reward by weight": {"x m": 0.8, "x w m": 0.5},
    "forgetting by reward": {"x m": 1.0, "w m": -0.3},
}
ETA, NOISE, FLY_RATE = 0.08, 0.05, 0.5


def change(rule, x, y, w, m=0.0):
    """The sum of the terms of a rule, each a product of powers."""
    values = {"x": x, "y": y, "w": w, "m": m}
    total = 0.0
    for term, theta in rule.items():
        value = theta
        for factor in term.split():
            name, _, power = factor.partition("^")
            value = value * values[name] ** int(power or 1)
        total = total + value
    return total


def noise_of(kind, shape, rng):
    """Noise of the same variance over (step, unit): normal, of Student's t(3), or that of each step in part kept."""
    if kind == "heavy-tailed":
        return NOISE * rng.standard_t(3, size=shape) / np.sqrt(3)
    noise = NOISE * rng.normal(size=shape)
    for t in range(1, shape[0]) if kind == "in time" else ():
        noise[t] = 0.5 * noise[t - 1] + np.sqrt(0.75) * noise[t]
    return noise


def layer(rule, inputs, weights, rng, kind="normal"):
    """Activity of sigmoid units with noise, (step, unit)."""
    recorded = []
    for x in inputs:
        y = 1 / (1 + np.exp(-weights @ x))
        recorded.append(y)
        weights = weights + ETA * change(rule, x[None, :], y[:, None], weights)
    return np.array(recorded) + noise_of(kind, (len(inputs), len(weights)), rng)


def recurrent(rule, currents, weights, rng):
    """Activity of tanh units that drive each other, with noise, (step, unit)."""
    y, recorded = np.zeros(len(weights)), []
    for current in currents:
        before, y = y, np.tanh(weights @ y + current)
        recorded.append(y)
        weights = weights + ETA * change(rule, before[None, :], y[:, None], weights)
    return np.array(recorded) + noise_of("normal", currents.shape, rng)


def fly(rule, trials, rng):
    """Offers of one of two odours, whether each was accepted, and the rewards of those that were."""
    likely = np.repeat([[0.2, 0.8], [0.9, 0.1], [0.2, 0.8]], trials // 3, axis=0)
    w, last, odours, choices, rewards = np.zeros(2), [0.0] * 10, [], [], []
    for t in range(trials):
        x = np.eye(2)[rng.integers(2)]
        chosen, reward = float(rng.random() < 1 / (1 + np.exp(-w @ x))), np.nan
        if chosen:
            reward = float(rng.random() < likely[t] @ x)
            signal = reward - np.mean(last[-10:])
            last.append(reward)
            w = w + FLY_RATE * change(rule, x, 0.0, w, signal)
        odours.append(x)
        choices.append(chosen)
        rewards.append(reward)
    return np.array(odours), np.array(choices), np.array(rewards)


class Recorded(NamedTuple):
    """What is fitted, the options of the estimator, and the rule."""

    inputs: object
    named: dict
    options: dict
    rule: dict


def recorded(kind, name, seed, noise="normal"):
    """The data of one simulation: a kind of network, a rule, and a seed."""
    rng = np.random.default_rng(700 + seed)
    if kind == "choices":
        rule, options = CHOICES[name], {"order": 1, "eta": FLY_RATE, "modulator": "rpe", "update_at": "chosen"}
        odours, choices, rewards = map(list, zip(*[fly(rule, 240, rng) for _ in range(20)], strict=True))
        return Recorded(odours, {"choices": choices, "rewards": rewards}, options, rule)
    rule, options = ACTIVITY[name], {"order": 2, "eta": ETA}
    if kind == "recurrent":
        currents, first = rng.normal(size=(10, 40, 5)), 0.6 * rng.normal(size=(5, 5))
        activity = np.stack([recurrent(rule, session, first, rng) for session in currents])
        options |= {"network": "recurrent", "input_weights": np.eye(5)}
        options["initial_weights"] = "shared" if seed % 2 else first
        return Recorded(currents, {"activity": activity}, options, rule)
    inputs, first = rng.normal(size=(12, 60, 4)), 0.3 * rng.normal(size=(3, 4))
    activity = np.stack([layer(rule, session, first, rng, noise) for session in inputs])
    options["initial_weights"] = "session" if kind == "hidden weights" else "shared" if seed % 2 else first
    return Recorded(inputs, {"activity": activity}, options, rule)


def bic(fit):
    """Schwarz's criterion."""
    return -2 * fit.log_likelihood_ + len(fit.coefficients_) * np.log(fit.n_observed_)


class Outcome(NamedTuple):
    """What became of one simulation.

    Attributes:
        worse: By how much the criterion of the selected rule exceeds that of the true one.
        right: Whether its terms are the true ones.
        among: Whether the true rule is among the rivals.
        averaged: Whether each true coefficient lies in its averaged interval.
        selected: Whether each coefficient of the selected rule lies in its averaged interval, wrong terms being zero.
        given_terms: The same in the interval that holds given the terms.
        true_terms: Whether each true coefficient lies in its interval where the true terms are fitted.
        status: That of the selected rule.
        fits: Number of sets of terms that were fitted.
        terms: Number of all terms.
    """

    worse: float
    right: bool
    among: bool
    averaged: list
    selected: list
    given_terms: list
    true_terms: list
    status: str
    fits: int
    terms: int


def outcome(data):
    """Fit, and compare with the rule."""
    found = PlasticityRuleInference(select="bic", **data.options).fit(data.inputs, **data.named)
    options = {name: value for name, value in data.options.items() if name != "order"}
    true = PlasticityRuleInference(terms=[*data.rule], **options).fit(data.inputs, **data.named)
    averaged = {name: (each.low, each.high) for name, each in found.averaged_.items()}

    def inside(intervals, names):
        return [bool(low <= data.rule.get(name, 0.0) <= high) for name in names for low, high in [intervals(name)]]

    return Outcome(
        bic(found) - bic(true),
        set(found.coefficients_) == set(data.rule),
        any(set(rival.coefficients) == set(data.rule) for rival in found.rivals_),
        inside(lambda name: averaged.get(name, (0.0, 0.0)), data.rule),
        inside(averaged.__getitem__, found.coefficients_),
        inside(found.intervals_.__getitem__, found.coefficients_),
        inside(true.intervals_.__getitem__, data.rule),
        found.status_,
        len(found.path_),
        len(found.path_[0].terms),
    )
