"""Fitness landscapes with known truth, to judge designs without a model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8

from engram import checks
from engram.generative.design.sequences import AMINO_ACIDS, Measurements, check_tokens, encode

Tokens = UInt8[np.ndarray, "sequences length"]


class Landscape:
    """A function from tokens, (sequences, length), to their fitness.

    Attributes:
        length, vocab: Length of sequences, and size of the alphabet.
        wild_type: The tokens of the sequence from which mutants are made.
    """

    length: int
    vocab: int
    wild_type: UInt8[np.ndarray, "length"]

    __repr__ = checks.described

    def __call__(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        """The fitness of each sequence.

        Raises:
            ValueError: Sequences have another length, or a token is outside the alphabet.
        """
        checks.arguments()
        checks.has_shape("tokens", tokens.shape, ("sequences", self.length))
        check_tokens("tokens", tokens, self.vocab)
        return self._fitness(tokens)

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        raise NotImplementedError


class SigmoidEpistasis(Landscape):
    r"""A protein that stays folded while its mutations cost little: a sigmoid of sums over sites and pairs.

        g(x) = 10 sigmoid((b_0 + sum_i h_i(x_i) + sum_k J_k(x_i, x_j)) / 1.5)

    Each letter other than the wild type's has h_i = -|N(0.6, 0.4)|, or for a share ``beneficial`` of them |N(0, 0.6)|.
    As many random pairs of sites as there are sites have an effect J_k ~ N(0, 0.5) if neither letter is the wild
    type's.

    Args:
        rng: Source of the random landscape.
        length: Length of sequences.
        vocab: Size of the alphabet.
        stability: b_0; the fitness of the wild type is 10 sigmoid(b_0 / 1.5).
        beneficial: Share of letters that increase the fitness.

    Source: our own stand-in for a measured landscape.

    Examples:
        >>> landscape = SigmoidEpistasis(np.random.default_rng(0))
        >>> landscape(landscape.wild_type[None]).round(2).tolist()
        [7.91]
    """

    def __init__(
        self,
        rng: np.random.Generator,
        length: int = 28,
        vocab: int = 20,
        *,
        stability: float = 2.0,
        beneficial: float = 0.12,
    ) -> None:
        checks.arguments()
        self.length, self.vocab = checks.size("length", length, 2), checks.size("vocab", vocab, 2, 255)
        self.stability = checks.number("stability", stability)
        checks.number("beneficial", beneficial, minimum=0, maximum=1)
        self.wild_type = rng.integers(self.vocab, size=self.length).astype(np.uint8)
        shape = (self.length, self.vocab)
        costs = -np.abs(rng.normal(0.6, 0.4, shape))
        self.sites = np.where(rng.random(shape) < beneficial, np.abs(rng.normal(0, 0.6, shape)), costs)
        self.sites[np.arange(self.length), self.wild_type] = 0
        draws = [rng.choice(self.length, 2, replace=False) for _ in range(self.length)]
        self.pairs = np.sort(draws, axis=1)
        self.effects = rng.normal(0, 0.5, (len(self.pairs), self.vocab, self.vocab))
        for effect, (i, j) in zip(self.effects, self.pairs, strict=True):
            effect[self.wild_type[i]] = effect[:, self.wild_type[j]] = 0

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        sites = self.sites[np.arange(self.length), tokens].sum(1)
        left, right = tokens[:, self.pairs[:, 0]], tokens[:, self.pairs[:, 1]]
        effects = self.effects[np.arange(len(self.pairs)), left, right].sum(1)
        return np.asarray(10 / (1 + np.exp(-(self.stability + sites + effects) / 1.5)))


class NK(Landscape):
    """Kauffman's landscape: each site's contribution to the fitness depends on its letter and those of k other sites.

    Contributions are drawn uniformly, and the fitness is their mean; the larger k, the more rugged the landscape.

    Args:
        rng: Source of the random landscape.
        length: Length of sequences.
        vocab: Size of the alphabet.
        k: Number of other sites, those that come next, in a circle.

    Source: Kauffman and Weinberger, "The NK model of rugged fitness landscapes" (1989).

    Examples:
        >>> NK(np.random.default_rng(0), 6, 2, k=1)(np.zeros((1, 6), np.uint8)).round(3).tolist()
        [0.624]
    """

    def __init__(self, rng: np.random.Generator, length: int = 12, vocab: int = 4, *, k: int = 2) -> None:
        checks.arguments()
        self.length, self.vocab = checks.size("length", length, 2), checks.size("vocab", vocab, 2, 255)
        self.k = checks.size("k", k, 0, self.length - 1)
        if self.vocab ** (self.k + 1) * self.length > 10**8:
            raise ValueError(f"k = {k}: a table of {vocab}^{k + 1} letters for each of {length} sites is too large")
        self.shares = rng.random((self.length, self.vocab ** (self.k + 1)))
        self.wild_type = rng.integers(self.vocab, size=self.length).astype(np.uint8)

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        entries = np.zeros(tokens.shape, np.int64)
        for step in range(self.k + 1):
            entries = entries * self.vocab + np.roll(tokens, -step, axis=1)
        return np.asarray(self.shares[np.arange(self.length), entries].mean(1))


class RoughMountFuji(Landscape):
    """A slope towards the wild type, with fixed noise for each sequence: -slope d(x, wild type) + N(0, 1).

    Args:
        rng: Source of the random landscape.
        length: Length of sequences.
        vocab: Size of the alphabet.
        slope: The cost of each differing letter; a smaller slope makes a rougher landscape.

    Source: Aita et al., "Analysis of a local fitness landscape with a model of the rough Mt. Fuji-type landscape"
    (2000), with equal slopes.

    Examples:
        >>> landscape = RoughMountFuji(np.random.default_rng(0), slope=100.0)
        >>> other = landscape.wild_type.copy()
        >>> other[:3] = (other[:3] + 1) % 20
        >>> round(float(landscape(landscape.wild_type[None])[0] - landscape(other[None])[0]), -1)
        300.0
    """

    def __init__(self, rng: np.random.Generator, length: int = 28, vocab: int = 20, *, slope: float = 0.5) -> None:
        checks.arguments()
        self.length, self.vocab = checks.size("length", length, 2), checks.size("vocab", vocab, 2, 255)
        self.slope = checks.number("slope", slope, minimum=0)
        self.wild_type = rng.integers(self.vocab, size=self.length).astype(np.uint8)
        self.seed = int(rng.integers(2**63))

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        noise = [np.random.default_rng([self.seed, *row]).standard_normal() for row in tokens.tolist()]
        return np.asarray(noise - self.slope * (tokens != self.wild_type).sum(1))


class Ehrlich(Landscape):
    r"""A landscape in which spaced motifs have to occur together, in a sequence without banned transitions.

        f(x) = prod_i h(x, a_i, s_i)  where no x_t x_t+1 is banned, else 0
        h(x, a, s) = max_t floor(q / k sum_j [x_(t + s_j) = a_j]) / q

    Most random sequences have fitness 0; the maximum is 1, that of ``optimum``. Motifs, spacings and banned transitions
    are random. Transitions to the same letter, those in ``optimum``, and those along a random circle through all
    letters are never banned, so that every letter can be reached.

    Args:
        rng: Source of the random landscape.
        length: Length of sequences.
        vocab: Size of the alphabet.
        n_motifs: Number of motifs; each fits into an equal part of the length.
        motif_length: Number k of letters in a motif, all different.
        quantization: Number of levels q above 0 at which a motif's presence is measured, at most k; None: k.
        banned: Probability that a transition is banned.

    Attributes:
        motifs, spacings: The letters of the motifs, and their offsets from the first letter, (motifs, letters).
        allowed: Whether a letter (column) may follow another (row), (vocab, vocab).
        wild_type: A sequence drawn letter by letter, uniformly from the letters that may follow.
        optimum: A sequence of fitness 1.

    Raises:
        ValueError: An argument is out of range, or the motifs do not fit.

    Source: Stanton et al., "Closed-form test functions for biophysical sequence optimization algorithms" (2024); how
    motifs and banned transitions are drawn is ours.

    Examples:
        >>> landscape = Ehrlich(np.random.default_rng(0))
        >>> landscape(np.stack([landscape.optimum, landscape.wild_type])).tolist()
        [1.0, 0.0625]
    """

    def __init__(
        self,
        rng: np.random.Generator,
        length: int = 32,
        vocab: int = 20,
        *,
        n_motifs: int = 2,
        motif_length: int = 4,
        quantization: int | None = None,
        banned: float = 0.2,
    ) -> None:
        checks.arguments()
        self.length, self.vocab = checks.size("length", length, 2), checks.size("vocab", vocab, 2, 255)
        span = self.length // checks.size("n_motifs", n_motifs, 1, self.length)
        k = checks.size("motif_length", motif_length, 1, min(span, self.vocab))
        self.quantization = k if quantization is None else checks.size("quantization", quantization, 1, k)
        checks.number("banned", banned, minimum=0, maximum=1)
        self.motifs = np.array([rng.permutation(self.vocab)[:k] for _ in range(n_motifs)], dtype=np.uint8)
        offsets = [np.sort(rng.permutation(span - 1)[: k - 1]) + 1 for _ in range(n_motifs)]
        self.spacings = np.array([[0, *motif_offsets] for motif_offsets in offsets])
        # Each letter of a motif is repeated up to the position of the next one.
        ends = np.append((self.spacings + span * np.arange(n_motifs)[:, None]).ravel()[1:], self.length)
        self.optimum = np.repeat(self.motifs.ravel(), np.diff(ends, prepend=0))
        self.allowed = rng.random((self.vocab, self.vocab)) >= banned
        circle = rng.permutation(self.vocab)
        self.allowed[circle, np.roll(circle, 1)] = True
        self.allowed[self.optimum[:-1], self.optimum[1:]] = True
        np.fill_diagonal(self.allowed, True)
        wild_type = [int(rng.integers(self.vocab))]
        while len(wild_type) < self.length:
            wild_type.append(int(rng.choice(np.flatnonzero(self.allowed[wild_type[-1]]))))
        self.wild_type = np.array(wild_type, dtype=np.uint8)

    def feasible(self, tokens: Tokens) -> Bool[np.ndarray, "sequences"]:
        """Whether each sequence has no banned transition; raises as a call does."""
        checks.arguments()
        checks.has_shape("tokens", tokens.shape, ("sequences", self.length))
        check_tokens("tokens", tokens, self.vocab)
        return self._feasible(tokens)

    def _feasible(self, tokens: Tokens) -> Bool[np.ndarray, "sequences"]:
        return np.asarray(self.allowed[tokens[:, :-1], tokens[:, 1:]].all(1))

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        present = self._feasible(tokens).astype(np.float64)
        for motif, spacing in zip(self.motifs, self.spacings, strict=True):
            starts = np.arange(self.length - spacing[-1])
            letters = (tokens[:, starts[:, None] + spacing] == motif).sum(2).max(1)
            present *= letters * self.quantization // len(motif) / self.quantization
        return present


class LookupTable(Landscape):
    """A landscape given by a table of measurements.

    Args:
        table: The fitness of each sequence; the keys are strings of equal length.
        alphabet: The letters.
        missing: The fitness of sequences that are not in the table; None: such a sequence raises an error.

    Examples:
        >>> LookupTable({"AA": 1.0, "AB": 3.0}, "AB")(np.array([[0, 1]], dtype=np.uint8)).tolist()
        [3.0]
    """

    def __init__(
        self, table: Mapping[str, float], alphabet: str = AMINO_ACIDS, *, missing: float | None = None
    ) -> None:
        checks.arguments()
        with checks.noted(table=table):
            tokens = encode(table, alphabet)
        values = checks.array("table", list(table.values()), ("sequences",))
        self.length, self.vocab = tokens.shape[1], len(alphabet)
        self.missing = None if missing is None else checks.number("missing", missing)
        self._values = {row.tobytes(): value for row, value in zip(tokens, values.tolist(), strict=True)}
        if len(self._values) < len(table):
            raise ValueError("table has two keys for one sequence, as in upper and lower case: expected one for each")
        self.wild_type = tokens[int(values.argmax())]

    def _fitness(self, tokens: Tokens) -> Float[np.ndarray, "sequences"]:
        values = [self._values.get(row.tobytes(), self.missing) for row in tokens]
        if None in values:
            raise ValueError(f"tokens[{values.index(None)}]: expected a sequence of the table, or give missing")
        return np.array(values, dtype=np.float64)


def mutants_of(
    landscape: Landscape, n: int, rng: np.random.Generator, *, mutations: float = 4.0, noise: float = 1.5
) -> Measurements:
    """Distinct mutants of a landscape's wild type, with noisy measurements of their fitness.

    Each has a random letter, possibly the original one, at min(1 + Poisson(``mutations``), 15) positions.

    Args:
        landscape: The landscape.
        n: Number of mutants.
        rng: Source of mutants and noise.
        mutations: Mean of the Poisson distribution.
        noise: Standard deviation of the noise that is added to the fitness.

    Raises:
        ValueError: ``mutations`` or ``noise`` is negative; or ``n`` is below 1, above half the number of all sequences,
            or above the number of mutants that are likely enough to be drawn.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> mutants_of(SigmoidEpistasis(rng), 5, rng).tokens.shape
        (5, 28)
    """
    checks.arguments()
    mutations, noise = (checks.number(name, value, minimum=0) for name, value in
                        (("mutations", mutations), ("noise", noise)))  # fmt: skip
    n = checks.size("n", n, 1, landscape.vocab**landscape.length // 2)
    rows: dict[bytes, np.ndarray] = {}
    max_mutations, misses = min(15, landscape.length), 0
    while len(rows) < n:
        row = landscape.wild_type.copy()
        positions = rng.choice(landscape.length, min(1 + rng.poisson(mutations), max_mutations), replace=False)
        row[positions] = rng.integers(landscape.vocab, size=len(positions))
        misses = misses + 1 if row.tobytes() in rows else 0
        if misses > 1000:
            raise ValueError(
                f"n = {n}: expected at most the number of distinct mutants with about {mutations:g} mutations"
            )
        rows.setdefault(row.tobytes(), row)
    tokens = np.array(list(rows.values()))
    return Measurements(tokens, landscape(tokens) + rng.normal(0, noise, n))
