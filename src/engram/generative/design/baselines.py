"""Baselines for sequence design: the consensus, random mutants and gradient-free searches, used by ask and tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from engram import checks
from engram.generative.design.expand import random_mutants
from engram.generative.design.gibbs_with_gradients import Population, top
from engram.generative.design.sequences import ROUNDING, check_tokens
from engram.optim.strategy import measured_loss
from engram.state import Axes, Maybe, check_state

Tokens = UInt8[np.ndarray, "sequences length"]


def consensus(tokens: Tokens) -> UInt8[np.ndarray, "length"]:
    """The most frequent letter at each position; ties go to the first in the alphabet.

    For mutants of a single parent it is that parent, regardless of their scores. It needs no model, so a designer that
    does not beat it has only recovered the parent.

    Examples:
        >>> consensus(np.array([[0, 1], [0, 2], [1, 2]], dtype=np.uint8)).tolist()
        [0, 2]
    """
    checks.arguments()
    check_tokens("tokens", tokens, 256)
    return np.array([np.bincount(column).argmax() for column in tokens.T], dtype=np.uint8)


class SequenceSearch:
    """A search over sequences by ask and tell; subclasses define ``_propose`` and may override ``_learn``.

    Args:
        tokens: The initial sequences, as rows of letter indices.
        scores: Their scores, to be maximised.
        population_size: Number of sequences in a generation.
        vocab: Size of the alphabet.
        rng: Source of all random draws; None: a generator with seed 0.

    Attributes:
        tokens, scores: The sequences from which the next generation is made, and their scores.

    Raises:
        ValueError: An argument is out of range, or there is not a finite score for each sequence.
    """

    __repr__ = checks.described

    def __init__(
        self,
        tokens: Tokens,
        scores: Float[np.ndarray, "sequences"],
        *,
        population_size: int = 1000,
        vocab: int = 20,
        rng: np.random.Generator | None = None,
    ) -> None:
        checks.arguments()
        self.vocab = checks.size("vocab", vocab, 2, 255)
        check_tokens("tokens", tokens, self.vocab)
        checks.has_shape("scores", scores.shape, (len(tokens),))
        checks.finite("scores", scores)
        self.population_size = checks.size("population_size", population_size)
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.tokens, self.scores = tokens.copy(), scores.copy()
        self._asked: Tokens | None = None

    def ask(self) -> Tokens:
        """Propose a generation."""
        self._asked = self._propose()
        return self._asked.copy()

    def tell(self, fitness: Any = None, *, loss: Any = None) -> None:
        """Learn from the fitness of each proposed sequence, to be maximised, or from its loss, to be minimised.

        Sequences whose number is not finite are left out, with a warning.

        Raises:
            RuntimeError: ``ask`` has not been called since the last ``tell``.
            TypeError: Neither or both of fitness and loss are given.
            ValueError: There is not one number per sequence, or none is finite.
        """
        if self._asked is None:
            raise RuntimeError("tell was called without a population: call ask before")
        scores = -measured_loss(fitness, loss, len(self._asked), others="left out").numpy()
        is_measured = np.isfinite(scores)
        self._learn(self._asked[is_measured], scores[is_measured])
        self._asked = None

    def best(self, n: int) -> Population:
        """The n best distinct sequences among those from which the next generation is made, best first."""
        return top(Population(self.tokens, self.scores), n)

    def state_dict(self) -> dict[str, Any]:
        """The state that changes, including a pending proposal between ``ask`` and ``tell``."""
        proposed = None if self._asked is None else self._asked.copy()
        return {
            "tokens": self.tokens.copy(), "scores": self.scores.copy(), "asked": proposed,
            "rng": self.rng.bit_generator.state,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict`` and continue from it bit for bit; raise an error if its form differs."""
        check_state(state, self._form())
        self.tokens, self.scores = state["tokens"].copy(), state["scores"].copy()
        self._asked = None if state["asked"] is None else state["asked"].copy()
        self.rng.bit_generator.state = state["rng"]

    def _form(self) -> dict[str, Any]:
        sequences, scores = Axes(("sequences", self.tokens.shape[1]), self.tokens), Axes(("sequences",), np.ndarray)
        form = {"tokens": sequences, "scores": scores, "asked": Maybe(sequences)}
        return form | {"rng": self.rng.bit_generator.state}

    def _propose(self) -> Tokens:
        raise NotImplementedError

    def _learn(self, tokens: Tokens, scores: Float[np.ndarray, "sequences"]) -> None:
        """Keep the best of the known and the new sequences."""
        pool = Population(np.concatenate([self.tokens, tokens]), np.concatenate([self.scores, scores]))
        self.tokens, self.scores = top(pool, self.population_size)


