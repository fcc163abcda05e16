"""Outputs and times of fla-core's naive functions; ``sequence.py`` runs this in fla-core's environment."""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

warnings.simplefilter("ignore")
torch.set_num_threads(1)

from fla.ops.delta_rule.naive import delta_rule_chunkwise  # noqa: E402
from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule  # noqa: E402
from fla.ops.mesa_net.naive import naive_mesa_net_exact  # noqa: E402

from in_turn import clocked  # noqa: E402


def time_second(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2)


def delta(q, k, v, beta):
    return delta_rule_chunkwise(q, k, v, beta)[0]


def gated_delta(q, k, v, beta, log_decay):
    sequences = map(time_second, (q, k, v, log_decay, beta))
    return time_second(naive_chunk_gated_delta_rule(*sequences)[0])


def least_squares(*arguments):
    *sequences, ridge = arguments
    q, k, v, beta, log_decay = map(time_second, sequences)
    return time_second(naive_mesa_net_exact(q, k, v, log_decay, ridge, beta)[0])


WAYS = {"delta": delta, "gated-delta": gated_delta, "least-squares": least_squares}


def main(source: Path, target: Path, repeats: int) -> None:
    archive, outputs, seconds = np.load(source), {}, {}
    for name, way in WAYS.items():
        count = len([key for key in archive if key.startswith(f"{name}:")])
        arguments = [torch.from_numpy(archive[f"{name}:{number}"]).requires_grad_() for number in range(count)]
        outputs[name] = way(*arguments).detach().numpy()
        seconds[name] = clocked(lambda: way(*arguments).sum().backward(), repeats)  # noqa: B023  called at once
    np.savez(target.with_suffix(".npz"), **outputs)
    target.write_text(json.dumps({"version": version("fla-core"), "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
