"""A convolutional network that predicts the fitness of sequences, and how each letter would change it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int16, UInt8
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.generative.design.sequences import check_tokens
from engram.nn import initial
from engram.nn.hooks import alteration
from engram.nn.sequence import autocast
from engram.numeric.threads import in_ranges

Tokens = UInt8[np.ndarray, "sequences length"]
Energy = Callable[[Float[Tensor, "batch length vocab"]], Float[Tensor, "batch"]]


class FirstOrder(NamedTuple):
    """The value of a function of sequences, and its first-order change by each single letter.

    Attributes:
        values: f(x) of each sequence.
        changes: df/dX for each position and letter, minus that of the current letter.
    """

    values: Float[np.ndarray, "sequences"]
    changes: Float[np.ndarray, "sequences length vocab"]


class SeqCNN(nn.Module):
    r"""A convolutional network that predicts fitness from windows of letters, wherever they occur.

        f(x) = b_3 + w_3 . max_p relu(W_2 (W_1 * X)_p)

    with a convolution W_1 from ``kernel`` letters to ``channels``, a layer W_2 to twice as many, and the maximum over
    positions p. There is no nonlinearity between W_1 and W_2, so on the CPU they are merged into a table with a row for
    each letter at each position of a window, and a numba kernel sums the rows. Where a window is in the sequence is not
    an input.

    Args:
        length: Length of sequences.
        vocab: Size of the alphabet.
        channels: Outputs of the convolution; 256 as published, which gives 157,953 parameters for 20 letters.
        kernel: Letters in a window, at most ``length``.
        generator: Source of the initial values; None: torch's global one.

    Raises:
        ValueError: An argument is out of range.

    Source: Kirjner et al., ICLR 2024, section 5.1, and the published code; the table is ours.

    Examples:
        >>> net = SeqCNN(28, generator=torch.Generator().manual_seed(0))
        >>> sum(weights.numel() for weights in net.parameters())
        157953
    """

    def __init__(
        self,
        length: int,
        vocab: int = 20,
        channels: int = 256,
        kernel: int = 5,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.vocab, self.length = checks.size("vocab", vocab, 2, 255), checks.size("length", length)
        self.kernel = checks.size("kernel", kernel)
        if kernel > length:
            raise ValueError(f"kernel = {kernel}: expected at most {length}, the letters of a sequence")
        channels = checks.size("channels", channels)
        self.conv = initial.uniform(nn.Conv1d, vocab, channels, kernel, generator=generator)
        self.dense = initial.uniform(nn.Linear, channels, 2 * channels, generator=generator)
        self.readout = initial.uniform(nn.Linear, 2 * channels, 1, generator=generator)

    def forward(self, x: Tensor) -> Float[Tensor, "batch"]:
        """The fitness of sequences given as one-hot rows, (batch, length, vocab), or as uint8 tokens, (batch, length).

        Tokens give the same result, faster on the CPU, but differentiable only with respect to the parameters.
        """
        checks.instance("x", x, Tensor)
        if x.dtype != torch.uint8:
            checks.tensor("x", x, ("batch", self.length, self.vocab), self.conv.weight)
            return self._of_onehot(x)
        checks.has_shape("x", x.shape, ("batch", self.length))
        readable = checks.readable(x)
        if len(x) and readable:
            check_tokens("x", x.numpy(force=True), self.vocab)
        if not (readable and self._has_table()):
            # Not ``one_hot``, which looks at the letters.
            return self._of_onehot((x[:, :, None] == torch.arange(self.vocab, device=x.device)).to(self.conv.weight))
        window_maxima: Tensor = _LargestWindow.apply(x, *self._table())  # type: ignore[no-untyped-call]
        return self.readout(window_maxima.relu())[:, 0]  # type: ignore[no-any-return]

    def first_order(self, tokens: Tokens, n_jobs: int | None = None) -> FirstOrder:
        """The fitness of sequences, and its first-order change for all their one-letter mutants.

        Args:
            tokens: The sequences.
            n_jobs: Number of threads, as in joblib.

        Raises:
            ValueError: There is no sequence, one has another length or a token outside the alphabet, or ``n_jobs`` is
                0.
        """
        from engram.generative.design.kernels import first_order

        self._check(tokens)
        if not self._has_table() or alteration(self) or type(self).forward is not SeqCNN.forward:
            return differentiated(self, tokens, self.vocab)
        with torch.no_grad():
            table, bias = self._table()
        readout, offset = self.readout.weight.detach().numpy()[0], float(self.readout.bias.detach())
        values = np.empty(len(tokens), np.float32)
        changes = np.zeros((len(tokens), self.length, self.vocab), np.float32)
        rows = np.ascontiguousarray(tokens)
        by_unit = np.ascontiguousarray(table.numpy().reshape(self.kernel * self.vocab, -1).T)
        weights = table.numpy(), bias.numpy(), by_unit, readout, offset
        with checks.noted(n_jobs=n_jobs):
            in_ranges(lambda first, stop: first_order(rows, *weights, first, stop, values, changes), len(rows), n_jobs)
        return FirstOrder(values.astype(np.float64), changes.astype(np.float64))

    def predict(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        """The predicted fitness of sequences, as an array."""
        self._check(tokens)
        rows = np.ascontiguousarray(tokens)
        with torch.no_grad():
            device = self.conv.weight.device
            outputs = [
                self(torch.from_numpy(batch).to(device)) for batch in np.array_split(rows, -(-len(rows) // 8192))
            ]
        return torch.cat(outputs).double().cpu().numpy()

    def _check(self, tokens: Tokens) -> None:
        checks.instance("tokens", tokens, np.ndarray)
        checks.has_shape("tokens", tokens.shape, ("sequences", self.length))
        if tokens.dtype != np.uint8:
            raise ValueError(f"tokens.dtype = {tokens.dtype}: expected uint8")
        check_tokens("tokens", tokens, self.vocab)

    def _of_onehot(self, onehot: Float[Tensor, "batch length vocab"]) -> Float[Tensor, "batch"]:
        features = self.conv(onehot.transpose(1, 2)).transpose(1, 2)
        return self.readout(self.dense(features).relu().amax(1))[:, 0]  # type: ignore[no-any-return]

    def _has_table(self) -> bool:
        """Whether the kernels can run: on the CPU, in 32 bits, and if no hook, other layer or transform is skipped."""
        weight, layers = self.conv.weight, (self.conv, self.dense, self.readout)
        is_single = weight.dtype == torch.float32 and not autocast(weight.device)
        settings = self.conv.kernel_size, self.conv.stride, self.conv.padding, self.conv.dilation, self.conv.groups
        as_made = [type(layer) for layer in layers] == [nn.Conv1d, nn.Linear, nn.Linear]
        as_made &= self.length < 2**15  # the windows of the kernels are numbered in 16 bits
        as_made &= settings == ((self.kernel,), (1,), (0,), (1,), 1) and all(layer.bias is not None for layer in layers)
        as_made &= all(checks.readable(weights) for weights in self.parameters())  # no torch.func, no torch.compile
        return weight.device.type == "cpu" and is_single and as_made and not alteration(*layers)

    def _table(self) -> tuple[Float[Tensor, "kernel vocab hidden"], Float[Tensor, "hidden"]]:
        """The convolution merged with the next layer: what each letter at each position of a window adds to a unit."""
        table = self.conv.weight.permute(2, 1, 0) @ self.dense.weight.T
        bias = functional.linear(self.conv.get_parameter("bias"), self.dense.weight, self.dense.bias)
        return table.contiguous(), bias


class _LargestWindow(torch.autograd.Function):
    """The maximum of each unit over the windows of a sequence; ties go to the first window."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        from engram.generative.design.kernels import largest_window

        count, hidden = len(tokens), table.shape[2]
        window_maxima: Float32[np.ndarray, "batch hidden"] = np.empty((count, hidden), np.float32)
        at: Int16[np.ndarray, "batch hidden"] = np.empty((count, hidden), np.int16)
        rows = np.ascontiguousarray(tokens.numpy())
        largest_window(rows, table.detach().numpy(), bias.detach().numpy(), window_maxima, at)
        ctx.at, ctx.shape = at, table.shape
        ctx.save_for_backward(tokens)  # so that torch notices tokens that change before the backward pass
        return torch.from_numpy(window_maxima)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        from engram.generative.design.kernels import largest_window_backward

        (tokens,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # they are to be differentiated again: the sum that the kernel adds up, in torch
            (kernel, _, hidden), at = ctx.shape, torch.from_numpy(ctx.at).long()
            place, unit = torch.arange(kernel)[None, :, None], torch.arange(hidden)[None, None]
            letters = tokens.long().gather(1, (at[:, None] + place).flatten(1)).view(-1, kernel, hidden)
            added = grads[0][:, None].expand(letters.shape)
            of_table = grads[0].new_zeros(ctx.shape).index_put((place, letters, unit), added, accumulate=True)
            return None, of_table, grads[0].sum(0)
        rows, grad = np.ascontiguousarray(tokens.numpy()), np.zeros(ctx.shape, np.float32)
        largest_window_backward(rows, ctx.at, np.ascontiguousarray(grads[0].numpy()), grad)
        return None, torch.from_numpy(grad), grads[0].sum(0)


def differentiated(energy: Energy, tokens: Tokens, vocab: int) -> FirstOrder:
    """The values and first-order changes of any function of one-hot rows, by backpropagation.

    Args:
        energy: Differentiable function from one-hot rows, (batch, length, vocab), to a number per sequence.
        tokens: The sequences.
        vocab: Size of the alphabet.

    Raises:
        ValueError: ``vocab`` is not from 2 to 255, there is no sequence, a token is outside the alphabet, or ``energy``
            does not return one number for each sequence.

    Examples:
        >>> weights = torch.tensor([[0.0, 1.0], [0.0, 5.0]])
        >>> differentiated(lambda x: (x * weights).sum((1, 2)), np.array([[0, 1]], np.uint8), 2).changes.tolist()
        [[[0.0, 1.0], [-5.0, 0.0]]]
    """
    checks.arguments()
    check_tokens("tokens", tokens, checks.size("vocab", vocab, 2, 255))
    weight = next(energy.parameters(), None) if isinstance(energy, nn.Module) else None
    like = torch.empty(0) if weight is None else weight
    onehot = functional.one_hot(torch.from_numpy(np.ascontiguousarray(tokens)).long(), vocab).to(like).requires_grad_()
    with torch.enable_grad():
        with checks.noted(energy=energy):
            values = energy(onehot)
        checks.has_shape("energy(x)", tuple(values.shape), (len(tokens),))
        slopes = torch.autograd.grad(values.sum(), onehot)[0]
    current = (slopes * onehot).sum(2, keepdim=True)
    changes = (slopes - current).double().detach().cpu().numpy()
    return FirstOrder(values.double().detach().cpu().numpy(), changes)


def train_epoch(
    net: SeqCNN,
    optimizer: torch.optim.Optimizer,
    tokens: Tokens,
    labels: Float[np.ndarray, "sequences"],
    rng: np.random.Generator,
    *,
    batch_size: int = 1024,
    weighted: bool = True,
) -> float:
    """Train on the squared error, with as many draws as there are sequences; return the mean error.

    Sequences are drawn with replacement with weights 1 / (y - min y + 1), which favour low labels, as published. These
    weights, the initial network and the usual rates are meant for labels near 0 and of a spread near 1, so standardise
    others before; ``GGS`` does so.

    Args:
        net: The network.
        optimizer: Optimiser of the network's parameters.
        tokens: The sequences.
        labels: A label y for each sequence, with a warning if their mean or standard deviation is above 30, or the
            latter below 1/1000.
        rng: Source of minibatches.
        batch_size: Sequences per step.
        weighted: Whether draws are weighted; if not, each sequence is drawn once.

    Raises:
        ValueError: There is not a finite label for each sequence.
        FloatingPointError: The loss is not finite.

    Source: the published code of Kirjner et al., ICLR 2024.
    """
    checks.arguments()
    net._check(tokens)  # all of them, before the first batch changes the network
    checks.has_shape("labels", labels.shape, (len(tokens),))
    checks.finite("labels", labels)
    checks.size("batch_size", batch_size)
    mean, spread = float(labels.mean()), float(labels.std())
    if max(abs(mean), spread) > 30 or (spread < 1e-3 and np.ptp(labels) > 0):
        units = f"labels have mean {mean:.3g} and standard deviation {spread:.3g}: expected about 0 and 1"
        warnings.warn(f"{units}; standardise them before", UserWarning, stacklevel=2)
    if weighted:
        cumulative = np.cumsum(1 / (labels - labels.min() + 1))
        order = np.searchsorted(cumulative, rng.random(len(labels)) * cumulative[-1]).clip(max=len(labels) - 1)
    else:
        order = rng.permutation(len(labels))
    weight = net.conv.weight
    total = 0.0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        targets = torch.from_numpy(labels[batch]).to(weight)
        loss = functional.mse_loss(net(torch.from_numpy(tokens[batch]).to(weight.device)), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    if not np.isfinite(total):
        raise FloatingPointError(f"the loss is {total}: expected a finite one; try a smaller rate")
    return total / len(order)


def optimizer_of(net: nn.Module, lr: float = 1e-4, weight_decay: float = 1e-4) -> torch.optim.Optimizer:
    """Adam as published.

    Args:
        net: The network.
        lr: Learning rate, at least 0.
        weight_decay: Multiple of the weights that is added to the gradient, at least 0.

    Raises:
        ValueError: A number is negative or not finite.
    """
    checks.arguments()
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        checks.number(name, value, minimum=0)
    return torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
