"""Data of a known rule: the activity of a layer whose weights follow it, or the choices of an animal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from engram import checks
from engram.learned.inference.rule_layer import NONLINEARITIES
from engram.learned.inference.sessions import as_sessions, inputs_of, match, padded
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
        weights: Of each session, before every step and after the last, (step + 1, input), or with a readout
            (step + 1, unit, input).
    """

    choices: list[Float[np.ndarray, " step"]]
    rewards: list[Float[np.ndarray, " step"]]
    weights: list[Float[np.ndarray, "step *input"]]


def simulate_activity(
    rule: PlasticityRule | Mapping[str, float],
    inputs: Any,
    initial_weights: Float[np.ndarray, "unit pre"],
    rng: np.random.Generator | int,
    *,
    nonlinearity: str = "sigmoid",
    input_weights: Float[np.ndarray, "unit input"] | None = None,
    eta: float = 1.0,
    rewards: Any = None,
    noise: float = 0.0,
) -> SimulatedActivity:
    """The activity of a layer, or of a recurrent network, whose weights follow a rule, with noise.

        y(t) = f(W(t) x(t)),   recorded: y + noise sd(y) N(0, 1),   W(t + 1) = rule(W(t), x(t), y(t), m(t))

    or with input weights U: y(t) = f(W(t) y(t - 1) + U x(t)), W(t + 1) = rule(W(t), y(t - 1), y(t), m(t)).

    Args:
        rule: The rule, or the coefficients of a ``TaylorRule`` of rate ``eta``.
        inputs: x: (step, input), (session, step, input), or a list of sessions.
        initial_weights: W(0) of every session, (unit, input) or for a recurrent network (unit, unit).
        rng: Source of the noise, or its seed.
        nonlinearity: f: ``"identity"``, ``"sigmoid"``, ``"tanh"`` or ``"relu"``.
        input_weights: U of a recurrent network; None: a layer.
        eta: Rate of a rule given by its coefficients.
        rewards: m of each step, for a rule with a signal, (step,) for each session.
        noise: Standard deviation of the noise, as a share of that of each unit's activity over all sessions.

    Raises:
        ValueError: An argument is out of range, shapes do not match, or a rule with a signal gets no rewards.

    Examples:
        >>> simulated = simulate_activity({"x": 1.0}, np.ones((3, 1)), np.zeros((1, 1)), 0, nonlinearity="identity")
        >>> simulated.activity[0].ravel().tolist()
        [0.0, 1.0, 2.0]
    """
    rng, rule = checks.rng("rng", rng), _rule(rule, eta)
    if rule.modulated and rewards is None:
        raise ValueError("rewards = None: expected rewards, because the rule has a signal")
    checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
    noise = checks.number("noise", noise, minimum=0)
    sessions = inputs_of(inputs)
    U = None
    if input_weights is not None:
        U = torch.from_numpy(checks.array("input_weights", input_weights, ("unit", sessions[0].shape[1])))
    initial = checks.array("initial_weights", initial_weights, ("unit", sessions[0].shape[1] if U is None else len(U)))
    signals = [np.zeros(len(x)) for x in sessions] if rewards is None else _rewards(rewards, sessions)
    x, m = torch.from_numpy(padded(sessions, 0.0)), padded(signals, 0.0)
    w = torch.from_numpy(initial).expand(len(sessions), *initial.shape)
    y, path, post = [], [w.numpy()], torch.zeros(len(sessions), len(initial), dtype=torch.float64)
    for t in range(x.shape[1]):
        pre = x[:, t] if U is None else post
        current = torch.einsum("kui,ki->ku", w, pre)
        post = NONLINEARITIES[nonlinearity](current if U is None else current + x[:, t] @ U.T)
        y.append(post.numpy())
        w = _changed(rule, w, pre, post, m[:, t])
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
    initial_weights: Float[np.ndarray, "*unit input"] | None = None,
    readout: Float[np.ndarray, " unit"] | None = None,
    nonlinearity: str | None = None,
    options: Any = None,
    modulator: Literal["reward", "rpe"] = "reward",
    baseline_window: int = 10,
    update_at: Literal["step", "chosen"] = "step",
) -> SimulatedChoices:
    """The choices of an animal whose preferences follow a rule, and the rewards it receives.

        P(choice = 1) = sigmoid(w(t) . x(t)),   w(t + 1) = rule(w(t), x(t), m(t)) where weights change

    With a readout v the probability is sigmoid(v . y(t)) for a hidden layer y(t) = f(W(t) x(t)).

    Args:
        rule: The rule, or the coefficients of a ``TaylorRule`` of rate ``eta``; without a readout its activity y is the
            logit w . x.
        inputs: x: (step, input), (session, step, input), or a list of sessions.
        rewards: What choice 1 would bring at each step, (step,) for each session; choice 0 brings nothing. With
            ``options``: whether a reward arrives at each option at the start of each trial, (trial, option); it stays
            there until the option is chosen. A trial ends when weights change.
        rng: Source of the choices, or its seed.
        eta: Rate of a rule given by its coefficients.
        initial_weights: w(0), (input,), or with a readout (unit, input); zeros if None.
        readout: v; None: no hidden layer.
        nonlinearity: f; None: tanh with a readout, else the identity.
        options: The option that each step offers, (step,) for each session, from 0: rewards are baited. None: rewards
            that are not collected are lost.
        modulator: Whether m is the reward, or its difference from the mean of the last rewards.
        baseline_window: Number of these.
        update_at: Whether weights change at every step, or where the choice is 1, such as an offer that is accepted.

    Raises:
        ValueError: An argument is out of range or unknown, or shapes do not match.

    Examples:
        >>> simulated = simulate_choices({"x m": 9.0}, np.ones((20, 1)), np.ones(20), 0)
        >>> simulated.choices[0][-5:].tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    rng, rule = checks.rng("rng", rng), _rule(rule, eta)
    checks.choice("modulator", modulator, ("reward", "rpe"))
    checks.choice("update_at", update_at, ("step", "chosen"))
    baseline_window = checks.size("baseline_window", baseline_window)
    sessions = inputs_of(inputs)
    width = sessions[0].shape[1]
    v = np.ones(1) if readout is None else checks.array("readout", readout, ("unit",))
    f = nonlinearity or ("identity" if readout is None else "tanh")
    shape = (width,) if readout is None else (len(v), width)
    start = np.zeros(shape) if initial_weights is None else initial_weights
    start = checks.array("initial_weights", start, shape)
    reward_at = _lost(_rewards(rewards, sessions)) if options is None else _baited(rewards, options, sessions)
    draws = padded([rng.random(len(session)) for session in sessions], 1.0)
    x, to_logit = torch.from_numpy(padded(sessions, 0.0)), torch.from_numpy(v)
    w = torch.from_numpy(start.reshape(len(v), width)).expand(len(sessions), len(v), width)
    choices, received, path = np.zeros(draws.shape), np.full(draws.shape, np.nan), [w.numpy()]
    last = np.zeros((len(sessions), baseline_window))
    for t in range(x.shape[1]):
        post = NONLINEARITIES[checks.choice("nonlinearity", f, NONLINEARITIES)](torch.einsum("kui,ki->ku", w, x[:, t]))
        choices[:, t] = draws[:, t] < torch.sigmoid(post @ to_logit).numpy()
        changes = (choices[:, t] == 1) | (update_at == "step")
        reward = reward_at(t, choices[:, t], changes)
        m = reward - last.mean(axis=1) if modulator == "rpe" else reward
        received[changes, t] = reward[changes]
        last[changes] = np.concatenate([last[changes, 1:], reward[changes, None]], axis=1)
        changed = _changed(rule, w, x[:, t], post, m)
        w = torch.where(torch.from_numpy(changes)[:, None, None], changed, w)
        path.append(w.numpy())
    weights, lengths = np.stack(path, axis=1), [len(session) for session in sessions]
    weights = weights[:, :, 0] if readout is None else weights
    return SimulatedChoices(
        [each[:n] for each, n in zip(choices, lengths, strict=True)],
        [each[:n] for each, n in zip(received, lengths, strict=True)],
        [each[: n + 1] for each, n in zip(weights, lengths, strict=True)],
    )


RewardAt = Callable[[int, np.ndarray, np.ndarray], np.ndarray]  # from the step, the choices, and where a trial ends


def _rewards(rewards: Any, sessions: list[np.ndarray]) -> list[np.ndarray]:
    """A finite reward of each step of each session."""
    of_sessions = match("rewards", rewards, 1, [len(session) for session in sessions])
    for k, session in enumerate(of_sessions):
        with checks.noted(session=k):
            checks.finite("rewards", session, ("step",))
    return of_sessions


def _lost(rewards: list[np.ndarray]) -> RewardAt:
    """The reward of each step, for choice 1."""
    offer = padded(rewards, 0.0)
    return lambda t, choices, ends: offer[:, t] * choices


def _baited(rewards: Any, options: Any, sessions: list[np.ndarray]) -> RewardAt:
    """Rewards that wait for their option to be chosen."""
    given = as_sessions("rewards", rewards, 2)
    if len(given) != len(sessions):
        raise ValueError(f"rewards has {len(given)} sessions: expected {len(sessions)}, as inputs have")
    numbers = match("options", options, 1, [len(session) for session in sessions])
    for k, (x, arrives, option) in enumerate(zip(sessions, given, numbers, strict=True)):
        if len(arrives) < len(x):
            raise ValueError(
                f"rewards[{k}] has {len(arrives)} trials: expected at least {len(x)}, as each step may end one"
            )
        wrong = np.argwhere(~np.isin(arrives[: len(x)], (0, 1)))
        if len(wrong):
            row, column = wrong[0].tolist()
            value = arrives[row, column]
            raise ValueError(f"rewards[{k}][{row}, {column}] = {value}: expected 1 if a reward arrives, else 0")
        if not np.isin(option, np.arange(arrives.shape[1])).all():
            raise ValueError(f"options[{k}] = {checks.shown(option)}: expected 0 to {arrives.shape[1] - 1}")
    arriving, offered = [arrives == 1 for arrives in given], [option.astype(int) for option in numbers]
    waiting = np.array([arrives[0] for arrives in arriving])
    trial = np.zeros(len(sessions), dtype=int)

    def reward_at(t: int, choices: np.ndarray, ends: np.ndarray) -> np.ndarray:
        reward = np.zeros(len(sessions))
        for k, option in enumerate(offered):
            if t >= len(option):
                continue
            if choices[k]:
                reward[k], waiting[k, option[t]] = waiting[k, option[t]], False
            if ends[k]:
                trial[k] += 1
                if trial[k] < len(arriving[k]):
                    waiting[k] |= arriving[k][trial[k]]
        return reward

    return reward_at


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
