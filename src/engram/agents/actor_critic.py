"""Actor-critic: policy and value head on one recurrent network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram import checks
from engram.nn.initial import uniform
from engram.plasticity import PlasticityRule, PlasticRNN


class PolicyAndValue(NamedTuple):
    """The output of an actor-critic: unnormalised log-probabilities of the actions, and values of the states."""

    logits: Float[Tensor, "*steps actions"]
    values: Float[Tensor, "*steps"]

    @property
    def probabilities(self) -> Float[Tensor, "*steps actions"]:
        """Probability of each action."""
        return self.logits.softmax(-1)

    def log_prob(self, actions: Int[Tensor, "*steps"]) -> Float[Tensor, "*steps"]:
        """The log-probability of one action for each observation."""
        checks.arguments()
        return self.logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


class ActorCritic(nn.Module):
    """A recurrent network with two linear heads: the actor (policy) and the critic (value).

        y(t)       = network(o(1), ..., o(t))
        pi(a | t)  = softmax(W_pi y(t) + b_pi)[a]
        V(t)       = w_v . y(t) + b_v

    Args:
        network: A recurrent module, called ``output, state = network(input, state=None)`` with time first, whose
            attribute ``hidden_size`` is the number of its output features, such as ``PlasticRNN`` or ``nn.LSTM``. The
            heads have the device and dtype of its parameters; if it has none, of its buffers, or torch's defaults.
        actions: Number of actions.
        generator: Source of the initial values of the heads; torch's global one if None.

    Raises:
        TypeError: ``network`` has no ``hidden_size``, or ``actions`` is not an int.
        ValueError: ``actions`` is less than 1, or the network takes the batch first.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the networks of its reinforcement tasks.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> output, state = ActorCritic(nn.RNN(17, 20), actions=4)(torch.randn(5, 3, 17))
        >>> output.logits.shape, output.values.shape
        (torch.Size([5, 3, 4]), torch.Size([5, 3]))
    """

    def __init__(self, network: nn.Module, actions: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        size = checks.size("network.hidden_size", getattr(network, "hidden_size", None))
        if getattr(network, "batch_first", False):
            raise ValueError("network.batch_first = True: expected a network that takes time first")
        checks.size("actions", actions)
        floating = (tensor for tensor in network.buffers() if tensor.is_floating_point())
        like: Tensor = next(itertools.chain(network.parameters(), floating), torch.empty(0))
        self.network = network
        options: dict[str, Any] = {"generator": generator, "device": like.device, "dtype": like.dtype}
        self.policy = uniform(nn.Linear, size, actions, **options)
        self.value = uniform(nn.Linear, size, 1, **options)

    def forward(self, input: Float[Tensor, "time batch features"], state: Any = None) -> tuple[PolicyAndValue, Any]:
        """Policy and value at each step, and the state of the network; ``state`` None starts an episode."""
        output, state = self.network(input, state)
        return PolicyAndValue(self.policy(output), self.value(output).squeeze(-1)), state

    def acting(self, batch_size: int) -> Callable[[Float[Tensor, "batch features"]], Float[Tensor, "batch actions"]]:
        """The policy as a function to be called with one observation at a time, from the start of an episode.

        It maps observations, (batch, features), to logits, (batch, actions), without a graph. The parameters must not
        change during the episode, since a ``PlasticRNN`` prepares them once.
        """
        act = self.network.acting(batch_size) if isinstance(self.network, PlasticRNN) else None
        state: Any = None

        @torch.no_grad()
        def policy(observation: Float[Tensor, "batch features"]) -> Float[Tensor, "batch actions"]:
            nonlocal state
            if act is not None:
                return self.policy(act(observation))  # type: ignore[no-any-return]
            output, state = self.network(observation.unsqueeze(0), state)
            return self.policy(output[0])  # type: ignore[no-any-return]

        return policy


def plastic_actor_critic(
    input_size: int,
    hidden_size: int,
    actions: int,
    rule: PlasticityRule | None,
    *,
    alpha: Literal["connection", "post", "homogeneous"] = "connection",
    generator: torch.Generator | None = None,
) -> ActorCritic:
    """The published network for the reinforcement tasks, an actor-critic on a ``PlasticRNN``.

    Recurrent weights and alpha are initialised uniformly from 0 to 0.01, but a single alpha is 0.01; other parameters
    have their defaults.

    Args:
        input_size: Features of an observation.
        hidden_size: Units of the recurrent network.
        actions: Number of actions.
        rule: Plasticity rule; None: no plasticity.
        alpha: Which connections share a plasticity coefficient.
        generator: Source of the initial values; torch's global one if None.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), and its published code.

    Examples:
        >>> from engram.plasticity import Modulated
        >>> sum(parameter.numel() for parameter in plastic_actor_critic(17, 100, 4, Modulated()).parameters())
        22406
    """
    network = PlasticRNN(input_size, hidden_size, rule=rule, alpha=None if rule is None else alpha, generator=generator)
    with torch.no_grad():
        network.weight_hh.uniform_(0, 0.01, generator=generator)
        if isinstance(network.alpha, nn.Parameter) and network.alpha.dim():  # a single alpha is 0.01
            network.alpha.uniform_(0, 0.01, generator=generator)
    return ActorCritic(network, actions, generator=generator)


def meta_actor_critic(network: nn.Module, actions: int, *, generator: torch.Generator | None = None) -> ActorCritic:
    """An actor-critic for meta-learning (RL^2), whose inputs contain the previous action and reward.

    The input weights of a torch recurrent network are initialised uniformly from -1 to 1, since the network has to
    multiply action and reward, which small weights hardly do; all others from -h to h, where h = hidden_size^-1/2.

    Args:
        network: A recurrent module, all of whose parameters are initialised again.
        actions: Number of actions.
        generator: Source of the initial values; torch's global one if None.

    Raises:
        TypeError, ValueError: As for ``ActorCritic``.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> bool(meta_actor_critic(nn.LSTM(9, 48), 2).network.weight_ih_l0.abs().max() > 0.9)
        True
    """
    bound = checks.size("network.hidden_size", getattr(network, "hidden_size", None)) ** -0.5
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            size = 1.0 if name == "weight_ih_l0" else bound
            parameter.uniform_(-size, size, generator=generator)
    return ActorCritic(network, actions, generator=generator)
