from __future__ import annotations

import random
import re
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.linear_model import Lasso, SGDClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.optim import SGD, Adam, Optimizer, Rprop

from engram.optim import CMAES
from engram.testing.environment import check_environment
from engram.testing.estimator import check_estimator
from engram.testing.optimizer import check_optimizer


class Walk(gymnasium.Env):
    """A random walk that ends outside [-2, 2]; ``flaw`` says what is wrong with it."""

    metadata: ClassVar = {"render_modes": []}
    shared: ClassVar = [0.0]

    def __init__(self, flaw="", mode=None, render_mode=None):
        self.flaw, self.render_mode = flaw, render_mode
        self.observation_space = Box(-10, 10, (1,), np.float32)
        self.action_space = Box(-1, 1, (1,), np.float32)
        self.position = self.shared if flaw == "shared state" else [0.0]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        self.position[0] = self.np_random.uniform(-0.5, 0.5)
        if self.flaw == "seeds numpy":
            np.random.seed(self.np_random.integers(1000))  # noqa: NPY002
        return self.observe(), {}

    def step(self, action):
        if self.flaw != "takes any action" and action not in self.action_space:
            raise ValueError(f"action = {action}: expected one of {self.action_space}")
        self.time += 1
        noise = random.gauss() if self.flaw == "global noise" else self.np_random.normal()
        self.position[0] += float(action[0]) + 0.1 * noise
        reward = np.nan if self.flaw == "no reward" and self.time == 3 else -(self.position[0] ** 2)
        return self.observe(), reward, abs(self.position[0]) > 2, False, {}

    def observe(self):
        far = 100 * (self.flaw == "far" or (self.flaw == "soon far" and self.time > 3))
        return np.array([self.position[0] + far], dtype=np.float64 if self.flaw == "float64" else np.float32)


class WalkBatch(VectorEnv):
    """The same, many at a time."""

    def __init__(self, num_envs=1, max_episode_steps=30, flaw="", mode=AutoresetMode.NEXT_STEP):
        self.num_envs, self.max_episode_steps, self.flaw, self.mode = num_envs, max_episode_steps, flaw, mode
        self.metadata = {} if flaw == "no mode" else {"autoreset_mode": mode}
        self.single_observation_space = Box(-10, 10, (1,), np.float32)
        self.single_action_space = Box(-1, 1, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.position, self.time, self.ended = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs, bool)
        self.buffer = np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            step = 0 if self.flaw == "one seed" else 1
            self.generators = [np.random.default_rng(seed + step * i) for i in range(self.num_envs)]
        rows = options["reset_mask"] if options else np.ones(self.num_envs, bool)
        for i in np.flatnonzero(rows):
            self.position[i] = self.generators[i].uniform(-0.5, 0.5)
        self.time[rows], self.ended[rows] = 0, False
        return self.observe(), {}

    def step(self, actions):
        if self.flaw != "takes any batch" and actions not in self.action_space:
            raise ValueError(f"actions = {actions}: expected one of {self.action_space}")
        resting = self.ended.copy()  # True only in mode NEXT_STEP: the others have reset by now
        for i in np.flatnonzero(~resting):
            self.position[i] += float(actions[i, 0]) + 0.1 * self.generators[i].normal()
        if self.flaw == "crosstalk":
            self.position[0] += 0.01 * actions[1:].sum()
        self.time += ~resting
        rewards = -(self.position**2) * (1 if self.flaw == "late reward" else ~resting)
        terminations = (np.abs(self.position) > 2) & ~resting
        truncations = (self.time >= self.max_episode_steps) & ~resting
        self.ended = terminations | truncations
        infos = {}
        if self.mode is AutoresetMode.SAME_STEP and self.ended.any() and self.flaw != "no final":
            infos = {"final_obs": self.observe().copy(), "_final_obs": self.ended.copy()}
        if resting.any():
            self.reset(options={"reset_mask": resting})
        if self.ended.any() and (self.mode is AutoresetMode.SAME_STEP or self.flaw == "early reset"):
            self.reset(options={"reset_mask": self.ended.copy()})
        return self.observe(), rewards, terminations, truncations, infos

    def observe(self):
        self.buffer[:, 0] = self.position
        return self.buffer if self.flaw == "one buffer" else self.buffer.copy()


