"""An LSTM whose connections from the hidden units to the cell input change with activity while it runs."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.types import Device

from engram import checks
from engram.nn.packed import run_packed
from engram.nn.sequence import check_precision
from engram.plasticity.alpha import draw, kind, make_alpha
from engram.plasticity.kernels.dispatch import BACKENDS, LSTM, run_scan
from engram.plasticity.kernels.projection import projected
from engram.plasticity.layers import (
    check_activity,
    check_layers,
    checked_input,
    dropped,
    layer_results,
    layer_states,
    stacked,
    upper_layers,
)
from engram.plasticity.modulated import Modulated
from engram.plasticity.neuromodulator import Neuromodulator, neuromodulator_for
from engram.plasticity.rule import PlasticityRule, checked_bound
from engram.plasticity.state import PlasticLSTMState


class PlasticLSTM(nn.Module):
    """An LSTM whose connections from the hidden units to the cell input are plastic; called like ``nn.LSTM``.

        i = sigmoid(U_i x + b_i + W_i h + d_i)                  likewise f and o
        g = tanh(U_g x + b_g + (W_g + alpha * H) h)             the only plastic path
        c' = f c + i g
        h' = o tanh(c')
        m  = neuromodulator(h')                                 if the rule is modulated
        H' = rule(H, x = h, y = g, m = m)

    Args:
        input_size: Number of input features.
        hidden_size: Number of units of each layer.
        num_layers: Number of layers.
        dropout: As in ``PlasticRNN``.
        bidirectional: As in ``PlasticRNN``.
        rule: The plasticity rule; ``Modulated(clip=2.0)`` if None.
        alpha: Plasticity coefficients: ``"connection"``, ``"post"``, ``"homogeneous"``, or the rank of a product.
        neuromodulator: The module that modulates a modulated rule; if None, one with a fan-out is made.
        hebb_post: The rule's postsynaptic activity y: ``"input"`` (the cell input g), ``"recurrent"``
            (what the hidden units contribute to it before the nonlinearity), ``"cell"`` (c') or ``"hidden"`` (h').
        modulator_source: Input of the neuromodulator, ``"hidden"`` (h'), ``"cell"`` (c') or ``"previous"`` (h), which
            no kernel supports.
        read_clip: Bound of the traces where they act, (W_g + alpha * clip(H)) h, for a rule without a bound
            (``Modulated(clip=None)``); the published code calls this ``aditya``. None: no bound.
        batch_first: Whether sequences are (batch, time, features).
        backend: ``"eager"``, ``"fused"`` or ``"auto"``, as in ``PlasticRNN``.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the initial values; torch's global one if None.

    The published model of two layers has ``alpha="connection"`` and ``rule=ClippedHebb(connections=(hidden, hidden))``
    or, modulated, ``neuromodulator=Neuromodulator(hidden, "connection")`` and ``modulator_source="previous"``.

    Attributes:
        weight_ih, bias_ih: Input weights U, (4 hidden, input), and b, (4 hidden,), the gates in torch's order i, f, g,
            o; initially as in ``nn.Linear``.
        weight_hh: Fixed recurrent weights W, (4 hidden, hidden); initially as in ``nn.Linear``, but those of the cell
            input uniform in [-0.01, 0.01).
        bias_hh: d, (3 hidden,), for i, f and o only; initially as in ``nn.Linear``.
        alpha: Shaped as in ``PlasticRNN``; initially uniform in [0, 0.0001), a product within this range, and 0.0001 if
            homogeneous.
        rule, neuromodulator: Those of the first layer; the neuromodulator is None if the rule is not modulated.
        upper: The layers above the first, each a ``PlasticLSTM``; they are not called as modules, so hooks on them are
            refused.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range or unknown, or a neuromodulator has nothing to act on.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the plastic LSTM of the language models; options
    and initial values as in its code.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = PlasticLSTM(10, 20)
        >>> output, state = net(torch.randn(5, 3, 10))
        >>> output.shape, state.hidden.shape, state.cell.shape, state.trace.shape
        (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]), torch.Size([1, 3, 20]), torch.Size([1, 3, 20, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        rule: PlasticityRule | None = None,
        alpha: str | int = "post",
        neuromodulator: Neuromodulator | None = None,
        hebb_post: str = "input",
        modulator_source: str = "hidden",
        read_clip: float | None = None,
        batch_first: bool = False,
        backend: str = "auto",
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.num_layers = checks.size("num_layers", num_layers)
        self.dropout = check_layers(num_layers, dropout, bidirectional)
        self.hebb_post = checks.choice("hebb_post", hebb_post, ("input", "recurrent", "cell", "hidden"))
        self.modulator_source = checks.choice("modulator_source", modulator_source, ("hidden", "cell", "previous"))
        self.read_clip = checked_bound(read_clip, "read_clip")
        self.batch_first = batch_first
        self.backend = checks.choice("backend", backend, BACKENDS)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size, device=device, dtype=dtype))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size, device=device, dtype=dtype))
        self.bias_hh = nn.Parameter(torch.empty(3 * hidden_size, device=device, dtype=dtype))
        self.alpha = make_alpha(alpha, hidden_size, hidden_size, device=device, dtype=dtype)
        rule = checks.instance("rule", rule or Modulated(clip=2.0), PlasticityRule)  # type: ignore[type-abstract]
        self.rule = rule.to(device=self.weight_hh.device, dtype=self.weight_hh.dtype)
        self.upper: nn.ModuleList | tuple[()] = ()
        self.reset_parameters(generator)
        self.neuromodulator = neuromodulator_for(
            self.rule, neuromodulator, self.weight_hh, fan_out=True, generator=generator
        )
        self.upper = upper_layers(
            PlasticLSTM,
            num_layers - 1,
            hidden_size,
            rule=self.rule,
            alpha=alpha,
            neuromodulator=neuromodulator,
            hebb_post=hebb_post,
            modulator_source=modulator_source,
            read_clip=read_clip,
            backend=backend,
            device=device,
            dtype=dtype,
            generator=generator,
        )

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the initial weights and alpha; rule and neuromodulator keep their parameters."""
        for weight, bias in ((self.weight_ih, self.bias_ih), (self.weight_hh, self.bias_hh)):
            bound = weight.shape[1] ** -0.5
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        self.weight_hh.chunk(4)[2].uniform_(-0.01, 0.01, generator=generator)
        draw(self.alpha, 1e-4, generator)
        for layer in self.upper:
            layer.reset_parameters(generator)  # type: ignore[operator]

    def forward(
        self, input: Annotated[Tensor, "time batch input"] | PackedSequence, state: PlasticLSTMState | None = None
    ) -> tuple[Float[Tensor, "*time_batch hidden"] | PackedSequence, PlasticLSTMState]:
        """As ``PlasticRNN.forward``, without ``clamp``; the activity is the output h."""
        sequence = checked_input(self, input)
        states = layer_states(self, input, sequence, state)
        for k, layer in enumerate((self, *self.upper)):
            sequence = dropped(self, k, sequence)
            if isinstance(input, PackedSequence):
                sequence, states[k] = run_packed(layer._run_layer, sequence, input.batch_sizes, states[k])
            else:
                sequence, states[k] = layer._run_layer(sequence, states[k])
            check_activity(self, k, sequence)
        return layer_results(self, input, sequence, states)

    def _run_layer(
        self, sequence: Float[Tensor, "time batch features"], state: PlasticLSTMState
    ) -> tuple[Float[Tensor, "time batch hidden"], PlasticLSTMState]:
        """As ``PlasticRNN._run_layer``."""
        check_precision(self.weight_hh)
        admit, forget, emit = self.bias_hh.chunk(3)
        bias = self.bias_ih + torch.cat((admit, forget, torch.zeros_like(emit), emit))
        self.rule.warn_if_unstable()
        drive = projected(sequence, self.weight_ih, bias, self.backend).to(self.weight_hh.dtype)
        return run_scan(
            LSTM,
            self.backend,
            *(drive, self.weight_hh, self.alpha, self.rule, state),
            neuromodulator=self.neuromodulator,
            hebb_post=self.hebb_post,
            modulator_source=self.modulator_source,
            read_clip=self.read_clip,
        )

    def init(self, batch_size: int) -> PlasticLSTMState:
        """As ``PlasticRNN.init``."""
        return stacked([layer.init_layer(batch_size) for layer in (self, *self.upper)])  # type: ignore[no-any-return]

    def init_layer(self, batch_size: int) -> PlasticLSTMState:
        """As ``PlasticRNN.init_layer``."""
        checks.size("batch_size", batch_size)
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return PlasticLSTMState(zeros, zeros.clone(), self.rule.init(batch_size, self.hidden_size, self.hidden_size))

    def check_state(self, state: PlasticLSTMState, shape: tuple[int, ...]) -> None:
        """As ``PlasticRNN.check_state``."""
        checks.arguments()
        checks.instance("state", state, PlasticLSTMState)
        for name in ("hidden", "cell"):
            checks.tensor(f"state.{name}", getattr(state, name), (*shape, self.hidden_size), self.weight_hh)
        self.rule.check_state(state.rule, (*shape, self.hidden_size, self.hidden_size), self.weight_hh)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        layers = f"num_layers={self.num_layers}, dropout={self.dropout}, " if self.upper else ""
        return (
            f"{self.input_size}, {self.hidden_size}, {layers}alpha={kind(self.alpha)!r}, "
            f"hebb_post={self.hebb_post!r}, modulator_source={self.modulator_source!r}, read_clip={self.read_clip}, "
            f"batch_first={self.batch_first}, backend={self.backend!r}"
        )
