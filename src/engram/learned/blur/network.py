"""Networks trained by a genome: neurons with several states, a forward and a backward pass, and plastic synapses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.learned.blur.genome import Genome
from engram.nn.sequence import full_precision, precise
from engram.state import register_states

EPS_NORM = 1e-5
EPS_SYNAPSES = 1e-9
Activation = Literal["tanh", "sigmoid", "relu", "relu_tanh", "identity"]
Feedback = Literal["label", "cross_entropy", "squared_error"]
Moments = tuple[tuple[Tensor, Tensor] | None, ...]

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda z: 1 - z.tanh().square()),
    "sigmoid": (torch.sigmoid, lambda z: z.sigmoid() * (1 - z.sigmoid())),
    "relu": (torch.relu, lambda z: (z > 0).to(z)),
    "relu_tanh": (lambda z: z.tanh().relu(), lambda z: (z > 0) * (1 - z.tanh().square())),
    "identity": (lambda z: z, torch.ones_like),
}
"""Each activation and its derivative."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "channels": ("multi", "single"),
    "backward": ("symmetric", "independent", "fixed"),
    "norm": ("batch", "layer", None),
    "activation": tuple(ACTIVATIONS),
    "backward_activation": (*ACTIVATIONS, None),
    "output_activation": tuple(ACTIVATIONS),
    "backward_update": ("additive", "multiplicative", "multiplicative_second_state"),
    "saturation": ("oja", "norm", "exp", "tanh", None),
    "feedback": ("label", "cross_entropy", "squared_error"),
}


class BlurState(NamedTuple):
    """The learned state: the synapses.

    Attributes:
        W: Forward synapses of each layer, (*population, channels, post, pre + 1); the last column is the bias.
        V: Backward synapses of each layer, (*population, channels, pre, post); none where it is the transpose of W.
    """

    W: tuple[Float[Tensor, "*population channels post pre"], ...]
    V: tuple[Float[Tensor, "*population channels pre post"], ...]

    def __repr__(self) -> str:
        return checks.described(self)


register_states(BlurState)


