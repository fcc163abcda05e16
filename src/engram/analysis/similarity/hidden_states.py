"""Recording the hidden states of a recurrent module while it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from engram import checks


class HiddenStates:
    """A recorder of the outputs of a recurrent module, as trials for ``HankelDMD`` and ``DSA``.

    A module that takes sequences and so has ``batch_first``, as ``nn.RNN`` and ``PlasticRNN`` do, gives one trial for
    each member of the batch in every call; trials of packed sequences have their own lengths. A module that takes
    single steps, as ``nn.RNNCell`` does, and returns (batch, units), gives one step in every call; ``next_trials`` ends
    its trials. If the output is a tuple, its first element is recorded.

    Args:
        module: The recurrent module, or a part of a network that is one.
        batch_first: Whether the outputs are (batch, time, units) rather than (time, batch, units); needed for sequences
            of a module without ``batch_first``. None: as the module has it.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.GRU(3, 8))
        >>> with HiddenStates(net[0]) as states:
        ...     _ = net(torch.zeros(20, 4, 3))
        >>> len(states.trials), states.trials[0].shape
        (4, (20, 8))
    """

    __repr__ = checks.described

    def __init__(self, module: nn.Module, batch_first: bool | None = None) -> None:
        self._module = checks.instance("module", module, nn.Module)
        self.batch_first = batch_first if batch_first is None else checks.instance("batch_first", batch_first, bool)
        self._handle: Any = None
        self._trials: list[Float[np.ndarray, "time units"]] = []
        self._steps: list[Float[np.ndarray, "batch units"]] = []

    def __enter__(self) -> HiddenStates:
        """Start recording."""
        self._handle = self._module.register_forward_hook(self._record)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop recording; the recorded states remain."""
        self._handle.remove()
        self.next_trials()

    @property
    def trials(self) -> list[Float[np.ndarray, "time units"]]:
        """All trials that have ended, in the order of the calls."""
        return list(self._trials)

    def next_trials(self) -> None:
        """End the trials of a module that takes single steps."""
        if self._steps:
            self._trials += list(np.stack(self._steps, axis=1))
            self._steps = []

    def _record(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        batch_first = getattr(module, "batch_first", None) if self.batch_first is None else self.batch_first
        while isinstance(output, tuple) and not isinstance(output, PackedSequence):
            output = output[0]
        if isinstance(output, PackedSequence):
            padded, lengths = pad_packed_sequence(output, batch_first=True)
            values = _values(padded)
            self._trials += [trial[:length].copy() for trial, length in zip(values, lengths.tolist(), strict=True)]
        elif not isinstance(output, Tensor) or output.ndim not in (1, 2, 3):
            actual = f"{type(module).__name__} gives {type(output).__name__}"
            raise TypeError(f"{actual}: expected a tensor of up to three dimensions")
        elif output.ndim == 3:
            if batch_first is None:
                actual = f"{type(module).__name__} gives a shape of {tuple(output.shape)} and has no batch_first"
                options = "True for (batch, time, units) or False for (time, batch, units)"
                raise ValueError(f"{actual}: expected batch_first in HiddenStates, {options}")
            self._trials += list(_values(output if batch_first else output.transpose(0, 1)).copy())
        elif output.ndim == 2 and batch_first is not None:  # a single sequence
            self._trials.append(_values(output))
        else:
            step = np.atleast_2d(_values(output))
            if self._steps and self._steps[0].shape != step.shape:
                actual = f"a step of shape {step.shape} after one of {self._steps[0].shape}"
                raise ValueError(f"{actual}: call next_trials before the number of trials changes")
            self._steps.append(step)


def _values(states: Tensor) -> Float[np.ndarray, "*shape"]:
    return np.array(states.detach().to("cpu", torch.float64).numpy())
