"""D3G: values of transitions in continuous spaces, with a network that proposes next states."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from engram import checks
from engram.agents.action_vectors import ActionVectors
from engram.agents.inverse import InverseModel
from engram.agents.learner import Learner, adam, optimizer_step, polyak_update
from engram.agents.replay import TransitionBatch, check_outcomes, features_of, states_of
from engram.agents.twin_critic import TwinCritic
from engram.nn.mlp import mlp

States = Float[Tensor, "batch features"]
CHECK_EVERY, MAXIMUM_RATIO = 1000, 10.0  # updates between checks; largest ratio of proposed to actual step lengths


class D3G(Learner):
    """Deep deterministic dynamics gradients: a policy that proposes states, and an inverse model for the actions.

        proposal p = s + tau(s),  reachable proposal C(s) = s + f(s, I(s, p))
        y = r + gamma (1 - d) min_i Qi_target(s', C_target(s')),  L_Q = mse(Q1(s, s'), y) + mse(Q2(s, s'), y)
        L_I = mse(I(s, s'), a),  L_f = mse(f(s, a), s' - s)
        every second update  L_tau = -mean Q1(s, C(s)) + w mse(C(s), p)

    C_target uses the target copy of tau. With ``cycle="value"`` f takes the value of the transition, not the action,
    C(s) = s + f(s, Q1(s, p)), so that states and rewards are enough to learn from; with ``cycle="none"`` C(s) = p.

    It does not suit stochastic environments, or rewards that depend on the action: it averages over actions. Losses of
    states have the units of the states: if features have different units, standardise them by ``normalise``. Represent
    angles by sine and cosine.

    Args:
        observation_space: A ``Box`` of vectors.
        action_space: A ``Box`` with finite bounds, or a ``Discrete``.
        generator: Source of all randomness.
        hidden: Units of the hidden layers.
        gamma: Discount for each step, from 0 to 1.
        learning_rate: Learning rate of Adam.
        polyak: Fraction of the way that the target copies of Q and tau move at each update of tau.
        policy_every: Updates of the critic for each update of tau.
        cycle: ``"model"``, ``"value"`` or ``"none"``.
        cycle_weight: w, at least 0; ``"auto"``: the mean of |Q1|, for returns much larger than states.
        inverse_loss: L_I: ``"mse"``, or for discrete actions also ``"cross-entropy"``.
        device: Where to compute.

    Attributes:
        critic, tau, inverse, forward_model: The networks Q, tau, I and f; f is None with ``cycle="none"``.

    Source: Edwards et al., "Estimating Q(s,s') with deep deterministic dynamics gradients" (2020).

    Examples:
        >>> box = spaces.Box(-1.0, 1.0, (2,))
        >>> agent = D3G(box, box, generator=torch.Generator().manual_seed(0))
        >>> agent.act([[0.0, 0.0]]).shape, agent.propose([[0.0, 0.0]]).shape
        ((1, 2), (1, 2))
    """

    parts = ("critic", "target_critic", "tau", "target_tau", "inverse", "forward_model", "optimizer", "tau_optimizer")

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        generator: torch.Generator,
        hidden: Sequence[int] = (256, 256),
        gamma: float = 0.99,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        policy_every: int = 2,
        cycle: Literal["model", "value", "none"] = "model",
        cycle_weight: float | Literal["auto"] = 1.0,
        inverse_loss: Literal["mse", "cross-entropy"] = "mse",
        device: torch.device | str = "cpu",
    ) -> None:
        checks.arguments()
        self.actions, self.action_space = ActionVectors(action_space, device), action_space
        self.features, self.generator = features_of(observation_space), checks.generator(generator)
        self.hidden, self.device = tuple(hidden), torch.device(device)
        self.gamma = checks.number("gamma", gamma, minimum=0, maximum=1)
        self.polyak = checks.number("polyak", polyak, above=0, maximum=1)
        self.policy_every = checks.size("policy_every", policy_every)
        self.learning_rate = checks.number("learning_rate", learning_rate, minimum=0)
        self.cycle = checks.choice("cycle", cycle, ("model", "value", "none"))
        self.cycle_weight: float | str = cycle_weight
        if cycle_weight != "auto":
            self.cycle_weight = checks.number("cycle_weight", cycle_weight, minimum=0)
        self.inverse_loss = inverse_loss
        features = self.features
        self.critic = TwinCritic(2 * features, hidden, generator=generator).to(device)
        self.tau = mlp(features, hidden, features, generator=generator).to(device)
        self.target_critic, self.target_tau = deepcopy(self.critic), deepcopy(self.tau)
        for slow in (self.target_critic, self.target_tau):
            slow.requires_grad_(False)
        self._target_parameters = [*self.target_critic.parameters(), *self.target_tau.parameters()]
        self._parameters = [*self.critic.parameters(), *self.tau.parameters()]
        self.tau_optimizer = adam(self.learning_rate, self.tau)
        self.inverse, self.forward_model = self._new_inverse(), self._new_forward()
        self.optimizer = self._new_optimizer()
        self.shift = torch.zeros(features, dtype=torch.float64, device=device)
        self.scale = torch.ones(features, device=device)
        self.updates = 0

    def normalise(self, states: States) -> None:
        """Standardise the inputs of all networks by the mean and standard deviation of ``states``, before any update.

        A feature that does not vary is only centred.
        """
        checks.arguments()
        if self.updates or self.optimizer.state:  # which update_inverse fills without an update of the values
            updates = f"{self.updates} updates" if self.updates else "update_inverse"
            raise RuntimeError(f"normalise after {updates}: expected before the first")
        checks.has_shape("states", tuple(states.shape), ("batch", self.features))
        if not len(states):
            raise ValueError(f"states.shape = {tuple(states.shape)}: expected at least one state")
        checks.finite("states", states)
        # Double precision, in which states far from 0 keep their differences from it.
        deviation, self.shift = states.std(0).to(self.scale), states.mean(0).to(self.shift.device).double()
        self.scale = torch.where(deviation > 0, deviation, 1.0)

    @torch.no_grad()
    def act(self, observations: Any, noise: float = 0.0) -> Shaped[Any, "batch ..."]:
        """The actions that lead to the proposals, I(s, s + tau(s)).

        Args:
            observations: The states s, (batch, features).
            noise: Standard deviation of normal noise, as a multiple of half the range of an action; for discrete
                actions, the probability of a random one. 0: no noise.

        Raises:
            ValueError: ``noise`` is negative, or ``observations`` have another shape or a number that is not finite.
        """
        s = self._scaled_states(observations)
        checks.finite("observations", s)
        return self.actions.decode(self.actions.explore(self.inverse(s, s + self.tau(s)), noise, self.generator))

    @torch.no_grad()
    def propose(self, observations: Any, cycled: bool = True) -> Float[Any, "batch features"]:
        """The proposed next states, C(s) if ``cycled``, else p = s + tau(s), for observations s, (batch, features)."""
        checks.arguments()
        s = self._scaled_states(observations)
        p = s + self.tau(s)
        proposals = self._reachable(s, p, self.critic) if cycled else p
        units = states_of(observations, self.features, self.device, dtype=None).dtype
        return (proposals * self.scale + self.shift.to(units)).numpy(force=True)

    def targets(self, batch: TransitionBatch) -> Float[Tensor, "batch"]:
        """The targets y of the critic; ValueError unless each state has one reward and one termination."""
        return self._targets(self._scaled(batch))

    def update(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Train the networks on a batch: values, dynamics and, every few updates, proposals; return the losses.

        Raises:
            ValueError: The actions of the batch do not fit the space, or are None although the cycle is not
                ``"value"``.
        """
        checks.arguments()
        if batch.actions is not None or self.cycle != "value":
            self.actions.checked(batch.actions)
        batch = self._scaled(batch)
        s, next_states = batch.states, batch.next_states
        y = self._targets(batch)
        losses = {"critic_loss": self.critic.loss(torch.cat([s, next_states], 1), y)}
        losses |= self._dynamics_losses(batch)
        self._optimizer_step(losses, self.critic)
        self.updates += 1
        if self.updates % self.policy_every == 0:
            losses["tau_loss"] = self._tau_loss(s)
            optimizer_step(self.tau_optimizer, [losses["tau_loss"]], self.tau)
            polyak_update(self._target_parameters, self._parameters, self.polyak)
        if self.updates % CHECK_EVERY == 0:
            self._warn_of_divergence(s, next_states)
        return {name: loss.detach() for name, loss in losses.items()}

    def update_inverse(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Train only the models of actions: I, and f if it takes actions; values and proposals do not change."""
        checks.arguments()
        self.actions.checked(batch.actions)
        losses = self._dynamics_losses(self._scaled(batch), values=False)
        self._optimizer_step(losses)
        return {name: loss.detach() for name, loss in losses.items()}

    def reset_inverse(self, inverse: nn.Module | None = None) -> None:
        """Replace I, and f if it takes actions, for an agent with other actuators.

        Args:
            inverse: A module that maps states and next states, standardised if ``normalise`` was called, to actions;
                either an ``InverseModel`` or an exact one without parameters; None: a new ``InverseModel``.
        """
        self.inverse = self._new_inverse() if inverse is None else checks.instance("inverse", inverse, nn.Module)
        if self.cycle == "model":
            self.forward_model = self._new_forward()
        old_optimizer, self.optimizer = self.optimizer, self._new_optimizer()
        for group in self.optimizer.param_groups:  # the remaining parameters keep their state
            for parameter in group["params"]:
                if parameter in old_optimizer.state:
                    self.optimizer.state[parameter] = old_optimizer.state[parameter]

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the generator."""
        return {**super().state_dict(), "shift": self.shift, "scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        super().load_state_dict(state)
        self.shift, self.scale = (state[name].to(self.device, copy=True) for name in ("shift", "scale"))

    def _new_inverse(self) -> nn.Module:
        kind: Any = self.inverse_loss
        inverse = InverseModel(self.features, self.action_space, self.hidden, kind=kind, generator=self.generator)
        inverse.vectors = self.actions
        return inverse.to(self.device)

    def _new_forward(self) -> nn.Sequential | None:
        if self.cycle == "none":
            return None
        cause_size = self.actions.size if self.cycle == "model" else 1
        return mlp(self.features + cause_size, self.hidden, self.features, generator=self.generator).to(self.device)

    def _new_optimizer(self) -> torch.optim.Adam:
        models = [self.inverse] if self.forward_model is None else [self.inverse, self.forward_model]
        return adam(self.learning_rate, self.critic, *models)

    def _scaled_states(self, observations: Any) -> States:
        states = states_of(observations, self.features, self.device, dtype=None)
        scaled: States = ((states - self.shift.to(states)) / self.scale).float()
        return scaled

    def _scaled(self, batch: TransitionBatch) -> TransitionBatch:
        checks.arguments()
        states, next_states = self._scaled_states(batch.states), self._scaled_states(batch.next_states)
        return batch._replace(states=states, next_states=next_states)

    def _reachable(self, s: States, p: States, critic: TwinCritic) -> States:
        """C(s) for the proposal p."""
        if self.forward_model is None:
            return p
        cause = self.inverse(s, p) if self.cycle == "model" else critic.first(torch.cat([s, p], 1))[:, None]
        reachable: States = s + self.forward_model(torch.cat([s, cause], 1))
        return reachable

    @torch.no_grad()
    def _targets(self, batch: TransitionBatch) -> Float[Tensor, "batch"]:
        check_outcomes(batch)
        next_states = batch.next_states
        proposal = self._reachable(next_states, next_states + self.target_tau(next_states), self.target_critic)
        target_q = self.target_critic(torch.cat([next_states, proposal], 1)).amin(0)
        target_q = target_q.masked_fill(batch.terminated == 1, 0)
        return torch.addcmul(batch.rewards, 1 - batch.terminated, target_q, value=self.gamma)

    def _dynamics_losses(self, batch: TransitionBatch, values: bool = True) -> dict[str, Float[Tensor, ""]]:
        """L_I, if there are actions, and L_f; without ``values``, L_f only if f takes actions."""
        s, next_states, losses = batch.states, batch.next_states, {}
        inverse: Any = self.inverse
        if batch.actions is not None and any(parameter.requires_grad for parameter in inverse.parameters()):
            losses["inverse_loss"] = (
                inverse.loss(s, next_states, batch.actions)
                if isinstance(inverse, InverseModel)
                else nn.functional.mse_loss(inverse(s, next_states), batch.actions)
            )
        if self.forward_model is not None and (self.cycle == "model" or values):
            cause = batch.actions
            if self.cycle == "value":
                with torch.no_grad():
                    cause = self.target_critic.first(torch.cat([s, next_states], 1))[:, None]
            assert cause is not None
            change = self.forward_model(torch.cat([s, cause], 1))
            losses["forward_loss"] = nn.functional.mse_loss(change, next_states - s)
        return losses

    def _optimizer_step(self, losses: dict[str, Float[Tensor, ""]], *networks: nn.Module) -> None:
        """Take an optimiser step on the losses, in ``networks`` and in the dynamics models that have a loss."""
        models = {"inverse_loss": self.inverse, "forward_loss": self.forward_model}
        dynamics = [model for name, model in models.items() if name in losses and model is not None]
        if losses:
            optimizer_step(self.optimizer, list(losses.values()), *networks, *dynamics)

    def _tau_loss(self, s: States) -> Float[Tensor, ""]:
        p = s + self.tau(s)
        reachable = self._reachable(s, p, self.critic)
        values = self.critic.first(torch.cat([s, reachable], 1))
        if self.forward_model is None:
            return -values.mean()
        weight = self.cycle_weight if isinstance(self.cycle_weight, float) else values.detach().abs().mean()
        return -values.mean() + weight * nn.functional.mse_loss(reachable, p)

    @torch.no_grad()
    def _warn_of_divergence(self, s: States, next_states: States) -> None:
        proposed, actual = self.tau(s).norm(dim=1).mean(), (next_states - s).norm(dim=1).quantile(0.99)
        if proposed > MAXIMUM_RATIO * actual:
            steps = f"D3G: proposed steps are {float(proposed):.3g} long on average, actual ones {float(actual):.3g}"
            cycle = " without a cycle" if self.cycle == "none" else ""
            warnings.warn(f"{steps}: their values are extrapolated, and diverge{cycle}", RuntimeWarning, stacklevel=3)