class Consensus(SequenceSearch):
    """The consensus of the initial sequences as a search: each generation is this one sequence.

    Args:
        tokens: The known sequences.
        scores: Their scores, to be maximised.
        options: ``population_size``, the number of best sequences kept, ``vocab`` and ``rng``, as in
            ``SequenceSearch``.

    Examples:
        >>> search = Consensus(np.array([[0, 1], [0, 2], [1, 2]], np.uint8), np.zeros(3))
        >>> search.ask().tolist()
        [[0, 2]]
    """

    def __init__(self, tokens: Tokens, scores: Float[np.ndarray, "sequences"], **options: Any) -> None:
        super().__init__(tokens, scores, **options)
        self._consensus = consensus(tokens)[None]

    def _propose(self) -> Tokens:
        return self._consensus


class RandomMutants(SequenceSearch):
    """Random mutants of the initial sequences, regardless of their scores: a control with as many evaluations.

    Args:
        tokens: The known sequences.
        scores: Their scores, to be maximised.
        letters: Number of letters changed in each mutant.
        options: ``population_size``, ``vocab`` and ``rng``, as in ``SequenceSearch``.

    Examples:
        >>> search = RandomMutants(np.zeros((1, 4), np.uint8), np.zeros(1), letters=2, population_size=9, vocab=2)
        >>> search.ask().sum(1).tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    def __init__(
        self, tokens: Tokens, scores: Float[np.ndarray, "sequences"], *, letters: int = 1, **options: Any
    ) -> None:
        super().__init__(tokens, scores, **options)
        self._start, self.letters = self.tokens, checks.size("letters", letters, 1, tokens.shape[1])

    def _propose(self) -> Tokens:
        return random_mutants(self._start, self.population_size, self.rng, vocab=self.vocab, letters=self.letters)


class HillClimb(SequenceSearch):
    """Hill climbing: random one-letter mutants of the best sequences, keeping the best.

    Args:
        tokens: The known sequences.
        scores: Their scores, to be maximised.
        n_parents: Number of best sequences to mutate.
        options: ``population_size``, ``vocab`` and ``rng``, as in ``SequenceSearch``.

    Examples:
        >>> search = HillClimb(np.zeros((1, 4), np.uint8), np.zeros(1), population_size=20, vocab=2)
        >>> for _ in range(4):
        ...     search.tell(search.ask().sum(1))
        >>> search.best(1).tokens.tolist()
        [[1, 1, 1, 1]]
    """

    def __init__(
        self, tokens: Tokens, scores: Float[np.ndarray, "sequences"], *, n_parents: int = 128, **options: Any
    ) -> None:
        super().__init__(tokens, scores, **options)
        self.n_parents = checks.size("n_parents", n_parents)

    def _propose(self) -> Tokens:
        return random_mutants(self.best(self.n_parents).tokens, self.population_size, self.rng, vocab=self.vocab)


class AdaLead(SequenceSearch):
    """A genetic algorithm after AdaLead: sequences nearly as good as the best are recombined and mutated.

    Parents are the sequences whose score is at most a fraction kappa of the range of scores below the best. Two of them
    are recombined position by position, and each letter is redrawn with a fixed probability. Unlike AdaLead, it makes
    no rollouts of mutants of mutants.

    Args:
        tokens: The known sequences.
        scores: Their scores, to be maximised.
        kappa: Largest distance of a parent from the best score, as a fraction of the range of scores.
        recombination: Probability that a position comes from the second parent.
        mutation: Expected number of redrawn letters in a sequence, some of which stay the same.
        options: ``population_size``, ``vocab`` and ``rng``, as in ``SequenceSearch``.

    Source: after Sinai et al., "AdaLead: a simple and robust adaptive greedy search algorithm" (2020).

    Examples:
        >>> search = AdaLead(np.zeros((1, 4), np.uint8), np.zeros(1), population_size=50, vocab=2)
        >>> for _ in range(5):
        ...     search.tell(search.ask().sum(1))
        >>> search.best(1).tokens.tolist()
        [[1, 1, 1, 1]]
    """

    def __init__(
        self,
        tokens: Tokens,
        scores: Float[np.ndarray, "sequences"],
        *,
        kappa: float = 0.05,
        recombination: float = 0.2,
        mutation: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(tokens, scores, **options)
        self.kappa = checks.number("kappa", kappa, minimum=0, maximum=1)
        self.recombination = checks.number("recombination", recombination, minimum=0, maximum=1)
        self.mutation = checks.number("mutation", mutation, minimum=0, maximum=self.tokens.shape[1])

    def _propose(self) -> Tokens:
        threshold = self.scores.max() - self.kappa * np.ptp(self.scores)
        parents = self.tokens[self.scores >= threshold - ROUNDING * np.abs(self.scores).max()]
        first, second = self.rng.integers(len(parents), size=(2, self.population_size))
        shape = (self.population_size, self.tokens.shape[1])
        children = np.where(self.rng.random(shape) < self.recombination, parents[second], parents[first])
        letters = self.rng.integers(self.vocab, size=shape).astype(np.uint8)
        return np.asarray(np.where(self.rng.random(shape) < self.mutation / shape[1], letters, children))


class CbAS(SequenceSearch):
    r"""Conditioning by adaptive sampling, with letters drawn independently at each position.

    The model p_t is refitted to those of its own samples that reach a threshold, weighted by p_0(x) / p_t(x). The
    threshold is a quantile of scores that never falls. So the model approaches p_0(x | good) and stays near the start.

    Args:
        tokens: The known sequences.
        scores: Their scores, to be maximised.
        quantile: Quantile of the scores of a generation from which on sequences count as good.
        smoothing: Pseudocount of all letters together, as a fraction of the sum of weights.
        options: ``population_size``, ``vocab`` and ``rng``, as in ``SequenceSearch``.

    Source: after Brookes, Park and Listgarten, "Conditioning by adaptive sampling for robust design" (2019), whose
    model is an autoencoder.

    Examples:
        >>> search = CbAS(np.eye(4, dtype=np.uint8), np.ones(4), population_size=200, vocab=2)
        >>> for _ in range(10):
        ...     search.tell(search.ask().sum(1))
        >>> bool(search.scores.mean() > 2)
        True
    """

    def __init__(
        self,
        tokens: Tokens,
        scores: Float[np.ndarray, "sequences"],
        *,
        quantile: float = 0.9,
        smoothing: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(tokens, scores, **options)
        self.quantile = checks.number("quantile", quantile, minimum=0, below=1)
        self.smoothing = checks.number("smoothing", smoothing, above=0)
        self._prior = self._log_model(tokens, np.ones(len(tokens)))
        self._current, self._least = self._prior.copy(), float(np.quantile(scores, self.quantile))

    def _log_model(self, tokens: Tokens, weights: Float[np.ndarray, "sequences"]) -> Float[np.ndarray, "length vocab"]:
        """Log probabilities of the letters at each position."""
        counts = np.array([np.bincount(column, weights, self.vocab) for column in tokens.T])
        counts += self.smoothing * weights.sum() / self.vocab
        return np.asarray(np.log(counts / counts.sum(1, keepdims=True)))

    def _propose(self) -> Tokens:
        cumulative = np.exp(self._current).cumsum(1)
        draws = self.rng.random((self.population_size, len(cumulative), 1))
        return np.asarray((draws > cumulative[:, :-1]).sum(2), dtype=np.uint8)

    def _learn(self, tokens: Tokens, scores: Float[np.ndarray, "sequences"]) -> None:
        self._least = max(self._least, float(np.quantile(scores, self.quantile)))
        good = scores >= self._least
        positions = np.arange(tokens.shape[1])
        log_ratios = (self._prior - self._current)[positions, tokens].sum(1)
        if good.any():
            weights = np.where(good, np.exp(log_ratios - log_ratios[good].max()), 0.0)
            self._current = self._log_model(tokens, weights)
        self.tokens, self.scores = tokens, scores

    def state_dict(self) -> dict[str, Any]:
        """The state that changes, including a pending proposal between ``ask`` and ``tell``."""
        return super().state_dict() | {"current": self._current.copy(), "least": self._least}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``, bit for bit."""
        super().load_state_dict(state)
        self._current, self._least = state["current"].copy(), float(state["least"])

    def _form(self) -> dict[str, Any]:
        return super()._form() | {"current": self._current, "least": int | float}