@pytest.fixture
def register():
    def register(batch=None, **kwargs):
        gymnasium.register(
            "EngramTest/Walk-v0",
            entry_point=Walk,
            vector_entry_point=batch,
            max_episode_steps=30,
            kwargs=kwargs,
        )
        return "EngramTest/Walk-v0"

    yield register
    gymnasium.registry.pop("EngramTest/Walk-v0", None)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_batch_is_held_to_the_single_environment_in_every_autoreset_mode(register, mode):
    check_environment(register(WalkBatch, mode=mode))


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_environments_of_gymnasium_keep_the_contract(env_id):
    check_environment(env_id)


def test_an_environment_with_one_generator_for_the_batch_needs_the_exemption():
    check_environment("CartPole-v1", shared_generator=True)
    with pytest.raises(AssertionError, match=r"num_envs=3.*Environment i of a batch seeded s.*at step 0"):
        check_environment("CartPole-v1")


@pytest.mark.parametrize(
    ("flaw", "promise", "finding"),
    [
        ("far", "check_env", "not within the observation space"),
        ("soon far", "Observations lie in its space", "at step 4 the observations are"),
        ("float64", "check_env", "is not within the observation space"),
        ("no reward", "rewards are finite", r"at step 3 the rewards are \[nan\]"),
        ("global noise", "check_env", "Deterministic step observations"),
        ("seeds numpy", "draws from its own generators", "used the global generator of numpy"),
        ("takes any action", "outside the action space", "not a number, was accepted"),
        ("shared state", "Environment i of a batch", "at step 1 the observations are"),
    ],
)
def test_a_flawed_environment_is_refused(register, flaw, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s)Walk-v0.* breaks a promise: .*{promise}.*Found: .*{finding}"):
        check_environment(register(flaw=flaw))


@pytest.mark.parametrize(
    ("flaw", "promise", "finding"),
    [
        ("no mode", "metadata have the autoreset_mode", "(?i:autoreset_?mode)"),
        ("one buffer", "none is overwritten later", "overwrote"),
        ("one seed", "Environment i of a batch", "at step 0 the observations"),
        ("late reward", "Environment i of a batch", "the rewards are"),
        ("early reset", "Environment i of a batch", "the observations are"),
        ("crosstalk", "Environment i of a batch", "the observations are"),
        ("takes any batch", "Actions outside", "was accepted"),
    ],
)
def test_a_flawed_batch_is_refused(register, flaw, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s)vector_entry_point.*promise: .*{promise}.*Found: .*{finding}"):
        check_environment(register(WalkBatch, flaw=flaw))


def test_a_batch_without_last_observations_and_a_batch_that_mixes_its_rows_are_refused(register):
    with pytest.raises(AssertionError, match="its last observation is not in infos"):
        check_environment(register(WalkBatch, flaw="no final", mode=AutoresetMode.SAME_STEP))
    gymnasium.registry.pop("EngramTest/Walk-v0")
    with pytest.raises(AssertionError, match="actions in one environment do not affect another"):
        check_environment(register(WalkBatch, flaw="crosstalk"), shared_generator=True)


def test_an_unknown_environment_is_named():
    with pytest.raises(gymnasium.error.Error, match="Nowhere"):
        check_environment("Nowhere-v0")


