"""Cart-pole learned by proximal policy optimisation, with Adam and with preconditioned Adam."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from engram.lab import Run, setting, settings
from engram.lab.trial.unrecorded import CandidateRun
from engram.optim import FOP, auto_groups
from engram.state import check_state

GAMMA, LAMBDA, CLIP, EPOCHS, CLIP_NORM, VALUE = 0.98, 0.8, 0.2, 20, 0.5, 0.5  # as in Stable-Baselines3's zoo


@settings
class CartPole:
    """The settings of an actor and a critic, each with two layers of 64 units."""

    lr: float = setting(1e-3, "learning rate of Adam", gt=0)
    rates: tuple[float, ...] = setting((), "candidate learning rates, each of which trains another agent; none: lr")
    rho: float = setting(0.01, "learning rate of the preconditioners of the weights; 0: none", ge=0)
    structure: Literal["left", "scalar"] = setting("left", "a matrix over units, or a scalar")
    worlds: int = setting(8, "parallel environments", ge=1)
    rollout: int = setting(32, "steps of each environment between updates", ge=2)
    updates: int = setting(160, "updates, of 20 steps of the optimiser each", ge=1)


class Carts:
    """Parallel cart-poles whose state can be saved."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        carts: Any = gymnasium.make_vec("CartPole-v1", count, vectorization_mode="vector_entry_point")
        self.env = carts.unwrapped
        self.env.reset(seed=0)
        self.env.np_random = rng
        self.env.state = rng.uniform(-0.05, 0.05, (4, count))

    def observed(self) -> Tensor:
        """The observations, (poles, 4)."""
        return torch.from_numpy(self.env.state.T.astype(np.float32))

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state of all environments."""
        return {key: getattr(self.env, key) for key in ("state", "steps", "prev_done")}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore the state of all environments."""
        check_state(state, self.state_dict())
        for key, value in state.items():
            setattr(self.env, key, np.array(value))


def build(generator: torch.Generator) -> nn.ModuleDict:
    """Both networks, with orthogonal initial weights."""
    net = nn.ModuleDict()
    for name, outputs, gain in (("policy", 2, 0.01), ("value", 1, 1.0)):
        layers = [nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
        for number, scale in ((0, 2**0.5), (2, 2**0.5), (4, gain)):
            nn.init.orthogonal_(layers[number].weight, scale, generator=generator)  # type: ignore[arg-type]
            nn.init.zeros_(layers[number].bias)  # type: ignore[arg-type]
        net[name] = nn.Sequential(*layers)
    return net


def trial(config: CartPole, run: Run) -> dict[str, Any]:
    """Train one agent, at the learning rate at which another one did best if there are candidates."""
    if config.rates:
        score = partial(score_of, config, run)
        config = replace(config, lr=run.choose("learning_rate", config.rates, score), rates=())
    return train(config, run)


def score_of(config: CartPole, run: Run, lr: float) -> float:
    """The mean episode length over all of the training of an agent at a learning rate.

    Args:
        config: The settings.
        run: The run, whose generators draw the agent and its episodes.
        lr: The learning rate.
    """
    return float(train(replace(config, lr=lr), CandidateRun(run))["length"])


def train(config: CartPole, run: Run) -> dict[str, Any]:
    """Train one agent; the results are the mean episode lengths over all of training and at its end."""
    carts, net = Carts(config.worlds, run.rng), build(run.generator)
    groups = auto_groups(net, linear=config.structure) if config.rho else net.parameters()
    optimizer = FOP(groups, lr=config.lr, base="adam", eps=1e-5, rho=config.rho)
    for update in run.steps(config.updates, net=net, optimizer=optimizer, carts=carts):
        batch, lengths = rollout(net, carts, config, run.generator)
        learn(net, optimizer, batch)
        if lengths:
            run.log(update + 1, length=float(np.mean(lengths)))
    run.keep(net=net)
    over_all, last = run.ends("length", parts=1)[0], run.ends("length")[1]
    return {"length": over_all, "last_length": last}


@torch.no_grad()
def rollout(
    net: nn.ModuleDict, carts: Carts, config: CartPole, generator: torch.Generator
) -> tuple[dict[str, Tensor], list[int]]:
    """A batch to learn from, and the lengths of finished episodes.

    Args:
        net: The policy and the value network.
        carts: The environments.
        config: The settings.
        generator: Draws the actions.
    """
    record: dict[str, list[Tensor]] = {key: [] for key in ("seen", "action", "log", "reward", "over", "cut", "real")}
    lengths: list[int] = []
    for _ in range(config.rollout):
        observations, real = (
            carts.observed(),
            torch.from_numpy(~carts.env.prev_done),
        )  # the step after the end of an episode only resets
        logs = net["policy"](observations).log_softmax(1)
        action = torch.multinomial(logs.exp(), 1, generator=generator)
        _, reward, over, cut, _ = carts.env.step(action[:, 0].numpy())
        lengths += carts.env.steps[over | cut].tolist()
        outcomes = [torch.from_numpy(np.array(part)) for part in (reward, over, over | cut)]
        for key, part in zip(record, [observations, action, logs.gather(1, action), *outcomes, real], strict=True):
            record[key].append(part)
    batch = {key: torch.stack(values_by_step) for key, values_by_step in record.items()}
    values = net["value"](torch.cat([batch["seen"], carts.observed()[None]]))[..., 0]
    batch["advantage"] = advantages(batch["reward"], values, batch["over"], batch["cut"])
    batch["target"] = batch["advantage"] + values[:-1]
    return {key: part[batch["real"]] for key, part in batch.items()}, lengths


def advantages(reward: Tensor, values: Tensor, over: Tensor, cut: Tensor) -> Tensor:
    """Generalised advantage estimates, with a value of 0 after terminations and the predicted one after truncations.

    d(t) = r(t) + gamma V(t+1) - V(t),   A(t) = d(t) + gamma lambda A(t+1)

    Args:
        reward: Reward of each step, (steps, environments).
        values: Predicted values, with one more for the state after the last step.
        over: Whether the episode was terminated by the step.
        cut: Whether it ended with the step, by termination or truncation.
    """
    errors = reward + GAMMA * values[1:] * ~over - values[:-1]
    advantages, later = torch.zeros_like(errors), torch.zeros_like(errors[0])
    for t in reversed(range(len(errors))):
        advantages[t] = later = errors[t] + GAMMA * LAMBDA * ~cut[t] * later
    return advantages


def learn(net: nn.ModuleDict, optimizer: FOP, batch: dict[str, Tensor]) -> None:
    """Take several steps of the optimiser, each on the whole batch.

    Args:
        net: The policy and the value network, which are changed.
        optimizer: The optimiser.
        batch: The batch from ``rollout``.
    """
    advantage = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std() + 1e-8)
    for _ in range(EPOCHS):
        log_chance = net["policy"](batch["seen"]).log_softmax(1).gather(1, batch["action"])
        ratio = (log_chance - batch["log"]).exp()[:, 0]
        objective = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        error = (net["value"](batch["seen"])[:, 0] - batch["target"]).square()
        optimizer.zero_grad()
        (VALUE * error.mean() - objective.mean()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
