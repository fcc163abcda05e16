"""ACAS Xu: 45 small networks that advise an aircraft how to avoid another, the standard example of verification."""

from __future__ import annotations

from pathlib import Path

from engram.tasks.data.files import DataFile, DataSet, Locate

_SOURCE = "https://raw.githubusercontent.com/guykatzz/ReluplexCav2017/master/nnet/"
_FILE = "ACASXU_run2a_{}_batch_2000.nnet"
_ROWS = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
_FILES = {name: (sha256, int(size)) for name, sha256, size in map(str.split, _ROWS)}


def read(locate: Locate, network: str = "1_1") -> Path:
    """The path of the network for a previous advice (1 to 5) and a time until loss of vertical separation (1 to 9)."""
    if network not in _FILES:
        raise ValueError(f"network = {network!r}: expected '1_1' to '5_9'")
    return locate(f"acasxu/{_FILE.format(network)}")


ACASXU = DataSet(
    name="acasxu",
    title="ACAS Xu: 45 networks of 5 inputs, 6 x 50 ReLU and 5 outputs, in the format NNet; network='1_1' to '5_9'",
    licence="CC BY 4.0",
    citation="Katz, Barrett, Dill, Julian and Kochenderfer (2017), Reluplex: an efficient SMT solver for verifying "
    "deep neural networks, CAV; (C) 2016-2017 its authors and Stanford University",
    files=tuple(
        DataFile(f"acasxu/{_FILE.format(name)}", f"{_SOURCE}{_FILE.format(name)}", f"sha256:{sha256}", size)
        for name, (sha256, size) in _FILES.items()
    ),
    read=read,
)