class Descent(Optimizer):
    """Gradient descent with momentum; ``flaw`` says what is wrong with it."""

    def __init__(self, params, lr=0.01, *, momentum=0.9, flaw="", maximize=False, foreach=None):
        if lr < 0:
            raise ValueError("lr is negative" if flaw == "silent" else f"lr = {lr}: expected >= 0")
        super().__init__(params, {"lr": lr, "momentum": momentum, "maximize": maximize, "foreach": foreach})
        self.flaw, self.elsewhere = flaw, {}

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None and self.flaw != "no closure":
            with torch.set_grad_enabled(self.flaw != "no gradients"):
                loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = sum(float(g.square().sum()) for g in gradients if not g.is_sparse) if self.flaw == "norm" else 0.0
        for group in self.param_groups[:1] if self.flaw == "first group" else self.param_groups:
            rate = self.param_groups[0]["lr"] if self.flaw == "first rate" else group["lr"]
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self.direction(p, group), alpha=rate / (1 + 0.0 * norm))
                elif self.flaw == "idle":
                    p.mul_(0.99)
            if self.flaw == "own schedule":
                group["lr"] *= 0.99
        return None if self.flaw == "no loss" else loss

    def direction(self, p, group):
        gradient = p.grad.to_dense() * (2 if self.flaw == "sparse" and p.grad.is_sparse else 1)
        if self.flaw == "decay":
            gradient = p.grad.add_(p, alpha=0.01)
        if self.flaw == "noise":
            gradient = gradient + 1e-3 * torch.randn_like(gradient)
        if self.flaw == "uphill" or (group["maximize"] and self.flaw != "always down"):
            gradient = -gradient
        state = self.elsewhere.setdefault(p, {}) if self.flaw == "forgets" else self.state[p]
        if self.flaw == "odd state":
            state["loss"] = torch.nn.MSELoss()
        keep = 0.0 if self.flaw == "other foreach" and group["foreach"] else group["momentum"]
        state["velocity"] = keep * state.get("velocity", torch.zeros_like(p)) + gradient
        return state["velocity"]


@pytest.mark.parametrize(("optimizer", "options"), [(Descent, {}), (SGD, {"momentum": 0.9}), (Adam, {"amsgrad": True})])
def test_sound_optimizers_keep_the_contract(optimizer, options):
    check_optimizer(optimizer, **options)


@pytest.mark.parametrize(
    ("flaw", "promise", "finding"),
    [
        ("uphill", "reduces a convex quadratic", "on regression the loss fell to"),
        ("no closure", "calls the closure", "the closure was not called"),
        ("no gradients", "calls the closure", "called without gradients enabled"),
        ("no loss", "calls the closure", "step returned None"),
        ("noise", "no global generator is used", "the global generator of torch"),
        ("first rate", "its own learning rate", "with learning rates 0.1 and 0.001 twin parameters moved by"),
        ("first group", "its own learning rate", "one group was not stepped"),
        ("forgets", "continues bit for bit", "the continuation differs"),
        ("odd state", "continues bit for bit", "loss is of type MSELoss"),
        (
            "own schedule",
            "scheduler, and nothing else, sets the learning rate",
            "the learning rate is .*, the scheduler set",
        ),
        ("idle", "gradient is None stays", "a parameter without gradient moved to"),
        ("decay", "not their gradients", "a gradient changed during the step"),
        ("norm", "affects no other parameter", "a gradient of nan made another parameter"),
        ("sparse", "the same effect as a dense one", "dense: .* sparse: "),
        ("silent", "names the value", "matching '-0.125', got ValueError: lr is negative"),
        ("always down", "ascends as the default descends", ""),
        ("other foreach", "same steps as foreach=False", "differ after 20 steps"),
    ],
)
def test_a_flawed_optimizer_is_refused(flaw, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s)Descent breaks a promise: .*{promise}.*Found: .*{finding}"):
        check_optimizer(Descent, flaw=flaw)


def test_an_optimizer_that_schedulers_do_not_steer_is_refused():
    with pytest.raises(AssertionError, match=r"Rprop breaks a promise: A learning rate scheduler.*became"):
        check_optimizer(Rprop)


