"""Actor and critic on one recurrent network: what it thinks of acting, and of what is to come."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


class Judgement(NamedTuple):
    """What an actor-critic says of some observations; the leading axes are theirs.

    Attributes:
        logits: Unnormalised log-probabilities of the actions, (..., actions).
        values: Expected discounted sum of the rewards to come, (...).
    """

    logits: Float[Tensor, "*steps actions"]
    values: Float[Tensor, "*steps"]

    @property
    def probabilities(self) -> Float[Tensor, "*steps actions"]:
        """The probability of each action."""
        return self.logits.softmax(-1)

    def log_prob(self, actions: Int[Tensor, "*steps"]) -> Float[Tensor, "*steps"]:
        """Return the log-probability of some actions.

        Args:
            actions: One action for each observation.
        """
        return self.logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


class ActorCritic(nn.Module):
    """A recurrent network with two linear heads, one for the policy and one for the value.

        y(t)       = network(o(1), ..., o(t))
        pi(a | t)  = softmax(W_pi y(t) + b_pi)[a]
        V(t)       = w_v . y(t) + b_v

    It is called like the network, with a sequence, and gives what both heads say at every step. To act, call it with
    sequences of one step and hand the state on.

    Args:
        network: A recurrent module, called ``output, state = network(input, state=None)`` with time first, whose
            attribute ``hidden_size`` is the number of its output features, such as ``PlasticRNN`` or ``nn.LSTM``.
        actions: Number of actions.
        generator: Source of the initial values of the heads; torch's global one if None.

    Attributes:
        network: The recurrent module.
        policy: Policy head, an ``nn.Linear``; initially as such.
        value: Value head, likewise.

    Raises:
        TypeError: ``network`` is no module with a ``hidden_size``, or ``actions`` no int.
        ValueError: ``actions`` is less than one, or the network takes the batch first.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the networks of its reinforcement tasks.

    Examples:
        >>> agent = ActorCritic(nn.RNN(17, 20), actions=4)
        >>> judgement, state = agent(torch.randn(5, 3, 17))
        >>> judgement.logits.shape, judgement.values.shape
        (torch.Size([5, 3, 4]), torch.Size([5, 3]))
    """

    def __init__(self, network: nn.Module, actions: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        size = getattr(network, "hidden_size", None)
        if not isinstance(size, int):
            raise TypeError(f"network.hidden_size = {size!r}: expected an int, the number of its output features")
        if getattr(network, "batch_first", False):
            raise ValueError("network.batch_first = True: expected a network that takes time first")
        if not isinstance(actions, int) or isinstance(actions, bool):
            raise TypeError(f"actions = {actions!r}: expected an int")
        if actions < 1:
            raise ValueError(f"actions = {actions}: expected at least 1")
        like = next(network.parameters())
        self.network = network
        self.policy = nn.Linear(size, actions, device=like.device, dtype=like.dtype)
        self.value = nn.Linear(size, 1, device=like.device, dtype=like.dtype)
        self.reset_heads(generator)

    @torch.no_grad()
    def reset_heads(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial values of both heads anew, as ``nn.Linear`` has them.

        Args:
            generator: Source of the values; torch's global one if None.
        """
        bound = self.policy.in_features**-0.5
        for head in (self.policy, self.value):
            head.weight.uniform_(-bound, bound, generator=generator)
            head.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, input: Float[Tensor, "time batch features"], state: Any = None) -> tuple[Judgement, Any]:
        """Judge a sequence of observations.

        Args:
            input: Observations, (time, batch, features).
            state: What an earlier call returned; the start of an episode if None.

        Returns:
            Logits (time, batch, actions) and values (time, batch); and the state of the network after the last step.
        """
        output, state = self.network(input, state)
        # One product for both heads.
        heads = functional.linear(
            output,
            torch.cat((self.policy.weight, self.value.weight)),
            torch.cat((self.policy.bias, self.value.bias)),
        )
        return Judgement(heads[..., :-1], heads[..., -1]), state
