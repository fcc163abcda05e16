"""AAV: how well variants of a segment of a virus's capsid still assemble."""

from __future__ import annotations

import csv
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from engram.tasks.data.files import DataFile, DataSet, Locate, reading

_PATH = "aav/ground_truth.csv"


class ScoredSequences(NamedTuple):
    """Sequences as strings of letters, and a score for each, the larger the better."""

    sequences: tuple[str, ...]
    scores: Float[np.ndarray, "sequences"]


def read(locate: Locate) -> ScoredSequences:
    """All rows in their order; some sequences occur more than once, with different scores."""
    path = locate(_PATH)
    with reading(path, "a table of sequences and scores", ValueError, KeyError), path.open(newline="") as lines:
        rows = [(row["sequence"], float(row["score"])) for row in csv.DictReader(lines)]
        sequences, scores = zip(*rows, strict=True)
        return ScoredSequences(sequences, np.array(scores))


AAV = DataSet(
    name="aav",
    title="AAV: 44128 variants of 28 residues of the capsid protein VP1, and how well they assemble",
    licence="see its owner",
    citation="Bryant et al. (2021), Deep diversification of an AAV capsid protein by machine learning, Nature "
    "Biotechnology 39:691-696; as tabled by Kirjner et al. (2024)",
    files=(
        DataFile(
            _PATH,
            "https://raw.githubusercontent.com/kirjner/GGS/HEAD/data/AAV/ground_truth.csv",
            "sha256:cca65e1c1c0ed54b66a77a34ce531f9f907341a3596315568aba785e34a8c9ca",
            1966143,
        ),
    ),
    read=read,
)