class Centre(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Subtracts the mean; ``flaw`` says what is wrong with it."""

    def __init__(self, flaw="", scale=1.0):
        self.flaw, self.scale = flaw, scale

    def fit(self, X, y=None):
        if self.flaw == "mutates":
            self.scale = 2.0
        self.count_, self.mean_ = 0, 0.0
        return self.update(X, reset=True)

    def partial_fit(self, X, y=None):
        """Go on with more rows."""
        if not hasattr(self, "mean_"):
            return self.fit(X)
        if self.flaw == "forgets":
            self.count_, self.mean_ = 0, 0.0
        return self.update(X, reset=False)

    def update(self, X, reset):
        X = self.validated(X, reset)
        if self.flaw == "draws":
            np.random.normal()  # noqa: NPY002
        self.count_ += len(X)
        self.mean_ = self.mean_ + (X - self.mean_).sum(axis=0) / self.count_
        return self

    def validated(self, X, reset):
        try:
            return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
        except ValueError as error:
            raise ValueError("NaN or inf found" if self.flaw == "vague" and "NaN" in str(error) else error) from None

    def transform(self, X):
        check_is_fitted(self)
        X = self.validated(X, reset=False)
        if self.flaw == "single" and X.dtype == np.float32:
            return np.full_like(X, np.nan)
        return (X - self.mean_).astype(X.dtype)


class Undocumented(Centre):
    def partial_fit(self, X, y=None):
        return super().partial_fit(X)


class Nameless(Centre):
    @property
    def get_feature_names_out(self):
        raise AttributeError("there are no names")


def test_sound_estimators_keep_the_contract():
    check_estimator(Centre())
    check_estimator(Lasso())
    reason = "its repetitions of a row are drawn in another order than a weight on it"
    names = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
    check_estimator(SGDClassifier(), exemptions=dict.fromkeys(names, reason))
    with pytest.raises(AssertionError, match=f"{names[0]}: "):
        check_estimator(SGDClassifier())
    with pytest.raises(AssertionError, match=f"exempted from checks that do not fail: {names[0]}"):
        check_estimator(Lasso(), exemptions={names[0]: reason})


@pytest.mark.parametrize(
    ("estimator", "promise", "finding"),
    [
        (Centre("mutates"), "scikit-learn's", "should not change or mutate +the parameter scale from 1.0 to 2.0"),
        (Centre("draws"), "no global generator is used", "the global generator of numpy"),
        (Centre("single"), "in float32 and in float64", "transform of float32 data is not finite"),
        (Centre("vague"), "Missing values are refused", "'NaN or inf found', does not name X"),
        (Centre("forgets"), "continues from earlier calls", "the first chunk is forgotten"),
        (Undocumented(), "partial_fit is documented", "no docstring"),
        (Nameless(), "names each column", "there are no names"),
    ],
)
def test_a_flawed_estimator_is_refused(estimator, promise, finding):
    with pytest.raises(AssertionError, match=f"(?s)breaks a promise: .*{promise}.*Found: .*{finding}"):
        check_estimator(estimator)


def test_a_function_that_makes_an_optimizer_keeps_the_contract_too():
    def slow_sgd(params, lr=1e-3):
        return torch.optim.SGD(params, lr)

    check_optimizer(slow_sgd)


@pytest.mark.parametrize("check", [check_optimizer, check_estimator])
@pytest.mark.parametrize("wrong", [3, StandardScaler])
def test_what_is_no_such_part_at_all_is_named(check, wrong):
    with pytest.raises(TypeError, match=f"= {re.escape(repr(wrong))}: expected"):
        check(wrong)


def test_an_evolution_that_draws_globally_when_it_is_told_is_refused():
    class Careless(CMAES):
        def tell(self, *fitness, **loss):
            torch.rand(1)
            super().tell(*fitness, **loss)

    with pytest.raises(AssertionError, match=r"generator alone determines.*global generator of torch"):
        check_optimizer(Careless)
