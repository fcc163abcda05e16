"""Data of a known rule: the activity of a layer whose weights follow it, or the choices of an animal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from engram import checks
from engram.learned.inference.rule_layer import NONLINEARITIES
from engram.learned.inference.sessions import as_sessions, padded
from engram.plasticity import PlasticityRule, TaylorRule, TraceState


class SimulatedActivity(NamedTuple):
    """What would be recorded, and what would not.

    Attributes:
        activity: Of each session, (step, unit).
        weights: Of each session, before every step and after the last, (step + 1, unit, input).
    """

    activity: list[Float[np.ndarray, "step unit"]]
    weights: list[Float[np.ndarray, "step unit input"]]


class SimulatedChoices(NamedTuple):
    """What would be recorded, and what would not.

    Attributes:
        choices: Of each session, 0 or 1, (step,).
        rewards: Of each session, (step,); NaN where the weights do not change.
        weights: Of each session, before every step and after the last, (step + 1, input).
    """

    choices: list[Float[np.ndarray, " step"]]
    rewards: list[Float[np.ndarray, " step"]]
    weights: list[Float[np.ndarray, "step input"]]


def simulate_activity(
    rule: PlasticityRule | Mapping[str, float],
    inputs: Any,
    initial_weights: Float[np.ndarray, "unit input"],
    rng: np.random.Generator | int,
    *,
    nonlinearity: str = "sigmoid",
    eta: float = 1.0,
    rewards: Any = None,
    noise: float = 0.0,
) -> SimulatedActivity:
    """The activity of a feed-forward layer whose weights follow a rule, with noise.

        y(t) = f(W(t) x(t)),   recorded: y + noise sd(y) N(0, 1),   W(t + 1) = rule(W(t), x(t), y(t), m(t))

    Args:
        rule: The rule, or the coefficients of a ``TaylorRule`` of rate ``eta``.
        inputs: x: (step, input), (session, step, input), or a list of sessions.
        initial_weights: W(0) of every session.
        rng: Source of the noise, or its seed.
        nonlinearity: f: ``"identity"``, ``"sigmoid"``, ``"tanh"`` or ``"relu"``.
        eta: Rate of a rule given by its coefficients.
        rewards: m of each step, for a rule with a signal.
        noise: Standard deviation of the noise, as a share of that of each unit's activity over all sessions.

    Examples:
        >>> simulated = simulate_activity({"x": 1.0}, np.ones((3, 1)), np.zeros((1, 1)), 0, nonlinearity="identity")
        >>> simulated.activity[0].ravel().tolist()
        [0.0, 1.0, 2.0]
    """
    rng, rule = checks.rng("rng", rng), _rule(rule, eta)
    checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
    sessions = as_sessions("inputs", inputs, 2)
    initial = checks.array("initial_weights", initial_weights, ("unit", sessions[0].shape[1]))
    signals = [np.zeros(len(x)) for x in sessions] if rewards is None else as_sessions("rewards", rewards, 1)
    x, m = torch.from_numpy(padded(sessions, 0.0)), padded(signals, 0.0)
    w = torch.from_numpy(initial).expand(len(sessions), *initial.shape)
    y, path = [], [w.numpy()]
    for t in range(x.shape[1]):
        post = NONLINEARITIES[nonlinearity](torch.einsum("kui,ki->ku", w, x[:, t]))
        y.append(post.numpy())
        w = _changed(rule, w, x[:, t], post, m[:, t])
        path.append(w.numpy())
    activity = [of_session[: len(each)] for of_session, each in zip(np.stack(y, axis=1), sessions, strict=True)]
    weights = [of_session[: len(each) + 1] for of_session, each in zip(np.stack(path, axis=1), sessions, strict=True)]
    deviation = np.concatenate(activity).std(axis=0)
    recorded = [y + noise * deviation * rng.normal(size=y.shape) for y in activity]
    return SimulatedActivity(recorded, weights)


def simulate_choices(
    rule: PlasticityRule | Mapping[str, float],
    inputs: Any,
    rewards: Any,
    rng: np.random.Generator | int,
    *,
    eta: float = 1.0,
    initial_weights: Float[np.ndarray, " input"] | None = None,
    modulator: Literal["reward", "rpe"] = "reward",
    baseline_window: int = 10,
    update_at: Literal["step", "chosen"] = "step",
) -> SimulatedChoices:
    """The choices of an animal whose preferences follow a rule, and the rewards it receives.

        P(choice = 1) = sigmoid(w(t) . x(t)),   w(t + 1) = rule(w(t), x(t), m(t)) where weights change

    Args:
        rule: The rule, or the coefficients of a ``TaylorRule`` of rate ``eta``; its activity y is the logit w . x.
        inputs: x: (step, input), (session, step, input), or a list of sessions.
        rewards: What choice 1 would bring at each step, (step,) for each session; choice 0 brings nothing.
        rng: Source of the choices, or its seed.
        eta: Rate of a rule given by its coefficients.
        initial_weights: w(0); zeros if None.
        modulator: Whether m is the reward, or its difference from the mean of the last rewards.
        baseline_window: Number of these.
        update_at: Whether weights change at every step, or where the choice is 1, such as an offer that is accepted.

    Examples:
        >>> simulated = simulate_choices({"x m": 9.0}, np.ones((20, 1)), np.ones(20), 0)
        >>> simulated.choices[0][-5:].tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    rng, rule = checks.rng("rng", rng), _rule(rule, eta)
    sessions = as_sessions("inputs", inputs, 2)
    start = np.zeros(sessions[0].shape[1]) if initial_weights is None else initial_weights
    start = checks.array("initial_weights", start, (sessions[0].shape[1],))
    offered = as_sessions("rewards", rewards, 1)
    draws = padded([rng.random(len(session)) for session in sessions], 1.0)
    x, offer = torch.from_numpy(padded(sessions, 0.0)), padded(offered, 0.0)
    w = torch.from_numpy(start).expand(len(sessions), 1, len(start))
    choices, received, path = np.zeros(draws.shape), np.full(draws.shape, np.nan), [w.numpy()]
    last = np.zeros((len(sessions), baseline_window))
    for t in range(x.shape[1]):
        logit = torch.einsum("kui,ki->ku", w, x[:, t])
        choices[:, t] = draws[:, t] < torch.sigmoid(logit[:, 0]).numpy()
        changes = (choices[:, t] == 1) | (update_at == "step")
        reward = offer[:, t] * choices[:, t]
        m = reward - last.mean(axis=1) if modulator == "rpe" else reward
        received[changes, t] = reward[changes]
        last[changes] = np.concatenate([last[changes, 1:], reward[changes, None]], axis=1)
        changed = _changed(rule, w, x[:, t], logit, m)
        w = torch.where(torch.from_numpy(changes)[:, None, None], changed, w)
        path.append(w.numpy())
    weights, lengths = np.stack(path, axis=1)[:, :, 0], [len(session) for session in sessions]
    return SimulatedChoices(
        [each[:n] for each, n in zip(choices, lengths, strict=True)],
        [each[:n] for each, n in zip(received, lengths, strict=True)],
        [each[: n + 1] for each, n in zip(weights, lengths, strict=True)],
    )


def _rule(rule: PlasticityRule | Mapping[str, float], eta: float) -> PlasticityRule:
    if isinstance(rule, Mapping):
        return TaylorRule(rule, eta, dtype=torch.float64)
    return checks.instance("rule", rule, PlasticityRule)  # type: ignore[type-abstract]


@torch.no_grad()
def _changed(
    rule: PlasticityRule, w: torch.Tensor, pre: torch.Tensor, post: torch.Tensor, m: np.ndarray
) -> torch.Tensor:
    signal = torch.from_numpy(m)[:, None] if rule.modulated else None
    return rule.update(TraceState(w), pre, post, signal).trace
