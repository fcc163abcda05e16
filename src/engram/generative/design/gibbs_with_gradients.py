"""Gibbs with gradients: single-letter mutations drawn by their first-order gain, for a small population."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from engram import checks
from engram.generative.design.constraints import Constraints
from engram.generative.design.seq_cnn import Energy, FirstOrder, SeqCNN, differentiated
from engram.generative.design.sequences import check_tokens

Tokens = UInt8[np.ndarray, "sequences length"]
Accept = Literal["balanced", "paper", "author", "always", "greedy"]
MOST_CLUSTERED = 15_000  # sequences; the distances between all pairs take a gigabyte


class Population(NamedTuple):
    """Sequences and their scores: energies, or measurements for the initial sequences."""

    tokens: Tokens
    scores: Float[np.ndarray, "sequences"]


class Round(NamedTuple):
    """Statistics of a round.

    Attributes:
        parents: Number of sequences whose mutants were proposed.
        proposed: Proposals that change a letter.
        accepted: The share of these that was accepted.
        unique: Number of distinct new sequences among those accepted.
    """

    parents: int
    proposed: int
    accepted: float
    unique: int


class GibbsWithGradients:
    r"""A sampler of one-letter mutants, drawn by the energy's gradient and accepted or rejected, round by round.

    Let d(x)_ij be the first-order change of the energy by letter j at position i. A proposal is drawn from

        q(i, j | x) = softmax(d(x) / tau)

    over all positions and letters; proposals of the current letter are dropped. All proposals of a round have the same
    parents, which are dropped as well: this is a broad search, not a Markov chain. With the energy f, the mutant x' and
    the probability q(x | x') of the reverse move, a mutant is accepted with probability min(1, r):

    - ``"balanced"``: r = exp((f' - f) / T) q(x | x') / q(x' | x) with T = tau / 2, the temperature for which q is the
      locally balanced proposal; a single chain would leave exp(f / T) invariant.
    - ``"paper"``: r = exp(f' - f) q(x | x') / q(x' | x), which rejects many large improvements.
    - ``"author"``: as in the published code, a mutant is accepted if u > exp(f' - f) q(stay at i | x') / q(x' | x) for
      a uniform u. Compared with the paper, the inequality is reversed, and the reverse probability is a different one.
    - ``"always"`` accepts every mutant, ``"greedy"`` every mutant with f' > f.

    Args:
        energy: A ``SeqCNN``, or any differentiable function of one-hot rows (batch, length, vocab).
        temperature: tau, above 0, in units of the energy: for a network fitted to standardised labels, in units of
            their spread.
        n_proposals: Number of proposals drawn for each parent.
        accept: The acceptance rule.
        clusters: Largest number of parents in a round, the best of each cluster.
        vocab: Size of the alphabet; ignored for a ``SeqCNN``, which has its own.
        constraints: Fixed positions, and a largest number of mutations, of all sequences; moves that break them have
            probability 0. None: all moves.

    Raises:
        ValueError: An argument is out of range.

    Source: Grathwohl et al., "Oops I took a gradient" (2021); Kirjner et al., ICLR 2024, algorithm 2, and the published
    code; the balanced rule is ours.

    Examples:
        >>> import torch
        >>> slope = torch.tensor([0.0, 1.0])
        >>> sampler = GibbsWithGradients(lambda x: (x * slope).sum((1, 2)), vocab=2)
        >>> start = Population(np.zeros((1, 3), np.uint8), np.zeros(1))
        >>> final, rounds = sampler.run(start, 2, np.random.default_rng(0))
        >>> final.tokens.sum(1).tolist()
        [2, 2, 2]
    """

    __repr__ = checks.described

    def __init__(
        self,
        energy: SeqCNN | Energy,
        temperature: float = 0.1,
        n_proposals: int = 100,
        accept: Accept = "balanced",
        *,
        clusters: int = 128,
        vocab: int = 20,
        constraints: Constraints | None = None,
    ) -> None:
        if not callable(energy):
            raise TypeError(f"energy = {energy!r}: expected a SeqCNN, or a function of one-hot rows")
        self.energy = energy
        self.temperature = checks.number("temperature", temperature, above=0)
        self.n_proposals = checks.size("n_proposals", n_proposals)
        self.accept: Accept = checks.choice("accept", accept, get_args(Accept))
        self.clusters = checks.size("clusters", clusters)
        self.vocab = energy.vocab if isinstance(energy, SeqCNN) else checks.size("vocab", vocab, 2, 255)
        self.constraints = None if constraints is None else checks.instance("constraints", constraints, Constraints)

    def first_order(self, tokens: Tokens) -> FirstOrder:
        """The energy of sequences, and its first-order change by each move; -infinity if it breaks the constraints."""
        if isinstance(self.energy, SeqCNN):
            order = self.energy.first_order(tokens)
        else:
            order = differentiated(self.energy, tokens, self.vocab)
        if self.constraints is None:
            return order
        return order._replace(changes=np.where(self.constraints.moves(tokens, self.vocab), order.changes, -np.inf))

    def _checked_first_order(self, tokens: Tokens) -> FirstOrder:
        """``first_order``; raise ValueError if an energy or its gradient is not finite."""
        order = self.first_order(tokens)
        checks.finite("energy(x)", order.values)
        is_wrong = ~(order.changes < np.inf).all((1, 2))  # also NaN; -infinity is a move that breaks the constraints
        if is_wrong.any():
            row = int(is_wrong.argmax())
            at = f"the sequence {checks.shown(tokens[row].tolist())}"
            raise ValueError(f"energy(x) has a gradient that is NaN or infinite at {at}: expected finite slopes")
        return order

    def log_proposal(
        self, changes: Float[np.ndarray, "sequences length vocab"]
    ) -> Float[np.ndarray, "sequences moves"]:
        """Log q of all moves, ordered by position, then letter, given their first-order changes."""
        with checks.noted(changes=changes):
            logits = np.asarray(changes).reshape(len(changes), -1) / self.temperature
            logits = logits - logits.max(1, keepdims=True)
            return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))

    def log_ratio(
        self, old: FirstOrder, new: FirstOrder, tokens: Tokens, moves: Int[np.ndarray, "sequences"]
    ) -> Float[np.ndarray, "sequences"]:
        """Log r of the acceptance rule, for one move of each sequence.

        Args:
            old: Energies and first-order changes of the sequences.
            new: Energies and first-order changes of their mutants.
            tokens: The sequences.
            moves: Position times the size of the alphabet, plus the new letter.
        """
        with checks.noted(old=old, new=new, tokens=tokens, moves=moves):
            log_forward = self.log_proposal(old.changes)[np.arange(len(tokens)), moves]
            return self._log_ratio(new.values - old.values, log_forward, new, tokens, moves)

    def _log_ratio(
        self,
        gain: Float[np.ndarray, "sequences"],
        log_forward: Float[np.ndarray, "sequences"],
        new: FirstOrder,
        tokens: Tokens,
        moves: Int[np.ndarray, "sequences"],
    ) -> Float[np.ndarray, "sequences"]:
        """Log r from the gain and log q of the forward move; only the needed reverse moves are computed."""
        logits = new.changes.reshape(len(tokens), -1) / self.temperature
        peak = logits.max(1)
        letters = moves % self.vocab
        if self.accept != "author":
            letters = tokens[np.arange(len(tokens)), moves // self.vocab].astype(np.int64)
        log_backward = logits[np.arange(len(tokens)), moves // self.vocab * self.vocab + letters] - peak
        logits -= peak[:, None]
        log_backward -= np.log(np.exp(logits, out=logits).sum(1))
        return np.asarray(
            gain * (2 / self.temperature if self.accept == "balanced" else 1.0) + log_backward - log_forward
        )

    def propose(
        self, tokens: Tokens, rng: np.random.Generator
    ) -> tuple[FirstOrder, Int[np.ndarray, "draws"], Int[np.ndarray, "draws"]]:
        """Draw moves of some sequences; return their first-order changes, and the parent and the move of each draw."""
        checks.instance("rng", rng, np.random.Generator)
        expansion = self._checked_first_order(tokens)
        cumulative = np.exp(self.log_proposal(expansion.changes)).cumsum(1)
        draws = rng.random((len(tokens), self.n_proposals)) * cumulative[:, -1:]
        moves = np.array(
            [  # at most the last move of a probability above 0, which rounding may exceed
                row.searchsorted(row_draws, side="right").clip(max=row.searchsorted(row[-1]))
                for row, row_draws in zip(cumulative, draws, strict=True)
            ]
        )
        parents = np.repeat(np.arange(len(tokens)), self.n_proposals)
        return expansion, parents, moves.ravel()

    def step(
        self, population: Population, rng: np.random.Generator, known: frozenset[bytes] = frozenset()
    ) -> tuple[Population, Round]:
        """Run a round: propose mutants of the best sequence of each cluster, and return those accepted.

        Args:
            population: The sequences and their scores.
            rng: Source of all random draws.
            known: Sequences, as bytes, that are not returned even if accepted.
        """
        checks.arguments()
        best = cluster_reduce(population.tokens, population.scores, self.clusters)
        tokens = population.tokens[best]
        expansion, parents, moves = self.propose(tokens, rng)
        uniform = rng.random(len(moves))
        changing = moves % self.vocab != tokens[parents, moves // self.vocab]
        parents, moves, uniform = parents[changing], moves[changing], uniform[changing]
        # A promising move may be drawn many times, but is evaluated only once.
        distinct, inverse = np.unique(parents * tokens.shape[1] * self.vocab + moves, return_inverse=True)
        parent, move = np.divmod(distinct, tokens.shape[1] * self.vocab)
        mutants = tokens[parent]
        mutants[np.arange(len(move)), move // self.vocab] = move % self.vocab
        if not len(move):
            return Population(mutants, np.zeros(0)), Round(len(tokens), 0, 0.0, 0)
        proposed = self._checked_first_order(mutants)
        gain = proposed.values - expansion.values[parent]
        if self.accept == "always":
            accepted = np.ones(len(inverse), bool)
        elif self.accept == "greedy":
            accepted = (gain > 0)[inverse]
        else:
            log_forward = self.log_proposal(expansion.changes)[parent, move]
            ratio = np.exp(self._log_ratio(gain, log_forward, proposed, tokens[parent], move).clip(max=0.0))[inverse]
            accepted = uniform > ratio if self.accept == "author" else uniform < ratio
        share = float(accepted.mean())
        novel = np.unique(inverse[accepted])
        rows = np.unique(mutants[novel], axis=0, return_index=True)[1]
        novel = novel[np.sort(rows)]
        novel = novel[[mutants[row].tobytes() not in known for row in novel]] if len(novel) else novel
        return (
            Population(mutants[novel], proposed.values[novel]),
            Round(len(tokens), len(moves), share, len(novel)),
        )

    def run(self, start: Population, rounds: int, rng: np.random.Generator) -> tuple[Population, tuple[Round, ...]]:
        """Run rounds; return the last population that is not empty, and the statistics of each round.

        Args:
            start: Initial sequences, which no round returns to, and their measurements, which choose the first parents;
                those that break the constraints start from what is left when random mutations are undone.
            rounds: Number of rounds; fewer if no mutant is accepted.
            rng: Source of all random draws.

        Raises:
            ValueError: A score, an energy or its gradient is not finite; for the last two, the message names the round.
        """
        checks.arguments()
        check_tokens("start.tokens", start.tokens, self.vocab)
        checks.has_shape("start.scores", start.scores.shape, (len(start.tokens),))
        checks.finite("start.scores", start.scores)
        start_keys = frozenset(row.tobytes() for row in start.tokens)
        population, history = start, []
        if self.constraints is not None:
            checks.has_shape("constraints.wild_type", self.constraints.wild_type.shape, start.tokens.shape[1:])
            population = Population(self.constraints.restored(start.tokens, rng), start.scores)
        for number in range(checks.size("rounds", rounds)):
            with checks.noted(round=number):
                next_population, info = self.step(population, rng, start_keys)
            history.append(info)
            if not len(next_population.scores):
                break
            population = next_population
        return population, tuple(history)


def cluster_reduce(tokens: Tokens, scores: Float[np.ndarray, "sequences"], clusters: int) -> Int[np.ndarray, "chosen"]:
    """The index of the best sequence of each cluster, by average linkage of Hamming distances; ties go to the first.

    If there are more than 15,000 sequences, only the best are clustered.

    Args:
        tokens: The sequences.
        scores: Their scores, to be maximised.
        clusters: Maximum number of clusters; if there are at most as many sequences, all are chosen.

    Raises:
        ValueError: There is not one score for each sequence, or ``clusters`` is below 1.

    Source: Kirjner et al., ICLR 2024, algorithm 3.

    Examples:
        >>> tokens = np.array([[0, 0, 0], [0, 0, 1], [1, 1, 1]], dtype=np.uint8)
        >>> cluster_reduce(tokens, np.array([1.0, 2.0, 0.0]), 2).tolist()
        [1, 2]
    """
    checks.arguments()
    checks.has_shape("scores", scores.shape, (len(tokens),))
    if len(tokens) <= checks.size("clusters", clusters):
        return np.arange(len(tokens))
    best = np.sort(np.argsort(-scores, kind="stable")[:MOST_CLUSTERED])
    labels = fcluster(linkage(pdist(tokens[best], "hamming"), "average"), clusters, "maxclust")
    order = np.lexsort((-scores[best], labels))
    is_first = np.r_[True, np.diff(labels[order]) > 0]
    return np.sort(best[order[is_first]])


def top(population: Population, n: int) -> Population:
    """The n distinct sequences with the highest scores, best first, or all; of equal ones only the first counts."""
    checks.arguments()
    checks.has_shape("population.scores", population.scores.shape, (len(population.tokens),))
    rows = np.sort(np.unique(population.tokens, axis=0, return_index=True)[1])
    best = rows[np.argsort(-population.scores[rows], kind="stable")[: checks.size("n", n)]]
    return Population(population.tokens[best], population.scores[best])