@dataclass(frozen=True)
class BlurNetwork:
    """A network whose neurons have k states and whose synapses have k channels, trained by a genome without gradients.

    A step on inputs x and targets y, with a(0) = (x, 0, .., 0) and a bias unit that is 1 in all states:

        a(l+1) = s(norm(gain_n W(l) (a(l) nu)))                     forward, all layers
        a(L)   = (prediction, y, 0, .., 0)                          feedback
        a(l)   = s(norm(keep_n a(l) + gain_n V(l) (a(l+1) mu)))     back, layers L-1 to 1
        W(l)   = keep_s W(l) + gain_s mean (a(l) P) (a(l+1) Q^T) - |gain_s oja| W(l) sum_pre W(l)^2

    Genome and synapses are arguments of the methods. Like inputs and targets, they may have leading axes that
    broadcast: a population of genomes (16, 1), each on tasks (6,), makes synapses (16, 6). A population is one batched
    product.

    Args:
        sizes: Units of each layer, the input first.
        n_states: k, the states of a neuron, at least 2: one for the prediction and one for the label.
        channels: ``"multi"``: k channels in a synapse; ``"single"``: one for all states.
        backward: ``"symmetric"``: V is the transpose of W; ``"independent"``: it starts at random and learns;
            ``"fixed"``: it stays random.
        norm: Axes over which the inputs of units are normalised: ``"batch"``: the batch, for each unit and state;
            ``"layer"``: the batch and the units of the layer, for each state; None: no normalisation.
        norm_forward: Whether to normalise in the forward pass.
        norm_backward: Whether to normalise in the backward pass, if updates are additive.
        norm_output: Whether to normalise in the last layer too.
        activation: Activation of hidden units in the forward pass.
        backward_activation: Activation of hidden units in the backward pass; None: the same.
        output_activation: Activation of the last layer.
        derivative_states: Whether states from 1 on are s'(z) rather than s(z) in the forward pass.
        backward_update: ``"additive"``; ``"multiplicative"``: s(keep_n a V(a mu)); ``"multiplicative_second_state"``:
            the same, with state 0 left as it is.
        saturation: Bound of synapses: ``"oja"``: Oja's decay; ``"norm"``: they are divided by their norm over inputs
            when used; ``"exp"``: changes are multiplied by exp(-|W| limit); ``"tanh"``: limit tanh(W / limit); or None.
        limit: See ``saturation``.
        feedback: ``"label"``: state 1 of the last layer becomes y; ``"cross_entropy"`` (y is +1 for the class, else -1)
            and ``"squared_error"`` (halved): state 1 is multiplied by the derivative of the loss.
        use_forward_pre: Whether synapses change by the presynaptic activity from before the backward pass.
        synapse_std: Standard deviation of the initial synapses.

    Raises:
        ValueError: An argument is out of range or not one of the choices.

    Source: Sandler et al., "Meta-learning bidirectional update rules" (2021), equations 5 to 8 and appendix C. Which
    axes are normalised and the order within a step are ours, since the paper does not say; so is the mean over the
    batch, where the paper has a sum.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> network, genome = BlurNetwork.backprop((2, 8, 1), feedback="squared_error"), Genome.backprop(0.5)
        >>> state, x = network.init(generator), torch.randn(64, 2, generator=generator)
        >>> for _ in range(200):
        ...     state = network.step(genome, state, x, x[:, :1].sign())
        >>> bool((network.forward(genome, state, x).sign() == x[:, :1].sign()).float().mean() > 0.9)
        True
    """

    sizes: tuple[int, ...]
    n_states: int = 2
    channels: Literal["multi", "single"] = "multi"
    backward: Literal["symmetric", "independent", "fixed"] = "symmetric"
    norm: Literal["batch", "layer"] | None = "batch"
    norm_forward: bool = True
    norm_backward: bool = True
    norm_output: bool = True
    activation: Activation = "tanh"
    backward_activation: Activation | None = None
    output_activation: Activation = "identity"
    derivative_states: bool = False
    backward_update: Literal["additive", "multiplicative", "multiplicative_second_state"] = "additive"
    saturation: Literal["oja", "norm", "exp", "tanh"] | None = "oja"
    limit: float = 1.0
    feedback: Feedback = "label"
    use_forward_pre: bool = False
    synapse_std: float = 0.1

    def __post_init__(self) -> None:
        checks.arguments()
        if len(self.sizes) < 2:
            raise ValueError(f"sizes = {self.sizes}: expected at least an input and an output layer")
        for layer, units in enumerate(self.sizes):
            checks.size(f"sizes[{layer}]", units)
        for name, choices in CHOICES.items():
            checks.choice(name, getattr(self, name), choices)
        checks.size("n_states", self.n_states, 2)
        checks.number("limit", self.limit, above=0)
        checks.number("synapse_std", self.synapse_std, minimum=0)

    @classmethod
    def backprop(
        cls,
        sizes: tuple[int, ...],
        *,
        activation: Activation = "tanh",
        feedback: Literal["cross_entropy", "squared_error"] = "cross_entropy",
        backward: Literal["symmetric", "fixed"] = "symmetric",
        synapse_std: float = 0.1,
    ) -> BlurNetwork:
        """The network in which ``Genome.backprop`` is stochastic gradient descent, up to rounding.

        With ``backward="fixed"`` it is feedback alignment.

        Args:
            sizes: Units of each layer, the input first.
            activation: Activation of hidden units.
            feedback: The loss.
            backward: Whether errors go back by the same synapses or by fixed random ones.
            synapse_std: Standard deviation of the initial synapses.
        """
        return cls(
            sizes,
            channels="single",
            backward=backward,
            norm=None,
            activation=activation,
            backward_activation="identity",
            derivative_states=True,
            backward_update="multiplicative_second_state",
            saturation=None,
            feedback=feedback,
            synapse_std=synapse_std,
        )

    def init(
        self, generator: torch.Generator, population: tuple[int, ...] = (), dtype: torch.dtype | None = None
    ) -> BlurState:
        """Draw synapses from N(0, synapse_std^2), on the generator's device.

        Args:
            generator: Source of all randomness.
            population: Leading axes, for a population of networks with separate synapses.
            dtype: Data type of the synapses; torch's default if None.
        """
        checks.arguments()
        options: dict[str, Any] = {"generator": checks.generator(generator), "device": generator.device, "dtype": dtype}
        channels = self.n_states if self.channels == "multi" else 1

        def draw(post: int, pre: int) -> Tensor:
            return self.synapse_std * torch.randn(*population, channels, post, pre, **options)

        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        W = tuple(draw(post, pre + 1) for pre, post in pairs)
        return BlurState(W, () if self.backward == "symmetric" else tuple(draw(pre, post) for pre, post in pairs))

    def forward(
        self,
        genome: Genome,
        state: BlurState,
        x: Float[Tensor, "... batch features"],
        moments: Moments | None = None,
    ) -> Float[Tensor, "... batch outputs"]:
        """The prediction, state 0 of the last layer.

        Args:
            genome: The rule, whose mixing of states is part of the network.
            state: The synapses.
            x: Inputs.
            moments: Result of ``moments``, so that a prediction does not depend on the other samples; None: those of x.

        Raises:
            ValueError: Shapes do not match, or a single sample would be normalised over the batch.
        """
        self._check(genome, state, x, any_batch=moments is not None)
        x = precise(x, state.W[0])
        with checks.noted(state=state, x=x, moments=moments), full_precision(x.device):
            return self._forward(genome, state, x, moments)[0][-1][..., 0, :, :]

    def moments(self, genome: Genome, state: BlurState, x: Float[Tensor, "... batch features"]) -> Moments:
        """The mean and variance by which each layer is normalised; None for a layer that is not normalised.

        Args:
            genome: The rule.
            state: The synapses.
            x: Inputs.
        """
        self._check(genome, state, x)
        with full_precision(x.device):
            return self._forward(genome, state, precise(x, state.W[0]), None)[1]

    def step(
        self,
        genome: Genome,
        state: BlurState,
        x: Float[Tensor, "... batch features"],
        y: Float[Tensor, "... batch outputs"],
    ) -> BlurState:
        """The synapses after learning from one batch.

        Args:
            genome: The rule.
            state: The synapses, which are not changed.
            x: Inputs.
            y: Targets, +1 or -1; with ``"squared_error"`` any values.

        Raises:
            ValueError: Shapes do not match, or a single sample would be normalised over the batch.
        """
        self._check(genome, state, x)
        if checks.instance("y", y, Tensor).shape[-2:] != (x.shape[-2], self.sizes[-1]):
            raise ValueError(f"y.shape = {tuple(y.shape)}: expected (..., {x.shape[-2]}, {self.sizes[-1]})")
        x, y = precise(x, state.W[0]), precise(y, state.W[0])
        with full_precision(x.device):
            return self._learn(genome, state, x, y)

    def _learn(self, genome: Genome, state: BlurState, x: Tensor, y: Tensor) -> BlurState:
        leading = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])  # type: ignore[no-untyped-call]
        x = x.expand(*leading, *x.shape[-2:])
        forward_activity, _ = self._forward(genome, state, x, None)
        activity = [*forward_activity[:-1], self._with_feedback(forward_activity[-1], y)]
        for layer in range(len(self.sizes) - 2, 0, -1):
            activity[layer] = self._backward_activity(genome, state, layer, activity[layer], activity[layer + 1])
        pres = forward_activity if self.use_forward_pre else activity
        W = tuple(
            self._new_synapses(genome, weight, functional.pad(pre, (0, 1), value=1.0), post)
            for weight, pre, post in zip(state.W, pres[:-1], activity[1:], strict=True)
        )
        if self.backward != "independent":
            return BlurState(W, state.V)
        V = (self._new_synapses(genome, *layer) for layer in zip(state.V, activity[1:], activity[:-1], strict=True))
        return BlurState(W, tuple(V))

    def _forward(
        self, genome: Genome, state: BlurState, x: Tensor, moments: Moments | None
    ) -> tuple[list[Tensor], Moments]:
        """The activity of all layers, (*population, states, batch, units), and the moments used to normalise it."""
        silent = x.new_zeros(*x.shape[:-2], self.n_states - 1, *x.shape[-2:])
        activity = [torch.cat([x.unsqueeze(-3), silent], -3)]
        moments_by_layer: list[tuple[Tensor, Tensor] | None] = []
        output_layer = len(self.sizes) - 2
        for layer, weight in enumerate(state.W):
            mixed = _mixed(functional.pad(activity[-1], (0, 1), value=1.0), genome.nu * genome.gain_n[..., None, None])
            z, layer_moments = _through(mixed, self._effective_weight(weight)), None
            if self.norm is not None and self.norm_forward and (layer < output_layer or self.norm_output):
                z, layer_moments = self._normalised(genome, z, moments[layer] if moments else None)
            moments_by_layer.append(layer_moments)
            activation, derivative = ACTIVATIONS[self.activation if layer < output_layer else self.output_activation]
            if self.derivative_states:
                activity.append(torch.cat([activation(z[..., :1, :, :]), derivative(z[..., 1:, :, :])], -3))
            else:
                activity.append(activation(z))
        return activity, tuple(moments_by_layer)

    def _with_feedback(self, top: Tensor, y: Tensor) -> Tensor:
        """The last layer's activity with the feedback in state 1, and zeros in later states."""
        prediction = top[..., 0, :, :]
        if self.feedback == "label":
            feedback = y.expand_as(prediction)
        elif self.feedback == "cross_entropy":
            feedback = top[..., 1, :, :] * (prediction.softmax(-1) - (y + 1) / 2)
        else:
            feedback = top[..., 1, :, :] * (prediction - y)
        return torch.cat([torch.stack([prediction, feedback], -3), torch.zeros_like(top[..., 2:, :, :])], -3)

    def _backward_activity(
        self, genome: Genome, state: BlurState, layer: int, activity: Tensor, above: Tensor
    ) -> Tensor:
        """The activity of a hidden layer after the backward pass has reached it."""
        weight = (
            self._effective_weight(state.V[layer]) if state.V else self._effective_weight(state.W[layer])[..., :-1].mT
        )
        activation, _ = ACTIVATIONS[self.backward_activation or self.activation]
        if self.backward_update == "additive":
            u = _through(_mixed(above, genome.mu * genome.gain_n[..., None, None]), weight)
            z = torch.addcmul(u, activity, _wide(genome.keep_n))
            normalise = self.norm is not None and self.norm_backward
            return activation(self._normalised(genome, z, None)[0] if normalise else z)
        new_activity = _wide(genome.keep_n) * activity * _through(_mixed(above, genome.mu), weight)
        if self.backward_update == "multiplicative":
            return activation(new_activity)
        first_state = activity[..., :1, :, :].expand_as(new_activity[..., :1, :, :])
        return activation(torch.cat([first_state, new_activity[..., 1:, :, :]], -3))

    def _new_synapses(self, genome: Genome, weight: Tensor, pre: Tensor, post: Tensor) -> Tensor:
        """The synapses, (channels, post, pre), after a change by the activities of both sides."""
        channels = weight.shape[-3]
        pre_factor, post_factor = _mixed(pre, genome.P[..., :channels]), _mixed(post, genome.Q[..., :channels, :].mT)
        change = post_factor.mT @ (pre_factor / pre.shape[-2])
        keep, gain = _wide(genome.keep_s), _wide(genome.gain_s)
        if self.saturation == "exp":
            return weight + torch.exp(-self.limit * weight.abs()) * ((keep - 1) * weight + gain * change)
        new_weight = keep * weight + gain * change
        if self.saturation == "tanh":
            return self.limit * torch.tanh(new_weight / self.limit)
        if self.saturation == "oja":
            strength = _wide((genome.gain_s * genome.oja).abs())
            return new_weight - strength * weight * weight.square().sum(-1, keepdim=True)
        return new_weight

    def _effective_weight(self, weight: Tensor) -> Tensor:
        if self.saturation != "norm":
            return weight
        return weight / (weight.square().sum(-1, keepdim=True) + EPS_SYNAPSES).sqrt()

    def _normalised(
        self, genome: Genome, z: Tensor, moments: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The normalised input, and the mean and variance used, which are computed unless ``moments`` has them."""
        axes = (-2,) if self.norm == "batch" else (-2, -1)
        mean = moments[0] if moments else z.mean(axes, keepdim=True)
        centred = z - mean
        variance = (
            moments[1] if moments else centred.square().mean(axes, keepdim=True)
        )  # var_mean takes ten times as long
        scale = _wide(genome.norm_gain) * (variance + EPS_NORM).rsqrt()
        return torch.addcmul(_wide(genome.norm_shift), centred, scale), (mean, variance)

    def _check(self, genome: Genome, state: BlurState, x: Tensor, *, any_batch: bool = False) -> None:
        checks.instance("genome", genome, Genome)
        checks.instance("state", state, BlurState)
        checks.instance("x", x, Tensor)
        if genome.n_states != self.n_states:
            raise ValueError(f"genome is of {genome.n_states} states: expected n_states = {self.n_states}")
        if x.ndim < 2 or x.shape[-1] != self.sizes[0] or not x.shape[-2]:
            raise ValueError(
                f"x.shape = {tuple(x.shape)}: expected (..., batch, {self.sizes[0]}), with at least one sample"
            )
        if x.shape[-2] < 2 and self.norm == "batch" and not any_batch:
            raise ValueError("x holds 1 sample: expected at least 2, as norm = 'batch' takes their variance")
        shapes = [(post, pre + 1) for pre, post in zip(self.sizes, self.sizes[1:], strict=False)]
        if [tuple(weight.shape[-2:]) for weight in state.W] != shapes:
            raise ValueError(f"state.W has layers of {[tuple(w.shape[-2:]) for w in state.W]}: expected {shapes}")


def _wide(number: Tensor) -> Tensor:
    """One number for each member, shaped to multiply activities and synapses."""
    return number[..., None, None, None]


def _mixed(activity: Tensor, matrix: Tensor) -> Tensor:
    """The activity, (states, batch, units), with its states mixed by a matrix, (source, target)."""
    mixed = matrix.mT @ activity.flatten(-2)
    return mixed.reshape(*mixed.shape[:-1], *activity.shape[-2:])


def _through(activity: Tensor, weight: Tensor) -> Tensor:
    """The activity, (states, batch, pre), sent through synapses, (channels, post, pre)."""
    if weight.shape[-3] > 1:
        return activity @ weight.mT
    output = activity.flatten(-3, -2) @ weight.squeeze(-3).mT
    return output.reshape(*output.shape[:-2], *activity.shape[-3:-1], output.shape[-1])
