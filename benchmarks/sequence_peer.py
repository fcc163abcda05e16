"""Outputs and times of fla-core's naive functions; ``sequence.py`` runs this in fla-core's environment."""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

warnings.simplefilter("ignore")
torch.set_num_threads(1)

from fla.ops.delta_rule.naive import delta_rule_chunkwise  # noqa: E402
from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule  # noqa: E402
from fla.ops.mesa_net.naive import naive_mesa_net_exact  # noqa: E402
from fla.ops.momentum_delta_rule.naive import (  # noqa: E402
    chunk_momentum_delta_rule_ref,
    recurrent_momentum_delta_rule_ref,
)
from fla.ops.titans.naive import titans_linear  # noqa: E402
from fla.ops.ttt.naive import chunk_ttt_linear_ref  # noqa: E402

from in_turn import clocked  # noqa: E402

TTT_CHUNK = 16


def time_second(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2)


def delta(q, k, v, beta, _start):
    return delta_rule_chunkwise(q, k, v, beta)[0]


def gated_delta(q, k, v, beta, log_decay, _start):
    sequences = map(time_second, (q, k, v, log_decay, beta))
    return time_second(naive_chunk_gated_delta_rule(*sequences)[0])


def momentum_arguments(q, k, v, *signals):
    """Their names: eta is the strength of the write, and beta that of the momentum in the memory, here 1."""
    beta, log_decay, log_momentum, _start = signals
    names = "q", "k", "v", "p", "eta", "log_alpha", "log_mu"
    given = dict(zip(names, map(time_second, (q, k, v, k, beta, log_decay, log_momentum)), strict=True))
    return given | {"beta": torch.ones_like(given["eta"]), "scale": 1.0}


def momentum_delta(*arguments):
    return time_second(recurrent_momentum_delta_rule_ref(**momentum_arguments(*arguments))[0])


def momentum_delta_chunks(*arguments):
    return time_second(chunk_momentum_delta_rule_ref(**momentum_arguments(*arguments))[0])


def gradient(q, k, v, beta, start):
    """The matrix after the last mini-batch, mini-batch after mini-batch, so that their bias always begins as 0."""
    heads, size = q.shape[1], q.shape[-1]
    ones, zeros, state = torch.ones(heads, size), torch.zeros(heads, size), start.transpose(-1, -2)
    # They multiply the queries that they are given in place, by ``scale``.
    sequences = [time_second(t).split(TTT_CHUNK, 1) for t in (q.clone(), k, v, beta.unsqueeze(-1))]
    for queries, keys, values, rates in zip(*sequences, strict=True):
        outcome = chunk_ttt_linear_ref(
            queries.clone(), keys, values, ones, zeros, rates, 1.0, initial_state=state, output_final_state=True
        )
        state = outcome[1]
    return state.transpose(-1, -2)


def least_squares(*arguments):
    *sequences, _start, ridge = arguments
    q, k, v, beta, log_decay = map(time_second, sequences)
    return time_second(naive_mesa_net_exact(q, k, v, log_decay, ridge, beta)[0])


WAYS = {
    "delta": delta,
    "gated-delta": gated_delta,
    "momentum-delta": momentum_delta,
    "momentum-delta, chunks": momentum_delta_chunks,
    "gradient": gradient,
    "least-squares": least_squares,
}


def titans_step(size: int = 8) -> dict[str, float]:
    """A single step of their Titans beside the gradient of its loss, |LN(k M) + k - v|^2, by autograd.

    Returns:
        The cosine of the two, and the length of the step over that of the gradient.
    """
    generator = torch.Generator().manual_seed(0)
    key, value, query = (torch.randn(1, 1, 1, size, generator=generator) for _ in range(3))
    memory = torch.randn(1, 1, size, size, generator=generator).requires_grad_()
    loss = (functional.layer_norm(key @ memory, (size,), eps=1e-6) + key - value).square().sum()
    (slope,) = torch.autograd.grad(loss, memory)
    one, rows = torch.ones(1, 1, 1, 1), (torch.ones(1, size), torch.zeros(1, size))
    with torch.no_grad():
        _, last = titans_linear(query, key, value, *rows, one, 0 * one, 0 * one, 1e-6, 1, memory, True)
        step = (memory - last).flatten()
    cosine = functional.cosine_similarity(step, slope.flatten(), dim=0)
    return {"cosine": cosine.item(), "length": (step.norm() / slope.norm()).item()}


def main(source: Path, target: Path, repeats: int) -> None:
    archive, outputs, seconds = np.load(source), {}, {}
    for name, way in WAYS.items():
        given = name.split(",")[0]
        count = len([key for key in archive if key.startswith(f"{given}:")])
        arguments = [torch.from_numpy(archive[f"{given}:{number}"]).requires_grad_() for number in range(count)]
        outputs[name] = way(*arguments).detach().numpy()
        seconds[name] = clocked(lambda: way(*arguments).sum().backward(), repeats)  # noqa: B023  called at once
        print(name, "fla-core", min(seconds[name]), flush=True)
    np.savez(target.with_suffix(".npz"), **outputs)
    target.write_text(json.dumps({"version": version("fla-core"), "seconds": seconds, "titans": titans_step()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
